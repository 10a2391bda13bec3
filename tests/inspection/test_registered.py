"""Parts laid on one template before PaDiM: where it pays, and maps that stay with the picture."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_parts import png

from inspection import recipe as recipes
from inspection.drawn import DEFECTS, drawn
from inspection.enrolment import enroll
from inspection.evaluation import evaluate
from inspection.extension import extend
from inspection.image import Pixels
from inspection.inspector import Inspector
from inspection.metrics import auroc
from inspection.options import EnrolOptions
from models.experts import TEMPLATE, FeaturesRefused, View, extractor, fit, load_expert
from models.experts.registered import KNOWN, MOST, NOT_REGISTERED, POSE, template_of
from models.experts.registration import FINE, fine, over_turns
from models.experts.tiles import prepared

PLATE, WEAVE = 2, 1
SIZE = 128
VIEW = View.square("efficientnet_lite0", SIZE)
OPTIONS = EnrolOptions(expert="padim", image_size=SIZE)


def moved(index: int, defect: str | None = None, product: int = PLATE) -> tuple[Pixels, np.ndarray]:
    """A drawn part shifted by up to 7 % of half its side and turned by up to 4.6°, and its mask."""
    pixels, mask = drawn(product, index, defect)
    rng, side = np.random.default_rng([9, index]), len(pixels)
    about = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), np.degrees(rng.uniform(-0.08, 0.08)), 1.0)
    about[:, 2] += rng.uniform(-0.035, 0.035, 2) * side
    found = cv2.warpAffine(pixels, about, (side, side), borderMode=cv2.BORDER_REPLICATE)
    shown = np.zeros((side, side), np.uint8) if mask is None else mask.astype(np.uint8)
    return np.asarray(found, np.uint8), cv2.warpAffine(shown, about, (side, side)) > 0


def grey(index: int, product: int = PLATE) -> np.ndarray:
    return np.asarray(cv2.cvtColor(moved(index, product=product)[0], cv2.COLOR_RGB2GRAY), np.uint8)


def test_a_pose_undoes_a_shift_and_a_turn_at_once() -> None:
    template, picture = grey(0), grey(1)
    pose = over_turns(fine(picture), fine(template))
    assert pose.likeness > 0.955
    known = cv2.getRotationMatrix2D((80, 80), 7.0, 1.0)
    known[:, 2] += (9, -7)
    part = fine(template)
    turned = np.asarray(cv2.warpAffine(part, known, (FINE, FINE), borderMode=cv2.BORDER_REPLICATE), np.float32)
    found = over_turns(turned, part)
    np.testing.assert_allclose(found.warp, cv2.invertAffineTransform(known), atol=0.2)


def test_a_template_only_where_every_normal_is_like_it() -> None:
    greys = [grey(n) for n in range(4)]
    found = template_of(greys)
    assert found is not None and found[0].shape == (FINE, FINE) and found[1] > 0.955
    assert template_of(greys[:1]) is None and template_of([greys[0]] * (MOST + 1)) is None
    assert template_of([*greys, grey(4, WEAVE)]) is None
    assert template_of([grey(n, WEAVE) for n in range(4)]) is None


@pytest.mark.parametrize("shots", [2, 4])
def test_defects_on_moved_parts_are_told_from_few_normals(shots: int, tmp_path: Path) -> None:
    tests = [moved(20 + n, None if n < 8 else DEFECTS[n % len(DEFECTS)])[0] for n in range(20)]
    defective = np.arange(20) >= 8
    areas = {}
    for augment in ("auto", "off"):
        options = EnrolOptions(expert="padim", image_size=SIZE, augment=augment)
        recipe = enroll([png(moved(n)[0]) for n in range(shots)], tmp_path / augment, product="plate", options=options)
        state = recipes.arrays(tmp_path / augment, recipe)
        assert (TEMPLATE in state) == (augment == "auto") == any("laid on one of" in warning for warning in recipe.warnings)
        inspector = Inspector.load(tmp_path / augment)
        areas[augment] = auroc(np.array([inspector.score(pixels).score for pixels in tests]), defective) or 0.0
    assert areas["auto"] > max(0.85, areas["off"] + 0.05)


def test_the_map_lies_on_the_defect_in_the_picture_as_given(tmp_path: Path) -> None:
    enroll([png(moved(n)[0]) for n in range(4)], tmp_path / "r", product="plate", options=OPTIONS)
    inspector, hits = Inspector.load(tmp_path / "r"), 0
    for index in range(40, 46):
        pixels, mask = moved(index, "missing")
        raw = inspector.score(pixels)
        assert raw.map.shape == (SIZE, SIZE) and raw.reasons == ()
        row, column = np.unravel_index(int(raw.map.argmax()), raw.map.shape)
        near = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8))
        hits += bool(near[2 * row, 2 * column])
        assert raw.score == float(raw.map.max())
    assert hits >= 5


def test_a_picture_unlike_the_template_goes_to_a_person(tmp_path: Path) -> None:
    enroll([png(moved(n)[0]) for n in range(4)], tmp_path / "r", product="plate", options=OPTIONS)
    inspector = Inspector.load(tmp_path / "r")
    strange = drawn(WEAVE, 0)[0]
    assert NOT_REGISTERED in inspector.inspect(png(strange)).reasons
    assert NOT_REGISTERED not in inspector.inspect(png(moved(30)[0])).reasons
    template = template_of([grey(n) for n in range(4)])
    assert template is not None
    batch = prepared(strange, VIEW)
    seen = extractor("padim", VIEW, template=template[0]).features(batch)[0]
    assert (seen[:, -1] < KNOWN).all()
    np.testing.assert_array_equal(seen[:, :-POSE], extractor("padim", VIEW).features(batch)[0])


def test_parts_that_differ_and_many_parts_are_not_laid_on_one(tmp_path: Path) -> None:
    for name, product, count in (("differ", WEAVE, 3), ("many", PLATE, MOST + 1)):
        pictures = [png(moved(n, product=product)[0]) for n in range(count)]
        recipe = enroll(pictures, tmp_path / name, product="part", options=OPTIONS)
        assert TEMPLATE not in recipes.arrays(tmp_path / name, recipe)
    whole = enroll(
        [png(moved(n)[0]) for n in range(3)],
        tmp_path / "region",
        product="p",
        options=OPTIONS,
        region=np.ones((256, 256), np.uint8),
    )
    assert TEMPLATE not in recipes.arrays(tmp_path / "region", whole)


def test_the_same_pictures_make_the_same_recipe_and_more_of_them_another(tmp_path: Path) -> None:
    pictures = [png(moved(n)[0]) for n in range(5)]
    first, again = (enroll(pictures[:4], tmp_path / name, product="plate", options=OPTIONS) for name in ("a", "b"))
    assert first.sha256 == again.sha256
    kept = dict(zip(first.normals, pictures, strict=False))
    grown = extend(tmp_path / "a", pictures[4:], tmp_path / "c", originals=kept.__getitem__)
    assert len(grown.normals) == 5 and TEMPLATE in recipes.arrays(tmp_path / "c", grown)
    assert len(grown.calibration.held_out_scores) == 5 and any("laid on one of the 5" in w for w in grown.warnings)


def test_an_evaluation_lays_the_tests_on_each_draws_template(tmp_path: Path) -> None:
    for n in range(12):
        defect = None if n < 8 else "missing"
        place = tmp_path / "plate" / ("train/good" if n < 4 else "test/good" if n < 8 else "test/missing")
        pixels, mask = moved(n, defect)
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{n}.png").write_bytes(png(pixels))
        if defect is not None:
            truth = tmp_path / "plate/ground_truth/missing"
            truth.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(truth / f"{n}_mask.png"), mask.astype(np.uint8) * 255)
    (row,) = evaluate(tmp_path / "plate", OPTIONS, shots=3, seeds=2)
    (plain,) = evaluate(tmp_path / "plate", EnrolOptions(expert="padim", image_size=SIZE, augment="off"), shots=3, seeds=2)
    assert row["image_auroc"] >= plain["image_auroc"] and row["pixel_auroc"] > plain["pixel_auroc"] - 0.005


def test_states_that_do_not_hold_are_refused() -> None:
    template = template_of([grey(n) for n in range(3)])
    assert template is not None
    source = extractor("padim", VIEW, template=template[0])
    features = [source.features(prepared(moved(n)[0], VIEW))[0] for n in range(3)]
    state = fit("padim", features, dims=10, template=template[0])
    assert state["index"].max() < features[0].shape[1] - POSE
    with pytest.raises(ValueError, match="line's runtime"):
        load_expert("padim", state, VIEW, runtime="torch")
    with pytest.raises(ValueError, match="template is uint8"):
        load_expert("padim", {**state, TEMPLATE: template[0][:50]}, VIEW)
    with pytest.raises(FeaturesRefused, match="pose"):
        load_expert("padim", state, VIEW).score_features(features[0][None, :, :-POSE])
