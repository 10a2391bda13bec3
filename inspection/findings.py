"""The anomaly map to findings: what stands over the limit, and how far it reaches, in pixels of the picture as displayed."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inspection.evidence import Finding, MapStats

Map = NDArray[np.float32]

MOST = 50
_SPECK_PIXELS = 4
_SPECK_SHARE = 0.0002  # of what the network sees at once: 10 pixels at 224, less than the blur spreads a single point over
_RISE = 2 / 3
"""A finding reaches as far as the map keeps this share of its rise from the background to the finding's peak. The map is patches,
blurred: over a fixed limit, a strong small defect spreads over ten times its area, and a weak one shows its tip alone."""
_BACKGROUND_SIDE = 64
"""The background is the median of so many rows of pixels at least: the map is smooth."""
_ROWS, _COLUMNS = ("top", "", "bottom"), ("left", "", "right")


def find(
    anomaly_map: Map, limit: float | None, width: int, height: int, *, at_least_one: bool = False, tile_share: float = 1.0
) -> tuple[Finding, ...]:
    """Findings by falling peak, at most 50. `anomaly_map` `[h, w]` covers the `width` × `height` picture edge to edge.

    Each 8-connected region of pixels ≥ `limit` is one finding. Specks (fewer than 4 map pixels or 0.02 % of what the network sees
    at once, the `tile_share` of the map) are dropped, unless one holds the map's peak. Box, outline, area and centroid are those
    of the finding's extent: around its peak, the pixels that keep two thirds of the rise from the background (the median of
    what was looked at) to the peak and lie nearer to its region than to another finding's. The limit decides what is found,
    not how large it is: an extent may end within its region or go beyond it. With `at_least_one`, where nothing reaches the
    limit (or it is `None`), the map's peak is the one finding.
    """
    least = max(_SPECK_PIXELS, _SPECK_SHARE * tile_share * anomaly_map.size)
    if limit is not None:
        found = _regions(anomaly_map, anomaly_map >= limit, width, height, least)
        if found or not at_least_one:
            return found
    if not at_least_one:
        return ()
    return _regions(anomaly_map, anomaly_map >= anomaly_map.max(), width, height, least, only_peak=True)


def map_stats(anomaly_map: Map, width: int, height: int) -> MapStats:
    """The map in a few numbers; its peak in pixels of the `width` × `height` picture."""
    row, column = np.unravel_index(int(anomaly_map.argmax()), anomaly_map.shape)
    at = _to_picture(int(column), int(row), anomaly_map.shape, width, height)
    return MapStats(
        float(anomaly_map.min()), float(anomaly_map.max()), float(anomaly_map.mean()), at, place_of(*at, width, height)
    )


def place_of(x: float, y: float, width: int, height: int) -> str:
    """The cell of the 3 × 3 grid that holds pixel (x, y): `top left` … `centre` … `bottom right`."""
    row, column = (min(max(int((at + 0.5) * 3 / size), 0), 2) for at, size in ((y, height), (x, width)))
    return f"{_ROWS[row]} {_COLUMNS[column]}".strip() or "centre"


def _to_picture(column: int, row: int, shape: tuple[int, ...], width: int, height: int) -> tuple[int, int]:
    """The picture's pixel under the middle of a map pixel."""
    return int((column + 0.5) * width / shape[1]), int((row + 0.5) * height / shape[0])


