"""Is this a picture of the kind the recipe was made from? Its reasons ask a person; they never reject."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inspection.bounds import factor
from inspection.image import Picture, Pixels

_ASPECT = 1.05
_SIDE = 1.25
_GREY, _COLOUR = 2.0, 6.0  # mean chroma in 8-bit steps: JPEG leaves up to 2 in a grey picture; between the two nobody can say
_BANDS, _WORKING = 16, 256
_BLACK, _WHITE = 3.001, 251.999  # 3 and 252, as resizing rounds them
_RATE = 0.001
_MARGIN = 0.3  # log units beyond the bound: sharpness, fineness, brightness
_CLIPPED = 0.1
_FAR = 0.2
_ANY = 1 << 30  # no side and no aspect lies beyond
_FEWEST = 3  # normals: fewer have no spread
_RANGES = ("width_min", "width_max", "height_min", "height_max", "aspect_min", "aspect_max", "chroma_min", "chroma_max")
_GREYS = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True, slots=True)
class Look:
    """What the gate sees of one picture."""

    width: int
    height: int
    chroma: float
    """Mean difference between a pixel's largest and smallest channel."""
    brightness: float
    """Mean grey + 1, 1 … 256."""
    dark: float
    """Share of the picture that is black (grey at most 3 of 255)."""
    bright: float
    """Share that is white (at least 252)."""
    sharpness: float
    """Mean squared Laplacian of the grey picture, its longer side made about 256 pixels."""
    fineness: float
    """That over the mean squared gradient: how fine the detail is, whatever the light and however much there is of it."""


@dataclass(frozen=True, slots=True)
class Gate:
    """The range of the normal pictures; `None` where there are too few to tell."""

    width_min: int
    width_max: int
    height_min: int
    height_max: int
    aspect_min: float
    aspect_max: float
    chroma_min: float
    chroma_max: float
    brightness_min: float | None
    brightness_max: float | None
    dark_max: float | None
    bright_max: float | None
    sharpness_min: float | None
    fineness_min: float | None
    typical_max: float | None
    """Largest typical patch distance, raw units."""

    def reasons(self, seen: Look) -> tuple[str, ...]:
        """`unexpected_size`: a side 1.25 × or an aspect 5 % outside the normals' range.

        `unexpected_channels`: colour where all normals are grey, or grey where all are in colour. `exposure`: darker or
        brighter than the normals' range, or more of it black or white. `blurred`: less detail, and only the coarse of it.
        """
        sides = ((seen.width, self.width_min, self.width_max), (seen.height, self.height_min, self.height_max))
        aspect = seen.width / seen.height
        found = []
        if any(side * _SIDE < low or side > high * _SIDE for side, low, high in sides) or not (
            self.aspect_min / _ASPECT <= aspect <= self.aspect_max * _ASPECT
        ):
            found.append("unexpected_size")
        if (self.chroma_max < _GREY and seen.chroma > _COLOUR) or (self.chroma_min > _COLOUR and seen.chroma < _GREY):
            found.append("unexpected_channels")
        if (
            _under(seen.brightness, self.brightness_min)
            or _over(seen.brightness, self.brightness_max)
            or _over(seen.dark, self.dark_max)
            or _over(seen.bright, self.bright_max)
        ):
            found.append("exposure")
        if _under(seen.sharpness, self.sharpness_min) and _under(seen.fineness, self.fineness_min):
            found.append("blurred")  # both: a defect with a strong outline is coarse, and darkness has little of either
        return tuple(found)

    def distance_reasons(self, patches: NDArray[np.float32]) -> tuple[str, ...]:
        """`unlike_every_normal`: the typical patch is farther from all normal pictures than in any of them held out."""
        return ("unlike_every_normal",) if _over(typical(patches), self.typical_max) else ()


def look(picture: Picture) -> Look:
    """Size, colourfulness, exposure and detail, from a part of the rows: under a millisecond for 2,000 × 2,000 pixels."""
    grey = _bands(picture.pixels) @ _GREYS
    centre = grey[:, 1, 1:-1]
    left, right, above, below = grey[:, 1, :-2], grey[:, 1, 2:], grey[:, 0, 1:-1], grey[:, 2, 1:-1]
    laplacian = float(np.mean((left + right + above + below - 4 * centre) ** 2))
    gradient = float(np.mean((right - left) ** 2 + (below - above) ** 2))
    return Look(
        picture.width,
        picture.height,
        chroma(picture.pixels),
        brightness=float(grey.mean()) + 1,
        dark=float(np.mean(grey <= _BLACK)),
        bright=float(np.mean(grey >= _WHITE)),
        sharpness=laplacian + 1e-3,  # an even picture has a logarithm too
        fineness=(laplacian + 1e-3) / (gradient + 1e-3),
    )


