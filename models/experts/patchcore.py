"""PatchCore (Roth et al. 2022): a memory bank of normal patches; the score is the patch farthest from all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from itertools import chain
from math import ceil
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.bank import Bank
from models.experts.base import (
    Cancelled,
    Copies,
    Extractor,
    FeaturesRefused,
    FitCancelled,
    Floats,
    FromFeatures,
    Progress,
    RawScore,
    State,
    checked,
    numbered,
)
from models.experts.layout import Layout

ROWS = 2000
BUDGET_MIB = 256
HELD = 512
"""Normal pictures held out at most: the bound rests on their largest quarter, and each fold costs a fit."""
SEARCHED = 1 << 16
"""Patches looked for at once: a picture in tiles has a hundred thousand, and a search copies what it is asked."""
AT_ONCE = 1 << 24
"""Distances held at once."""
EXACT_SHARE = 20
"""One patch in so many is looked for in the whole bank, however large: those that the score and the map's peaks are made of."""


def fit_patchcore(
    features: Iterable[Floats],
    *,
    rows: int = ROWS,
    seed: int = 0,
    budget_mib: int = BUDGET_MIB,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> tuple[Floats, NDArray[np.int32]]:
    """Pictures' patch features `[P, D]`, read once → memory bank `[M, D]` and each row's picture `[M]` (section 3.2).

    All patches are kept while they are at most `rows`. Memory is bounded: no more than `budget_mib` of features (or three
    banks, where that is more) is held; when it is full, what came since is thinned to its own farthest-first coreset, and
    so in the end are the coresets, which adds their covering radii. `progress(done, total)` counts rows chosen, `rows` for each
    time the budget fills. Raises FeaturesRefused, FitCancelled.
    """
    if rows < 1:
        raise ValueError("a memory bank needs at least one row")
    stream = iter(features)
    first = next(stream, None)
    if first is None:
        raise FeaturesRefused("no normal picture to fit on")
    first = checked(first)
    patches, width = first.shape
    capacity = max((budget_mib << 20) // (4 * width), 3 * rows, rows + patches)
    held = np.empty((capacity, width), np.float32)  # pages are only touched as they fill
    picture = np.empty(capacity, np.int32)
    kept = full = 0  # held[:kept] are coresets, held[kept:full] came since
    passed, points = 0, patches * len(features) if isinstance(features, Sized) else 0
    total = rows * max(1, ceil(points / capacity))

    def tell(length: int, done: int, of: int) -> None:
        if progress is not None:
            progress(round(total * (passed + length * done / of) / max(points, passed + length)), total)

    def thin(start: int, stop: int, again: bool = False) -> int:
        nonlocal passed
        from models.experts.coreset import farthest_first  # numba: a second to import, needed only here

        if stop - start <= rows:
            return stop
        part, owner = held[start:stop], picture[start:stop]
        told = None if again else lambda done, of: tell(stop - start, done, of)  # coresets of coresets are soon done
        picks, _ = farthest_first(part, rows, seed=seed, progress=told, cancelled=cancelled)
        passed += 0 if again else stop - start
        held[start : start + len(picks)] = part[picks]
        picture[start : start + len(picks)] = owner[picks]
        return start + len(picks)

    for number, one in enumerate(chain([first], stream)):
        if cancelled is not None and cancelled():
            raise FitCancelled("the fit was cancelled")
        one = checked(one, first)
        if full + patches > capacity:
            kept = full = thin(kept, full)
            if kept + max(rows, patches) > capacity:
                kept = full = thin(0, kept, again=True)
        held[full : full + patches] = one
        picture[full : full + patches] = number
        full += patches
    if kept:
        full = thin(kept, full)
    full = thin(0, full, again=kept > 0)
    return held[:full].copy(), picture[:full].copy()


def fitted(
    features: Iterable[Floats],
    turned: Copies = (),
    *,
    rows: int,
    seed: int,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> State:
    """A memory bank with each row's picture, as a recipe keeps them; `turned` copies join it, each counted as its original."""
    whole, owner = (features, None) if not turned else joined(list(features), turned)
    bank, source = fit_patchcore(whole, rows=rows, seed=seed, progress=progress, cancelled=cancelled)
    return {"memory_bank": bank, "source": source if owner is None else owner[source]}


def held_out(
    features: Sequence[Floats],
    state: Mapping[str, np.ndarray],
    *,
    sure: int,
    copies: Copies = (),
    turned: Copies = (),
    seed: int = 0,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Iterator[tuple[int, Floats]]:
    """The number of each normal picture and copy, and its patches' distances `[P]` by a bank that the picture had no part in.

    The `sure` largest are exact. Nothing for a single picture.

    A bank of all patches: the others' rows. A coreset is chosen anew, as large, without each fold of the pictures (drawn by
    `seed`; ten folds, of more than 50 pictures five): every picture helped to choose the coreset, so to take its own rows out
    would still score it too low. Of more than `HELD` pictures the first `HELD` are scored, in as few folds as leave four fifths
    of all in the bank. `progress(done, total)` counts the rows of all folds' fits. Raises FeaturesRefused, FitCancelled.
    """
    bank, source, held = state["memory_bank"], state["source"], min(len(features), HELD)
    if len(features) < 2:
        return
    whole, owner = joined(features, turned)
    complete = len(bank) == sum(len(one) for one in whole)
    folds = held if complete else min(held, 10) if held <= 50 else ceil(5 * held / len(features))
    for turn, fold in enumerate(np.array_split(np.random.default_rng(seed).permutation(held), folds)):
        if complete:
            others = bank[source != fold[0]]
        else:
            left_out = set(fold.tolist())
            others, _ = fit_patchcore(
                _Others(whole, [n for n, original in enumerate(owner.tolist()) if original not in left_out]),
                rows=len(bank),
                seed=seed,
                progress=None if progress is None else turn_of(progress, turn, folds),
                cancelled=cancelled,
            )
        left = Bank(others)
        for number in sorted(fold.tolist()):
            for at, one in numbered(features, copies, number):
                if cancelled is not None and cancelled():
                    raise FitCancelled("the calibration was cancelled")
                yield at, found(left, one, sure)


def without_own(
    features: Sequence[Floats], bank: Floats, source: NDArray[np.int32], cancelled: Cancelled | None = None
) -> Iterator[Floats]:
    """The distances `[P]` of each picture after the first `HELD`, which `held_out` leaves out, by the bank without its rows.

    No coreset is chosen anew, so they are only near what holding out would give. Raises FitCancelled.
    """
    if len(features) <= HELD:
        return
    whole, centre = Bank(bank), bank.mean(0)
    about = bank - centre
    half = np.einsum("md,md->m", about, about) / 2
    for number in range(HELD, len(features)):
        one, mine, parts = features[number], source == number, list[Floats]()
        for start in range(0, len(one), SEARCHED):
            if cancelled is not None and cancelled():
                raise FitCancelled("the calibration was cancelled")
            part = one[start : start + SEARCHED]
            distances, row = whole.nearest(part)
            own = np.flatnonzero(mine[row] & ~mine.all())  # a bank of few rows may hold no other's
            for few in np.array_split(own, ceil(len(own) * len(bank) / AT_ONCE)) if len(own) else ():
                unlike = half - (part[few] - centre) @ about.T
                unlike[:, mine] = np.inf
                distances[few] = np.linalg.norm(part[few] - bank[unlike.argmin(1)], axis=1)
            parts.append(distances)
        yield np.concatenate(parts)


def joined(features: Sequence[Floats], turned: Copies) -> tuple[Sequence[Floats], NDArray[np.int32]]:
    """Pictures' features with those of turned copies after them, and the number of the picture that each shows."""
    owner = np.array([*range(len(features)), *(number for number, _ in turned)], np.int32)
    return ([*features, *(one for _, one in turned)] if turned else features), owner


def turn_of(progress: Progress, turn: int, turns: int) -> Progress:
    """The progress of one of several equal fits, as that of all."""
    return lambda done, total: progress(turn * total + done, turns * total)


class _Others(Sequence[Floats]):
    """Some of the pictures' features, each read when it is looked at."""

    def __init__(self, features: Sequence[Floats], numbers: Sequence[int]) -> None:
        self._features, self._numbers = features, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, at: Any) -> Any:
        return self._features[self._numbers[at]]


class PatchCore(FromFeatures):
    """The line's PatchCore: onnxruntime features, exact search, separable map.

    The score is equation 6 without the weight (anomalib's `num_neighbors=1`), or the mean of the largest distances.
    """

    kind = "patchcore"

    def __init__(self, state: Mapping[str, np.ndarray], extractor: Extractor, layout: Layout, threads: int = 1) -> None:
        self._state = {name: np.ascontiguousarray(array) for name, array in state.items()}
        self._extractor, self._layout = extractor, layout
        self._bank = Bank(self._state["memory_bank"], threads)
        self.nbytes = sum(array.nbytes for array in self._state.values()) + self._bank.nbytes + extractor.nbytes

    def score_features(self, features: Floats, timings: dict[str, float] | None = None) -> list[RawScore]:
        start = perf_counter()
        searches = [found(self._bank, one, sure(self._layout)) for one in features]
        searched = perf_counter()
        scores = [self._layout.raw(distances, "nearest") for distances in searches]
        if timings is not None:
            timings |= {"search": (searched - start) * 1e3, "map": (perf_counter() - searched) * 1e3}
        return scores


def sure(layout: Layout) -> int:
    """How many of a picture's largest distances are looked for in the whole bank."""
    return max(layout.top, layout.count // EXACT_SHARE)


def found(bank: Bank, features: Floats, sure: int) -> Floats:
    """The distances of one picture's patches `[P]`, the `sure` largest exact."""
    parts = [features[at : at + SEARCHED] for at in range(0, len(features), SEARCHED)]
    return np.concatenate([bank.search(part, min(len(part), sure)) for part in parts])
