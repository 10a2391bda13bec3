"""A click or a box becomes a mask, on drawn defects with known ones and with DINOv2 itself."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspection.drawn import drawn
from inspection.exemplars import BACKBONE, SIDE
from inspection.segmentation import GRID, Segment, at_point, encode, in_box
from models.runtime import Backbone


@pytest.fixture(scope="module")
def stain() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Picture, mask, features, map."""
    pixels, mask = drawn(3, 5, "stain")
    assert mask is not None
    heat = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 12)
    return pixels, mask, encode(pixels, Backbone(BACKBONE, SIDE)), heat


def agreement(found: Segment, mask: np.ndarray) -> float:
    return float((found.mask & mask).sum() / (found.mask | mask).sum())


def test_a_click_and_a_box_find_a_stain(stain: tuple[np.ndarray, ...]) -> None:
    pixels, mask, features, heat = stain
    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    rows, columns = np.nonzero(mask)
    box = (float(columns.min()), float(rows.min()), float(np.ptp(columns) + 1), float(np.ptp(rows) + 1))
    clicked, boxed = at_point(pixels, features, heat, (float(column), float(row))), in_box(pixels, features, heat, box)
    for found in (clicked, boxed):
        assert agreement(found, mask) > 0.5
        assert found.area_px == found.mask.sum()
        assert found.area_pct == pytest.approx(100 * found.area_px / mask.size)
        x, y, wide, high = found.bbox
        assert found.mask[y : y + high, x : x + wide].sum() == found.area_px
    assert clicked.mask[row, column]
    assert np.array_equal(at_point(pixels, features, heat, (float(column), float(row))).mask, clicked.mask)


@settings(max_examples=25, deadline=None)
@given(st.floats(-50, 255), st.floats(-50, 255), st.floats(1, 400), st.floats(1, 400), st.integers(0, 3))
def test_any_prompt_gives_a_region_where_it_points(x: float, y: float, wide: float, high: float, kind: int) -> None:
    rng = np.random.default_rng(kind)
    pixels = np.full((60, 97, 3), 90, np.uint8) if kind == 0 else rng.integers(0, 255, (60, 97, 3)).astype(np.uint8)
    features = rng.normal(0, 1, (GRID * GRID, 384)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    heat = np.zeros((28, 28), np.float32) if kind < 2 else rng.random((28, 28)).astype(np.float32)
    point = (min(max(x, 0.0), 96.9), min(max(y, 0.0), 59.9))
    assert at_point(pixels, features, heat, point).mask[int(point[1]), int(point[0])]
    if x < 97 and y < 60 and x + wide > 0 and y + high > 0:
        found = in_box(pixels, features, heat, (x, y, wide, high))
        left, top, w, _ = found.bbox
        assert found.area_px > 0
        assert left >= int(max(x, 0)) and top >= int(max(y, 0)) and left + w <= max(np.ceil(x + wide), int(max(x, 0)) + 1)


def test_a_large_picture_is_cut_small(stain: tuple[np.ndarray, ...]) -> None:
    _, _, features, heat = stain
    pixels = cv2.resize(stain[0], (1500, 2000))
    found = at_point(pixels, features, heat, (750.0, 1000.0))
    assert found.mask.shape == (2000, 1500) and found.polygon
