"""Aligned differencing against the nearest normal pictures, for parts that only a template defines, such as circuit boards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isqrt
from time import perf_counter
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from models.experts.base import Cancelled, FeaturesRefused, FitCancelled, Floats, FromFeatures, Progress, RawScore, State, checked
from models.experts.cells import Cells, Grey, split
from models.experts.registration import COARSE, Pose, descriptor, fine, laid, refined, scaled, shifted
from models.runtime import blur

MOST = 512
BUDGET_MIB = 512
CANDIDATES = 4
USED = 3
REACH = 2  # pixels of the working size that an edge may lie off without counting
IMAGE_SHARE = 1 / 3  # of the image's difference beside the features'
KNOWN = 0.85  # likeness under which a picture has no template, unless the normals are less alike themselves
ONE_PRODUCT = 0.75
SAME_BOARD = 0.98
NO_TEMPLATE = "no_template"
_SIGMA = 3.0
_SMOOTH = 1.0
_ARRAYS = {"pictures": 3, "features": 3, "source": 1, "fellow": 1, "scale": 1}


def fit_reference(
    features: Iterable[Floats],
    *,
    width: int,
    most: int = MOST,
    budget_mib: int = BUDGET_MIB,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> State:
    """Pictures' `Cells` features `[P, D + cell²]`, read once, D = `width` → the references and how alike they are.

    `pictures` uint8 `[N, S, S]`; `features` float16 `[N, P, D]`; `source` int32 `[N]`, the picture's number; `fellow`
    `[N]`, the likeness of the most alike other one (-1 without any); `scale` `[2]`: contrast and feature spread of the
    normals, the units of both differences. At most `most` references and `budget_mib`: when full, the later of the two
    most alike goes, so that different boards stay and copies leave. Raises FeaturesRefused, FitCancelled.
    """
    deep: list[np.ndarray] = []
    pictures: list[Grey] = []
    source: list[int] = []
    room, first = most, None
    alike = np.zeros((0, 0), np.float32)
    descriptors = np.zeros((0, COARSE**2), np.float32)
    spread = np.zeros(2)
    number = -1
    for number, one in enumerate(features):
        if cancelled is not None and cancelled():
            raise FitCancelled("the fit was cancelled")
        one = checked(one, first)
        own, picture = split(one, width)
        if first is None:
            first = one
            room = max(2, min(most, (budget_mib << 20) // (picture.nbytes + 2 * own.size)))
        spread += picture.astype(np.float32).var(), float(own.var(0).sum())
        pictures.append(picture)
        deep.append(own.astype(np.float16))
        source.append(number)
        descriptors = np.concatenate([descriptors, descriptor(picture)[None]])
        last = descriptors @ descriptors[-1]
        alike = np.block([[alike, last[:-1, None]], [last[None, :]]])
        np.fill_diagonal(alike, -2)
        if len(source) > room:
            out = max(divmod(int(alike.argmax()), len(alike)))
            for held in (pictures, deep, source):
                del held[out]
            descriptors = np.delete(descriptors, out, 0)
            alike = np.delete(np.delete(alike, out, 0), out, 1)
        if progress is not None:
            progress(number + 1, 0)
    if first is None:
        raise FeaturesRefused("no normal picture to fit on")
    if not all(np.isfinite(one).all() for one in deep):
        raise FeaturesRefused("features are too large for half precision")
    state = {
        "pictures": np.stack(pictures),
        "features": np.stack(deep),
        "source": np.array(source, np.int32),
        "scale": np.maximum(np.sqrt(spread / (number + 1)), (1.0, 1e-6)).astype(np.float32),
    }
    templates = References({**state, "fellow": np.zeros(len(source), np.float32)})
    fellow = np.full(len(source), -1, np.float32)
    for at, picture in enumerate(state["pictures"]):
        if cancelled is not None and cancelled():
            raise FitCancelled("the fit was cancelled")
        found = templates.nearest(picture, without=at)
        fellow[at] = found[0][1].likeness if found else -1
    return {**state, "fellow": fellow}


def lonely(fellow: np.ndarray) -> NDArray[np.bool_]:
    """Which references have no other picture of their part, by the likeness of their best fellow, `[N]`.

    Where the median says that the pictures show one product, those far under the rest; else all but near doubles, because
    two different boards may correlate by .97.
    """
    middle = float(np.median(fellow))
    if middle < ONE_PRODUCT:
        return np.asarray(fellow < SAME_BOARD)
    return np.asarray(fellow < middle - 6 * float(np.median(np.abs(fellow - middle))) - 0.05)


class Found(NamedTuple):
    """A picture beside its nearest references."""

    map: Floats
    """`[S, S]`: 1 is the difference of two arbitrary places of the normal pictures."""
    likeness: float
    """Of the best reference: 1 for the same board."""


class References:
    """The normal pictures kept, ready to be found, laid over a picture and compared."""

    def __init__(self, state: Mapping[str, np.ndarray]) -> None:
        """Raises ValueError for arrays that are not a fit's."""
        if {name: state[name].ndim for name in _ARRAYS} != _ARRAYS:
            raise ValueError(f"the references' arrays have other dimensions than {_ARRAYS}")
        self.pictures, self.features, self.fellow = state["pictures"], state["features"], state["fellow"]
        self.size, self.side = self.pictures.shape[-1], isqrt(self.features.shape[1])
        count = len(self.pictures)
        if (
            not count
            or self.pictures.dtype != np.uint8
            or self.pictures.shape != (count, self.size, self.size)
            or any(len(state[name]) != count for name in ("features", "source", "fellow"))
            or self.side**2 != self.features.shape[1]
            or self.size % self.side
            or state["scale"].shape != (2,)
            or not all(np.isfinite(state[name]).all() for name in ("features", "fellow", "scale"))
            or not (state["scale"] > 0).all()
        ):
            raise ValueError("the references' arrays do not belong together, or hold values no fit gives")
        self._region = state.get("region")
        if self._region is not None and self._region.shape != (self.size, self.size):
            raise ValueError(f"a region of {self._region.shape} for pictures of {self.size}")
        self._scale = tuple(float(v) for v in state["scale"])
        self._descriptors = np.stack([descriptor(one) for one in self.pictures])
        self._fine = np.stack([fine(one) for one in self.pictures])
        self.nbytes = self._descriptors.nbytes + self._fine.nbytes

    def nearest(self, picture: Grey, without: int = -1) -> list[tuple[int, Pose]]:
        """The references most like `picture`, laid over it, most alike first; the one numbered `without` left out."""
        ranks = self._descriptors @ descriptor(picture)
        order = [int(i) for i in np.argsort(-ranks, kind="stable")[: CANDIDATES + 1] if i != without][:CANDIDATES]
        small = fine(picture)
        moved = sorted(((i, shifted(small, self._fine[i])) for i in order), key=lambda one: -one[1].likeness)[:USED]
        worth = [(i, pose) for i, pose in moved if pose.likeness > moved[0][1].likeness - 0.2]
        return sorted(((i, refined(small, self._fine[i], pose)) for i, pose in worth), key=lambda one: -one[1].likeness)

    def compare(self, deep: Floats, picture: Grey, found: Sequence[tuple[int, Pose]]) -> Found:
        """The difference of a picture (its features `[P, D]`, its pixels) to the references `found`, the least at each place.

        Only references about as alike as the best count: another board's empty ground would excuse a missing trace. Where no
        reference reaches there is no difference.
        """
        best = found[0][1].likeness
        images, grids = [], []
        for number, pose in found:
            if 1 - pose.likeness <= 1.5 * (1 - best) + 0.003:
                warp = scaled(pose.warp, self.size)
                images.append(image_difference(picture, laid(self.pictures[number], warp, self.size)))
                grids.append(self._feature_difference(deep, number, warp))
        image = blur(_known(np.fmin.reduce(images)), _SIGMA)
        grid = cv2.resize(_known(np.fmin.reduce(grids)), (self.size, self.size), interpolation=cv2.INTER_LINEAR)
        contrast, spread = self._scale
        heat = np.asarray(grid / spread + IMAGE_SHARE / contrast * image, np.float32)
        if self._region is not None:
            heat[self._region == 0] = 0
        return Found(heat, best)

    def _feature_difference(self, deep: Floats, number: int, warp: NDArray[np.float64]) -> Floats:
        """Each cell's distance to the template's cell under it or one beside that, `[h, w]`; NaN where the template ends."""
        side, step = self.side, self.size / self.side
        rows, columns = (np.ravel(axis) for axis in np.mgrid[0:side, 0:side])
        centres = np.stack([(columns + 0.5) * step - 0.5, (rows + 0.5) * step - 0.5, np.ones(side * side)])
        x, y = np.rint((warp @ centres + 0.5) / step - 0.5).astype(int)
        template = self.features[number].astype(np.float32)
        square = np.full(side * side, np.inf, np.float32)
        for down in (-1, 0, 1):
            for across in (-1, 0, 1):
                at = np.clip(y + down, 0, side - 1) * side + np.clip(x + across, 0, side - 1)
                gap = deep - template[at]
                np.minimum(square, np.einsum("pd,pd->p", gap, gap), out=square)
        square[(x < 0) | (x >= side) | (y < 0) | (y >= side)] = np.nan
        return np.asarray(np.sqrt(square).reshape(side, side), np.float32)


