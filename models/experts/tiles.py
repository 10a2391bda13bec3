"""A large picture in overlapping tiles, as one grid of patch features: each patch from the tile in which it lies deepest."""

from __future__ import annotations

from itertools import pairwise, product
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models import backbones
from models.experts.base import Extractor, Floats
from models.experts.view import OVERLAP, Region, View, cells_of
from models.runtime import Backbone, together


def starts(side: int, tile: int, stride: int) -> list[int]:
    """Where tiles begin on an axis of `side` pixels: evenly spread, on whole strides, overlapping by `OVERLAP` or more."""
    step = max(stride, int(tile * (1 - OVERLAP)))
    count = 1 + max(0, -(-(side - tile) // step))
    return [round((side - tile) * n / max(count - 1, 1) / stride) * stride for n in range(count)]


def owned(side: int, tile: int, stride: int) -> list[tuple[int, int, int]]:
    """For each tile of an axis its start in pixels, and the first and the last + 1 of the axis's patches that it gives."""
    begin = starts(side, tile, stride)
    borders = [0, *((a + tile + b) // 2 // stride for a, b in pairwise(begin)), side // stride]
    return [(at, low, high) for at, (low, high) in zip(begin, pairwise(borders), strict=True)]


def prepared(pixels: NDArray[np.uint8], view: View) -> NDArray[Any]:
    """An RGB picture `[H, W, 3]` as the view's extractor takes it, `[1, 3, rows, columns]`, normalised.

    For tiles `[1, rows, columns, 3]` in bytes, a quarter of the memory: each tile is normalised by itself. So too for backbones
    that look together, as large as the one that sees most.
    """
    halves = view.halves
    if view.tile is None and len(halves) == 1:
        return backbones.preprocess(pixels, backbones.spec(view.backbone), view.size)[None]
    return backbones.resized(pixels, max(half.size for half in halves))[None]


class Tiles:
    """A backbone over tiles: a batch as `prepared` → `[B, h·w, D]`, as if its input were as large as the picture."""

    def __init__(self, view: View, backbone: Backbone) -> None:
        """Raises ValueError for a view that tiles do not cover."""
        self.spec, self.size, self.grid = backbone.spec, view.size, view.grid
        self.nbytes = backbone.nbytes
        self._backbone, self._tile = backbone, view.input
        self._rows, self._columns = (owned(side, view.input, backbone.spec.stride) for side in view.size)

    def features(self, images: NDArray[Any]) -> Floats:
        """As `Backbone.features`, also of bytes `[B, rows, columns, 3]`; as many tiles a run as pay `together`."""
        side, stride, step = self._backbone.grid[0], self.spec.stride, together()
        found = np.empty((len(images), *self.grid, self.spec.width), np.float32)
        tiles = list(product(self._rows, self._columns))
        for image, out in zip(images, found, strict=True):
            for at in range(0, len(tiles), step):
                crops = [self._crop(image, y, x) for (y, *_), (x, *_) in tiles[at : at + step]]
                seen = self._backbone.features(np.stack(crops)).reshape(-1, side, side, self.spec.width)
                for ((y, top, bottom), (x, left, right)), patches in zip(tiles[at : at + step], seen, strict=True):
                    down, across = top - y // stride, left - x // stride
                    out[top:bottom, left:right] = patches[down : down + bottom - top, across : across + right - left]
        return found.reshape(len(images), -1, self.spec.width)

    def _crop(self, image: NDArray[Any], y: int, x: int) -> Floats:
        here = (slice(y, y + self._tile), slice(x, x + self._tile))
        return backbones.normalised(image[here], self.spec) if image.dtype == np.uint8 else image[:, *here]


class Regional:
    """Another extractor's patches, those of a region alone; all outside is mean grey to it, so that nothing there has a say."""

    def __init__(self, whole: Extractor, view: View, region: Region, keep: NDArray[np.bool_] | None = None) -> None:
        """`region` `[h, w]` at the view's map size; `keep`: other patches `[rows, columns]` than those that lie in it.

        Raises ValueError where the region does not fit, or holds no patch.
        """
        self.grid, self.nbytes = whole.grid, whole.nbytes + 4 * view.size[0] * view.size[1]
        self._whole, self._keep = whole, (cells_of(view, region) if keep is None else keep).ravel()
        self._grey = np.rint(255 * np.array(backbones.spec(view.backbone).mean)).astype(np.uint8)
        inside = (region > 0).astype(np.float32)
        resized = cv2.resize(inside, view.size[::-1], interpolation=cv2.INTER_NEAREST)
        self._inside: Floats = np.asarray(resized, np.float32)

    def features(self, images: NDArray[Any]) -> Floats:
        """A batch as `prepared` → `[B, kept, D]`."""
        if images.dtype == np.uint8:
            return self._whole.features(np.where(self._inside[..., None] > 0, images, self._grey))[:, self._keep]
        greyed: Floats = images * self._inside
        return self._whole.features(greyed)[:, self._keep]
