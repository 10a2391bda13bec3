"""Turned copies of few normal pictures: only where they belong, and never in the bank that scores their original."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_parts import part, png

from inspection.drawn import drawn
from inspection.enrolment import enroll
from inspection.evidence import EnrolmentRefused
from inspection.inspector import Inspector
from inspection.options import EnrolOptions
from inspection.turns import ANGLES, AS_FAR, MOST, as_far, turn
from models.experts import View, fit, held_out


def lying(index: int, angle: float, defect: str | None = None) -> bytes:
    """A drawn plate as it lies turned: the print shows the angle."""
    pixels = cv2.copyMakeBorder(drawn(2, index, defect)[0], 64, 64, 64, 64, cv2.BORDER_REPLICATE)
    return png(turn(np.asarray(pixels, np.uint8), angle))


def test_a_quarter_turn_moves_every_pixel_and_invents_none() -> None:
    pixels = drawn(2, 0)[0]
    np.testing.assert_array_equal(turn(pixels, 90.0), np.rot90(pixels))
    wide = pixels[:100]
    assert turn(wide, 45.0).shape == wide.shape and len(set(ANGLES)) == 15 and 0.0 not in ANGLES


def test_as_far_compares_copies_with_the_pictures_themselves() -> None:
    rng = np.random.default_rng(0)
    features = [rng.normal(0, 1, (64, 8)).astype(np.float32) for _ in range(4)]
    same = [[rng.normal(0, 1, (64, 8)).astype(np.float32) for _ in range(3)] for _ in features]
    assert as_far(features, same) == pytest.approx(1, abs=0.1)
    assert as_far(features, [[one] for one in features]) == pytest.approx(1)
    assert as_far(features, [[one + 9 for one in each] for each in same]) > 3


def test_copies_join_where_parts_lie_at_any_angle(tmp_path: Path) -> None:
    angles = (10, 145, 260, 55, 200)
    pictures = [lying(n, angle) for n, angle in enumerate(angles)]
    fresh, bad = lying(20, 100), lying(20, 100, "missing")
    apart = {}
    for augment in ("auto", "off"):
        options = EnrolOptions(augment=augment, image_size=128, coreset=1000)
        recipe = enroll(pictures, tmp_path / augment, product="plate", options=options)
        said = [warning for warning in recipe.warnings if "15 turned copies" in warning]
        assert len(said) == (augment == "auto") and recipe.options["augment"] == augment
        inspector = Inspector.load(tmp_path / augment)
        good = inspector.inspect(fresh).raw_score
        assert good < np.median(recipe.calibration.held_out_scores) * 1.5
        apart[augment] = inspector.inspect(bad).raw_score / good
    assert apart["auto"] > apart["off"]


def test_none_join_where_parts_are_aligned_or_few_or_many(tmp_path: Path) -> None:
    plain = {}
    for augment in ("auto", "off"):
        options = EnrolOptions(augment=augment, image_size=128, coreset=200)
        plain[augment] = enroll([part(n) for n in range(4)], tmp_path / augment, product="cap", options=options)
    assert plain["auto"].calibration == plain["off"].calibration and plain["auto"].files == plain["off"].files
    for name, count in (("two", 2), ("many", MOST + 1)):
        options = EnrolOptions(image_size=128, coreset=50)
        few = enroll([lying(n, 77 * n) for n in range(count)], tmp_path / name, product="plate", options=options)
        assert not any("turned copies" in warning for warning in few.warnings)
    one = enroll([lying(0, 0)], tmp_path / "one", product="plate", options=EnrolOptions(augment="on", image_size=128))
    assert any("as asked for" in warning for warning in one.warnings) and AS_FAR > 1


def test_a_pictures_own_copies_leave_the_bank_that_scores_it() -> None:
    rng = np.random.default_rng(1)
    features = [rng.normal(10 * n, 1, (16, 8)).astype(np.float32) for n in range(5)]
    turned = [(n, one.copy()) for n, one in enumerate(features)]
    for rows in (40, 1000):  # a coreset, and all rows
        state = fit("patchcore", features, rows=rows, turned=turned)
        assert state["source"].max() == 4
        scores = dict(held_out("patchcore", features, state, view=View.square("efficientnet_lite0", 32), turned=turned))
        assert sorted(scores) == [0, 1, 2, 3, 4] and all(raw.score > 5 for raw in scores.values())


def test_copies_that_cannot_be_made_are_refused(tmp_path: Path) -> None:
    for options in (EnrolOptions(expert="padim", augment="on"), EnrolOptions(tile=128, augment="on")):
        with pytest.raises(EnrolmentRefused, match="PatchCore"):
            enroll([part(n) for n in range(3)], tmp_path / "r", product="cap", options=options)
    with pytest.raises(EnrolmentRefused, match="PatchCore"):
        region = np.ones((256, 256), np.uint8)
        enroll([part(0)], tmp_path / "r", product="cap", options=EnrolOptions(augment="on"), region=region)
    assert list(tmp_path.iterdir()) == []
