"""Patch features with the patch's own pixels beside them: what the reference expert is fitted on and compares."""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from models import backbones
from models.experts.base import FeaturesRefused, Floats
from models.runtime import Backbone

Grey = NDArray[np.uint8]

LEAST_SIDE, MOST_SIDE = 224, 640  # of the working size; above, a picture costs over 50 ms of backbone
_SIDE = 16
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def cell(spec: backbones.BackboneSpec) -> int:
    """Side of a cell in pixels: the backbone's stride, or as many strides as fit into 16 pixels."""
    return spec.stride * max(1, _SIDE // spec.stride)


def check_size(spec: backbones.BackboneSpec, size: int) -> None:
    """Raise ValueError for a working size that is not in whole cells."""
    if size % cell(spec):
        raise ValueError(f"the reference expert on {spec.name} takes picture sizes of a multiple of {cell(spec)}, not {size}")


def fitting_size(spec: backbones.BackboneSpec, sides: Sequence[int]) -> int:
    """The working size for pictures of these longer sides: their median between the two bounds, in whole cells."""
    side = cell(spec)
    return round(min(max(float(np.median(sides or [LEAST_SIDE])), LEAST_SIDE), MOST_SIDE) / side) * side


def grey(images: Floats, spec: backbones.BackboneSpec) -> Floats:
    """Pictures `[B, 3, S, S]`, normalised for the backbone → their grey, `[B, S, S]`, 0 … 255."""
    std, mean = (np.asarray(v, np.float32)[:, None, None] for v in (spec.std, spec.mean))
    return np.asarray(np.clip(255 * np.tensordot(images * std + mean, _LUMA, ((1,), (0,))), 0, 255), np.float32)


class Cells:
    """A backbone whose features are averaged to cells and carry the cell's pixels: `[B, h·w, D + cell²]`; grey, 0 … 255."""

    def __init__(self, name: str, size: int, threads: int = 1) -> None:
        """Raises ValueError for a `size` that the cell does not divide."""
        self.spec, self.size = backbones.spec(name), size
        self.cell = cell(self.spec)
        check_size(self.spec, size)
        self._backbone = Backbone(name, size, threads)
        self.grid = (size // self.cell, size // self.cell)
        self.width = self.spec.width + self.cell**2
        self.nbytes = self._backbone.nbytes

    def features(self, images: Floats) -> Floats:
        """`[B, 3, size, size]`, normalised for the backbone → `[B, h·w, D + cell²]`."""
        (rows, columns), count = self.grid, len(images)
        step = self._backbone.grid[0] // rows
        deep = self._backbone.features(images).reshape(count, rows, step, columns, step, -1).mean((2, 4))
        own = grey(images, self.spec).reshape(count, rows, self.cell, columns, self.cell).transpose(0, 1, 3, 2, 4)
        return np.concatenate([deep.reshape(count, rows * columns, -1), own.reshape(count, rows * columns, -1)], 2)

    def of_grey(self, picture: Grey) -> Floats:
        """A grey picture `[size, size]` → its features alone, `[h·w, D]`."""
        rgb = np.repeat(picture[..., None], 3, 2)
        return self.features(backbones.preprocess(rgb, self.spec, self.size)[None])[0, :, : self.spec.width]


def split(features: Floats, width: int) -> tuple[Floats, Grey]:
    """One picture's `[h·w, D + cell²]` → its features `[h·w, D]` and its pixels `[S, S]`. Raises FeaturesRefused."""
    cells, side = isqrt(len(features)), isqrt(max(features.shape[1] - width, 0))
    if not side or cells**2 != len(features) or side**2 != features.shape[1] - width:
        raise FeaturesRefused(f"features of {features.shape} hold no square picture beside {width} dimensions")
    pixels = features[:, width:].reshape(cells, cells, side, side).transpose(0, 2, 1, 3).reshape(cells * side, cells * side)
    return features[:, :width], np.clip(pixels + 0.5, 0, 255).astype(np.uint8)
