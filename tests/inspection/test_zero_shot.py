"""The zero-shot expert: a recipe without any normal picture, marked as such in every verdict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawn_parts import png
from hypothesis import given, settings
from hypothesis import strategies as st

from inspection.calibration import calibrate
from inspection.drawn import drawn
from inspection.enrolment import enroll
from inspection.evidence import EnrolmentRefused, RecipeRefused, Verdict
from inspection.inspector import Inspector
from inspection.options import EnrolOptions
from inspection.verdict import decide
from models.experts import FeaturesRefused, View, fit, held_out, load_expert, notes
from models.experts.rarity import rarity

ZERO = EnrolOptions(expert="zeroshot", backbone="auto")


def picture(index: int, defect: str | None = None) -> bytes:
    return png(drawn(3, index, defect)[0])


@given(st.integers(2, 40), st.floats(0.01, 1.0), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_rarity_is_the_mean_distance_to_the_nearest_others(patches: int, share: float, seed: int) -> None:
    features = np.random.default_rng(seed).normal(5, 1, (patches, 6)).astype(np.float32)
    nearest = max(1, round(share * (patches - 1)))
    gap = np.linalg.norm(features[:, None].astype(float) - features, axis=-1)
    expected = np.sort(gap, 1)[:, 1 : nearest + 1].mean(1)
    np.testing.assert_allclose(rarity(features, share), expected, rtol=1e-4, atol=1e-4)


def test_one_patch_is_not_rare_among_none() -> None:
    with pytest.raises(FeaturesRefused, match="no others"):
        rarity(np.ones((1, 4), np.float32), 0.1)


def test_a_recipe_without_any_picture_marks_defects_and_passes_nothing(tmp_path: Path) -> None:
    recipe = enroll([], tmp_path / "r", product="cap", options=ZERO)
    assert (recipe.normals, recipe.backbone, recipe.calibration.n) == ((), "dinov2_vits14", 0)
    assert recipe.calibration.thresholds.reject is None
    assert any("no normal picture was looked at" in warning and "AUROC" in warning for warning in recipe.warnings)
    assert [golden.kind for golden in recipe.golden] == ["normal", "synthetic"]
    assert recipe.heatmap_max == recipe.golden[1].map_max > recipe.golden[0].map_max
    inspector = Inspector.load(tmp_path / "r")
    good = [inspector.inspect(picture(n)) for n in range(2)]
    bad = [inspector.inspect(picture(n, "spot")) for n in range(2)]
    for outcome in (*good, *bad):
        assert outcome.verdict is Verdict.REVIEW and outcome.reasons == ("uncalibrated", "zero_shot") and outcome.score is None
    assert max(one.raw_score for one in good) < min(one.raw_score for one in bad)
    mask = drawn(3, 0, "spot")[1]
    assert mask is not None
    x, y = bad[0].findings[0].peak_xy
    assert mask[max(y - 16, 0) : y + 16, max(x - 16, 0) : x + 16].any()
    again = enroll([], tmp_path / "again", product="cap", options=ZERO)
    assert again.sha256 == recipe.sha256


def test_a_recipe_without_any_picture_looks_in_its_region_alone(tmp_path: Path) -> None:
    mask = np.zeros((256, 256), np.uint8)
    mask[:128] = 255
    recipe = enroll([], tmp_path / "r", product="cap", options=ZERO, region=mask)
    assert recipe.options["region"]["share"] == 0.5
    inspector, pixels = Inspector.load(tmp_path / "r"), drawn(3, 0)[0].copy()
    kept = inspector.score(pixels)
    assert (kept.map[112:] == 0).all() and kept.map[:112].max() > 0
    pixels[160:200, 100:140] = 255
    assert inspector.score(pixels).score == pytest.approx(kept.score)
    pixels[40:80, 100:140] = 255
    assert inspector.score(pixels).score != pytest.approx(kept.score)
    with pytest.raises(EnrolmentRefused, match="holds no patch"):
        enroll([], tmp_path / "none", product="cap", options=ZERO, region=np.zeros((256, 256), np.uint8))


def test_normal_pictures_set_limits_and_the_mark_stays() -> None:
    rng = np.random.default_rng(0)
    features = [rng.normal(0, 1, (16, 384)).astype(np.float32) for _ in range(8)]
    spoilt = features[2].copy()
    spoilt[5] += 9
    state = fit("zeroshot", features)
    found = dict(held_out("zeroshot", features, state, view=View.square("dinov2_vits14", 56), copies=[(2, spoilt)]))
    limits = calibrate([found[n].score for n in range(8)], [float(found[n].map.max()) for n in range(8)]).thresholds
    assert limits.reject is not None and sorted(found) == list(range(9))
    assert decide(found[8].score, limits, found[8].reasons) == (Verdict.REJECT, ("over_reject_limit", "zero_shot"))
    assert decide(found[2].score, limits, found[2].reasons) == (Verdict.REVIEW, ("zero_shot",))
    assert found[8].patches.argmax() == 5
    assert any("8 normal pictures only set its limits" in note for note in notes("zeroshot", state, 8))


def test_what_it_cannot_do_is_said(tmp_path: Path) -> None:
    for options, why in (
        (EnrolOptions(expert="zeroshot", backbone="efficientnet_lite0"), "dinov2_vits14"),
        (EnrolOptions(expert="zeroshot", backbone="auto", tile=64), "whole picture"),
        (EnrolOptions(), "no normal pictures"),
    ):
        with pytest.raises(EnrolmentRefused, match=why):
            enroll([], tmp_path / "r", product="cap", options=options)
    view = View.square("dinov2_vits14", 224)
    with pytest.raises(ValueError, match="line's runtime"):
        load_expert("zeroshot", {"share": np.array([0.03], np.float32)}, view, runtime="torch")
    with pytest.raises(ValueError, match="share"):
        load_expert("zeroshot", {"share": np.array([0.0], np.float32)}, view)
    enroll([], tmp_path / "kept", product="cap", options=ZERO)
    (tmp_path / "kept/zeroshot.safetensors").write_bytes(b"")
    with pytest.raises(RecipeRefused):
        Inspector.load(tmp_path / "kept")
