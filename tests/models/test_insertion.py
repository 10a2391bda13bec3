"""New pictures' patches in a standing bank: what goes in, what stays out, and scores without their own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.experts import FeaturesRefused, FitCancelled, View, insertion
from models.experts.base import State
from models.experts.coreset import BATCH, farthest_first
from models.experts.fused import BANKS, SOURCES, Fusion, fit_fused
from models.experts.insertion import covering_radius, insert, insert_fused
from models.experts.layout import Layout
from models.experts.patchcore import fit_patchcore

LAYOUT = Layout(View.square("efficientnet_lite0", 56))


def drawn(pictures: int, seed: int = 0, away: float = 0.0) -> list[np.ndarray]:
    """Patches about a few centres; those of another batch lie `away`."""
    centres = np.random.default_rng(9).normal(size=(12, 20)) * 3
    rng = np.random.default_rng(seed)
    return [(centres[rng.integers(12, size=49)] + rng.normal(size=(49, 20)) + away).astype(np.float32) for _ in range(pictures)]


def fitted(pictures: int = 12, rows: int = 120) -> State:
    bank, source = fit_patchcore(drawn(pictures), rows=rows)
    return {"memory_bank": bank, "source": source}


def nearest(points: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points[:, None].astype(np.float64) - rows, axis=2).min(1)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(1, 2**32 - 1), rows=st.integers(2, 200), away=st.floats(0, 2))
def test_all_new_patches_lie_within_the_covering_radius(seed: int, rows: int, away: float) -> None:
    state, new = fitted(rows=rows), drawn(3, seed, away)
    found = insert(new, state, layout=LAYOUT, coreset=rows, most=10_000, first=12)
    bank, old = found.state["memory_bank"], len(state["memory_bank"])
    assert (bank[:old] == state["memory_bank"]).all()
    assert found.uncovered == 0 and nearest(np.concatenate(new), bank).max() <= found.radius * (1 + 1e-5)
    assert found.rows.sum() == len(bank) - old == len(found.state["source"]) - old
    for row, picture in zip(bank[old:], found.state["source"][old:], strict=True):
        assert (new[picture - 12] == row).all(1).any()
    if len(bank) > old:  # each was needed: farther than the radius from all that stood before it
        gaps = [nearest(bank[m : m + 1], bank[:m])[0] for m in range(old, len(bank))]
        assert min(gaps) > found.radius * (1 - 1e-5)


def test_the_radius_is_what_the_coreset_reached() -> None:
    points = np.concatenate(drawn(12))
    picks, reached = farthest_first(points, 120, seed=0)
    radius = covering_radius(points[picks])
    assert reached <= radius * (1 + 1e-6)
    assert radius == pytest.approx(
        min(nearest(points[p : p + 1], np.delete(points[picks], n, 0))[0] for n, p in enumerate(picks))
    )
    assert radius < 1.05 * reached
    assert covering_radius(points[:1]) == 0


def test_a_picture_is_scored_without_its_own_rows() -> None:
    state, new = fitted(), drawn(4, 5, 1.0)
    found = insert(new, state, layout=LAYOUT, coreset=120, most=10_000, first=12)
    for number, one in enumerate(new):
        others = insert([o for n, o in enumerate(new) if n != number], state, layout=LAYOUT, coreset=120, most=10_000, first=12)
        alone = nearest(one, others.state["memory_bank"]).max()
        assert found.scores[number] == pytest.approx(alone, rel=1e-5)
        assert found.before[number] == pytest.approx(nearest(one, state["memory_bank"]).max(), rel=1e-5)
        assert nearest(one, found.state["memory_bank"]).max() < found.scores[number] <= found.before[number]


def test_one_picture_is_scored_by_the_standing_bank() -> None:
    found = insert(drawn(1, 5, 1.0), fitted(), layout=LAYOUT, coreset=120, most=10_000, first=12)
    assert found.scores == found.before and found.rows.sum() > 0


def test_a_full_bank_takes_the_farthest_and_says_what_is_left() -> None:
    state, new = fitted(), drawn(4, 5, 2.0)
    found = insert(new, state, layout=LAYOUT, coreset=120, most=130, first=12)
    assert len(found.state["memory_bank"]) == 130 and found.uncovered > 0
    full = insert(new, state, layout=LAYOUT, coreset=120, most=100, first=12)
    assert (full.state["memory_bank"] == state["memory_bank"]).all() and full.uncovered > found.uncovered


def test_what_the_bank_knows_adds_nothing() -> None:
    state = fitted()
    found = insert(drawn(12)[:3], state, layout=LAYOUT, coreset=120, most=10_000, first=12)
    assert found.rows.tolist() == [0, 0, 0] and found.scores == found.before


def test_other_features_are_refused_and_cancelling_stops() -> None:
    with pytest.raises(FeaturesRefused, match="19 dimensions"):
        insert([np.zeros((49, 19), np.float32)], fitted(), layout=LAYOUT, coreset=120, most=200, first=12)
    with pytest.raises(FeaturesRefused):
        insert([np.full((49, 20), np.nan, np.float32)], fitted(), layout=LAYOUT, coreset=120, most=200, first=12)
    with pytest.raises(FitCancelled):
        insert(drawn(2, 5, 1.0), fitted(), layout=LAYOUT, coreset=120, most=200, first=12, cancelled=lambda: True)


def test_a_coreset_that_ends_with_a_batch_takes_no_row_twice() -> None:
    points = np.repeat(np.random.default_rng(0).normal(size=(BATCH, 5)).astype(np.float32), 2, 0)
    picks, reached = farthest_first(points, 100, seed=0)
    assert len(np.unique(points[picks], axis=0)) == len(picks) == BATCH and reached == 0


@pytest.mark.parametrize("coreset", [2, 4])  # pictures: a bank that grew before keeps its first rows' meaning
def test_a_bank_of_all_patches_takes_in_all_that_is_new(coreset: int) -> None:
    state, new = fitted(4, rows=10_000), drawn(3, 5, 1.0)
    found = insert([*new, drawn(4)[1]], state, layout=LAYOUT, coreset=49 * coreset, most=10_000, first=4)
    assert len(state["memory_bank"]) == 4 * 49 and found.radius == 0
    assert found.rows.tolist() == [49, 49, 49, 0] and found.uncovered == 0
    assert nearest(np.concatenate(new), found.state["memory_bank"]).max() == 0
    full = insert(new, state, layout=LAYOUT, coreset=49 * coreset, most=4 * 49 + 30, first=4)
    assert full.rows.sum() == 30 and full.uncovered == 3 * 49 - 30


def test_a_coreset_as_large_as_some_pictures_keeps_its_radius() -> None:
    found = insert(drawn(2, 5), fitted(12, rows=98), layout=LAYOUT, coreset=98, most=10_000, first=12)
    assert found.radius > 1 and found.rows.sum() < 98


def test_complete_banks_of_backbones_that_look_together_take_in_all_that_is_new() -> None:
    fusion, rng = Fusion(View.square("fused", 64)), np.random.default_rng(0)
    length = sum(patches * width for patches, width in fusion.shapes)
    *known, new = (rng.normal(size=(1, length)).astype(np.float32) for _ in range(3))
    state = fit_fused(known, fusion, rows=10_000, seed=0)
    counts = [len(state[name]) for name in BANKS]
    assert counts == [2 * patches for patches, _ in fusion.shapes]
    found = insert_fused([new, known[0]], state, fusion=fusion, coreset=counts, most=[10_000, 10_000], first=2)
    assert found.radius == 0 and found.uncovered == 0
    for half, (bank, source) in enumerate(zip(BANKS, SOURCES, strict=True)):
        old = counts[half]
        assert found.state[source][old:].tolist() == [2] * fusion.shapes[half][0]
        assert nearest(fusion.part(new, half), found.state[bank][old:]).max() == 0
    assert found.scores[0] > 0 and found.scores[1] == 0


def test_more_that_is_new_than_the_budget_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(insertion, "BUDGET_MIB", 1)
    each = 49 * 20 * 4
    state, pictures = fitted(), drawn(1 + 2**20 // each, 5, 30.0)
    insert(pictures[:-1], state, layout=LAYOUT, coreset=120, most=130, first=12)
    with pytest.raises(FeaturesRefused, match=f"first {len(pictures)} of {len(pictures)} pictures .* enroll anew"):
        insert(pictures, state, layout=LAYOUT, coreset=120, most=130, first=12)
