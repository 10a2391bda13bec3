"""Backbones that look together: each one's patches by a memory bank of its own, their scores added in units of the normals'."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import Any, overload

import cv2
import numpy as np
from numpy.typing import NDArray

from models import backbones
from models.bank import Bank
from models.experts import patchcore
from models.experts.base import Cancelled, Copies, Extractor, FeaturesRefused, Floats, FromFeatures, Progress, RawScore, State
from models.experts.layout import Layout
from models.experts.tiles import Regional, prepared
from models.experts.view import Region, View
from models.runtime import Backbone

BANKS = ("memory_bank", "second_bank")
SOURCES = ("source", "second_source")
UNITS = "units"
LOOKED_AT = 32
"""Normal pictures that a unit is taken from, at most."""
USUAL, WEIGHT = 0.1, 2
"""Relative spread of normal scores where too few tell it, and how many pictures that counts for."""
_LEAST = 1e-6


class Fusion:
    """How the features of a fused view fall apart into each backbone's, and how their distances come together.

    A picture's features are one row `[1, N]`: the first backbone's `[P, D]`, then the second's. Its score is the sum of both
    scores, the second's its largest distance, each in its own unit. In the map each patch of the first grid has its own
    distance and that of the second's patch in which its middle lies.
    """

    def __init__(self, view: View, region: Region | None = None) -> None:
        """Raises as `Layout`."""
        self.views, self.layout = view.halves, Layout(view, region)
        self.regions = [None if region is None else _resized(region, half.map_size) for half in self.views]
        looked = np.ones(view.grid, bool).ravel() if self.layout.keep is None else self.layout.keep.ravel()
        self.keeps: list[NDArray[np.bool_]] = []
        """The patches of each backbone that are looked at, on its grid."""
        self._owners: list[NDArray[np.int64]] = []
        for half in self.views:
            owner = _cells(view.grid, half.grid)[looked]
            keep = looked[_cells(half.grid, view.grid)]
            keep[owner] = True
            self.keeps.append(keep.reshape(half.grid))
            self._owners.append((np.cumsum(keep) - 1)[owner])
        widths = (backbones.spec(half.backbone).width for half in self.views)
        self.shapes = [(int(keep.sum()), width) for keep, width in zip(self.keeps, widths, strict=True)]
        self._ends = np.cumsum([0, *(patches * width for patches, width in self.shapes)]).tolist()

    def part(self, features: Floats, half: int) -> Floats:
        """One backbone's `[P, D]` of a picture's features `[1, N]`. Raises FeaturesRefused."""
        if features.shape != (1, self._ends[-1]):
            raise FeaturesRefused(f"features of {features.shape} where both backbones give {(1, self._ends[-1])}")
        return features[0, self._ends[half] : self._ends[half + 1]].reshape(self.shapes[half])

    def raw(self, distances: Sequence[Floats], units: Sequence[float]) -> RawScore:
        """Score and map of one picture from each backbone's distances `[P]`. Raises as `Layout.raw`."""
        parts = zip(distances, self._owners, units, strict=True)
        raw = self.layout.raw(np.asarray(sum(one[owner] / unit for one, owner, unit in parts), np.float32), "nearest")
        return raw._replace(score=sum(self.pooled(one, half) / units[half] for half, one in enumerate(distances)))

    def pooled(self, distances: Floats, half: int) -> float:
        """One backbone's score of its distances `[P]`, its own unit."""
        return float(distances.max()) if half else self.layout.pooled(distances)


def per_patch(view: View, shape: tuple[int, ...], region: Region | None = None) -> tuple[int, ...]:
    """Patches and dimensions of a picture's features of that shape; of several backbones the first grid's and all theirs."""
    if len(view.halves) == 1:
        return shape
    shapes = Fusion(view, region).shapes
    return shapes[0][0], sum(width for _, width in shapes)


def lead(view: View, features: Floats) -> Floats:
    """A whole picture's features `[P, D]` by the first backbone of the view, or by its only one."""
    return features if len(view.halves) == 1 else Fusion(view).part(features, 0)


def unit(features: Sequence[Floats], bank: Floats, source: NDArray[np.int32], pooled: Callable[[Floats], float]) -> float:
    """What one backbone's distances are divided by: the bank's spread times the relative spread of the normals' own scores.

    `features`: the normals' `[P, D]`, each scored by the bank without its rows. A `USUAL` spread counts for `WEIGHT` pictures.
    """
    scores = []
    for number in range(min(len(features), LOOKED_AT)):
        others = bank[source != number]
        if len(others):
            scores.append(max(pooled(Bank(others).nearest(features[number])[0]), _LEAST))
    logs = np.log(scores) if scores else np.zeros(1)
    relative = np.sqrt((WEIGHT * USUAL**2 + ((logs - logs.mean()) ** 2).sum()) / (WEIGHT + len(logs) - 1))
    return max(float(np.sqrt(bank.var(0, dtype=np.float64).sum()) * relative), _LEAST)


class Both:
    """What the backbones of a fused view give of pictures in bytes `[B, side, side, 3]`, joined: `[B, 1, N]`."""

    def __init__(self, view: View, region: Region | None = None, threads: int = 1) -> None:
        """Raises as `runtime.Backbone`, ValueError for a region that does not fit."""
        self._fusion = Fusion(view, region)
        self._parts: list[Extractor] = []
        for half, keep, inside in zip(self._fusion.views, self._fusion.keeps, self._fusion.regions, strict=True):
            whole = Backbone(half.backbone, half.input, threads, half.precision)
            self._parts.append(whole if inside is None else Regional(whole, half, inside, keep))
        self.grid, self.nbytes = view.grid, sum(part.nbytes for part in self._parts)

    def features(self, images: NDArray[Any]) -> Floats:
        """`[B, side, side, 3]`, uint8 → `[B, 1, N]`."""
        own = (
            part.features(np.concatenate([prepared(image, half) for image in images])).reshape(len(images), 1, -1)
            for part, half in zip(self._parts, self._fusion.views, strict=True)
        )
        return np.concatenate(list(own), 2)


