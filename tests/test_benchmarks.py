"""The benchmark of the experts runs and says what it promises; how fast is for a quiet machine to say."""

from __future__ import annotations

import pytest

from benchmarks import experts


@pytest.mark.filterwarnings("ignore")  # anomalib's imports
@pytest.mark.timeout(600)
def test_experts_are_timed_and_compared() -> None:
    figures = experts.speed(rows=500, repeats=3, compared=4)
    assert (figures["rows"], figures["repeats"], figures["compared"], figures["threads"]) == (500, 3, 4, 1)
    for name in ("kensor_ms", "anomalib_ms", "ratio"):
        low, middle, high = figures[name]
        assert 0 < low <= middle <= high
    assert set(figures["kensor_stages_ms"]) == {"decode", "features", "search", "map"}
    assert figures["score_difference"]["float64_search"] <= 1e-4

    found = experts.search(rows=6000, compared=3)
    assert (found["rows"], found["compared"]) == (6000, 3)
    assert found["recall"] > 0.99 and found["score_apart"] <= 1e-6 and found["map_apart"] <= found["distance_apart"]

    small = experts.precision(repeats=3)
    assert small["int8_ms"][1] > 0 and 0 < small["feature_distance"] < 0.15

    chosen = experts.coreset(points=1500, rows=20, steps=4, repeats=2)
    assert (chosen["points"], chosen["rows"], chosen["anomalib_steps_measured"]) == (1500, 20, 4)
    # the steps measured stand for all, beside the projection
    expected = chosen["anomalib_projection_s"] + 20 * chosen["anomalib_step_ms"][1] / 1e3
    assert chosen["anomalib_s"] == pytest.approx(expected, abs=0.1)