def image_difference(picture: Grey, template: Floats) -> Floats:
    """Grey levels by which a picture and its template, in the same light, exceed what either shows within `REACH` pixels.

    Both ways, so that a missing thin trace counts as an added one does. NaN where the template ends, and beside that.
    """
    reached = np.isfinite(template)
    x: Floats = np.asarray(cv2.GaussianBlur(picture.astype(np.float32), (0, 0), _SMOOTH), np.float32)
    filled = np.where(reached, template, 0).astype(np.float32)
    coarse = (slice(None, None, 4), slice(None, None, 4))
    gain, offset = _light(x[coarse][reached[coarse]], filled[coarse][reached[coarse]])
    y = cv2.GaussianBlur(np.where(reached, gain * filled + offset, x).astype(np.float32), (0, 0), _SMOOTH)
    kernel = np.ones((2 * REACH + 1, 2 * REACH + 1), np.uint8)
    over = np.maximum(x - cv2.dilate(y, kernel), cv2.erode(y, kernel) - x)
    under = np.maximum(y - cv2.dilate(x, kernel), cv2.erode(x, kernel) - y)
    difference = np.maximum(np.maximum(over, under), 0)
    inner = cv2.erode(reached.astype(np.uint8), np.ones((4 * REACH + 1, 4 * REACH + 1), np.uint8))
    difference[inner == 0] = np.nan
    return np.asarray(difference, np.float32)


