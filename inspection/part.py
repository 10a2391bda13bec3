"""Where the part lies in a picture: what differs from an even ground along the border; else the whole picture."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inspection.image import Pixels

Mask = NDArray[np.bool_]

_SIDE = 192  # the longer side of the copy that is looked at
_LEAST, _MOST = 0.04, 0.9  # shares of the picture between which the part is believed
_SOLID = 0.6  # of its convex outline, at least: tracks on a board are no part on a ground
_EVEN = 0.5  # the ground's spread over the whole picture's, at most


def part(pixels: Pixels) -> Mask:
    """The part in an RGB picture `[H, W, 3]`, its holes filled, `[H, W]`; all of it where no even ground runs around it.

    Ground is what is like the border in colour (threshold by Otsu 1979). A texture that fills the picture, a ground as busy
    as the part, and a part under 4 % or over 90 % of the picture give the whole picture.
    """
    height, width = pixels.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    small = np.asarray(cv2.GaussianBlur(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), (0, 0), 1), np.float32)
    rim = max(2, min(size) // 40)
    frame = np.ones(small.shape[:2], bool)
    frame[rim:-rim, rim:-rim] = False
    away = np.abs(small - np.median(small[frame], 0)).max(-1)
    whole = np.ones((height, width), bool)
    if np.percentile(away[frame], 70) > _EVEN * away[~frame].mean() or away.max() < 16:
        return whole
    grey: Any = np.clip(away, 0, 255).astype(np.uint8)
    found: Any = cv2.threshold(grey, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)[1]
    outlines, _ = cv2.findContours(found, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    large = [one for one in outlines if cv2.contourArea(one) > 0.002 * found.size]
    filled: Any = cv2.drawContours(np.zeros_like(found), large, -1, 1, cv2.FILLED)
    hulls: Any = cv2.drawContours(np.zeros_like(found), [cv2.convexHull(one) for one in large], -1, 1, cv2.FILLED)
    if not _LEAST <= filled.mean() <= _MOST or filled.sum() < _SOLID * hulls.sum():
        return whole
    return np.asarray(cv2.resize(filled, (width, height), interpolation=cv2.INTER_NEAREST)) > 0
