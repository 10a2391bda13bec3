"""Heatmaps on one scale: what is cold looks cold, whatever else is in the map."""

from __future__ import annotations

import cv2
import numpy as np

from inspection.findings import find
from inspection.heatmap import heatmap_png, overlay_png
from inspection.image import decode


def test_the_scale_is_fixed_not_stretched() -> None:
    cold, hot = np.full((50, 50), 0.1, np.float32), np.full((50, 50), 9.0, np.float32)
    hot[:25] = 0.1
    dark, mixed = decode(heatmap_png(cold, 2.0)).pixels, decode(heatmap_png(hot, 2.0, (100, 80))).pixels
    assert dark.max() < 60 and mixed.shape == (80, 100, 3)
    np.testing.assert_array_equal(mixed[5, 5], dark[5, 5])
    assert mixed[70, 50].min() > 100  # over the scale's end: its hottest colour


def test_the_overlay_leaves_a_good_part_alone_and_marks_a_finding() -> None:
    image = np.full((120, 200, 3), (200, 30, 30), np.uint8)
    heat = np.full((60, 100), 0.2, np.float32)
    np.testing.assert_array_equal(decode(overlay_png(image, heat, (), 2.0)).pixels, image)
    heat[10:20, 70:90] = 2.0
    found = find(heat, 1.0, 200, 120)
    seen = decode(overlay_png(image, heat, found, 2.0)).pixels
    changed = np.abs(seen.astype(int) - image).max(2) > 20
    rows, columns = np.nonzero(changed)
    assert columns.min() >= 135 and columns.max() <= 185 and rows.max() <= 45 and changed[30, 160]
    small = decode(overlay_png(cv2.resize(image, (400, 240)), heat, found, 2.0, max_side=100)).pixels
    assert small.shape == (60, 100, 3)