def _light(x: Floats, y: Floats) -> tuple[float, float]:
    """Gain and offset that bring `y` to the light of `x`, by least squares on what agrees (three rounds)."""
    gain, offset, keep = 1.0, 0.0, np.ones(len(x), bool)
    for _ in range(3):
        u, v = x[keep], y[keep]
        spread = float(v.var())
        gain = float(np.clip(((u - u.mean()) * (v - v.mean())).mean() / spread, 0.5, 2)) if spread > 1 else 1.0
        offset = float(u.mean() - gain * v.mean())
        rest = np.abs(x - gain * y - offset)
        keep = rest <= max(3 * float(np.median(rest)), 2.0)
    return gain, offset


def _known(difference: Floats) -> Floats:
    return np.nan_to_num(difference, nan=0.0)


class Reference(FromFeatures):
    """The line's reference expert: cells, registration, differences; the score is the map's peak."""

    kind = "reference"

    def __init__(self, state: Mapping[str, np.ndarray], cells: Cells) -> None:
        self._state = {name: np.ascontiguousarray(array) for name, array in state.items()}
        self._extractor, self._width = cells, cells.spec.width
        self._references = References(self._state)
        if self._references.size != cells.size or self._references.features.shape[1:] != (
            cells.grid[0] * cells.grid[1],
            cells.spec.width,
        ):
            raise ValueError(f"the expert's arrays were not made from {cells.spec.name}'s features at this picture size")
        alike = self._references.fellow[~lonely(self._references.fellow)]
        self._known = min(KNOWN, float(alike.min())) if len(alike) else KNOWN
        self.nbytes = sum(array.nbytes for array in self._state.values()) + self._references.nbytes + cells.nbytes

    def score_features(self, features: Floats, timings: dict[str, float] | None = None) -> list[RawScore]:
        scores, search, heat = [], 0.0, 0.0
        for one in features:
            start = perf_counter()
            deep, picture = split(checked(one), self._width)
            found = self._references.nearest(picture)
            searched = perf_counter()
            seen = self._references.compare(deep, picture, found)
            scores.append(raw(seen, self._references.side, self._known, self._state.get("region")))
            search, heat = search + searched - start, heat + perf_counter() - searched
        if timings is not None:
            timings |= {"search": search * 1e3, "map": heat * 1e3}
        return scores


def raw(seen: Found, side: int, known: float = KNOWN, region: np.ndarray | None = None) -> RawScore:
    """What was found in the `region` as a raw score, with a reason where the best reference is less alike than `known`."""
    step = len(seen.map) // side
    heat = seen.map if region is None else np.where(region > 0, seen.map, np.float32(0))
    patches = heat.reshape(side, step, side, step).max((1, 3))
    return RawScore(float(heat.max()), heat, patches, () if seen.likeness >= known else (NO_TEMPLATE,))
