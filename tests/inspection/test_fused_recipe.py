"""A recipe on both backbones, from its enrolment to its extension."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from inspection.drawn import drawn
from inspection.enrolment import enroll
from inspection.evidence import EnrolmentRefused, RecipeRefused
from inspection.extension import GROWTH, LEAST, extend
from inspection.inspector import Inspector, weights_sha256
from inspection.options import EnrolOptions
from inspection.recipe import Recipe, arrays, load

SMALL = EnrolOptions(backbone="fused", image_size=64, coreset=200)


def part(index: int, defect: str | None = None, light: float = 1.0) -> bytes:
    pixels = np.clip(drawn(3, index, defect, 128)[0] * np.array([light, light**0.5, 1.0]), 0, 255)
    return cv2.imencode(".png", pixels[..., ::-1].astype(np.uint8))[1].tobytes()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recipe]:
    folder = tmp_path_factory.mktemp("fused") / "r"
    return folder, enroll([part(n) for n in range(LEAST)], folder, product="cap", options=SMALL)


def test_a_recipe_on_both_backbones_is_a_recipe_like_others(made: tuple[Path, Recipe]) -> None:
    folder, recipe = made
    assert load(folder) == recipe and (recipe.backbone, recipe.image_size) == ("fused", 64)
    assert recipe.weights_sha256 == weights_sha256("fused") != weights_sha256("efficientnet_lite0")
    inspector = Inspector.load(folder)
    found = inspector.inspect(part(90, "missing"))
    assert found.verdict == "reject" and found.findings and set(found.timings_ms) == {"decode", "features", "search", "map"}
    assert sum(inspector.inspect(part(100 + n)).verdict == "reject" for n in range(8)) <= 1
    assert recipe.self_test.kinds[0].auroc > 0.8
    with pytest.raises(RecipeRefused, match="line's runtime alone"):
        Inspector.load(folder, runtime="torch")


def test_both_banks_grow_and_old_scores_stay(made: tuple[Path, Recipe], tmp_path: Path) -> None:
    (folder, old), batch = made, [part(200 + n, light=1.2) for n in range(4)]
    new = extend(folder, batch, tmp_path / "wider")
    lineage, before, after = new.options["extension"], arrays(folder, old), arrays(tmp_path / "wider", new)
    assert not lineage["refitted"] and lineage["first_rows"] == [200, 200]
    grown = 0
    for bank, source in (("memory_bank", "source"), ("second_bank", "second_source")):
        assert (after[bank][:200] == before[bank]).all() and 200 < len(after[bank]) <= 200 * GROWTH
        assert len(after[source]) == len(after[bank]) and after[source][200:].min() >= LEAST
        grown += len(after[bank]) - 200
    assert lineage["inserted"] == grown and (after["units"] == before["units"]).all()
    assert new.calibration.held_out_scores[:LEAST] == old.calibration.held_out_scores
    one, other = Inspector.load(folder), Inspector.load(tmp_path / "wider")
    assert all(other.inspect(data).raw_score <= one.inspect(data).raw_score * (1 + 1e-6) for data in map(part, range(400, 404)))
    fresh = [part(300 + n, light=1.2) for n in range(6)]
    assert np.mean([other.inspect(d).raw_score / one.inspect(d).raw_score for d in fresh]) < 0.9
    twice = extend(tmp_path / "wider", [part(500)], tmp_path / "twice")
    assert twice.options["extension"]["first_rows"] == [200, 200]


def test_int8_is_of_the_half_that_takes_it(tmp_path: Path, made: tuple[Path, Recipe], monkeypatch: pytest.MonkeyPatch) -> None:
    from inspection import choice

    monkeypatch.setattr(choice, "LOSS", 1.0)
    monkeypatch.setattr(choice, "EACH", 1)
    options = EnrolOptions(backbone="fused", image_size=64, coreset=200, precision="int8")
    recipe = enroll([part(n) for n in range(4)], tmp_path / "r", product="cap", options=options)
    assert recipe.precision == "int8" and [half.precision for half in recipe.view.halves] == ["float32", "int8"]
    Inspector.load(tmp_path / "r")
    for refused in (EnrolOptions("padim", "fused"), EnrolOptions(backbone="fused", tile=64)):
        with pytest.raises(EnrolmentRefused, match="name one backbone"):
            enroll([part(n) for n in range(4)], tmp_path / "o", product="cap", options=refused)
