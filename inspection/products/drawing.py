"""Drawn products by number: a family, its parameters, and how its parts lie, are lit and are seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from inspection import drawn
from inspection.drawn import Grid
from inspection.image import Pixels
from inspection.products import objects, surfaces
from inspection.products.canvas import Rng

Family = Callable[[Grid, Grid, Rng, Rng, float], Any]


def _plainly(family: Callable[[Grid, Grid, Rng, Rng], Any]) -> Family:
    return lambda x, y, product, part, vary: family(x, y, product, part)


FAMILIES: dict[str, Family] = {
    **{name: _plainly(family) for name, family in drawn.FAMILIES.items()},
    **{
        family.__name__: family
        for family in (
            objects.label, surfaces.twill, objects.gasket, surfaces.wood, objects.gear, surfaces.solar, objects.connector,
            surfaces.brushed, objects.casting, surfaces.grains, objects.tablet, surfaces.board, objects.blister,
            surfaces.leather, objects.glass, surfaces.knit, objects.thread, surfaces.mesh, objects.cable, surfaces.tiles,
            objects.biscuit, surfaces.marble, objects.screw, surfaces.ribbed, objects.capsule, objects.bearing, objects.bottle,
        )
    },
}  # fmt: skip
SIZES = ((256, 256), (256, 256), (288, 224), (224, 288), (320, 320))
POSES = {"aligned": (0.01, 0.01), "moved": (0.1, 0.12), "turned": (0.06, np.pi)}
"""How far parts lie off their place, of half a picture's side, and how far turned, radians."""


def picture(family: str, number: int, index: int) -> Pixels:
    """Part `index` of product `number` of a family, sound: RGB `[H, W, 3]`, 224 to 320 pixels a side. A pure function."""
    kind = list(FAMILIES).index(family)
    product, part = (np.random.default_rng([kind, number, at]) for at in (0, index + 2))
    height, width = SIZES[product.integers(len(SIZES))]
    moves, turns = list(POSES.values())[product.choice(3, p=(0.4, 0.3, 0.3))]
    zoom, vary = product.uniform(0.95, 1.4), product.choice([0.15, 1.0])
    across, down = part.uniform(-moves, moves, 2)
    angle = part.uniform(-turns, turns)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    unit = min(height, width) / 2
    u = (columns - (width - 1) / 2) / unit
    v = (rows - (height - 1) / 2) / unit
    x, y = zoom * (u - np.float32(across)), zoom * (v - np.float32(down))
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    x, y = (cos * x + sin * y).astype(np.float32), (cos * y - sin * x).astype(np.float32)
    found = np.asarray(FAMILIES[family](x, y, np.random.default_rng([kind, number, 1]), part, float(vary)), np.float32)
    return camera(found, u, v, product, part, float(vary))


def camera(found: Any, u: Grid, v: Grid, product: Rng, part: Rng, vary: float) -> Pixels:
    """A part as the product's camera sees it: light that varies, blur, grain, in grey for some products."""
    base, across, down = part.uniform(-0.05, 0.05, 3) * (0.4 + vary)
    lamp, grey = product.uniform(-0.12, 0.12, 2), product.random() < 0.2
    lit = found * (1 + base + (across + lamp[0]) * u + (down + lamp[1]) * v)[..., None]
    if grey:
        lit = np.repeat((lit @ np.array([0.299, 0.587, 0.114], np.float32))[..., None], 3, 2)
    blur, noise = product.uniform(0.4, 1.0), product.uniform(0.004, 0.02)
    lit = cv2.GaussianBlur(lit.astype(np.float32), (0, 0), blur) + part.normal(0, noise, (*lit.shape[:2], 1))
    return np.asarray(255 * np.clip(lit, 0, 1) + 0.5, np.uint8)
