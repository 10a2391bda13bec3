"""Pictures added to a recipe: a new recipe beside the old one, wider by what they show, or nothing at all."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from inspection import extension, inspector, selftest
from inspection import recipe as recipes
from inspection.drawn import drawn
from inspection.enrolment import enroll
from inspection.evidence import Cancelled, EnrolmentRefused, RecipeRefused
from inspection.extension import GROWTH, LEAST, extend
from inspection.image import decode
from inspection.inspector import Inspector
from inspection.options import EnrolOptions
from inspection.recipe import Recipe, arrays, load

SMALL = EnrolOptions(image_size=128, coreset=400)
DATE = "2026-01-01T00:00:00Z"


def part(index: int, defect: str | None = None, light: float = 1.0, side: int = 128) -> bytes:
    """A drawn part, in another light where asked for."""
    pixels = np.clip(drawn(3, index, defect, side)[0] * np.array([light, light**0.5, 1.0]), 0, 255)
    return cv2.imencode(".png", pixels[..., ::-1].astype(np.uint8))[1].tobytes()


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recipe]:
    folder = tmp_path_factory.mktemp("parent") / "r"
    return folder, enroll([part(n) for n in range(LEAST)], folder, product="cap", options=SMALL)


@pytest.fixture(scope="module")
def batch() -> list[bytes]:
    return [part(100 + n, light=1.2) for n in range(8)]


@pytest.fixture(scope="module")
def wider(parent: tuple[Path, Recipe], batch: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recipe]:
    folder = tmp_path_factory.mktemp("wider") / "r"
    return folder, extend(parent[0], batch, folder, created_at=DATE)


def test_a_batch_in_other_light_passes_afterwards_and_defects_do_not(
    parent: tuple[Path, Recipe], wider: tuple[Path, Recipe]
) -> None:
    before, after = Inspector.load(parent[0]), Inspector.load(wider[0])
    fresh = [part(200 + n, light=1.2) for n in range(12)]
    over = [sum(one.inspect(data).verdict == "reject" for data in fresh) for one in (before, after)]
    assert over[0] > 6 and over[1] <= 2
    assert all(after.inspect(part(300 + n, "missing", light)).verdict == "reject" for n, light in enumerate((1.0, 1.2) * 3))
    kept = [part(400 + n) for n in range(6)]
    assert all(after.inspect(data).raw_score <= before.inspect(data).raw_score * (1 + 1e-6) for data in kept)


def test_the_recipe_says_what_it_came_from_and_the_parent_stands(
    parent: tuple[Path, Recipe], wider: tuple[Path, Recipe], batch: list[bytes], tmp_path: Path
) -> None:
    (old_folder, old), (folder, new) = parent, wider
    assert load(old_folder) == old and load(folder) == new
    lineage = new.options["extension"]
    assert lineage["parents"] == [old.sha256] and not lineage["refitted"]
    assert (lineage["pictures"], lineage["first_rows"]) == (8, 400)
    bank, before = arrays(folder, new)["memory_bank"], arrays(old_folder, old)["memory_bank"]
    assert (bank[:400] == before).all() and len(bank) == 400 + lineage["inserted"] <= 400 * GROWTH
    card = new.calibration
    assert card.n == len(new.normals) == LEAST + 8 and new.normals[:LEAST] == old.normals
    assert card.held_out_scores[:LEAST] == old.calibration.held_out_scores
    assert card.held_out_peaks[:LEAST] == old.calibration.held_out_peaks
    assert new.self_test.kinds[0].copies == 26 and new.self_test.kinds[0].auroc > 0.8
    assert [g.file for g in new.golden] == [g.file for g in old.golden] and new.heatmap_max == 2 * card.finding_limit
    assert new.gate.chroma_max > old.gate.chroma_max and new.gate.chroma_min == old.gate.chroma_min
    files = []
    for number, data in enumerate(batch):
        files.append(tmp_path / f"{number}.png")
        files[-1].write_bytes(data)
    names = [f"picture {n}" for n in range(1, 9)]
    assert extend(old_folder, files, tmp_path / "again", names=names).sha256 == new.sha256
    twice = extend(folder, [part(120)], tmp_path / "twice")
    assert twice.options["extension"]["parents"] == [old.sha256, new.sha256]
    assert twice.options["extension"]["first_rows"] == 400


def test_known_pictures_are_skipped_and_nothing_new_is_said(parent: tuple[Path, Recipe], tmp_path: Path) -> None:
    made = extend(parent[0], [part(0), part(1), part(50)], tmp_path / "r")
    assert len(made.normals) == LEAST + 1 and "2 of 3 pictures are in the recipe already." in made.warnings
    with pytest.raises(EnrolmentRefused, match="all 2 pictures already"):
        extend(parent[0], [part(0), part(1)], tmp_path / "none")
    with pytest.raises(EnrolmentRefused, match="exists"):
        extend(parent[0], [part(50)], tmp_path / "r")
    assert not (tmp_path / "none").exists()


def test_a_copy_that_was_left_out_is_nothing_new(tmp_path: Path) -> None:
    again = cv2.imencode(".png", cv2.imdecode(np.frombuffer(part(3), np.uint8), 1), [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()
    assert again != part(3)
    made = enroll([*(part(n) for n in range(LEAST)), again], tmp_path / "r", product="cap", options=SMALL)
    assert len(made.normals) == LEAST and len(made.copies) == 1 and load(tmp_path / "r") == made
    with pytest.raises(EnrolmentRefused, match="already"):
        extend(tmp_path / "r", [again], tmp_path / "wider")
    wider = extend(tmp_path / "r", [again, part(100), part(101)], tmp_path / "wider")
    assert wider.options["extension"]["pictures"] == 2 and wider.copies == made.copies
    few = enroll([*(part(n) for n in range(4)), again], tmp_path / "few", product="cap", options=SMALL)
    own = {sha256: part(n) for n in range(4) for sha256 in [hashlib.sha256(part(n)).hexdigest()]}
    refitted = extend(tmp_path / "few", [part(100)], tmp_path / "more", originals=own.__getitem__)
    assert refitted.options["extension"]["refitted"] and refitted.copies == few.copies != ()


def test_a_defective_picture_among_them_is_named(parent: tuple[Path, Recipe], tmp_path: Path) -> None:
    names = ["good1", "good2", "again", "stained"]
    noisy = decode(part(61)).pixels.copy()
    noisy[0, 0] ^= 1  # other bytes, the same part
    again = cv2.imencode(".png", noisy[..., ::-1])[1].tobytes()
    made = extend(parent[0], [part(60), part(61), again, part(62, "stain")], tmp_path / "r", names=names)
    over, twice = (next(w for w in made.warnings if w.startswith(start)) for start in ("Not like", "Nearly"))
    assert "stained (score" in over and "good" not in over.split(": ")[-1]
    assert made.options["extension"]["doubtful"] == [made.normals[-1]]
    assert "again ≈ good2" in twice and "stained" not in twice


def test_a_full_bank_says_so(parent: tuple[Path, Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extension, "GROWTH", 1.01)
    made = extend(parent[0], [part(100 + n, light=1.6) for n in range(4)], tmp_path / "r")
    assert made.options["extension"]["inserted"] == 4
    assert any("memory bank is full" in warning for warning in made.warnings)
    assert any("limit rose" in warning for warning in made.warnings)


def test_pictures_of_another_kind_are_named_and_let_in(parent: tuple[Path, Recipe], tmp_path: Path) -> None:
    grey = cv2.imencode(".png", cv2.cvtColor(decode(part(70, side=256)).pixels, cv2.COLOR_RGB2GRAY))[1].tobytes()
    assert "unexpected_size" in Inspector.load(parent[0]).inspect(grey).reasons
    made = extend(parent[0], [grey, part(71)], tmp_path / "r", names=["large grey", "usual"])
    unlike = next(w for w in made.warnings if w.startswith("Unlike"))
    assert "large grey (unexpected_size" in unlike and "usual" not in unlike
    assert not {"unexpected_size", "unexpected_channels"} & set(Inspector.load(tmp_path / "r").inspect(grey).reasons)


@pytest.mark.parametrize(("expert", "count"), [("patchcore", 2), ("padim", 3)])
def test_small_recipes_and_other_experts_are_fitted_anew(expert: str, count: int, tmp_path: Path) -> None:
    options = EnrolOptions(expert=expert, image_size=128, coreset=400, false_reject_rate=0.02)
    old = enroll([part(n) for n in range(count)], tmp_path / "old", product="cap", options=options)
    originals = dict(zip(old.normals, (part(n) for n in range(count)), strict=True)).__getitem__
    made = extend(tmp_path / "old", [part(10), part(11)], tmp_path / "new", originals=originals)
    whole = enroll([part(n) for n in (*range(count), 10, 11)], tmp_path / "whole", product="cap", options=options)
    assert made.calibration == whole.calibration and made.normals == whole.normals and made.gate == whole.gate
    assert made.options["extension"]["refitted"] and made.options["extension"]["parents"] == [old.sha256]
    assert "fitted anew from all pictures" in made.warnings[0]
    with pytest.raises(EnrolmentRefused, match="its own pictures are not here"):
        extend(tmp_path / "old", [part(10)], tmp_path / "none")


def test_a_region_is_kept(tmp_path: Path) -> None:
    region = np.zeros((128, 128), np.uint8)
    region[32:96, 16:112] = 255
    normals = [part(n) for n in range(4)]
    old = enroll(normals, tmp_path / "old", product="cap", options=SMALL, region=region)
    for name, originals in (("bound", None), ("anew", dict(zip(old.normals, normals, strict=True)).__getitem__)):
        made = extend(tmp_path / "old", [part(10)], tmp_path / name, originals=originals)
        assert made.options["extension"]["refitted"] == (name == "anew")
        kept, was = (arrays(tmp_path / at, one)["region"] for at, one in ((name, made), ("old", old)))
        assert (kept == was).all()


def test_a_tiled_recipe_grows_and_its_copies_keep_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiled = EnrolOptions(image_size=32, tile=64, coreset=200)
    old = enroll([part(n) for n in range(LEAST)], tmp_path / "old", product="cap", options=tiled)
    batch = [part(100 + n, light=1.2) for n in range(3)]
    made = extend(tmp_path / "old", batch, tmp_path / "new", created_at=DATE)
    assert made.view == old.view and made.tile == 32 and not made.options["extension"]["refitted"]
    assert made.options["extension"]["inserted"] > 0 and made.self_test.kinds[0].copies == 26
    monkeypatch.setattr(selftest, "SIDE", 40)
    assert extend(tmp_path / "old", batch, tmp_path / "again", created_at=DATE).sha256 == made.sha256
    fresh = part(200, light=1.2)
    assert Inspector.load(tmp_path / "new").inspect(fresh).raw_score < Inspector.load(tmp_path / "old").inspect(fresh).raw_score


def test_bad_pictures_and_a_parent_that_does_not_hold(
    parent: tuple[Path, Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EnrolmentRefused, match=r"2 of 3 pictures cannot be used") as refused:
        extend(parent[0], [part(50), b"text", part(51)[:300]], tmp_path / "r")
    assert [bad["index"] for bad in refused.value.details["bad"]] == [1, 2]
    with monkeypatch.context() as patch:
        patch.setattr(inspector, "weights_sha256", lambda _: "0" * 64)
        with pytest.raises(RecipeRefused, match="other weights"):
            extend(parent[0], [part(50)], tmp_path / "r")
    copy = tmp_path / "copy"
    recipes.import_file(recipes.export_file(parent[0], tmp_path / "x.zip"), copy)
    bank = copy / "memory_bank.safetensors"
    bank.write_bytes(bank.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(RecipeRefused, match="not the one it was made with"):
        extend(copy, [part(50)], tmp_path / "r")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("stage", ["decode", "features", "selftest", "coreset", "calibrate", "golden"])
def test_cancelling_at_any_stage_leaves_nothing(stage: str, parent: tuple[Path, Recipe], tmp_path: Path) -> None:
    seen: list[str] = []
    cancelled: Callable[[], bool] = lambda: stage in seen  # noqa: E731
    with pytest.raises(Cancelled):
        pictures = [part(50 + n, light=1.3) for n in range(3)]
        extend(parent[0], pictures, tmp_path / "r", progress=lambda name, *_: seen.append(name), cancelled=cancelled)
    assert seen[-1] == stage and list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing(parent: tuple[Path, Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(recipes, "_write", full)
    with pytest.raises(OSError, match="No space"):
        extend(parent[0], [part(50)], tmp_path / "r")
    assert list(tmp_path.iterdir()) == []
