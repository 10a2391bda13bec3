"""The pictures for an engine that looks for itself: the part, the part with its heatmap, normal parts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inspection.evidence import Evidence
from inspection.heatmap import overlay_png
from models.lmm.prompt import Picture, Prompt

SIDE = 768
"""Longer side of a picture that is shown, pixels; smaller ones stay as they are."""
NORMALS = 2
_GUIDE = (
    " The pictures show the part, the part with the detector's heatmap (bright: unlike the normal parts; each finding outlined "
    "and named), and normal parts."
)


def with_pictures(prompt: Prompt, evidence: Evidence) -> Prompt:
    """The prompt with what there is to see; as it was, where the picture is gone."""
    shown = pictures(evidence)
    return replace(prompt, system=prompt.system + _GUIDE, sight=None, pictures=shown) if shown else prompt


def pictures(evidence: Evidence) -> tuple[Picture, ...]:
    """What the evidence holds, labelled. The heatmap's scale ends at twice the reject limit, or at the map's peak."""
    if evidence.image is None:
        return ()
    shown = [Picture("the part", _jpeg(evidence.image))]
    if evidence.map is not None:
        limit = evidence.thresholds.reject
        scale = 2 * limit if limit else float(evidence.map.max()) or 1.0
        shown.append(
            Picture(
                "the part with its heatmap",
                overlay_png(evidence.image, evidence.map, evidence.findings, scale, max_side=SIDE),
            )
        )
    shown += [Picture("a normal part", _jpeg(one)) for one in evidence.references[:NORMALS]]
    return tuple(shown)


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    shrink = min(1.0, SIDE / max(image.shape[:2]))
    bgr: Any = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    if shrink < 1:
        size = (max(round(image.shape[1] * shrink), 1), max(round(image.shape[0] * shrink), 1))
        bgr = cv2.resize(bgr, size, interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 92])
    if not done:
        raise ValueError("cv2 could not write the JPEG")
    return data.tobytes()
