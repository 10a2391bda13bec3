"""Enrolment and inspection in tiles: one map of the whole picture, odd sizes named, bad tiles refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_parts import png

from benchmarks.large import picture
from inspection.enrolment import enroll
from inspection.evidence import Cancelled, EnrolmentRefused, Verdict
from inspection.inspector import Inspector
from inspection.options import EnrolOptions

TILED = EnrolOptions(backbone="efficientnet_lite0", image_size=64, tile=100, coreset=300)


def plate(index: int) -> np.ndarray:
    return picture(1, index, None, (400, 300))[0]


@pytest.fixture(scope="module")
def plates() -> list[bytes]:
    return [png(plate(index)) for index in range(6)]


def test_a_tiled_recipe_finds_small_things_where_they_are(
    plates: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge = png(np.kron(plate(7), np.ones((3, 3, 1), np.uint8)))
    recipe = enroll([*plates, huge], tmp_path / "r", product="x", options=TILED, names=[*"abcdef", "huge.png"])
    assert (recipe.size, recipe.tile, recipe.image_size) == ((192, 256), 64, 64)
    assert any("huge.png" in warning and "1200 × 900" in warning for warning in recipe.warnings)
    with monkeypatch.context() as patched:
        seen: list[object] = []
        score = Inspector.score
        patched.setattr(Inspector, "score", lambda self, pixels: (seen.append(pixels), score(self, pixels))[1])
        inspector = Inspector.load(tmp_path / "r")
    assert len(recipe.golden) == 4 and len(seen) == 2  # seconds each at full size
    pixels = plate(50).copy()
    cv2.circle(pixels, (320, 90), 8, (255, 255, 255), -1)
    outcome = inspector.inspect(png(pixels))
    assert outcome.map.shape == (192, 256) and outcome.verdict is Verdict.REJECT
    x, y = outcome.map_stats.peak_xy
    assert abs(x - 320) < 20 and abs(y - 90) < 20
    left, top, wide, high = outcome.findings[0].bbox
    assert left <= 320 < left + wide and top <= 90 < top + high


@pytest.mark.parametrize(
    ("tile", "size", "says"),
    [(301, 64, "fit pictures of 400 × 300"), (8, 64, "16 to 300"), (16, 1024, "enlarge them")],
)
def test_tiles_that_do_not_fit_are_refused(plates: list[bytes], tmp_path: Path, tile: int, size: int, says: str) -> None:
    options = EnrolOptions(backbone="efficientnet_lite0", image_size=size, tile=tile)
    with pytest.raises(EnrolmentRefused, match=says):
        enroll(plates[:2], tmp_path / "r", product="x", options=options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("expert", ["padim", "reference"])
def test_tiles_are_for_patchcore(tmp_path: Path, expert: str) -> None:
    options = EnrolOptions(expert=expert, backbone="efficientnet_lite0", tile=64)
    with pytest.raises(EnrolmentRefused, match=rf"tiles are for PatchCore: {expert}"):
        enroll([b"never read"], tmp_path / "r", product="x", options=options)


@pytest.mark.parametrize("stage", ["features", "coreset", "selftest", "refit", "calibrate"])
def test_cancelling_in_tiles_leaves_nothing(stage: str, plates: list[bytes], tmp_path: Path) -> None:
    seen: list[str] = []
    with pytest.raises(Cancelled):
        enroll(
            plates[:4],
            tmp_path / "r",
            product="x",
            options=TILED,
            progress=lambda name, *_: seen.append(name),
            cancelled=lambda: stage in seen,
        )
    assert seen[-1] == stage and list(tmp_path.iterdir()) == []
