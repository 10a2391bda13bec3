"""Products to train on: the same each time, unlike one another, some held out whole."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from inspection.drawn import drawn
from inspection.evidence import EnrolmentRefused
from inspection.products import EACH, Product, products
from inspection.products.drawing import FAMILIES
from inspection.products.photographs import CREDITS, present

KINDS = [("drawn", kind) for kind in FAMILIES] + [("photo", kind) for kind in present()]


@pytest.mark.parametrize(("source", "kind"), KINDS)
def test_a_product_gives_the_same_sound_parts_which_differ(source: str, kind: str) -> None:
    product = Product(source, kind, 1, False)
    one = product.picture(7)
    assert (
        one.dtype == np.uint8 and one.ndim == 3 and one.shape[2] == 3 and 224 <= min(one.shape[:2]) <= max(one.shape[:2]) <= 320
    )
    np.testing.assert_array_equal(one, product.picture(7))
    other = product.picture(8)
    assert other.shape == one.shape and np.abs(other.astype(int) - one).mean() > 0.3
    assert one.std() > 1
    stranger = Product(source, kind, 2, False).picture(7)
    assert stranger.shape != one.shape or np.abs(stranger.astype(int) - one).mean() > 3


def test_hundreds_of_products_and_a_fifth_held_out_whole(tmp_path: Path) -> None:
    folders = [_folder(tmp_path / name / "train" / "good", 3) for name in "abcde"]
    made = products(folders)
    assert len(made) == len({product.name for product in made}) == EACH * len(KINDS) + 5
    assert len(FAMILIES) >= 20
    for source in ("drawn", "photo", "folder"):
        kinds = {(p.kind, p.held_out) for p in made if p.source == source}
        assert len(kinds) == len({kind for kind, _ in kinds}), "a family is on one side only"
        share = np.mean([p.held_out for p in made if p.source == source])
        assert 0.1 <= share <= 0.3, source


def test_a_folder_is_a_product_with_its_credit(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "caps" / "train" / "good", 4)
    said = {"dataset": "caps", "licence": "CC0"}
    (tmp_path / "caps" / "meta.json").write_text(json.dumps(said))
    product = products([folder])[-1]
    assert product.size == 4 and product.picture(3).shape == (512, 512, 3)
    assert product.name.endswith("caps/0") and str(tmp_path) not in product.name
    assert product.credit == "caps, CC0"
    digest = product.digest
    (folder / "0.png").write_bytes((folder / "1.png").read_bytes())
    assert products([folder])[-1].digest != digest
    (folder / "3.png").unlink(), (folder / "2.png").unlink()
    with pytest.raises(EnrolmentRefused, match="3 or more"):
        products([folder])


@pytest.mark.parametrize("text", ["", "[1]", "{", "3"])
def test_a_damaged_statement_of_origin_is_no_error(tmp_path: Path, text: str) -> None:
    folder = _folder(tmp_path / "caps", 3)
    (folder / "meta.json").write_text(text)
    assert products([folder])[-1].credit == "not stated"


def test_every_photograph_says_its_licence() -> None:
    assert present(), "scikit-learn and scikit-image stand in the development lock"
    for name in present():
        assert any(word in CREDITS[name][2] for word in ("CC0", "public domain", "CC BY"))


def _folder(path: Path, count: int) -> Path:
    path.mkdir(parents=True)
    for n in range(count):
        pixels = np.ascontiguousarray(drawn(3, n, size=600)[0])
        cv2.imwrite(str(path / f"{n}.png"), pixels)
    return path
