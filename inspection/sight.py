"""An inspection as the built-in model sees it: the same small arrays in training and in answering."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from inspection.evidence import Evidence, Thresholds
from inspection.image import Pixels
from models import backbones
from models.lmm.prompt import CELLS, SIDE, Sight

Floats = NDArray[np.float32]

REFERENCES = 2
"""Normal pictures looked at beside the part; each costs a pass of the vision transformer."""
_REACH = 4.0  # logarithms beyond say nothing more
_TINY = 1e-6


def sight(evidence: Evidence) -> Sight | None:
    """The sight of an inspection; `None` where its picture or its map is not at hand."""
    if evidence.image is None or evidence.map is None:
        return None
    references = [small(picture) for picture in evidence.references[:REFERENCES]]
    return Sight(
        part=small(evidence.image),
        references=np.stack(references) if references else np.zeros((0, SIDE, SIDE, 3), np.uint8),
        map=scaled(evidence.map, evidence.thresholds.reject),
        scalars=scalars(evidence.raw_score, evidence.map_stats.max, evidence.thresholds),
    )


def small(pixels: Pixels) -> Pixels:
    """A picture as the vision transformer takes it, `[224, 224, 3]`."""
    return np.asarray(backbones.resized(pixels, (SIDE, SIDE)), np.uint8)


def scaled(anomaly_map: Floats, reject: float | None) -> Floats:
    """A map over its reject limit, or over its own peak where there is none, `[56, 56]`."""
    limit = reject if reject is not None and reject > 0 else max(float(anomaly_map.max()), _TINY)
    cells = cv2.resize(anomaly_map.astype(np.float32), (CELLS, CELLS), interpolation=cv2.INTER_AREA)
    return np.asarray(cells / limit, np.float32)


def scalars(raw: float, peak: float, thresholds: Thresholds) -> Floats:
    """`Sight.scalars`."""
    if thresholds.reject is None or thresholds.review is None:
        return np.zeros(4, np.float32)
    logs = (_log(raw, thresholds.reject), _log(raw, thresholds.review), _log(peak, thresholds.reject))
    return np.array([*logs, 1.0], np.float32)


def _log(value: float, limit: float) -> float:
    return min(max(math.log(max(value, _TINY) / max(limit, _TINY)), -_REACH), _REACH)
