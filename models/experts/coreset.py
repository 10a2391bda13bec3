"""Farthest-first coreset (PatchCore, section 3.2), exact: incremental distances, and the triangle inequality to skip most."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numba
import numpy as np
from numba import njit
from numpy.typing import NDArray

from models import catalog
from models.experts.base import Cancelled, FitCancelled, Floats, Progress

BATCH = 64  # rows chosen between two looks at `cancelled`

if not numba.config.CACHE_DIR:
    numba.config.CACHE_DIR = str(catalog.home() / "numba")  # an installed package's own folder may be read-only


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` through numba, cached between processes where any cache folder can be written."""
    options = {"nogil": True, "fastmath": {"reassoc", "contract"}}
    try:
        compiled = njit(cache=True, **options)(function)
    except RuntimeError:  # numba found no writable cache folder
        compiled = njit(**options)(function)
    return cast(Callable[..., Any], compiled)


@_compiled
def _grow(
    x: Floats, picture: NDArray[np.int32], gap: Floats, picks: NDArray[np.int64], shared: NDArray[np.bool_],
    owner: NDArray[np.int32], square: Floats, done: int, stop: int,
) -> int:  # fmt: skip
    """Make picks[done:stop] centres and find picks[stop]; returns the number of centres (fewer once every point is a centre)."""
    points, width = x.shape
    whole = width - width % 32
    for m in range(done, stop):
        centre = x[picks[m]]
        for j in range(m):
            total = np.float32(0)
            for k in range(width):
                step = centre[k] - x[picks[j], k]
                total += step * step
            gap[j] = total
        far, farthest = np.float32(-1), 0
        for p in range(points):
            bound = square[p]
            # |centre − c(p)| ≥ 2|p − c(p)| puts p nearer to its own centre c(p) than to the new one
            if m == 0 or gap[owner[p]] < np.float32(4) * bound:
                total = np.float32(0)
                d = 0
                while d < whole and total < bound:
                    for k in range(d, d + 32):
                        step = centre[k] - x[p, k]
                        total += step * step
                    d += 32
                if total < bound:
                    for k in range(whole, width):
                        step = centre[k] - x[p, k]
                        total += step * step
                    if total < bound:
                        square[p] = bound = total
                        owner[p] = m
                        if total == 0 and picture[p] != picture[picks[m]]:
                            shared[m] = True
            if bound > far:
                far, farthest = bound, p
        if far <= 0:
            return m + 1
        if m + 1 < len(picks):
            picks[m + 1] = farthest
    return stop


def farthest_first(
    features: Floats,
    rows: int,
    *,
    picture: NDArray[np.int32],
    seed: int,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.bool_], float]:
    """Choose up to `rows` of `features` `[N, D]`, each the farthest from all chosen before; the first by `seed`.

    Returns row numbers `[M]`, in the order chosen; which of them have an exact double in another `picture` (int32 `[N]`);
    and the covering radius (no point is farther from its nearest chosen row). M < rows when the rest are doubles.
    Deterministic. Memory: 8 bytes a point beside `features`. Raises FitCancelled.
    """
    count = len(features)
    rows = min(rows, count)
    picks = np.zeros(rows, np.int64)
    picks[0] = np.random.default_rng(seed).integers(count)
    shared = np.zeros(rows, np.bool_)
    owner = np.zeros(count, np.int32)
    square = np.full(count, np.finfo(np.float32).max, np.float32)
    gap = np.zeros(rows, np.float32)
    done = 0
    while done < rows:
        if cancelled is not None and cancelled():
            raise FitCancelled("the coreset was cancelled")
        stop = min(done + BATCH, rows)
        reached = _grow(features, picture, gap, picks, shared, owner, square, done, stop)
        if progress is not None:
            progress(reached, rows)
        if reached < stop:
            done = reached
            break
        done = reached
    return picks[:done], shared[:done], float(np.sqrt(square.max()))
