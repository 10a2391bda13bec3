"""What every vision expert gives: one number, one map, one grid of patch distances."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from time import perf_counter
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
State = dict[str, np.ndarray]
Progress = Callable[[int, int], None]
Cancelled = Callable[[], bool]
TEMPLATE = "template"
Copies = Sequence[tuple[int, Floats]]
"""Altered normal pictures: each original's number and the copy's features `[P, D]`."""


class FeaturesRefused(ValueError):
    """Features no expert can be fitted on or score: none, too few, not finite, of another shape than the rest."""


class FitCancelled(Exception):
    """`cancelled()` said so; nothing was kept."""


class RawScore(NamedTuple):
    """One picture as one expert saw it, in the expert's own units (a distance; not comparable between recipes)."""

    score: float
    """The picture's raw score by `View.rule`: the largest patch distance (PatchCore), the map's peak (the others), or a mean."""
    map: Floats
    """Anomaly map, `[H, W]`, at the view's map size; covers the whole picture edge to edge, 0 outside the region."""
    patches: Floats
    """Patch distances before upsampling and blur, `[h, w]`; 0 outside the region."""
    reasons: tuple[str, ...] = ()
    """Why a person should look whatever the score, e.g. `no_template`."""


class Extractor(Protocol):
    """What turns preprocessed pictures into the features that an expert is fitted on and scores."""

    grid: tuple[int, int]
    """Rows and columns of patches."""
    nbytes: int

    def features(self, images: Floats) -> Floats:
        """`[B, 3, rows, columns]` → `[B, P, D]`, the patches looked at, row by row."""
        ...


class Expert(Protocol):
    """A fitted expert: preprocessed pictures in, raw scores out. Safe to call from one thread at a time."""

    kind: str
    """One of `models.experts.KINDS`."""
    nbytes: int
    """Resident bytes of its arrays and session, for the pool's budget (an estimate, never below the arrays)."""

    def score(self, images: Floats, timings: dict[str, float] | None = None) -> list[RawScore]:
        """Score a batch `[B, 3, H, W]` of the view's size, float32, already resized and normalised for the backbone.

        `timings` is filled with the batch's milliseconds per stage: `features`, `search`, `map`.
        Raises FeaturesRefused when a picture's features are not finite.
        """
        ...

    def score_features(self, features: Floats, timings: dict[str, float] | None = None) -> list[RawScore]:
        """Score patch features `[B, P, D]` made before by its kind's `extractor`: the same scores without a backbone pass."""
        ...

    def state(self) -> State:
        """The arrays a recipe keeps: `memory_bank`, `mean`/`precision`/`index`, `pictures`/… or `share`; `region`, `template`."""
        ...


class FromFeatures:
    """What all of the line's experts share: pictures become features first, and those are scored."""

    _state: Mapping[str, np.ndarray]
    _extractor: Extractor

    def state(self) -> State:
        """As `Expert.state`."""
        return dict(self._state)

    def score(self, images: NDArray[Any], timings: dict[str, float] | None = None) -> list[RawScore]:
        """As `Expert.score`."""
        start = perf_counter()
        features = self._extractor.features(images)
        if timings is not None:
            timings["features"] = (perf_counter() - start) * 1e3
        return self.score_features(features, timings)

    def score_features(self, features: Floats, timings: dict[str, float] | None = None) -> list[RawScore]:
        """As `Expert.score_features`."""
        raise NotImplementedError


def checked(features: np.ndarray, like: np.ndarray | None = None) -> Floats:
    """One picture's features as contiguous float32 `[P, D]`. Raises FeaturesRefused."""
    if features.ndim != 2 or not features.size:
        raise FeaturesRefused(f"features must be [patches, dimensions], not {features.shape}")
    if like is not None and features.shape != like.shape:
        raise FeaturesRefused(f"features of {features.shape} beside others of {like.shape}")
    if not np.isfinite(features).all():
        raise FeaturesRefused("features hold NaN or infinite values")
    return np.ascontiguousarray(features, dtype=np.float32)


def numbered(features: Sequence[Floats], copies: Copies, number: int) -> Iterator[tuple[int, Floats]]:
    """Picture `number` and its copies, checked: each one's own number and its features. Raises FeaturesRefused."""
    yield number, checked(features[number])
    for at, (original, copy) in enumerate(copies, len(features)):
        if original == number:
            yield at, checked(copy)
