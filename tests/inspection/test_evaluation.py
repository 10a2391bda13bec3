"""Evaluation of a drawn folder in the MVTec AD convention."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawn_parts import png

from inspection.drawn import drawn
from inspection.evaluation import FIGURES, FolderRefused, evaluate, folders, mean
from inspection.evidence import Cancelled, EnrolmentRefused
from inspection.options import EnrolOptions


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(pixels))


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("parts")
    for n in range(8):
        write(root / f"set/cap/train/good/{n}.png", drawn(3, n, size=128)[0])
    for n in range(4):
        write(root / f"set/cap/test/good/{n}.png", drawn(3, 50 + n, size=128)[0])
        pixels, mask = drawn(3, 70 + n, "missing", size=128)
        write(root / f"set/cap/test/missing/{n}.png", pixels)
        write(root / f"set/cap/ground_truth/missing/{n}_mask.png", np.repeat(mask[..., None] * np.uint8(255), 3, 2))
    return root


def test_the_figures_of_an_easy_product(parts: Path) -> None:
    (row,) = evaluate(parts)
    assert (row["folder"], row["normals"], row["test_normal"], row["test_defective"], row["seeds"]) == ("cap", 8, 4, 4, 1)
    assert row["image_auroc"] == 1 and row["f1_max"] == 1 and row["pixel_auroc"] > 0.9 and row["aupro"] > 0.6
    assert row["overkill"] == 0 and row["escape"] == 0 and 0 <= row["review_share"] <= 1
    assert row["ms_per_image"] > 0 and row["peak_mib"] > 50
    assert mean([row]) == {name: row[name] for name in FIGURES}


def test_shots_are_drawn_by_seed(parts: Path) -> None:
    told: list[tuple[str, int, int]] = []
    (row,) = evaluate(parts / "set/cap", EnrolOptions(coreset=200), shots=2, seeds=2, progress=lambda *step: told.append(step))
    assert row["normals"] == 2 and row["seeds"] == 2 and row["image_auroc"] >= 0.9
    assert [step for step in told if step[0] == "features"][-1] == ("features", 16, 16)  # once per picture, not per draw
    (one,) = evaluate(parts, shots=1)
    assert one["review_share"] == 1 and one["escape"] == one["overkill"] == 0  # uncalibrated: a person looks at all


def test_folders_that_are_none_are_refused(parts: Path, tmp_path: Path) -> None:
    assert folders(parts) == folders(parts / "set") == folders(parts / "set/cap") == [parts / "set/cap"]
    with pytest.raises(FolderRefused, match="MVTec"):
        evaluate(tmp_path)
    with pytest.raises(FolderRefused, match="9 normals"):
        evaluate(parts, shots=9)


def test_a_mean_skips_what_a_folder_lacks() -> None:
    rows = [dict.fromkeys(FIGURES, 1.0), {**dict.fromkeys(FIGURES, 0.0), "aupro": None}]
    assert mean(rows)["image_auroc"] == 0.5 and mean(rows)["aupro"] == 1.0


def test_a_draw_that_cannot_be_enrolled_says_why(parts: Path) -> None:
    with pytest.raises(EnrolmentRefused, match="cannot be enrolled: PaDiM needs at least two"):
        evaluate(parts, EnrolOptions(expert="padim", image_size=64), shots=1)
    told: list[str] = []
    with pytest.raises(Cancelled):
        evaluate(parts, EnrolOptions(image_size=64), progress=lambda stage, *_: told.append(stage), cancelled=lambda: bool(told))


def test_an_evaluation_can_be_cancelled_while_it_fits(parts: Path) -> None:
    fitting: list[bool] = []

    def hear(stage: str, done: int, total: int) -> None:
        if stage == "features" and done == total:
            fitting.append(True)

    with pytest.raises(Cancelled, match="was cancelled"):
        evaluate(parts, EnrolOptions(image_size=64), progress=hear, cancelled=lambda: bool(fitting))
