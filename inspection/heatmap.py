"""The anomaly map as pictures for people, on one fixed scale per recipe, so that a good part does not glow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inspection.evidence import Finding
from inspection.findings import Map

_COLOURS = cv2.COLORMAP_INFERNO
_OUTLINE = (64, 255, 255)  # BGR
_BORDER = (255, 255, 255)
_CLEAR_BELOW = 0.25  # of the scale: half the finding limit stays uncoloured in the overlay


def heatmap_png(
    anomaly_map: Map, scale: float, size: tuple[int, int] | None = None, region: NDArray[np.uint8] | None = None
) -> bytes:
    """Colour the map, 0 to `scale` (raw units, the recipe's `heatmap_max`); PNG of `size` (width, height).

    `region` `[h, w]`: 0 where nothing was looked at, which is outlined.
    """
    return _png(_outlined(_coloured(anomaly_map, scale, size or (anomaly_map.shape[1], anomaly_map.shape[0])), region))


def overlay_png(
    image: NDArray[np.uint8],
    anomaly_map: Map,
    findings: Sequence[Finding],
    scale: float,
    *,
    region: NDArray[np.uint8] | None = None,
    max_side: int = 2048,
) -> bytes:
    """The RGB picture with the map over it (the hotter the more opaque) and the findings' outlines; shrunk to `max_side`.

    Outside the `region` `[h, w]` (0: not looked at) the picture is dark, behind an outline.
    """
    height, width = image.shape[:2]
    shrink = min(1.0, max_side / max(height, width))
    size = (max(round(width * shrink), 1), max(round(height * shrink), 1))
    base: Any = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    if shrink < 1:
        base = cv2.resize(base, size, interpolation=cv2.INTER_AREA)
    heat = _share(anomaly_map, scale)
    opacity = 0.75 * np.clip((heat - _CLEAR_BELOW) / (1 - _CLEAR_BELOW), 0, 1)
    opacity = cv2.resize(opacity, size, interpolation=cv2.INTER_LINEAR)[..., None]
    mixed: Any = (base * (1 - opacity) + _coloured(anomaly_map, scale, size) * opacity).astype(np.uint8)
    mixed = _outlined(mixed, region, dark=True)
    thick = max(1, round(max(size) / 400))
    for finding in findings:
        line = np.rint(np.asarray(finding.polygon, float) * shrink).astype(np.int32)
        cv2.polylines(mixed, [line], True, _OUTLINE, thick, cv2.LINE_AA)
        x, y = round(finding.bbox[0] * shrink), round(finding.bbox[1] * shrink)
        font = max(0.4, max(size) / 1200)
        cv2.putText(mixed, finding.id, (x, max(y - 2 * thick, round(16 * font))), cv2.FONT_HERSHEY_SIMPLEX, font, _OUTLINE, thick)
    return _png(mixed)


def _outlined(picture: Any, region: NDArray[np.uint8] | None, dark: bool = False) -> Any:
    if region is None:
        return picture
    inside: Any = cv2.resize((region > 0).astype(np.uint8), picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    if dark:
        picture[inside == 0] //= 3
    lines, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    return cv2.drawContours(picture, lines, -1, _BORDER, max(1, round(max(picture.shape) / 800)))


def _share(anomaly_map: Map, scale: float) -> Map:
    return np.asarray(np.clip(anomaly_map / np.float32(scale), 0, 1), np.float32)


def _coloured(anomaly_map: Map, scale: float, size: tuple[int, int]) -> Any:
    values = (255 * _share(anomaly_map, scale)).astype(np.uint8)
    return cv2.applyColorMap(np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_LINEAR)), _COLOURS)


def _png(bgr: Any) -> bytes:
    done, data = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise ValueError("cv2 could not write the PNG")
    return data.tobytes()