def _regions(
    anomaly_map: Map, over: NDArray[np.bool_], width: int, height: int, least: float, only_peak: bool = False
) -> tuple[Finding, ...]:
    mask = over.astype(np.uint8)
    labels: Any
    stats: Any
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8, ltype=cv2.CV_32S)
    if count == 1:
        return ()
    peaks = np.full(count, -np.inf, np.float32)
    inside = mask.view(bool)
    np.maximum.at(peaks, labels[inside], anomaly_map[inside])
    top = int(labels.flat[int(anomaly_map.argmax())])
    big = stats[:, cv2.CC_STAT_AREA] >= least
    order = [int(i) for i in np.argsort(-peaks, kind="stable") if i != 0 and (big[i] or i == top)]
    kept = [top] if only_peak else order[:MOST]
    owner = _nearest(labels, kept)
    step = max(1, min(anomaly_map.shape) // _BACKGROUND_SIDE)
    seen = anomaly_map[::step, ::step]
    seen = seen[seen > 0]  # 0 outside a region of interest
    background = np.median(seen) if seen.size else np.float32(0)
    levels = np.zeros(256, np.float32)
    levels[1 : len(kept) + 1] = np.minimum(background + np.float32(_RISE) * (peaks[kept] - background), peaks[kept])
    owner *= anomaly_map >= cv2.LUT(owner, levels)
    found = []
    for number, label in enumerate(kept, 1):
        left, top, wide, high = (int(v) for v in stats[label, :4])
        crop = (slice(top, top + high), slice(left, left + wide))
        at = int(np.where(labels[crop] == label, anomaly_map[crop], -np.inf).argmax())
        found.append(_finding(number, owner, (left + at % wide, top + at // wide), float(peaks[label]), width, height))
    return tuple(found)


def _nearest(labels: NDArray[np.int32], kept: list[int]) -> NDArray[np.uint8]:
    """Of each pixel the kept region that it lies in or nearest to, numbered from 1."""
    if len(kept) == 1:
        return np.ones(labels.shape, np.uint8)
    numbers = np.zeros(int(labels.max()) + 1, np.uint8)
    numbers[kept] = np.arange(1, len(kept) + 1)
    own = numbers[labels]
    free = (own == 0).astype(np.uint8)
    _, pixel = cv2.distanceTransformWithLabels(free, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL)
    region_of = np.zeros(int(pixel.max()) + 1, np.uint8)
    region_of[pixel[own > 0]] = own[own > 0]
    return region_of[pixel]


def _finding(number: int, owner: NDArray[np.uint8], peak_at: tuple[int, int], peak: float, width: int, height: int) -> Finding:
    """The finding whose extent is connected to its peak (column, row) within the pixels of `owner` that bear its number."""
    shape = owner.shape
    filled = MOST + number  # a number that no finding bears
    pixels, _, _, (left, top, wide, high) = cv2.floodFill(owner, None, peak_at, filled, 0, 0, flags=8)
    own = owner[top : top + high, left : left + wide] == filled
    rows, columns = np.nonzero(own)
    peak_xy = _to_picture(*peak_at, shape, width, height)
    x_scale, y_scale = width / shape[1], height / shape[0]
    x0, y0 = int(left * x_scale), int(top * y_scale)
    x1, y1 = (min(-int(-edge // 1), size) for edge, size in (((left + wide) * x_scale, width), ((top + high) * y_scale, height)))
    share = pixels / owner.size
    return Finding(
        id=f"f{number}",
        bbox=(x0, y0, max(x1 - x0, 1), max(y1 - y0, 1)),
        polygon=_polygon(own, left, top, x_scale, y_scale, width, height),
        area_px=max(round(share * width * height), 1),
        area_pct=max(100 * share, 0.001),  # the least that is told
        centroid=(float((left + columns.mean() + 0.5) * x_scale), float((top + rows.mean() + 0.5) * y_scale)),
        peak=peak,
        peak_xy=peak_xy,
        place=place_of(*peak_xy, width, height),
    )


def _polygon(
    own: NDArray[np.bool_], left: int, top: int, x_scale: float, y_scale: float, width: int, height: int
) -> tuple[tuple[int, int], ...]:
    """The outer border, simplified to half a map pixel; traced on doubled pixels so that it runs along their edges."""
    doubled = cv2.resize(own.astype(np.uint8), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    outlines, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    line = cv2.approxPolyDP(max(outlines, key=cv2.contourArea), 1.0, True)[:, 0, :]
    xs = np.clip(np.rint(((line[:, 0] + 0.5) / 2 + left) * x_scale - 0.5), 0, width - 1)
    ys = np.clip(np.rint(((line[:, 1] + 0.5) / 2 + top) * y_scale - 0.5), 0, height - 1)
    return tuple((int(x), int(y)) for x, y in zip(xs, ys, strict=True))