def chroma(pixels: Pixels) -> float:
    """Mean of the largest minus the smallest channel, 0 … 255, over a grid of at most 127 × 127 pixels, however long a side."""
    down, across = (max(1, side // 64) for side in pixels.shape[:2])
    part = pixels[::down, ::across]
    red, green, blue = part[..., 0], part[..., 1], part[..., 2]  # by planes: NumPy is slow along an axis of three
    most, least = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    return float(np.mean(most - least))


def typical(patches: NDArray[np.float32]) -> float:
    """The median patch distance, patches outside the region (0) left out: a defect is too small to move it."""
    inside = patches[patches > 0]
    return float(np.median(inside)) if inside.size else 0.0


def gate(looks: Sequence[Look], typicals: Sequence[float] = ()) -> Gate:
    """The range of what the normal pictures look like; `typicals`: their typical patch distances, held out.

    The first ones are plain ranges, the others log-normal prediction bounds (bounds.py) at one in a thousand with a margin:
    wide where the normals are few, or differ. Without any normal picture everything is let in.
    """
    if not looks:
        return Gate(1, _ANY, 1, _ANY, 1 / _ANY, _ANY, 0.0, 255.0, *(None,) * 7)
    widths, heights, colours = [s.width for s in looks], [s.height for s in looks], [s.chroma for s in looks]
    aspects = [s.width / s.height for s in looks]
    brightness, detail = [s.brightness for s in looks], [s.sharpness for s in looks]
    return Gate(
        min(widths),
        max(widths),
        min(heights),
        max(heights),
        min(aspects),
        max(aspects),
        min(colours),
        max(colours),
        brightness_min=_log_bound(brightness, -1, _MARGIN),
        brightness_max=_log_bound(brightness, 1, _MARGIN),
        dark_max=_share_bound([s.dark for s in looks]),
        bright_max=_share_bound([s.bright for s in looks]),
        sharpness_min=_log_bound(detail, -1, _MARGIN),
        fineness_min=_log_bound([s.fineness for s in looks], -1, _MARGIN),
        typical_max=_log_bound([value for value in typicals if value > 0], 1, _FAR),
    )


def widened(known: Gate, looks: Sequence[Look], typicals: Sequence[float] = ()) -> Gate:
    """A gate that lets further normal pictures in too: each end moved out to them, with its margin, where they lie beyond."""
    own = gate(looks, typicals)
    near, far, clipped = math.exp(_MARGIN), math.exp(_FAR), _CLIPPED
    reached = {
        **{name: getattr(own, name) for name in _RANGES},
        "brightness_min": min(s.brightness for s in looks) / near,
        "brightness_max": max(s.brightness for s in looks) * near,
        "dark_max": min(1.0, max(s.dark for s in looks) + clipped),
        "bright_max": min(1.0, max(s.bright for s in looks) + clipped),
        "sharpness_min": min(s.sharpness for s in looks) / near,
        "fineness_min": min(s.fineness for s in looks) / near,
        "typical_max": max(typicals, default=0.0) * far,
    }
    ends: dict[str, Any] = {}
    for name, value in reached.items():
        before = getattr(known, name)
        ends[name] = getattr(own, name) if before is None else (min if name.endswith("_min") else max)(before, value)
    return Gate(**ends)


def _bands(pixels: Pixels) -> NDArray[np.float32]:
    """Up to 16 bands `[n, 3, columns, 3]`, evenly spaced, each three rows high once the longer side is made about 256 pixels."""
    height, width = pixels.shape[:2]
    scale = max(1, round(max(height, width) / _WORKING))
    scale = min(scale, height // 3, width // 3)
    count = max(1, min(_BANDS, height // (3 * scale)))
    starts = ((np.arange(count) + 0.5) * height / count - 1.5 * scale).astype(int).clip(0)
    size = (width // scale, 3)
    bands = [cv2.resize(pixels[at : at + 3 * scale], size, interpolation=cv2.INTER_AREA) for at in starts]
    return np.stack(bands).astype(np.float32)


def _log_bound(values: Sequence[float], side: int, margin: float) -> float | None:
    k = len(values)
    if k < _FEWEST:
        return None
    logs = np.log(values)
    reach = factor(k, _RATE) * float(logs.std(ddof=1)) + margin
    return math.exp(float(np.clip(logs.mean() + side * reach, -700, 700)))


def _share_bound(values: Sequence[float]) -> float | None:
    k = len(values)
    if k < _FEWEST:
        return None
    return min(1.0, float(np.mean(values)) + factor(k, _RATE) * float(np.std(values, ddof=1)) + _CLIPPED)


def _over(value: float, limit: float | None) -> bool:
    return limit is not None and value > limit


def _under(value: float, limit: float | None) -> bool:
    return limit is not None and value < limit
