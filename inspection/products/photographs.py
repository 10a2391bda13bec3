"""Pseudo-products: pieces of freely licensed photographs that installed packages carry, each part cut a little otherwise."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from inspection.drawn import inside
from inspection.image import Pixels, decode
from inspection.products.canvas import ellipse, laid, tint
from inspection.products.drawing import POSES, SIZES, camera

_CC0 = "CC0, public domain or no known restrictions, as scikit-image's documentation states for each"
_FREE = ("brick", "cell", "chelsea", "clock_motion", "coffee", "coins", "grass", "gravel", "hubble_deep_field",
         "ihc", "microaneurysms", "retina", "rocket", "text")  # fmt: skip
CREDITS: dict[str, tuple[str, str, str]] = {
    **{name: ("skimage", f"data/{name}", f"scikit-image, {name}: {_CC0}") for name in _FREE},
    "china": ("sklearn", "datasets/images/china", "china.jpg by danielbuechele, CC BY 2.0, carried by scikit-learn"),
    "flower": ("sklearn", "datasets/images/flower", "flower.jpg by vultilion, CC BY 2.0, carried by scikit-learn"),
}
"""Photograph → the package that carries it, its path there without an ending, credit and licence."""


def present() -> tuple[str, ...]:
    """The photographs that are here, in the order of `CREDITS`."""
    return tuple(name for name in CREDITS if _path(name) is not None)


def picture(name: str, number: int, index: int) -> Pixels:
    """Part `index` of pseudo-product `number` of a photograph, sound: RGB `[H, W, 3]`. Raises FileNotFoundError.

    A product is one place in the photograph, or (a third) any place in it; some are mirrored or recoloured, some punched out
    as a body on an even ground.
    """
    kind = list(CREDITS).index(name)
    product, part = (np.random.default_rng([1000 + kind, number, at]) for at in (0, index + 2))
    whole = _photograph(name)
    rows, columns = whole.shape[:2]
    height, width = SIZES[product.integers(len(SIZES))]
    moves, turns = list(POSES.values())[product.choice(3, p=(0.5, 0.3, 0.2))]
    vary, unit = product.choice([0.15, 1.0]), min(height, width) / 2
    reach = product.uniform(0.15, 0.45) * min(rows, columns)
    middle = product.uniform((0.5 * reach, 0.5 * reach), (columns - 0.5 * reach, rows - 0.5 * reach))
    body, mirrored = product.random() < 0.35, product.random() < 0.5
    if product.random() < 0.3 and not body:
        middle = part.uniform(0.15, 0.85, 2) * (columns, rows)
    channels, gamma = product.permutation(3) if product.random() < 0.4 else np.arange(3), product.uniform(0.7, 1.5)
    grid = np.mgrid[0:height, 0:width].astype(np.float32)
    u, v = (grid[1] - (width - 1) / 2) / unit, (grid[0] - (height - 1) / 2) / unit
    across, down = part.uniform(-moves, moves, 2)
    angle, scale = part.uniform(-turns, turns), 1 + 0.02 * vary * part.normal()
    x, y = (u - np.float32(across)) * np.float32(scale), (v - np.float32(down)) * np.float32(scale)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    x, y = (cos * x + sin * y).astype(np.float32), (cos * y - sin * x).astype(np.float32)
    bend = 0.01 * vary * np.sin(3 * x + part.uniform(0, 6.3))
    left = (-1 if mirrored else 1) * x
    source = (middle[0] + reach * (left + bend)).astype(np.float32), (middle[1] + reach * y).astype(np.float32)
    found = cv2.remap(whole, *source, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)[..., channels]
    cut = np.asarray((found / np.float32(255)) ** np.float32(gamma), np.float32)
    if body:
        outline = ellipse(x, y * product.uniform(1, 1.6), product.uniform(2, 8)) - product.uniform(0.65, 0.9)
        cut = laid(tint(product, 0.05, 0.95), cut, inside(outline, 60))
    return camera(cut, u, v, product, part, float(vary))


def _path(name: str) -> Path | None:
    package, inner, _ = CREDITS[name]
    found = importlib.util.find_spec(package)
    folders = (found and found.submodule_search_locations) or ()
    paths = [Path(folder, inner + ending) for folder in folders for ending in (".png", ".jpg")]
    return next((path for path in paths if path.is_file()), None)


@lru_cache(maxsize=4)
def _photograph(name: str) -> Pixels:
    path = _path(name)
    if path is None:
        raise FileNotFoundError(f"The photograph {name} is not installed.")
    return decode(path.read_bytes()).pixels
