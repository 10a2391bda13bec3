"""How well scores part defects from normals, exactly: areas under curves by sorting, ties shared."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.floating]
Bools = NDArray[np.bool_]


def auroc(scores: Numbers, defective: Bools) -> float | None:
    """Probability that a defective item scores over a normal one, ties counting half. `None` without both kinds."""
    normal, positive = (np.sort(scores[at]) for at in (~defective, defective))
    if not normal.size or not positive.size:
        return None
    under, upto = (int(np.searchsorted(normal, positive, side).sum()) for side in ("left", "right"))
    return (under + upto) / (2 * normal.size * positive.size)


def auroc_interval(scores: Numbers, defective: Bools) -> tuple[float, float] | None:
    """Where 90 % of `auroc` lie over 1,000 bootstrap draws of the normal and of the defective items. `None` without both."""
    if defective.all() or not defective.any():
        return None
    low, high = np.quantile(_bootstrapped(_wins(scores, defective)), [0.05, 0.95])
    return float(low), float(high)


def gain(scores: Numbers, others: Numbers, defective: Bools) -> tuple[float, float] | None:
    """How much the area of `scores` exceeds that of `others` on the same items, and its standard error by such draws."""
    if defective.all() or not defective.any():
        return None
    wins = _wins(scores, defective) - _wins(others, defective)
    return float(wins.mean()), float(_bootstrapped(wins).std())


def _wins(scores: Numbers, defective: Bools) -> NDArray[np.float64]:
    """Which defective item scores over which normal one, ties half: their mean is the area."""
    bad, good = scores[defective][:, None], scores[~defective]
    return np.asarray((bad > good) + (bad == good) / 2, np.float64)


def _bootstrapped(wins: NDArray[np.float64], draws: int = 1000) -> NDArray[np.float64]:
    rng = np.random.default_rng(0)
    bad, good = (rng.multinomial(count, np.full(count, 1 / count), draws) for count in wins.shape)
    return np.asarray(np.einsum("ng,ng->n", bad @ wins, good) / wins.size)


def f1_max(scores: Numbers, defective: Bools) -> float | None:
    """Largest F1 over all thresholds `score >= t`. `None` without a defective item."""
    if not defective.any():
        return None
    order = np.argsort(-scores)
    hits = np.cumsum(defective[order])
    taken = np.arange(1, len(scores) + 1)
    last_of_ties = np.append(np.diff(scores[order]) != 0, True)
    return float((2 * hits / (taken + defective.sum()))[last_of_ties].max())


def aupro(maps: Sequence[Numbers], masks: Sequence[Bools], limit: float = 0.3) -> float | None:
    """Mean overlap of true regions against the false-positive rate, up to `limit`, divided by it (Bergmann et al. 2021).

    A region is 8-connected in its mask and counts as one, whatever its size. `None` without regions or normal pixels.
    """
    weights, regions = [], 0
    for mask in masks:
        count, labels, stats, _ = cv2.connectedComponentsWithStats(np.asarray(mask, np.uint8), connectivity=8)
        share = 1 / np.maximum(np.asarray(stats)[:, cv2.CC_STAT_AREA], 1)
        share[0] = 0
        weights.append(share[np.asarray(labels)].ravel())
        regions += count - 1
    truth = np.concatenate([np.asarray(mask).ravel() for mask in masks])
    if not regions or truth.all():
        return None
    values = np.concatenate([np.asarray(one).ravel() for one in maps])
    order = np.argsort(-values)
    ends = np.append(np.flatnonzero(np.diff(values[order])), values.size - 1)
    overlap = np.append(0, np.cumsum(np.concatenate(weights)[order])[ends] / regions)
    wrong = np.append(0, np.cumsum(~truth[order])[ends] / (~truth).sum())
    cut = int(np.searchsorted(wrong, limit, side="right"))
    x, y = np.append(wrong[:cut], limit), np.append(overlap[:cut], np.interp(limit, wrong, overlap))
    return float((np.diff(x) * (y[1:] + y[:-1]) / 2).sum() / limit)
