"""Farthest-first coreset (PatchCore, section 3.2), exact: two true lower bounds on a distance spare most of computing it."""

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
def _grow(
    x: Floats, head: Floats, slack: np.float32, gap: Floats, picks: NDArray[np.int64], owner: NDArray[np.int32],
    square: Floats, enough: np.float32, done: int, stop: int,
) -> int:  # fmt: skip
    """Make picks[done:stop] centres and find picks[stop]; returns the number of centres (fewer once all lie near `enough`)."""
    points, width = x.shape
    for m in range(done, stop):
        centre, sketch = x[picks[m]], head[picks[m]]
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
            if gap[owner[p]] < np.float32(4) * bound:
                total = np.float32(0)
                for k in range(HEAD):
                    step = sketch[k] - head[p, k]
                    total += step * step
                if total < bound + slack:
                    total = np.float32(0)
                    for k in range(width):
                        step = centre[k] - x[p, k]
                        total += step * step
                    if total < bound:
                        square[p] = bound = total
                        owner[p] = m
            if bound > far:
                far, farthest = bound, p
        if far <= enough:
            return m + 1
        if m + 1 < len(picks):
            picks[m + 1] = farthest
    return stop


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
    chosen, and the covering radius (no point is farther from its nearest row). Deterministic. Memory: 72 bytes a point
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
    owner = np.full(count, rows, np.int32)
    gap = np.zeros(rows + 1, np.float32)  # the last is of points without a chosen row: nothing is known of them
    head, slack = _sketch(features)
    done = 0
    while done < rows:
        if cancelled is not None and cancelled():
            raise FitCancelled("the coreset was cancelled")
        stop = min(done + BATCH, rows)
        reached = _grow(features, head, slack, gap, picks, owner, square, np.float32(enough) ** 2, done, stop)
        if progress is not None:
            progress(reached, rows)
        done = reached
        if square.max() <= np.float32(enough) ** 2:  # also when that was so at the end of a batch
            break
    return picks[:done], float(np.sqrt(square.max()))