def fit_fused(
    features: Iterable[Floats],
    fusion: Fusion,
    turned: Copies = (),
    *,
    rows: int,
    seed: int,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> State:
    """A memory bank of at most `rows` for each backbone, and their units. Raises as `patchcore.fit_patchcore`."""
    whole, state, found_units = features if isinstance(features, Sequence) else list(features), State(), []
    for half, (bank, source) in enumerate(zip(BANKS, SOURCES, strict=True)):
        own = Half(whole, fusion, half)
        found = patchcore.fitted(
            own,
            HalfCopies(turned, fusion, half),
            rows=rows,
            seed=seed,
            progress=progress and patchcore.turn_of(progress, half, len(BANKS)),
            cancelled=cancelled,
        )
        state |= {bank: found["memory_bank"], source: found["source"]}
        found_units.append(unit(own, state[bank], state[source], partial(fusion.pooled, half=half)))
    return {**state, UNITS: np.array(found_units)}


def held_out(
    features: Sequence[Floats],
    state: Mapping[str, np.ndarray],
    fusion: Fusion,
    *,
    copies: Copies = (),
    turned: Copies = (),
    seed: int = 0,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Iterator[tuple[int, RawScore]]:
    """As PatchCore's, each backbone's folds after the other's; the units are those of the whole banks."""
    units = state[UNITS].tolist()

    def left_out(half: int) -> Iterator[tuple[int, Floats]]:
        return patchcore.held_out(
            Half(features, fusion, half),
            {"memory_bank": state[BANKS[half]], "source": state[SOURCES[half]]},
            sure=fusion.shapes[half][0],
            copies=HalfCopies(copies, fusion, half),
            turned=HalfCopies(turned, fusion, half),
            seed=seed,
            progress=progress and patchcore.turn_of(progress, half, len(BANKS)),
            cancelled=cancelled,
        )

    first = dict(left_out(0))
    for at, distances in left_out(1):
        yield at, fusion.raw((first.pop(at), distances), units)


class Fused(FromFeatures):
    """A memory bank for each backbone, searched exactly."""

    kind = "patchcore"

    def __init__(self, state: Mapping[str, np.ndarray], extractor: Extractor, fusion: Fusion, threads: int = 1) -> None:
        """Raises ValueError for units that no fit gives."""
        if state[UNITS].shape != (len(BANKS),) or not (np.isfinite(state[UNITS]) & (state[UNITS] > 0)).all():
            raise ValueError("the expert's units are no two positive numbers")
        self._state = {name: np.ascontiguousarray(array) for name, array in state.items()}
        self._extractor, self._fusion, self._units = extractor, fusion, state[UNITS].tolist()
        self._banks = [Bank(self._state[name], threads) for name in BANKS]
        held = sum(array.nbytes for array in self._state.values())
        self.nbytes = held + sum(bank.nbytes for bank in self._banks) + extractor.nbytes

    def score_features(self, features: Floats, timings: dict[str, float] | None = None) -> list[RawScore]:
        start = perf_counter()
        parts = [[self._fusion.part(one, half) for half in range(len(BANKS))] for one in features]
        found = [[patchcore.found(bank, one, len(one)) for bank, one in zip(self._banks, own, strict=True)] for own in parts]
        searched = perf_counter()
        scores = [self._fusion.raw(distances, self._units) for distances in found]
        if timings is not None:
            timings |= {"search": (searched - start) * 1e3, "map": (perf_counter() - searched) * 1e3}
        return scores


class Half(Sequence[Floats]):
    """Pictures' features by one backbone, each cut out when it is looked at."""

    def __init__(self, features: Sequence[Floats], fusion: Fusion, half: int) -> None:
        self._features, self._fusion, self._half = features, fusion, half

    def __len__(self) -> int:
        return len(self._features)

    @overload
    def __getitem__(self, at: int) -> Floats: ...

    @overload
    def __getitem__(self, at: slice) -> Half: ...

    def __getitem__(self, at: int | slice) -> Floats | Half:
        if isinstance(at, slice):
            return Half(self._features[at], self._fusion, self._half)
        return self._fusion.part(self._features[at], self._half)


class HalfCopies(Sequence[tuple[int, Floats]]):
    """The same of altered pictures, each with the number of its original."""

    def __init__(self, copies: Copies, fusion: Fusion, half: int) -> None:
        self._copies, self._fusion, self._half = copies, fusion, half

    def __len__(self) -> int:
        return len(self._copies)

    @overload
    def __getitem__(self, at: int) -> tuple[int, Floats]: ...

    @overload
    def __getitem__(self, at: slice) -> HalfCopies: ...

    def __getitem__(self, at: int | slice) -> tuple[int, Floats] | HalfCopies:
        if isinstance(at, slice):
            return HalfCopies(self._copies[at], self._fusion, self._half)
        number, one = self._copies[at]
        return number, self._fusion.part(one, self._half)


def _cells(grid: tuple[int, int], other: tuple[int, int]) -> NDArray[np.int64]:
    """For each cell of a grid, row by row, the number of the other grid's cell in which its middle lies."""
    rows, columns = (((np.arange(a) + 0.5) * b / a).astype(np.int64) for a, b in zip(grid, other, strict=True))
    return np.asarray((rows[:, None] * other[1] + columns).ravel())


def _resized(region: Region, size: tuple[int, int]) -> Region:
    return np.asarray(cv2.resize(region, size[::-1], interpolation=cv2.INTER_NEAREST), np.uint8)
