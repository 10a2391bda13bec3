"""What drawn products are made of: smooth fields, shapes and printed sheets, sampled where a part lies."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from inspection.drawn import Grid

Rng = np.random.Generator

_REACH = 2.0  # fields and sheets cover -2 … 2: a part may lie turned and off its place
_SHEET = 448


def field(x: Grid, y: Grid, rng: Rng, cell: float, stretch: float = 1.0) -> Grid:
    """Smooth noise of about mean 0 and deviation 1, `cell` wide, `stretch` times as high; in the part's coordinates."""
    columns, rows = int(2 * _REACH / cell) + 4, int(2 * _REACH / (cell * stretch)) + 4
    knots = rng.normal(0, 1.4, (min(rows, 1500), min(columns, 1500))).astype(np.float32)
    across, down = ((x + _REACH) / cell).astype(np.float32), ((y + _REACH) / (cell * stretch)).astype(np.float32)
    return np.asarray(cv2.remap(knots, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT), np.float32)


def rough(x: Grid, y: Grid, rng: Rng, cell: float) -> Grid:
    """Three octaves of `field`, of deviation about 1."""
    return (field(x, y, rng, cell) + 0.6 * field(x, y, rng, cell / 2) + 0.36 * field(x, y, rng, cell / 4)) / np.float32(1.2)


def sheet(ground: Any) -> Any:
    """An empty canvas `[S, S, 3]` over -1 … 1 in one colour, to be drawn on with OpenCV at `at`."""
    return np.full((_SHEET, _SHEET, 3), ground, np.float32)


def at(*position: float) -> tuple[int, ...]:
    """Part coordinates to a canvas's pixels."""
    return tuple(round((one + 1) * _SHEET / 2) for one in position)


def long(length: float) -> int:
    """A length in part coordinates to a canvas's pixels, at least one."""
    return max(1, round(length * _SHEET / 2))


def sampled(canvas: Any, x: Grid, y: Grid) -> Any:
    """The canvas where the part's coordinates are x, y, mirrored outside."""
    across, down = (((one + 1) * _SHEET / 2 - 0.5).astype(np.float32) for one in (x, y))
    return cv2.remap(canvas, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def laid(below: Any, colour: Any, alpha: Grid) -> Any:
    """`colour` over `below`, both `[H, W, 3]` or broadcast to it."""
    share = alpha[..., None]
    return below * (1 - share) + colour * share


def tint(rng: Rng, low: float = 0.15, high: float = 0.85, chroma: float = 0.15) -> Any:
    """A colour: a grey between `low` and `high`, its channels up to `chroma` off."""
    return np.clip(rng.uniform(low, high) + rng.uniform(-chroma, chroma, 3), 0.02, 0.98).astype(np.float32)


def ellipse(x: Grid, y: Grid, power: float = 2.0) -> Grid:
    """Distance from the middle in a superellipse's norm: 2 a circle, large a square."""
    return np.asarray((np.abs(x) ** power + np.abs(y) ** power) ** (1 / power), np.float32)


def rotated(x: Grid, y: Grid, angle: float) -> tuple[Grid, Grid]:
    """The coordinates turned by `angle`, radians."""
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cos * x + sin * y, cos * y - sin * x


def folded(angle: Grid, count: int) -> Grid:
    """An angle within its one of `count` equal sectors, about each sector's middle."""
    return np.asarray((angle + np.pi) % (2 * np.pi / count) - np.pi / count, np.float32)


def write(
    canvas: Any, text: str, position: tuple[float, float], scale: float, colour: Any, font: int = 0, thick: int = 1
) -> None:
    """Write `text` on a canvas, its baseline starting at `position`."""
    letters = np.zeros(canvas.shape[:2], np.uint8)
    cv2.putText(letters, text, at(*position), font, scale, 255, thick, cv2.LINE_AA)
    canvas[:] = laid(canvas, np.asarray(colour, np.float32), (letters / np.float32(255)).astype(np.float32))
