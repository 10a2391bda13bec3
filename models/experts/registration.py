"""Finding a picture's template and laying it over the picture: a coarse descriptor, phase correlation, an affine by ECC."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from models.experts.base import Floats

Grey = NDArray[np.uint8]

COARSE = 32
FINE = 160
_STEPS = 40
_MOST_SHIFT = 0.25  # of the side
_MOST_SHEAR = 0.12  # of turn, stretch and shear alike: some seven degrees
_TURNS = (0.0, -8.0, -4.0, 4.0, 8.0)  # degrees
_MOST_TURNED = 0.3  # of turn, stretch and shear, from a turned start


class Pose(NamedTuple):
    """A template laid over a picture."""

    warp: NDArray[np.float64]
    """`[2, 3]`: pixels of the picture to pixels of the template, both `FINE` a side."""
    likeness: float
    """Correlation of the two, smoothed, where they overlap: 1 for the same part in the same light or another."""


def descriptor(picture: Grey) -> Floats:
    """A picture `[S, S]` as `[COARSE²]`, mean 0, length 1 (0 for a blank one): its product with another's ranks it."""
    small = cv2.resize(picture, (COARSE, COARSE), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    small -= small.mean()
    length = float(np.linalg.norm(small))
    return np.asarray(small / length if length > 0 else small, np.float32)


def fine(picture: Grey) -> Floats:
    """A picture `[S, S]` as `register` takes it: `[FINE, FINE]`, smoothed."""
    small = cv2.resize(picture, (FINE, FINE), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(small.astype(np.float32), (0, 0), 1.0), np.float32)


def shifted(picture: Floats, template: Floats) -> Pose:
    """Lay `template` over `picture`, both from `fine`: where it lies, or moved by phase correlation, whichever is more alike."""
    still = np.eye(2, 3)
    start = Pose(still, _likeness(picture, template, still))
    window = np.asarray(cv2.createHanningWindow((FINE, FINE), cv2.CV_32F))
    (dx, dy), _ = cv2.phaseCorrelate(picture.copy(), template.copy(), window)  # copies: OpenCV 5 windows them in place
    if max(abs(dx), abs(dy)) > _MOST_SHIFT * FINE:
        return start
    moved = np.array([[1, 0, dx], [0, 1, dy]])
    return max(start, Pose(moved, _likeness(picture, template, moved)), key=lambda pose: pose.likeness)


def refined(picture: Floats, template: Floats, start: Pose, most: float = _MOST_SHEAR) -> Pose:
    """`start` refined to an affine by ECC (Evangelidis and Psarakis 2008), or `start` where that is no better.

    `most`: how far its linear part may lie from none.
    """
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _STEPS, 1e-5)
    try:
        found: Any = start.warp.astype(np.float32)
        _, found = cv2.findTransformECC(picture, template, found, cv2.MOTION_AFFINE, criteria, None, 3)  # type: ignore[call-overload]
    except cv2.error:  # it did not converge
        return start
    warp = np.asarray(found, np.float64)
    if np.abs(warp[:, :2] - np.eye(2)).max() > most or np.abs(warp[:, 2]).max() > _MOST_SHIFT * FINE:
        return start
    return max(start, Pose(warp, _likeness(picture, template, warp)), key=lambda pose: pose.likeness)


def over_turns(picture: Floats, template: Floats) -> Pose:
    """`template` laid over `picture`, both from `fine`, for parts that moved and turned by some degrees.

    Phase correlation does not see turns: it starts from the template at several, and ECC refines the best.
    """
    starts = []
    for angle in _TURNS:
        about = cv2.getRotationMatrix2D(((FINE - 1) / 2, (FINE - 1) / 2), angle, 1.0)
        turned = cv2.warpAffine(template, about, (FINE, FINE), borderMode=cv2.BORDER_REPLICATE)
        found = shifted(picture, np.asarray(turned, np.float32)).warp
        warp = cv2.invertAffineTransform(about) @ np.vstack([found, [0, 0, 1]])
        starts.append(Pose(warp, _likeness(picture, template, warp)))
    return refined(picture, template, max(starts, key=lambda pose: pose.likeness), _MOST_TURNED)


def scaled(warp: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """A pose's warp for pictures of `size` a side (pixel centres kept)."""
    factor = size / FINE
    linear = warp[:, :2]
    shift = factor * warp[:, 2] + (factor - 1) / 2 * (1 - linear.sum(1))
    return np.column_stack([linear, shift])


def laid(template: np.ndarray, warp: NDArray[np.float64], size: int) -> Floats:
    """`template` in the picture's frame, `[size, size]`, float32; NaN where it does not reach."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(
        template.astype(np.float32), warp, (size, size), flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=(np.nan,)
    )
    return np.asarray(moved, np.float32)


def _likeness(picture: Floats, template: Floats, warp: NDArray[np.float64]) -> float:
    over = laid(template, warp, FINE)
    both = np.isfinite(over)
    if both.mean() < 0.5:
        return -1.0
    x, y = picture[both], over[both]
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / norm if norm > 0 else float(not x.any() and not y.any())
