"""One picture in, one outcome out."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from drawn_parts import part, png
from safetensors.numpy import save as tensor_bytes

from inspection import inspector as module
from inspection import recipe as recipes
from inspection.drawn import drawn
from inspection.enrolment import enroll
from inspection.evidence import NotAnImage, RecipeRefused, Thresholds, Verdict
from inspection.inspector import Inspector
from inspection.options import EnrolOptions
from inspection.recipe import DOCUMENT, Recipe
from inspection.verdict import ThresholdsRefused

Made = tuple[Path, Recipe]


@pytest.fixture(scope="module")
def inspector(made: Made) -> Inspector:
    return Inspector.load(made[0])


def test_a_sound_part_passes_without_findings(inspector: Inspector, made: Made) -> None:
    outcome = inspector.inspect(part(3))
    assert (outcome.verdict, outcome.reasons, outcome.findings) == (Verdict.PASS, (), ())
    assert outcome.recipe_sha256 == made[1].sha256 and outcome.score < 0.5 and outcome.margin < 0
    assert set(outcome.timings_ms) == {"decode", "features", "search", "map"}
    assert inspector.nbytes > 2000 * 152 * 4


@pytest.mark.parametrize("defect", ["missing", "misprint", "dent"])
def test_a_defect_is_rejected_where_it_is(inspector: Inspector, defect: str) -> None:
    pixels, mask = drawn(3, 40, defect)
    wide = cv2.resize(pixels, (400, 224))  # not square: an axis swapped would show
    outcome = Inspector(replace(inspector.recipe, gate=_any_size(inspector)), inspector._expert).inspect(png(wide))
    assert outcome.verdict is Verdict.REJECT and outcome.reasons == ("over_reject_limit",)
    assert outcome.score > 0.5 and outcome.margin > 0 and (outcome.width, outcome.height) == (400, 224)
    rows, columns = np.nonzero(cv2.resize(mask.astype(np.uint8), (400, 224)))
    x, y, w, h = outcome.findings[0].bbox
    assert x <= columns.mean() <= x + w and y <= rows.mean() <= y + h
    assert outcome.map_stats.peak_xy == outcome.findings[0].peak_xy


def _any_size(inspector: Inspector) -> object:
    return replace(inspector.recipe.gate, width_max=999, height_min=1, aspect_min=0.1, aspect_max=9, typical_max=None)


def test_thresholds_can_be_overridden_and_are_checked(inspector: Inspector) -> None:
    raw = inspector.inspect(part(3)).raw_score
    rejected = inspector.inspect(part(3), thresholds=Thresholds(raw / 2, raw))
    assert rejected.verdict is Verdict.REJECT and rejected.score == 0.5 and rejected.thresholds == Thresholds(raw / 2, raw)
    assert len(rejected.findings) >= 1
    assert inspector.inspect(part(3), thresholds=Thresholds(raw, 2 * raw)).verdict is Verdict.REVIEW
    with pytest.raises(ThresholdsRefused):
        inspector.inspect(part(3), thresholds=Thresholds(2, 1))


def test_a_picture_that_the_gate_alone_doubts_has_no_finding(inspector: Inspector) -> None:
    coloured = replace(inspector.recipe.gate, chroma_min=0.0, chroma_max=0.0)
    kind = replace(inspector.recipe.calibration, thresholds=Thresholds(1e6, 1e7), finding_limit=1e-6)
    outcome = Inspector(replace(inspector.recipe, gate=coloured, calibration=kind), inspector._expert).inspect(part(40))
    assert (outcome.verdict, outcome.reasons) == (Verdict.REVIEW, ("unexpected_channels",))
    assert outcome.findings == ()


def test_the_gate_asks_a_person_and_hides_no_reject(inspector: Inspector) -> None:
    sound, grey = drawn(3, 3)[0], np.repeat(drawn(3, 3)[0][..., 1:2], 3, 2)
    small = inspector.inspect(png(cv2.resize(sound, (120, 256))))
    assert "unexpected_size" in small.reasons and small.verdict is not Verdict.PASS and small.findings
    coloured = replace(inspector.recipe.gate, chroma_min=7.0, chroma_max=40.0)
    strict = Inspector(replace(inspector.recipe, gate=coloured), inspector._expert)
    assert "unexpected_channels" in strict.inspect(png(grey)).reasons
    spoilt = strict.inspect(png(np.repeat(drawn(3, 40, "missing")[0][..., 1:2], 3, 2)))
    assert spoilt.verdict is Verdict.REJECT and spoilt.reasons[0] == "over_reject_limit"


def test_an_uncalibrated_recipe_only_reviews(normals: list[bytes], tmp_path: Path) -> None:
    enroll(normals[:1], tmp_path / "r", product="x")
    outcome = Inspector.load(tmp_path / "r").inspect(part(40, "missing"))
    assert (outcome.verdict, outcome.reasons[0], outcome.score, outcome.margin) == (Verdict.REVIEW, "uncalibrated", None, None)
    assert len(outcome.findings) == 1


def test_padim_from_pictures_to_verdicts(normals: list[bytes], tmp_path: Path) -> None:
    recipe = enroll(normals, tmp_path / "r", product="x", options=EnrolOptions(expert="padim"))
    assert "expert.safetensors" in recipe.files
    one = Inspector.load(tmp_path / "r")
    assert one.inspect(part(40, "missing")).raw_score > one.inspect(part(30)).raw_score


def test_errors_are_no_verdicts(inspector: Inspector) -> None:
    with pytest.raises(NotAnImage):
        inspector.inspect(b"text")


def test_threads_agree(inspector: Inspector) -> None:
    pictures = [part(n) for n in range(4)]
    alone = [inspector.inspect(p).raw_score for p in pictures]
    with ThreadPoolExecutor(4) as pool:
        assert [o.raw_score for o in pool.map(inspector.inspect, pictures * 4)] == alone * 4


def test_a_recipe_that_scores_differently_is_refused_saying_by_how_much(made: Made, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made[0], tmp_path / "r"))
    values = json.loads((folder / DOCUMENT).read_bytes())
    values["golden"][3]["raw_score"] *= 1.002
    (folder / DOCUMENT).write_text(json.dumps(values))
    with pytest.raises(RecipeRefused, match=r"0\.20% off"):
        Inspector.load(folder)
    Inspector.load(folder, check=False)
    values["golden"][3]["raw_score"] *= 1.0005 / 1.002
    (folder / DOCUMENT).write_text(json.dumps(values))
    Inspector.load(folder)


def test_other_weights_or_arrays_are_refused(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        module, "arrays", lambda *_: {"memory_bank": np.zeros((5, 7), np.float32), "source": np.zeros(5, np.int32)}
    )
    with pytest.raises(RecipeRefused, match="do not fit"):
        Inspector.load(made[0])
    monkeypatch.setattr(module, "weights_sha256", lambda _: "0" * 64)
    with pytest.raises(RecipeRefused, match="other weights"):
        Inspector.load(made[0])


def test_the_line_imports_no_training_library(made: Made, tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(part(3))
    script = (
        "import sys; from pathlib import Path; from inspection.inspector import Inspector\n"
        "Inspector.load(Path(sys.argv[1])).inspect(Path(sys.argv[2]).read_bytes())\n"
        "print([m for m in ('torch', 'anomalib', 'transformers', 'scipy', 'numba') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(made[0]), str(tmp_path / "p.png")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def forged(made: Made, folder: Path, change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> Path:
    """A recipe with other arrays, its digests made anew."""
    source, recipe = made
    files = {name: (source / name).read_bytes() for name in recipe.files}
    state = recipes.arrays(source, recipe)
    arrays = {name: np.ascontiguousarray(array) for name, array in {**state, **change(state)}.items()}
    recipes.save(folder, recipe, {**files, recipes.ARRAYS[recipe.expert]: tensor_bytes(arrays)})
    return folder


@pytest.fixture(scope="module")
def gaussians(normals: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("padim") / "r"
    return folder, enroll(normals[:3], folder, product="cap", options=EnrolOptions(expert="padim", image_size=64))


@pytest.mark.parametrize(
    "change",
    [
        lambda state: {"memory_bank": state["memory_bank"].astype(np.float64)},
        lambda state: {"memory_bank": state["memory_bank"].astype(np.float16)},
        lambda state: {"memory_bank": state["memory_bank"][:, :, None]},
        lambda state: {"memory_bank": state["memory_bank"].ravel()},
        lambda state: {"memory_bank": state["memory_bank"][:0], "source": state["source"][:0]},
        lambda state: {"source": state["source"][1:]},
        lambda state: {"source": state["source"].astype(np.int64)},
        lambda state: {"region": np.ones((224, 224), np.float32)},
        lambda state: {"mean": state["source"]},
        lambda state: {"payload": np.zeros(4, np.float32)},
    ],
)
def test_malformed_memory_banks_are_refused_at_load(made: Made, tmp_path: Path, change: Any) -> None:
    with pytest.raises(RecipeRefused, match="do not fit its expert"):
        Inspector.load(forged(made, tmp_path / "r", change), check=False)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: {"index": state["index"] - state["index"][0] - 1},
        lambda state: {"index": state["index"] + 100},
        lambda state: {"index": state["index"].astype(np.float32)},
        lambda state: {"index": state["index"][:0], "mean": state["mean"][:, :0], "precision": state["precision"][:, :0, :0]},
        lambda state: {"index": state["index"][None]},
        lambda state: {"precision": state["precision"][:, :, 0]},
        lambda state: {"precision": state["precision"][:1]},
        lambda state: {"precision": state["precision"].astype(np.float64)},
        lambda state: {"mean": state["mean"][:, :1]},
        lambda state: {"mean": state["mean"].astype(np.float16)},
    ],
)
def test_malformed_gaussians_are_refused_at_load(gaussians: Made, tmp_path: Path, change: Any) -> None:
    Inspector.load(forged(gaussians, tmp_path / "same", lambda _: {}))
    with pytest.raises(RecipeRefused, match="do not fit its expert"):
        Inspector.load(forged(gaussians, tmp_path / "r", change), check=False)


def test_a_golden_picture_that_is_none_is_the_recipes_fault(gaussians: Made, tmp_path: Path) -> None:
    folder, recipe = gaussians
    files = {name: (folder / name).read_bytes() for name in recipe.files}
    recipes.save(tmp_path / "forged", recipe, {**files, "golden/normal1.png": b"text"})
    with pytest.raises(RecipeRefused, match="cannot score its own golden pictures"):
        Inspector.load(tmp_path / "forged")


def test_arrays_that_are_not_finite_are_the_recipes_fault(made: Made, tmp_path: Path) -> None:
    folder, recipe = made
    bank = recipes.arrays(folder, recipe)
    bank["memory_bank"] = np.full_like(bank["memory_bank"], np.nan)
    files = {name: (folder / name).read_bytes() for name in recipe.files}
    recipes.save(tmp_path / "forged", recipe, {**files, "memory_bank.safetensors": tensor_bytes(bank)})
    with pytest.raises(RecipeRefused, match="golden"):
        Inspector.load(tmp_path / "forged")
