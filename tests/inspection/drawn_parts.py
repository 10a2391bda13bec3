"""Drawn parts as picture files."""

from __future__ import annotations

import cv2
import numpy as np

from inspection.drawn import drawn


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()


def part(index: int, defect: str | None = None, product: int = 3) -> bytes:
    return png(drawn(product, index, defect)[0])
