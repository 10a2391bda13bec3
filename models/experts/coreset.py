"""Farthest-first coreset (PatchCore, section 3.2), exact and lazy: a point is looked at when it may be the farthest.

A point's distance to the rows chosen so far only falls, so what it was when last computed is a bound; the next row is the
farthest of a pool of points with the largest bounds, as soon as it exceeds all bounds outside. A point that enters the pool
is held against the rows that it has missed, which lie together in the cache, and a true lower bound, the distance of
sketches, spares most of that.
"""

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
HEAD = 16  # numbers a point is sketched by: one cache line
BLOCK = 64  # rows whose sketches are compared with a point's at once
POOL = 1 << 14  # points, or a sixteenth of all, that may be the farthest
SAMPLE = 8192  # points whose main directions are taken

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
def _square(a: Floats, b: Floats) -> np.float32:
    total = np.float32(0)
    for k in range(len(a)):
        step = a[k] - b[k]
        total += step * step
    return total


@_compiled
def _refresh(
    x: Floats, head: Floats, slack: np.float32, centres: Floats, sketches: Floats, done: int,
    some: NDArray[np.int64], square: Floats, seen: NDArray[np.int32],
) -> None:  # fmt: skip
    """Hold the points `some` against the centres up to `done` that they have not seen."""
    near = np.empty(BLOCK, np.float32)
    for i in range(len(some)):
        p = some[i]
        bound = square[p]
        for start in range(seen[p], done, BLOCK):
            length = min(BLOCK, done - start)
            near[:length] = np.float32(0)
            for k in range(HEAD):
                for m in range(length):
                    step = head[p, k] - sketches[k, start + m]
                    near[m] += step * step
            for m in range(length):
                if near[m] < bound + slack:
                    bound = min(bound, _square(centres[start + m], x[p]))
        square[p] = bound
        seen[p] = done


@_compiled
def _grow(
    x: Floats, head: Floats, slack: np.float32, centres: Floats, sketches: Floats, picks: NDArray[np.int64], done: int, stop: int,
    pool: NDArray[np.int64], others: np.float32, enough: np.float32, square: Floats, seen: NDArray[np.int32],
) -> tuple[int, np.float32]:  # fmt: skip
    """Choose picks[done:stop] from `pool`, whose points have seen all centres, while no other point can be farther.

    Returns the number of centres and the square of the largest distance within the pool.
    """
    while True:
        far, farthest = np.float32(-1), 0
        for i in range(len(pool)):
            if square[pool[i]] > far:
                far, farthest = square[pool[i]], pool[i]
        if far < others or far <= enough or done == stop:
            return done, far
        picks[done] = farthest
        centres[done] = x[farthest]
        sketches[:, done] = head[farthest]
        done += 1
        for i in range(len(pool)):
            p = pool[i]
            if _square(head[farthest], head[p]) < square[p] + slack:
                square[p] = min(square[p], _square(x[farthest], x[p]))
            seen[p] = done


def _sketch(features: Floats) -> tuple[Floats, np.float32]:
    """Points `[N, D]` → `[N, HEAD]`, no two farther apart than the points (but for a `slack` of rounding in their squares).

    The coordinates along the main directions, and the length of what is left: | |a| − |b| | ≤ |a − b|.
    """
    count = len(features)
    sample = features[:: -(-count // SAMPLE)].astype(np.float64)
    centre = sample.mean(0)
    sample -= centre
    main = np.linalg.eigh(sample.T @ sample)[1][:, ::-1][:, : HEAD - 1]
    head = np.zeros((count, HEAD), np.float32)
    largest = 0.0
    for start in range(0, count, SAMPLE):
        about = features[start : start + SAMPLE] - centre
        along = about @ main
        whole = np.einsum("nd,nd->n", about, about)
        left = np.maximum(whole - np.einsum("nd,nd->n", along, along), 0)
        head[start : start + SAMPLE, : along.shape[1]] = along
        head[start : start + SAMPLE, -1] = np.sqrt(left)
        largest = max(largest, whole.max())
    return head, np.float32(4e-6 * largest)


def farthest_first(
    features: Floats,
    rows: int,
    *,
    seed: int,
    standing: Floats | None = None,
    enough: float = 0.0,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> tuple[NDArray[np.int64], float]:
    """Choose up to `rows` of `features` `[N, D]`, each the farthest from all chosen before; the first by `seed`.

    `standing` `[N]` are the points' distances to rows chosen elsewhere: the first is then the farthest of those. No more are
    chosen once no point is farther than `enough` (at 0: once the rest are doubles). Returns row numbers `[M]`, in the order
    chosen, and the covering radius (no point is farther from its nearest row). Deterministic. Memory: 90 bytes a point
    beside `features`. Raises FitCancelled.
    """
    count = len(features)
    rows = min(rows, count)
    picks = np.zeros(rows, np.int64)
    if standing is None:
        picks[0] = np.random.default_rng(seed).integers(count)
        square = np.full(count, np.finfo(np.float32).max, np.float32)
    else:
        picks[0] = standing.argmax()
        square = np.square(standing, dtype=np.float32)
        if standing[picks[0]] <= enough:
            return picks[:0], float(standing[picks[0]])
    head, slack = _sketch(features)
    centres, sketches = np.empty((rows, features.shape[1]), np.float32), np.empty((HEAD, rows), np.float32)
    centres[0], sketches[:, 0] = features[picks[0]], head[picks[0]]
    known = (features, head, slack, centres, sketches)
    seen, least = np.zeros(count, np.int32), np.float32(enough) ** 2
    done = 1
    _refresh(*known, done, np.arange(count), square, seen)
    pooled = max(POOL, count // 16)
    while True:
        if count <= pooled:
            pool, others = np.arange(count), np.float32(-1)
        else:
            order = np.argpartition(square, count - pooled)
            pool, others = np.sort(order[count - pooled :]), square[order[: count - pooled]].max()
        _refresh(*known, done, pool, square, seen)
        pool = pool[square[pool] >= others]
        while True:
            if cancelled is not None and cancelled():
                raise FitCancelled("the coreset was cancelled")
            stop = min(done + BATCH, rows)
            done, far = _grow(*known, picks, done, stop, pool, others, least, square, seen)
            if progress is not None:
                progress(done, rows)
            if far < others:
                break  # a point outside the pool may be farther
            if far <= least or done == rows:
                return picks[:done], float(np.sqrt(max(far, 0)))
