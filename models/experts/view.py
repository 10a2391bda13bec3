"""How an expert sees a picture: through which network, how large, whole or in tiles, and the rule that makes one score."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models import backbones

Rule = Literal["max", "top"]
Region = NDArray[np.uint8]

RULES: tuple[Rule, ...] = ("max", "top")
TOP_SHARE = 0.01
MAP_SIDE = 2048
"""Longest side of an anomaly map: those of larger working sizes are made smaller."""
OVERLAP = 0.25


@dataclass(frozen=True, slots=True)
class View:
    """What of a picture reaches the expert."""

    backbone: str
    size: tuple[int, int]
    """Rows and columns of the picture as the network sees it, pixels."""
    tile: int | None = None
    """Side of the network's square input where the picture is taken in overlapping tiles; `None`: the whole picture at once."""
    precision: backbones.Precision = "float32"
    rule: Rule = "max"
    """A picture's raw score: the largest patch distance, or the mean of the `TOP_SHARE` largest."""

    @classmethod
    def square(cls, backbone: str, side: int) -> View:
        """The whole picture, resized to a square."""
        return cls(backbone, (side, side))

    @property
    def halves(self) -> tuple[View, ...]:
        """The views of the backbones that look together (`backbones.FUSED`); most are alone.

        The first takes the view's size and rule, the others their own size and the largest distance; `precision` is theirs.
        """
        first, *others = backbones.members(self.backbone)
        if not others:
            return (self,)
        squares = (View.square(name, backbones.spec(name).image_size) for name in others)
        return (
            replace(self, backbone=first, precision="float32"),
            *(replace(square, precision=self.precision) for square in squares),
        )

    @property
    def input(self) -> int:
        """Side of the network's input."""
        return self.tile or self.size[0]

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches. Raises ValueError for a size that the network or its stride cannot take."""
        spec = backbones.spec(backbones.members(self.backbone)[0])
        if self.tile is None:
            if self.size[0] != self.size[1]:
                raise ValueError(f"without tiles a picture is made square, not {self.size}")
            return spec.grid(self.size[0])
        spec.grid(self.tile)
        if self.tile % spec.stride or min(self.size) < self.tile or any(side % spec.stride for side in self.size):
            raise ValueError(f"{self.size} is not covered by tiles of {self.tile} in steps of {spec.stride}")
        return self.size[0] // spec.stride, self.size[1] // spec.stride

    @property
    def map_size(self) -> tuple[int, int]:
        """Rows and columns of the anomaly map: the working size, no side over `MAP_SIDE`."""
        scale = min(1.0, MAP_SIDE / max(self.size))
        return max(1, round(self.size[0] * scale)), max(1, round(self.size[1] * scale))


def cells_of(view: View, region: Region) -> NDArray[np.bool_]:
    """The patches, `[rows, columns]`, that lie at least by half in `region`. Raises ValueError."""
    if region.shape != view.map_size:
        raise ValueError(f"a region of {region.shape} for a map of {view.map_size}")
    inside = (region > 0).astype(np.float32)
    for axis, count in enumerate(view.grid):
        edges = np.linspace(0, inside.shape[axis], count + 1).astype(int)
        lengths = np.diff(edges).astype(np.float32).reshape((-1, 1) if axis == 0 else (1, -1))
        inside = np.asarray(np.add.reduceat(inside, edges[:-1], axis=axis) / np.maximum(lengths, 1), np.float32)
    keep = inside >= 0.5
    if not keep.any():
        raise ValueError("the region holds no patch: it is empty, or finer than the network sees")
    return np.asarray(keep)
