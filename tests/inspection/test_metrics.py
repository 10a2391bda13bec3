"""Areas under curves against their definitions, by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspection.metrics import aupro, auroc, auroc_interval, f1_max

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


@given(st.integers(2, 30), st.integers(2, 30), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_the_interval_holds_the_area_and_narrows_with_more(normal: int, bad: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = np.concatenate([rng.normal(0, 1, normal), rng.normal(1, 1, bad)])
    defective = np.arange(len(scores)) >= normal
    low, high = auroc_interval(scores, defective) or (2.0, -1.0)
    area = auroc(scores, defective) or 0.0
    assert 0 <= low <= area + 1e-9 and area - 1e-9 <= high <= 1
    wide = auroc_interval(np.tile(scores, 16), np.tile(defective, 16)) or (0.0, 1.0)
    assert wide[1] - wide[0] <= 0.5 * (high - low) + 1e-9


def test_the_interval_of_a_clean_split_is_one_and_of_one_kind_none() -> None:
    scores = np.arange(6.0)
    assert auroc_interval(scores, scores > 2) == (1, 1)
    assert auroc_interval(np.ones(6), scores > 2) == (0.5, 0.5)
    assert auroc_interval(scores, scores > 9) is None
