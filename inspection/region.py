"""Where to look: a mask given as a picture or as polygons, checked, and kept as one PNG."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inspection.evidence import ImageTooLarge, ImageUnusable
from inspection.image import Limits, decode

Mask = NDArray[np.uint8]
"""`[H, W]`, of the pictures' size: 255 where to look, 0 elsewhere."""
Polygon = Sequence[tuple[float, float]]
"""Corners (x, y) in pixels of the picture, the first pixel's middle at (0, 0)."""

_FRACTION = 4  # bits of a pixel in which OpenCV takes corners


def from_picture(data: bytes, limits: Limits = Limits()) -> Mask:
    """A mask from a picture's bytes: light (128 and more) is looked at, dark is not. Raises as `decode`, and ImageUnusable."""
    return checked(np.where(decode(data, limits=limits).pixels.max(-1) >= 128, 255, 0))


def from_polygons(
    include: Sequence[Polygon], ignore: Sequence[Polygon], width: int, height: int, limits: Limits = Limits()
) -> Mask:
    """A mask from polygons: inside any of `include` (all of the picture where there is none), outside every one of `ignore`.

    Raises ImageTooLarge, ImageUnusable.
    """
    if width * height > limits.max_pixels:
        message = f"The region is {width:,} × {height:,} pixels; at most {limits.max_pixels:,} in all are taken."
        raise ImageTooLarge(message, width=width, height=height, limit=limits.max_pixels)
    mask: Any = np.full((height, width), 0 if include else 255, np.uint8)
    for polygons, value in ((include, 255), (ignore, 0)):
        for polygon in polygons:
            corners = np.rint(np.asarray(polygon, float) * (1 << _FRACTION)).astype(np.int32)
            cv2.fillPoly(mask, [corners], value, cv2.LINE_8, _FRACTION)
    return checked(mask)


def checked(mask: NDArray[Any]) -> Mask:
    """The mask as bytes. Raises ImageUnusable for one that leaves nothing to look at."""
    if not mask.any():
        raise ImageUnusable("The region is empty: nothing would be looked at. Light is looked at, dark is not.")
    return np.ascontiguousarray(mask, np.uint8)


def png(mask: Mask) -> bytes:
    """The mask as a grey PNG: what is kept, and what its digest is of."""
    return cv2.imencode(".png", mask)[1].tobytes()


def described(mask: Mask) -> dict[str, Any]:
    """What a recipe says of its region: the digest of its PNG, its size, and the share of the picture looked at."""
    height, width = mask.shape
    share = round(float((mask > 0).mean()), 4)
    return {"sha256": hashlib.sha256(png(mask)).hexdigest(), "width": width, "height": height, "share": share}
