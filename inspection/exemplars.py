"""Labelled defects found again: what a finding looks like to a vision transformer, and its nearest labelled examples."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from inspection.evidence import Finding, Naming, Neighbour
from inspection.image import Pixels
from models import backbones, catalog

Floats = NDArray[np.float32]

BACKBONE, SIDE = "dinov2_vits14", 224
WIDTH = 384
NEAREST = 4
"""Labelled examples that vote, at most."""
ALIKE = 0.76
"""The similarity from which on two findings are called alike, from painted defects; what few examples say of themselves is drawn
half way to it."""
_WAY = 3
"""Raised when the feature changes its meaning, so that stored ones are made again."""
_CROP = 1.4  # side of the square that is looked at, over the finding's longer side
_LEAST_SIDE, _LEAST_SHARE = 28, 0.12  # of it: pixels, and of the picture's shorter side
_FELLOWS = 3  # surrounding patches that a patch is held against
_POWER = 3
_SHARP = 0.08  # of a vote's weight, in units of similarity
_GAP = 0.05  # between what a type's own examples reach and what others do, where only one of the two is known


class Backbone(Protocol):
    """`models.runtime.Backbone`."""

    spec: backbones.BackboneSpec

    def features(self, images: Floats) -> Floats:
        """`[B, 3, 224, 224]` → `[B, 256, 384]`, rows of length 1."""
        ...


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One labelled finding of a product."""

    id: str
    label: str
    picture: str
    """Digest of its picture: a picture's own examples say nothing about it."""
    feature: Floats = field(repr=False, compare=False)


def made_by() -> str:
    """Digest of the weights and the way by which features are made; features of another are not comparable."""
    weights = catalog.entries()[backbones.spec(BACKBONE).weights].sha256
    return hashlib.sha256(f"{weights} {SIDE} {_WAY}".encode()).hexdigest()


def region_feature(pixels: Pixels, anomaly_map: Floats, finding: Finding, backbone: Backbone) -> Floats:
    """What a finding looks like, `[384]` of length 1: block 8 of DINOv2 over a square around it, and over the same turned by a
    quarter, since a defect lies at any angle and a vision transformer does not know it again by itself.

    A patch counts by the map within the finding, times the cube of how much it differs from the three patches around the
    finding that are most like it: the defect, not the surface under it.
    """
    height, width = pixels.shape[:2]
    x, y, wide, high = crop = _square(finding.bbox, width, height)
    region = _outline(finding, anomaly_map.shape, width, height)
    image = backbones.preprocess(pixels[y : y + high, x : x + wide], backbone.spec, SIDE)
    inside, heat = (_on_crop(plane, crop, width, height) for plane in (region, region * np.maximum(anomaly_map, 0)))
    turned = backbone.features(np.stack([image, np.rot90(image, axes=(1, 2))]))
    both = pooled(turned[0], heat.ravel(), inside.ravel()) + pooled(turned[1], np.rot90(heat).ravel(), np.rot90(inside).ravel())
    return np.asarray(both / max(float(np.linalg.norm(both)), 1e-9), np.float32)


def pooled(features: Floats, heat: Floats, inside: Floats) -> Floats:
    """Patches `[256, 384]`, the map within the finding and the finding's share of each patch `[256]` → `[384]` of length 1."""
    weight = heat if heat.sum() > 0 else np.ones_like(heat)
    around = features[inside < 0.25 * max(float(inside.max()), 1e-9)]
    if len(around) >= 2 * _FELLOWS:
        likeness = np.sort(features @ around.T, axis=1)[:, -_FELLOWS:].mean(1)
        novelty = np.maximum(np.median(likeness) - likeness, 0) ** _POWER
        if float((weight * novelty).sum()) > 0:
            weight = weight * novelty
    mean = weight @ features
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-9), np.float32)


def name(finding: str, feature: Floats, exemplars: Sequence[Exemplar]) -> Naming:
    """The label most of the nearest examples bear, each vote weighed by its similarity; none where even the nearest is less alike
    than `limit` of the examples allows. `exemplars`: at least one, none of the finding's own picture."""
    alike = np.stack([one.feature for one in exemplars]) @ feature
    order = np.argsort(-alike, kind="stable")[:NEAREST].tolist()
    votes: dict[str, float] = {}
    for n in order:
        votes[exemplars[n].label] = votes.get(exemplars[n].label, 0.0) + float(np.exp((alike[n] - alike[order[0]]) / _SHARP))
    best, least, top = max(votes, key=lambda label: votes[label]), limit(exemplars), float(alike[order[0]])
    nearest = tuple(Neighbour(exemplars[n].id, exemplars[n].label, round(float(alike[n]), 4)) for n in order)
    agreeing = sum(one.label == best for one in nearest)
    return Naming(finding, best if top >= least else None, agreeing, round(top, 4), round(least, 4), nearest)


def limit(exemplars: Sequence[Exemplar]) -> float:
    """The similarity under which a finding is unlike anything labelled: between what examples find in their own type's others
    and what they find in other types, each left out in turn."""
    features = np.stack([one.feature for one in exemplars])
    alike = features @ features.T
    labels, pictures = np.array([one.label for one in exemplars]), np.array([one.picture for one in exemplars])
    same, apart = labels[:, None] == labels[None], pictures[:, None] != pictures[None]
    own, others = _best(alike, same & apart), _best(alike, ~same & apart)
    if own is not None and others is not None:
        return (ALIKE + (own + others) / 2) / 2
    if own is None and others is None:
        return ALIKE
    return (ALIKE + (others + _GAP if others is not None else own - _GAP)) / 2  # type: ignore[operator]


def _best(alike: NDArray[Any], allowed: NDArray[np.bool_]) -> float | None:
    """The mean of each row's largest among those allowed."""
    rows = allowed.any(1)
    return float(np.where(allowed, alike, -1.0)[rows].max(1).mean()) if rows.any() else None


def _square(bbox: tuple[int, int, int, int], width: int, height: int) -> tuple[int, int, int, int]:
    """x, y, width, height of what is looked at: about a square around the box, within the picture."""
    x, y, wide, high = bbox
    side = round(max(_CROP * max(wide, high), _LEAST_SHARE * min(width, height), _LEAST_SIDE))
    w, h = min(side, width), min(side, height)
    return int(np.clip(x + wide / 2 - w / 2, 0, width - w)), int(np.clip(y + high / 2 - h / 2, 0, height - h)), w, h


def _outline(finding: Finding, shape: tuple[int, ...], width: int, height: int) -> Floats:
    """1 within the finding, at the map's size."""
    plane: Any = np.zeros(shape, np.float32)
    corners = np.array(finding.polygon, np.float32) * [shape[1] / width, shape[0] / height]
    cv2.fillPoly(plane, [np.rint(corners).astype(np.int32)], 1.0)
    return np.asarray(plane, np.float32)


def _on_crop(plane: Floats, crop: tuple[int, int, int, int], width: int, height: int) -> Floats:
    """What of a plane over the whole picture lies in the crop, `[16, 16]`: a mean for each patch."""
    x, y, wide, high = crop
    fine, grid = 4 * (SIDE // 14), SIDE // 14
    across, down = plane.shape[1] / width, plane.shape[0] / height
    there = np.array([[wide * across / fine, 0, x * across], [0, high * down / fine, y * down]], np.float32)
    cut: Any = cv2.warpAffine(plane, there, (fine, fine), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return np.asarray(cv2.resize(cut, (grid, grid), interpolation=cv2.INTER_AREA), np.float32)
