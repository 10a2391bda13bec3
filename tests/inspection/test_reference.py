"""Boards that only their template defines, from pictures to verdicts: drawn at random, each another layout."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_parts import png
from safetensors.numpy import load_file

from inspection.enrolment import enroll
from inspection.evaluation import evaluate
from inspection.evidence import EnrolmentRefused, RecipeRefused, Verdict
from inspection.inspector import Inspector
from inspection.options import EnrolOptions
from models.experts import FeaturesRefused, View, extractor, fit, held_out, load_expert, notes
from models.experts.cells import fitting_size, split
from models.experts.reference import NO_TEMPLATE, fit_reference, image_difference, lonely
from models.experts.registration import FINE, fine, laid, refined, scaled, shifted

SIZE = 320
REFERENCE = EnrolOptions(expert="reference")


def board(
    number: int, defect: str | None = None, move: tuple[float, float] = (0, 0), light: float = 1.0, seed: int = 0
) -> np.ndarray:
    """Layout `number`: black traces between pads on white, RGB; `open` cuts a trace, `short` draws one too many."""
    rng, picture = np.random.default_rng([7, number]), np.full((SIZE, SIZE), 235, np.uint8)
    pads = rng.integers(30, SIZE - 30, (14, 2))
    lines = [(a, (b[0], a[1])) for a, b in pairwise(pads)]
    for a, b in lines:
        cv2.line(picture, tuple(map(int, a)), tuple(map(int, b)), 25, 7, cv2.LINE_AA)
    for x, y in pads:
        cv2.rectangle(picture, (int(x) - 11, int(y) - 11), (int(x) + 11, int(y) + 11), 25, -1)
    longest = max(lines, key=lambda line: abs(int(line[0][0]) - int(line[1][0])))
    x, y = (int(longest[0][0]) + int(longest[1][0])) // 2, int(longest[0][1])
    if defect == "open":
        cv2.rectangle(picture, (x - 5, y - 6), (x + 5, y + 6), 235, -1)
    if defect == "short":
        cv2.line(picture, (x, y), (x, y + (30 if y < SIZE / 2 else -30)), 25, 6, cv2.LINE_AA)
    moved = cv2.warpAffine(picture, np.float32([[1, 0, move[0]], [0, 1, move[1]]]), (SIZE, SIZE), borderMode=cv2.BORDER_REPLICATE)
    noisy = light * moved + np.random.default_rng([number, seed, 1]).normal(0, 2, moved.shape)
    return np.repeat(np.clip(noisy, 0, 255).astype(np.uint8)[..., None], 3, 2)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("boards") / "recipe"
    enroll([png(board(n, move=(n % 3 - 1, 0), seed=1)) for n in range(10)], folder, product="pcb", options=REFERENCE)
    return folder


@pytest.fixture(scope="module")
def inspector(made: Path) -> Inspector:
    return Inspector.load(made)


@pytest.mark.parametrize("number", [0, 4, 9])
def test_a_missing_and_an_extra_trace_score_over_every_good_board(inspector: Inspector, number: int) -> None:
    good = [
        inspector.inspect(png(board(number, move=move, light=light, seed=2))) for move, light in (((0, 0), 1), ((4, -3), 0.95))
    ]
    bad = [inspector.inspect(png(board(number, defect, (2, 1), seed=3))) for defect in ("open", "short")]
    assert [one.verdict for one in good] == [Verdict.PASS, Verdict.PASS]
    assert [one.verdict for one in bad] == [Verdict.REJECT, Verdict.REJECT]
    assert min(one.raw_score for one in bad) > 1.3 * max(one.raw_score for one in good)


def test_the_finding_lies_on_the_defect(inspector: Inspector) -> None:
    clean, cut = (board(4, defect, seed=1) for defect in (None, "open"))
    rows, columns = np.nonzero(np.abs(clean.astype(int) - cut).max(2) > 60)
    x, y, wide, high = inspector.inspect(png(cut)).findings[0].bbox
    assert x <= columns.mean() <= x + wide and y <= rows.mean() <= y + high and wide * high < SIZE**2 / 20


def test_an_unknown_board_is_never_passed_and_says_why(inspector: Inspector) -> None:
    stranger = inspector.inspect(png(board(77)))
    assert stranger.verdict is not Verdict.PASS and NO_TEMPLATE in stranger.reasons
    assert NO_TEMPLATE not in inspector.inspect(png(board(3, "short"))).reasons


def test_the_recipe_is_deterministic_bounded_and_says_that_boards_are_single(made: Path, tmp_path: Path) -> None:
    pictures = [png(board(n, move=(n % 3 - 1, 0), seed=1)) for n in range(10)]
    again = enroll(pictures, tmp_path / "again", product="pcb", options=REFERENCE)
    recipe = Inspector.load(made).recipe
    assert again.sha256 == recipe.sha256 and again.image_size == SIZE
    assert any("10 of 10 normal pictures are the only ones of their part" in w for w in recipe.calibration.warnings)
    arrays = load_file(made / "references.safetensors")
    assert arrays["pictures"].shape == (10, SIZE, SIZE) and arrays["pictures"].dtype == np.uint8
    assert arrays["features"].dtype == np.float16 and (made / "references.safetensors").stat().st_size < 10 * (
        SIZE**2 + 400 * 152 * 2 + 4096
    )


def test_boards_with_fellows_are_calibrated_against_them() -> None:
    cells = extractor("reference", View.square("efficientnet_lite0", SIZE))
    features = [_features(cells, board(n % 3, move=(n // 3, 0), seed=n)) for n in range(9)]
    state = fit("reference", features, view=View.square("efficientnet_lite0", 64))
    assert not lonely(state["fellow"]).any() and notes("reference", state, 9) == ()
    scores = dict(held_out("reference", features, state, view=View.square("efficientnet_lite0", SIZE)))
    expert = load_expert("reference", state, View.square("efficientnet_lite0", SIZE))
    worst = max(raw.score for raw in scores.values())
    assert sorted(scores) == list(range(9)) and worst < 1
    assert all(raw.map.shape == (SIZE, SIZE) and raw.patches.shape == (20, 20) for raw in scores.values())
    assert expert.score_features(_features(cells, board(1, "open", seed=40))[None])[0].score > 1.3 * worst
    assert lonely(np.array([0.3, 0.2, 0.97, 0.99])).tolist() == [True, True, True, False]
    assert lonely(np.array([0.9, 0.88, 0.93, 0.2])).tolist() == [False, False, False, True]


def test_references_stay_within_their_budget_and_copies_leave_first() -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (64, 64)).astype(np.float32) for _ in range(3)]
    ones = [
        np.concatenate([rng.normal(size=(16, 8)), _tiles(p)], 1).astype(np.float32) for p in [*pictures, pictures[0], pictures[1]]
    ]
    assert fit_reference(iter(ones), width=8, most=3)["source"].tolist() == [0, 1, 2]
    bounded = fit_reference(iter([*ones] * 40), width=8, budget_mib=0)
    assert len(bounded["pictures"]) == 2 and "2 of 200" in notes("reference", bounded, 200)[-1]
    np.testing.assert_array_equal(split(ones[0], 8)[1], pictures[0].astype(np.uint8))
    with pytest.raises(FeaturesRefused, match="no normal"):
        fit_reference(iter([]), width=8)
    with pytest.raises(FeaturesRefused, match="NaN"):
        fit_reference(iter([np.full_like(ones[0], np.nan)]), width=8)
    with pytest.raises(FeaturesRefused, match="no square"):
        split(ones[0][:, :-1], 8)


def test_damaged_arrays_and_other_runtimes_are_refused(made: Path, tmp_path: Path) -> None:
    state = load_file(made / "references.safetensors")
    damaged = [
        {**state, "scale": np.zeros(2, np.float32)},
        {**state, "fellow": state["fellow"][:-1]},
        {**state, "pictures": state["pictures"].astype(np.int16)},
        {**state, "features": np.full_like(state["features"], np.nan)},
        {**state, "pictures": state["pictures"][:, :160, :160]},
        {**state, "features": state["features"][0]},
    ]
    for arrays in damaged:
        with pytest.raises(ValueError, match="arrays"):
            load_expert("reference", arrays, View.square("efficientnet_lite0", SIZE))
    with pytest.raises(ValueError, match="line's runtime alone"):
        load_expert("reference", state, View.square("efficientnet_lite0", SIZE), runtime="torch")
    with pytest.raises(RecipeRefused, match="line's runtime alone"):
        Inspector.load(made, runtime="torch")
    with pytest.raises(EnrolmentRefused, match="multiple of 16"):
        enroll(
            [png(board(0)), png(board(1))], tmp_path / "r", product="x", options=EnrolOptions(expert="reference", image_size=250)
        )


def test_registration_undoes_a_shift_and_leaves_its_input_alone() -> None:
    still, moved = board(2)[..., 0], board(2, move=(9.0, -6.0))[..., 0]
    a, b = fine(moved), fine(still)
    before = a.copy(), b.copy()
    pose = refined(a, b, shifted(a, b))
    np.testing.assert_array_equal(a, before[0])  # OpenCV's phase correlation windows its input in place
    np.testing.assert_array_equal(b, before[1])
    warp = scaled(pose.warp, SIZE)
    assert pose.likeness > 0.99 and np.abs(warp[:, 2] - [-9, 6]).max() < 0.6 and len(a) == FINE
    over = laid(still, warp, SIZE)
    assert np.isnan(over[:, :8]).all() and np.nanmax(image_difference(moved, over)) < 40
    assert np.nanmax(image_difference(board(2, "open", (9.0, -6.0))[..., 0], over)) > 120


def test_the_working_size_comes_from_the_pictures() -> None:
    spec = extractor("reference", View.square("efficientnet_lite0", SIZE)).spec  # type: ignore[attr-defined]
    assert [fitting_size(spec, sides) for sides in ([100], [300, 310, 5000], [640], [4000], [])] == [224, 304, 640, 640, 224]


def test_evaluation_enrolls_the_templates_a_manifest_names(tmp_path: Path) -> None:
    rows = []
    for number in range(4):
        good, bad = board(number), board(number, "open", (1, 0), seed=5)
        y, x = (int(v.mean()) for v in np.nonzero(np.abs(good.astype(int) - board(number, "open")).max(2) > 60))
        for kind, picture in (("train/good", board(number + 20)), ("test/good", good), ("test/defect", bad)):
            (tmp_path / "pcb" / kind).mkdir(parents=True, exist_ok=True)
            (tmp_path / "pcb" / kind / f"{number}.png").write_bytes(png(picture))
        place = {"image": f"set/pcb/test/defect/{number}.png", "template": f"set/pcb/test/good/{number}.png"}
        rows.append({**place, "boxes": [[x - 9, y - 9, x + 9, y + 9, "open"]]})
    (without,) = evaluate(tmp_path, REFERENCE)
    (tmp_path / "pcb/manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (with_templates,) = evaluate(tmp_path, REFERENCE)
    assert (without["templates"], with_templates["templates"], with_templates["normals"]) == (0, 4, 4)
    assert without["image_auroc"] < 0.9 and with_templates["image_auroc"] == 1.0 and with_templates["escape"] == 0.0


def _features(cells: object, picture: np.ndarray) -> np.ndarray:
    from models import backbones

    spec = backbones.spec("efficientnet_lite0")
    features: np.ndarray = cells.features(backbones.preprocess(picture, spec, SIZE)[None])[0]  # type: ignore[attr-defined]
    return features


def _tiles(picture: np.ndarray) -> np.ndarray:
    return picture.reshape(4, 16, 4, 16).transpose(0, 2, 1, 3).reshape(16, 256)
