"""Is this a picture of the kind the recipe was made from? Its reasons ask a person; they never reject."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inspection.image import Picture, Pixels

_ASPECT = 1.05
_SIDE = 1.25
_GREY, _COLOUR = 2.0, 6.0  # mean chroma in 8-bit steps: JPEG leaves up to 2 in a grey picture; between the two nobody can say


@dataclass(frozen=True, slots=True)
class Look:
    """What the gate sees of one picture."""

    width: int
    height: int
    chroma: float
    """Mean difference between a pixel's largest and smallest channel."""


@dataclass(frozen=True, slots=True)
class Gate:
    """The range of the normal pictures."""

    width_min: int
    width_max: int
    height_min: int
    height_max: int
    aspect_min: float
    aspect_max: float
    chroma_min: float
    chroma_max: float

    def reasons(self, seen: Look) -> tuple[str, ...]:
        """`unexpected_size`: a side 1.25 × or an aspect 5 % outside the normals' range.

        `unexpected_channels`: colour where all normals are grey, or grey where all are in colour.
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
        return tuple(found)


def look(picture: Picture) -> Look:
    """Size and colourfulness."""
    return Look(picture.width, picture.height, chroma(picture.pixels))


def chroma(pixels: Pixels) -> float:
    """Mean of the largest minus the smallest channel, 0 … 255, over a grid of at most 127 × 127 pixels, however long a side."""
    down, across = (max(1, side // 64) for side in pixels.shape[:2])
    part = pixels[::down, ::across]
    red, green, blue = part[..., 0], part[..., 1], part[..., 2]  # by planes: NumPy is slow along an axis of three
    most, least = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    return float(np.mean(most - least))


def gate(looks: Sequence[Look]) -> Gate:
    """The range of what the normal pictures look like."""
    widths, heights, colours = [s.width for s in looks], [s.height for s in looks], [s.chroma for s in looks]
    aspects = [s.width / s.height for s in looks]
    return Gate(min(widths), max(widths), min(heights), max(heights), min(aspects), max(aspects), min(colours), max(colours))
