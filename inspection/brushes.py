"""Shapes that defects are painted with: blobs, strokes, clouds; each an opacity from 0 to 1 over a window."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Alpha = NDArray[np.float32]
Point = NDArray[np.float64]
"""x, y in pixels of the window."""

_FINE = 3  # strokes are drawn this much larger: a hair is thinner than a pixel


def blob(shape: tuple[int, int], at: Point, radius: float, rng: np.random.Generator, soft: float = 1.0) -> Alpha:
    """An uneven, slightly long disc with an edge `2·soft` pixels wide."""
    x, y = _turned(shape, at, rng.uniform(0, np.pi))
    long = rng.uniform(1, 1.6)
    x, y = x / long, y * long
    angle = np.arctan2(y, x)
    waves = sum(rng.normal(0, 0.25 / n) * np.cos(n * angle + rng.uniform(0, 2 * np.pi)) for n in (2, 3, 4, 5))
    edge = radius * np.clip(1 + waves, 0.5, 1.6)
    return np.asarray(np.clip((edge - np.hypot(x, y)) / (2 * soft) + 0.5, 0, 1), np.float32)


def box(shape: tuple[int, int], at: Point, half: tuple[float, float], angle: float, soft: float = 0.7) -> Alpha:
    """A turned rectangle of the half sides `half`."""
    x, y = _turned(shape, at, angle)
    inside = np.minimum(half[0] - np.abs(x), half[1] - np.abs(y))
    return np.asarray(np.clip(inside / (2 * soft) + 0.5, 0, 1), np.float32)


def stroke(shape: tuple[int, int], points: Point, widths: Any) -> Alpha:
    """A line through `points` `[N, 2]`, as wide at each as `widths` says; under a pixel it is fainter, not thinner."""
    height, width = shape
    fine = np.zeros((_FINE * height, _FINE * width), np.uint8)
    at = np.rint(16 * (_FINE * (points + 0.5) - 0.5)).astype(np.int32)
    for start, end, wide in zip(at[:-1], at[1:], widths[1:], strict=True):
        cv2.line(fine, start.tolist(), end.tolist(), 255, max(1, round(_FINE * wide)), cv2.LINE_AA, 4)
    small: Any = cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(small / np.float32(255), np.float32)


def curve(at: Point, half: float, rng: np.random.Generator, bend: float = 0.25, count: int = 24) -> Point:
    """Points `[count, 2]` of a gently bent line of the half length `half` through about `at`."""
    angle = rng.uniform(0, np.pi)
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    t = np.linspace(-1, 1, count)[:, None]
    return np.asarray(at + half * (t * along + rng.normal(0, bend) * (t**2 - 0.33) * across))


def walk(at: Point, half: float, rng: np.random.Generator, count: int = 18) -> Point:
    """Points `[count, 2]` of a jagged line through `at`: a crack turns at every grain."""
    angle = rng.uniform(0, 2 * np.pi)
    turns = angle + rng.normal(0, 0.25, count).cumsum() * 0.5 + rng.normal(0, 0.5, count)
    steps = 2 * half / count * rng.uniform(0.5, 1.5, count)[:, None] * np.stack([np.cos(turns), np.sin(turns)], 1)
    path = steps.cumsum(0)
    return np.asarray(at + path - path.mean(0))


def clouds(shape: tuple[int, int], grain: float, rng: np.random.Generator) -> Alpha:
    """Smooth noise of three octaves, the coarsest `grain` pixels wide (as Perlin's), of mean 0 and deviation 1."""
    total = np.zeros(shape, np.float32)
    for octave in range(3):
        cell = max(grain / 2**octave, 1.0)
        small = rng.normal(0, 1, (int(shape[0] / cell) + 3, int(shape[1] / cell) + 3)).astype(np.float32)
        scaled: Any = cv2.resize(small, None, fx=cell, fy=cell, interpolation=cv2.INTER_CUBIC)
        if scaled.shape[0] < shape[0] or scaled.shape[1] < shape[1]:
            scaled = cv2.resize(small, shape[::-1], interpolation=cv2.INTER_CUBIC)
        total += scaled[: shape[0], : shape[1]] / 2**octave
    return np.asarray((total - total.mean()) / max(float(total.std()), 1e-6), np.float32)


def _turned(shape: tuple[int, int], at: Point, angle: float) -> tuple[Alpha, Alpha]:
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    x, y = columns - np.float32(at[0]), rows - np.float32(at[1])
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cos * x + sin * y, cos * y - sin * x
