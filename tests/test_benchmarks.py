"""The benchmark of the experts runs and says what it promises; how fast is for a quiet machine to say."""

from __future__ import annotations

from math import inf
from pathlib import Path

import pytest

from benchmarks import accuracy, experts, large, many, naming, promises
from inspection import choice
from inspection.drawn import write
from inspection.options import EnrolOptions

LITE = "efficientnet_lite0"


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


def test_accuracy_has_a_line_for_each_way_and_for_auto(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = (choice.Way("fused", 64, "max", 0.0), choice.Way(LITE, 64, "max", inf), choice.Way("fused", 96, "top", 0.02))
    monkeypatch.setattr(choice, "WAYS", small)
    monkeypatch.setattr(choice, "EACH", 1)
    ways = [EnrolOptions("patchcore", way.backbone, way.image_size, score_rule=way.score_rule) for way in small]
    others = [EnrolOptions("padim", LITE, 64), EnrolOptions("reference", LITE)]
    monkeypatch.setattr(accuracy, "CONFIGURATIONS", (*ways, *others))
    write(tmp_path / "set/cap", 3, 5, 1, 128)
    rows = accuracy.whole(tmp_path / "set/cap", (4, 0), 1)
    assert {row["expert"] for row in rows} == {"patchcore", "padim", "reference", "auto"}
    of_auto = [row for row in rows if row["expert"] == "auto"]
    assert [row["normals"] for row in of_auto] == [4, 5]
    for line in accuracy.summary(rows):
        assert line["folder"] == "set/cap" and line["draws"] == 1 and 0 <= line["image_auroc"] <= 1
        own = [r for r in rows if r["expert"] == "patchcore" and r["normals"] == line["normals"]]
        if line["expert"] == "auto":
            assert line["image_auroc"] in [round(one["image_auroc"], 4) for one in own] and sum(line["ways"].values()) == 1


def test_a_renamed_folder_is_told_apart_by_what_its_pictures_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "WAYS", (choice.Way(LITE, 64, "max", 0.0), choice.Way(LITE, 96, "top", 0.02)))
    monkeypatch.setattr(choice, "EACH", 1)
    write(tmp_path / "set/cap", 3, 6, 1, 128)
    for shots, normals in ((4, 4), (0, 6)):
        told = accuracy.renamed(tmp_path / "set/cap", shots)
        assert (told["folder"], told["normals"], told["same"]) == ("set/cap", normals, True) and len(told["table"]) == 2
    plain = accuracy.taken
    monkeypatch.setattr(accuracy, "taken", lambda files, seed: plain(files[: 6 if files[0].name == "000.png" else 5], seed))
    assert accuracy.renamed(tmp_path / "set/cap", 0)["same"] is False


def test_promises_are_held_against_fresh_parts(tmp_path: Path) -> None:
    write(tmp_path / "cap", 3, 6, 3, 128)
    (row,) = promises.promises(tmp_path / "cap", EnrolOptions(coreset=200), shots=(5, 100), draws=2)
    assert (row["normals"], row["fresh"], row["defective"], row["draws"]) == (5, 4, 21, 2)
    assert row["asked"] == {"overkill": 0.01, "over_review": 0.05}
    for name in ("overkill", "over_review", "recall", "image_auroc"):
        assert 0 <= row[name]["least"] <= row[name]["mean"] <= row[name]["largest"] <= 1


def test_names_are_held_against_the_folders(tmp_path: Path) -> None:
    write(tmp_path / "cap", 3, 6, 4, 128)
    rows = list(naming.run([tmp_path], shots=5, seeds=2))
    assert {row["each"] for row in rows} <= {1, 2} and rows
    for row in rows:
        assert row["types"] >= 2 and 0 <= row["accuracy"][1] <= row["accuracy"][0] <= row["accuracy"][2] <= 1


def test_large_pictures_are_judged_in_tiles_and_whole() -> None:
    figures = large.run(product=11, normals=2, each=3, size=(600, 500))
    assert (figures["seen_as"], figures["sound"], figures["defective"]) == ([496, 600], 3, 3)
    for name in ("image_auroc", "image_auroc_top", "image_auroc_whole"):
        assert 0 <= figures[name] <= 1
    assert figures["one_picture"]["peak_mib"] >= figures["one_picture"]["mib_before"] > 0
    assert large.picture(3, 5, "scratch", (600, 500))[1].any() and not large.picture(3, 5, None, (600, 500))[1].any()


def test_many_pictures_are_enrolled_stage_by_stage(tmp_path: Path) -> None:
    figures = many.run(6, tmp_path)
    assert (figures["normals"], figures["held_out"]) == (6, 6) and list(tmp_path.iterdir()) == []
    assert {"decode", "features", "coreset", "selftest", "refit", "calibrate", "golden"} <= set(figures["stages"])
    assert figures["peak_mib"] >= figures["mib_before"]
