"""Test pictures of an episode: defects painted in, what is true of them, and the camera of another day."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np

from inspection.defects import KINDS, doctor
from inspection.findings import place_of
from inspection.image import Pixels
from inspection.part import Mask

COUNTS = {1: 0.62, 2: 0.26, 3: 0.12}
"""Defects in a spoilt picture, and how often."""
LARGEST, TRIES = 0.2, 4
"""One defect in five is the largest of four tries: most kinds are small."""
BRUSH = 0.02
"""An annotator's brush goes so far beyond a defect at most, of the picture's shorter side."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What was painted into a picture; nothing: `count` 0."""

    defective: bool
    kind: str | None = None
    """Of the largest defect, one of `inspection.defects.KINDS`."""
    place: str | None = None
    """The cell that holds most of the mask."""
    area_pct: float = 0.0
    """Of the mask, dilated as an annotator's brush would."""
    count: int = 0


def painted(pixels: Pixels, rng: np.random.Generator) -> tuple[Pixels, Truth]:
    """Defects painted into a sound part's picture `[H, W, 3]`, and what is true of them."""
    count = int(rng.choice(list(COUNTS), p=list(COUNTS.values())))
    whole, areas = np.zeros(pixels.shape[:2], bool), list[tuple[int, str]]()
    for _ in range(count):
        tries = [(str(rng.choice(KINDS)), int(rng.integers(1 << 62))) for _ in range(TRIES if rng.random() < LARGEST else 1)]
        spoilt = [(kind, *doctor(pixels, kind, np.random.default_rng(seed))) for kind, seed in tries]
        kind, pixels, mask = max(spoilt, key=lambda one: int(one[2].sum()))
        whole |= mask
        areas.append((int(mask.sum()), kind))
    reach = round(rng.uniform(0, BRUSH) * min(whole.shape))
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    wide = np.asarray(cv2.dilate(whole.astype(np.uint8), brush)) > 0
    return pixels, Truth(True, max(areas)[1], cell_of(wide), 100 * float(wide.mean()), count)


def cell_of(mask: Mask) -> str:
    """The cell of the 3 × 3 grid that holds most of a mask `[H, W]`."""
    height, width = mask.shape
    rows, columns = ((np.arange(side) + 0.5) * 3 / side for side in (height, width))
    sums = np.zeros((3, 3))
    np.add.at(sums, (rows.astype(int)[:, None], columns.astype(int)[None]), mask)
    row, column = np.unravel_index(int(sums.argmax()), (3, 3))
    return place_of((column + 0.5) * width / 3, (row + 0.5) * height / 3, width, height)


def taken(pixels: Pixels, rng: np.random.Generator) -> bytes:
    """The picture's bytes as a camera that is not quite the enrolment's gives them, two times in five."""
    if rng.random() < 0.6:
        return _encoded(".png", pixels)
    way = rng.choice(["light", "blur", "jpeg"])
    if way == "light":
        rows, columns = (np.linspace(-1, 1, side, dtype=np.float32) for side in pixels.shape[:2])
        slope = rng.uniform(-0.1, 0.1, 2)
        gain = rng.uniform(0.85, 1.15) + slope[0] * rows[:, None] + slope[1] * columns[None]
        return _encoded(".png", np.asarray(np.clip(pixels * gain[..., None] + 0.5, 0, 255), np.uint8))
    if way == "blur":
        return _encoded(".png", np.asarray(cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.5, 1.3)), np.uint8))
    return _encoded(".jpg", pixels, int(rng.integers(35, 85)))


def _encoded(ending: Literal[".png", ".jpg"], pixels: Pixels, quality: int = 90) -> bytes:
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality] if ending == ".jpg" else [cv2.IMWRITE_PNG_COMPRESSION, 1]
    bgr: Any = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return cv2.imencode(ending, bgr, flags)[1].tobytes()
