"""Areas under curves against their definitions, by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspection.metrics import aupro, auroc, f1_max

ITEMS = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=40)


@given(ITEMS)
def test_auroc_counts_pairs(items: list[tuple[int, bool]]) -> None:
    scores, defective = np.array([s for s, _ in items], float), np.array([d for _, d in items])
    good, bad = scores[~defective], scores[defective]
    if not len(good) or not len(bad):
        assert auroc(scores, defective) is None
        return
    pairs = (bad[:, None] > good).mean() + 0.5 * (bad[:, None] == good).mean()
    assert auroc(scores, defective) == pytest.approx(pairs)


@given(ITEMS)
def test_f1_over_all_thresholds(items: list[tuple[int, bool]]) -> None:
    scores, defective = np.array([s for s, _ in items], float), np.array([d for _, d in items])
    if not defective.any():
        assert f1_max(scores, defective) is None
        return
    best = max(2 * (defective & (scores >= t)).sum() / ((scores >= t).sum() + defective.sum()) for t in set(scores))
    assert f1_max(scores, defective) == pytest.approx(best)


@given(st.integers(0, 2**32 - 1))
def test_aupro_by_stepping_through_thresholds(seed: int) -> None:
    import cv2

    rng = np.random.default_rng(seed)
    masks = [np.zeros((12, 17), bool) for _ in range(3)]
    masks[0][2:5, 3:9] = True
    masks[0][8:10, 12:13] = True
    masks[1][0:12, 0:4] = True
    maps = [np.round(rng.random((12, 17)) * 9 + 4 * m) for m in masks]
    regions = []
    for mask, heat in zip(masks, maps, strict=True):
        count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        regions += [heat[labels == n] for n in range(1, count)]
    normal = np.concatenate([heat[~mask] for heat, mask in zip(maps, masks, strict=True)])
    levels = sorted({float(v) for heat in maps for v in heat.ravel()}, reverse=True)
    x = np.array([0.0] + [(normal >= t).mean() for t in levels])
    y = np.array([0.0] + [np.mean([(r >= t).mean() for r in regions]) for t in levels])
    grid = np.linspace(0, 0.3, 30001)
    overlap = np.interp(grid, x, y)
    if (np.diff(x) > 0).all():
        expected = ((overlap[1:] + overlap[:-1]) / 2).mean()
        assert aupro(maps, masks) == pytest.approx(expected, abs=1e-3)
    assert 0 <= aupro(maps, masks) <= 1
    assert aupro([m.astype(float) for m in masks], masks) == pytest.approx(1)


def test_aupro_without_regions_is_none() -> None:
    assert aupro([np.ones((4, 4))], [np.zeros((4, 4), bool)]) is None
