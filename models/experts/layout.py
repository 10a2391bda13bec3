"""From the distances of the patches looked at to a score and a map that covers the picture."""

from __future__ import annotations

import numpy as np

from models.experts.base import FeaturesRefused, Floats, RawScore
from models.experts.view import TOP_SHARE, Region, View, cells_of
from models.runtime import SIGMA, Upsampling, anomaly_map


class Layout:
    """Where the patches of a view lie, and what their distances say."""

    def __init__(self, view: View, region: Region | None = None) -> None:
        """`region` `[h, w]` at the map's size, not 0 where to look; `None`: everywhere.

        Raises ValueError for a region of another size, or one that holds no patch.
        """
        self.view, self.grid, self.size = view, view.grid, view.map_size
        self.region = region
        self.keep = None if region is None else cells_of(view, region)
        self.count = self.grid[0] * self.grid[1] if self.keep is None else int(self.keep.sum())
        self.top = max(1, round(TOP_SHARE * self.count)) if view.rule == "top" else 1
        """How many of the largest distances make the score."""
        self._sigma = SIGMA * self.size[0] / view.size[0]
        self._share: dict[Upsampling, Floats] = {}

    def pooled(self, distances: Floats) -> float:
        """The raw score of patch distances `[P]` by the view's rule."""
        if self.top == 1:
            return float(distances.max())
        return float(np.partition(distances, -self.top)[-self.top :].mean())

    def raw(self, distances: Floats, upsampling: Upsampling, *, peak: bool = False) -> RawScore:
        """Score, map and grid of the distances `[P]` of the patches looked at.

        With `peak` and the rule `max` the score is the map's peak. Raises FeaturesRefused where a distance is not finite.
        """
        if not np.isfinite(distances).all():
            raise FeaturesRefused("the picture's features are not finite")
        if len(distances) != self.count:
            raise FeaturesRefused(f"{len(distances)} patches where the view has {self.count}")
        if self.keep is None or self.region is None:
            patches = distances.reshape(self.grid)
            heat = anomaly_map(patches, self.size, upsampling, self._sigma)
        else:
            patches = np.zeros(self.grid, np.float32)
            patches[self.keep] = distances
            if upsampling not in self._share:  # what of the blur lies on patches looked at
                self._share[upsampling] = anomaly_map(self.keep.astype(np.float32), self.size, upsampling, self._sigma)
            share = self._share[upsampling]
            heat = anomaly_map(patches, self.size, upsampling, self._sigma)
            heat = np.where((self.region > 0) & (share > 0), heat / np.maximum(share, 1e-3), 0).astype(np.float32)
        score = float(heat.max()) if peak and self.view.rule == "max" else self.pooled(distances)
        return RawScore(score, heat, patches)
