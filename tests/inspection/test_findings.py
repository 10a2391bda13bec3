"""Regions, boxes and places, on maps and pictures that are not square, so that a swapped axis shows."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspection.findings import MOST, find, map_stats, place_of


def flat(value: float = 0.1, shape: tuple[int, int] = (100, 200)) -> np.ndarray:
    return np.full(shape, value, np.float32)


def test_one_region_in_a_wide_picture() -> None:
    heat = flat()  # 100 rows, 200 columns, over a picture 800 wide and 300 high: 4 × 3 pixels each
    heat[10:20, 150:190] = 4.0
    heat[12, 180] = 5.0
    (found,) = find(heat, 1.0, 800, 300)
    assert found.id == "f1" and found.bbox == (600, 30, 160, 30)
    assert found.area_px == 10 * 40 * 12 and found.area_pct == pytest.approx(2.0)
    assert found.centroid == pytest.approx((680.0, 45.0))
    assert found.peak == 5.0 and found.peak_xy == (722, 37)
    assert found.place == "top right"
    xs, ys = zip(*found.polygon, strict=True)
    assert len(found.polygon) == 4
    assert (min(xs), max(xs)) == pytest.approx((600, 759), abs=1) and (min(ys), max(ys)) == pytest.approx((30, 59), abs=1)


def test_the_limit_itself_is_over() -> None:
    heat = flat()
    heat[40:50, 40:50] = 1.0
    assert len(find(heat, 1.0, 200, 100)) == 1
    assert find(heat, np.nextafter(np.float32(1), np.float32(2)), 200, 100) == ()
    assert find(heat, 1.0, 200, 100, at_least_one=True)[0].bbox == (40, 40, 10, 10)


def test_regions_are_ordered_by_peak_and_touch_by_corners() -> None:
    heat = flat()
    heat[10:20, 10:20] = 2.0
    heat[20:30, 20:30] = 3.0  # joined to the first by a corner
    heat[60:70, 60:70] = 4.0
    found = find(heat, 1.0, 200, 100)
    assert [(f.id, f.peak) for f in found] == [("f1", 4.0), ("f2", 3.0)]
    heat[10:20, 10:20] = 2.9
    assert find(heat, 1.0, 200, 100)[1].area_px == 200


def hump(rows: int, columns: int, row: float, column: float, sigma: float, height: float) -> np.ndarray:
    down, across = np.mgrid[0:rows, 0:columns]
    return np.asarray(height * np.exp(-((down - row) ** 2 + (across - column) ** 2) / (2 * sigma**2)), np.float32)


@pytest.mark.parametrize("limit", [None, 1.0, 2.0, 9.0, 10.9, 50.0])
def test_the_extent_is_the_humps_own_whatever_the_limit(limit: float | None) -> None:
    heat = 1 + hump(100, 200, 40, 60, 6, 10)
    (found,) = find(heat, limit, 200, 100, at_least_one=True)
    assert found.area_px == (heat >= 1 + 20 / 3).sum() and found.peak_xy == (60, 40)
    assert found.centroid == pytest.approx((60.5, 40.5), abs=0.01) and found.bbox == (55, 35, 11, 11)


def test_where_nothing_was_looked_at_is_no_background() -> None:
    heat = 3 + hump(100, 200, 40, 60, 6, 10)
    whole = find(heat, 9.0, 200, 100)
    heat[:, 90:] = 0  # outside the region of interest
    assert find(heat, 9.0, 200, 100) == whole


def test_extents_part_between_their_regions() -> None:
    heat = 1 + hump(100, 200, 40, 60, 6, 10) + hump(100, 200, 40, 78, 6, 8.5)
    assert len(find(heat, 6.0, 200, 100)) == 1
    first, second = find(heat, 7.5, 200, 100)  # the saddle is higher than two thirds of the lower one's rise
    assert (first.peak_xy, second.peak_xy) == ((60, 40), (78, 40))
    assert first.bbox[0] + first.bbox[2] <= second.bbox[0]


def test_a_hot_part_that_melted_into_a_region_is_not_its_extent() -> None:
    heat = 1 + hump(100, 200, 40, 60, 6, 10) + hump(100, 200, 40, 100, 6, 4)
    heat[35:45, 60:100] = np.maximum(heat[35:45, 60:100], 2.5)
    (found,) = find(heat, 2.0, 200, 100)
    assert found.bbox == (55, 35, 11, 11)


def test_specks_are_dropped_unless_one_holds_the_peak() -> None:
    heat = flat()
    heat[10:20, 10:20] = 2.0
    heat[50, 50:53] = 1.5  # three pixels: a speck at the floor of four
    assert len(find(heat, 1.0, 200, 100)) == 1
    heat[51, 50] = 1.5
    assert len(find(heat, 1.0, 200, 100)) == 2
    heat[90, 190] = 9.0
    assert [f.peak for f in find(heat, 1.0, 200, 100)] == [9.0, 2.0, 1.5]
    large = flat(shape=(400, 400))
    large[:10, :10] = 2.0
    large[50:55, 50:56] = 1.5  # 30 pixels of 160,000: under 0.02 % (32)
    assert len(find(large, 1.0, 400, 400)) == 1


def test_no_more_than_fifty() -> None:
    heat = flat(shape=(200, 200))
    for n in range(81):
        heat[20 * (n // 9) : 20 * (n // 9) + 8, 20 * (n % 9) : 20 * (n % 9) + 8] = 2 + n
    found = find(heat, 1.0, 200, 200)
    assert len(found) == MOST and found[0].peak == 82 and found[-1].id == "f50"


@pytest.mark.parametrize("limit", [None, 50.0])
def test_the_fallback_is_the_region_around_the_peak(limit: float | None) -> None:
    heat = flat()
    heat[70:90, 20:40] = 4.0
    heat[75, 30] = 5.0
    heat[10:20, 150:160] = 4.5  # as hot, but not where the peak is
    assert find(heat, limit, 200, 100) == ()
    (found,) = find(heat, limit, 200, 100, at_least_one=True)
    assert found.bbox == (20, 70, 20, 20) and found.place == "bottom left"
    assert len(find(flat(), limit, 200, 100, at_least_one=True)) == 1


def test_nothing_over_the_limit_is_no_finding() -> None:
    assert find(flat(), 1.0, 200, 100) == ()


def test_a_ring_keeps_its_outer_border() -> None:
    heat = flat()
    heat[20:60, 20:60] = 2.0
    heat[30:50, 30:50] = 0.1
    (found,) = find(heat, 1.0, 200, 100)
    assert found.area_px == 1200 and found.bbox == (20, 20, 40, 40)
    assert min(x for x, _ in found.polygon) == 20 and max(y for _, y in found.polygon) == 59


CELLS = [["top left", "top", "top right"], ["left", "centre", "right"], ["bottom left", "bottom", "bottom right"]]


@pytest.mark.parametrize("row", range(3))
@pytest.mark.parametrize("column", range(3))
def test_nine_cells_of_a_tall_picture(row: int, column: int) -> None:
    for x in (100 * column, 100 * column + 50, 100 * column + 99):
        for y in (300 * row, 300 * row + 299):
            assert place_of(x, y, 300, 900) == CELLS[row][column]


def test_map_stats_in_picture_pixels() -> None:
    heat = flat()
    heat[95, 10] = 7.0
    stats = map_stats(heat, 400, 100)
    assert stats.peak_xy == (21, 95) and stats.peak_place == "bottom left"
    assert (stats.min, stats.max) == (pytest.approx(0.1), 7.0) and stats.mean == pytest.approx(float(heat.mean()))


@given(st.integers(0, 2**32 - 1), st.integers(8, 60), st.integers(8, 60), st.integers(16, 900), st.integers(16, 900))
def test_findings_stay_inside_and_add_up(seed: int, rows: int, columns: int, width: int, height: int) -> None:
    heat = cv2.GaussianBlur(np.random.default_rng(seed).random((rows, columns), np.float32), (0, 0), 2)
    limit = float(np.quantile(heat, 0.8))
    found = find(heat, limit, width, height)
    assert found and found[0].peak == heat.max()
    assert (
        found[0].peak_xy == map_stats(heat, width, height).peak_xy and found[0].place == map_stats(heat, width, height).peak_place
    )
    assert [f.peak for f in found] == sorted((f.peak for f in found), reverse=True)
    assert sum(f.area_pct for f in found) <= 100 + 1e-6  # no pixel is of two
    background = float(np.median(heat))
    for f in found:
        reached = heat >= min(background + (f.peak - background) * 2 / 3, f.peak) - 1e-6
        assert 0 < f.area_pct <= 100 * reached.mean() + 1e-6
        x, y, w, h = f.bbox
        assert 0 <= x < x + w <= width and 0 <= y < y + h <= height
        assert x - 1 <= f.centroid[0] <= x + w + 1 and y - 1 <= f.centroid[1] <= y + h + 1
        assert x - 1 <= f.peak_xy[0] <= x + w and y - 1 <= f.peak_xy[1] <= y + h
        assert all(x - 1 <= px <= x + w and y - 1 <= py <= y + h for px, py in f.polygon)


@given(st.integers(0, 2**32 - 1), st.integers(8, 60), st.integers(8, 60), st.floats(0, 1))
def test_the_limit_alone_decides_what_is_found(seed: int, rows: int, columns: int, quantile: float) -> None:
    heat = cv2.GaussianBlur(np.random.default_rng(seed).random((rows, columns), np.float32), (0, 0), 2)
    limit = float(np.quantile(heat, quantile))
    count, labels = cv2.connectedComponents((heat >= limit).astype(np.uint8), connectivity=8)
    regions = [labels == n for n in range(1, count)]
    peaks = sorted((heat[own].max() for own in regions if own.sum() >= 4 or own.flat[heat.argmax()]), reverse=True)
    found = find(heat, limit, columns, rows)
    assert [f.peak for f in found] == peaks[:MOST]
    for f in found:
        assert heat[f.peak_xy[1], f.peak_xy[0]] == f.peak
        assert cv2.pointPolygonTest(np.array(f.polygon, np.int32), f.peak_xy, True) >= -1


def test_a_speck_is_measured_by_what_the_network_sees_at_once() -> None:
    heat = np.zeros((1000, 1000), np.float32)
    heat[10:30, 10:30] = 2
    heat[500:508, 500:508] = 1.5  # 64 pixels: under 0.02 % of the map, over that of a tile
    assert len(find(heat, 1.0, 4000, 4000)) == 1
    assert len(find(heat, 1.0, 4000, 4000, tile_share=0.05)) == 2
