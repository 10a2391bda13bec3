"""The anomaly map to findings: connected regions over the limit, in pixels of the picture as displayed."""

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
_ROWS, _COLUMNS = ("top", "", "bottom"), ("left", "", "right")


def find(
    anomaly_map: Map, limit: float | None, width: int, height: int, *, at_least_one: bool = False, tile_share: float = 1.0
) -> tuple[Finding, ...]:
    """Findings by falling peak, at most 50. `anomaly_map` `[h, w]` covers the `width` × `height` picture edge to edge.

    A region is 8-connected pixels ≥ `limit`. Specks (fewer than 4 map pixels or 0.02 % of what the network sees at once, the
    `tile_share` of the map) are dropped, unless one holds the map's peak. With `at_least_one`, where nothing reaches the limit
    (or it is `None`), the region around the peak that stays over the middle between the map's mean and its peak is the one
    finding.
    """
    least = max(_SPECK_PIXELS, _SPECK_SHARE * tile_share * anomaly_map.size)
    if limit is not None:
        found = _regions(anomaly_map, anomaly_map >= limit, width, height, least)
        if found or not at_least_one:
            return found
    if not at_least_one:
        return ()
    peak = float(anomaly_map.max())
    middle = (float(anomaly_map.mean()) + peak) / 2
    return _regions(anomaly_map, anomaly_map >= min(middle, peak), width, height, least, only_peak=True)


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
    return tuple(
        _finding(f"f{n}", anomaly_map, labels, label, stats[label], float(peaks[label]), width, height)
        for n, label in enumerate(kept, 1)
    )


def _finding(
    name: str,
    anomaly_map: Map,
    labels: NDArray[np.int32],
    label: int,
    stat: NDArray[np.int32],
    peak: float,
    width: int,
    height: int,
) -> Finding:
    left, top, wide, high, pixels = (int(v) for v in stat)
    crop = (slice(top, top + high), slice(left, left + wide))
    own = labels[crop] == label
    rows, columns = np.nonzero(own)
    at = int(np.where(own, anomaly_map[crop], -np.inf).argmax())
    peak_xy = _to_picture(left + at % wide, top + at // wide, anomaly_map.shape, width, height)
    x_scale, y_scale = width / anomaly_map.shape[1], height / anomaly_map.shape[0]
    x0, y0 = int(left * x_scale), int(top * y_scale)
    x1, y1 = (min(-int(-edge // 1), size) for edge, size in (((left + wide) * x_scale, width), ((top + high) * y_scale, height)))
    share = pixels / anomaly_map.size
    return Finding(
        id=name,
        bbox=(x0, y0, max(x1 - x0, 1), max(y1 - y0, 1)),
        polygon=_polygon(own, left, top, x_scale, y_scale, width, height),
        area_px=max(round(share * width * height), 1),
        area_pct=100 * share,
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
