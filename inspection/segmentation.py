"""A click or a box becomes a mask, grown over what is like it in a vision transformer's features, in the map and in colour."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inspection.exemplars import SIDE, Backbone
from inspection.findings import place_of
from inspection.image import Pixels
from inspection.part import Mask
from models import backbones

Floats = NDArray[np.float32]
Point = tuple[float, float]
"""x, y in pixels of the picture."""
Box = tuple[float, float, float, float]
"""x, y, width, height."""

GRID = SIDE // 14
_WORK = 256  # longest side of what is cut
_ITERATIONS = 3
_LIKE, _SURE = 0.55, 0.8  # of a click's likeness: grown over, and certain
_IN_BOX, _CERTAIN = 0.3, 0.85  # of a box's strangeness: probable, and certain
_LEAST = 0.25  # of a box that a cut must keep, else it is not believed
_RING = 200  # colours around a box that those in it are held against


@dataclass(frozen=True, slots=True)
class Segment:
    """What a prompt pointed at, in pixels of the picture as displayed."""

    bbox: tuple[int, int, int, int]
    polygon: tuple[tuple[int, int], ...]
    """Outline of its largest piece."""
    area_px: int
    area_pct: float
    centroid: tuple[float, float]
    place: str
    mask: Mask = field(repr=False, compare=False)


def encode(pixels: Pixels, backbone: Backbone) -> Floats:
    """What every prompt on a picture shares: DINOv2 block 8, `[256, 384]`."""
    return np.asarray(backbone.features(backbones.preprocess(pixels, backbone.spec, SIDE)[None])[0], np.float32)


def at_point(pixels: Pixels, features: Floats, anomaly_map: Floats, point: Point) -> Segment:
    """The region around a pixel of the picture: what is like it in features, colour and map value and connected with it.

    Its border is found by GrabCut (Rother et al. 2004)."""
    height, width = pixels.shape[:2]
    image, size = _working(pixels)
    x, y = (min(int(at * to / of), to - 1) for at, to, of in zip(point, size, (width, height), strict=True))
    here = (slice(max(y - 1, 0), y + 2), slice(max(x - 1, 0), x + 2))
    alike = features @ _unit(_sampled(features.reshape(GRID, GRID, -1), point[0] / width, point[1] / height))
    usual, most = float(np.median(alike)), float(alike.max())
    feature = _scaled(np.clip((alike - usual) / max(most - usual, 1e-6), 0, 1).reshape(GRID, GRID), size)
    lab = _lab(image)
    away = ((lab - lab[here].reshape(-1, 3).mean(0)) ** 2).sum(-1)
    colour = np.exp(-away / (2 * np.clip(np.sqrt(np.median(away)) / 2, 4, 20) ** 2))
    heat = _scaled(anomaly_map, size)
    likeness = 0.4 * feature + 0.3 * colour + 0.3 * np.clip(heat / max(float(heat[y, x]), 1e-6), 0, 1)
    near = _piece(likeness > _LIKE, x, y)
    near[here] = True
    rim = max(3, int(0.5 * np.sqrt(near.sum())))
    labels = np.where(cv2.dilate(near.astype(np.uint8), np.ones((rim, rim), np.uint8)) > 0, cv2.GC_PR_BGD, cv2.GC_BGD)
    labels[near] = cv2.GC_PR_FGD
    labels[_piece(likeness > _SURE, x, y)] = cv2.GC_FGD
    labels[here] = cv2.GC_FGD
    return _segment(_scaled(_piece(_cut(image, labels), x, y).astype(np.float32), (width, height)) >= 0.5)


def in_box(pixels: Pixels, features: Floats, anomaly_map: Floats, box: Box) -> Segment:
    """The region within a box that overlaps the picture: what differs from around it in features, colour and map value.

    Its border is found by GrabCut; no pixel of it lies outside the box."""
    height, width = pixels.shape[:2]
    left, top, right, bottom = _clipped(box, width, height)
    reach = (max((right - left) // 2, 8), max((bottom - top) // 2, 8))
    x0, y0 = max(left - reach[0], 0), max(top - reach[1], 0)
    x1, y1 = min(right + reach[0], width), min(bottom + reach[1], height)
    window, whole = (x0, y0, x1 - x0, y1 - y0), (width, height)
    image, size = _working(pixels[y0:y1, x0:x1])
    inside = _filled((left - x0, top - y0, right - x0, bottom - y0), window[2:], size)
    around = features[~_filled((left, top, right, bottom), whole, (GRID, GRID)).ravel()]
    likeness = np.sort(features @ around.T, 1)[:, -3:].mean(1) if len(around) > 3 else np.zeros(GRID * GRID, np.float32)
    novelty = _windowed((1 - likeness).reshape(GRID, GRID), window, whole, size)
    heat, apart = _windowed(anomaly_map, window, whole, size), _from_ring(_lab(image), inside)
    strange = 0.2 * _over(novelty, inside) + 0.4 * _over(heat, inside) + 0.4 * _over(apart, inside)
    labels = np.where(inside, np.where(strange > _IN_BOX, cv2.GC_PR_FGD, cv2.GC_PR_BGD), cv2.GC_BGD)
    labels[inside & (strange > _CERTAIN)] = cv2.GC_FGD
    cut = _cut(image, labels) & inside
    if cut.sum() < _LEAST * inside.sum():
        cut = inside & (strange > _IN_BOX)
    allowed, found = np.zeros((height, width), bool), np.zeros((height, width), bool)
    allowed[top:bottom, left:right] = True
    found[y0:y1, x0:x1] = _scaled(cut.astype(np.float32), window[2:]) >= 0.5
    found &= allowed
    return _segment(found if found.any() else allowed)


def _clipped(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right, bottom in whole pixels, at least one each way."""
    left, top = (min(max(int(at), 0), of - 1) for at, of in ((box[0], width), (box[1], height)))
    right, bottom = (int(np.ceil(min(at, of))) for at, of in ((box[0] + box[2], width), (box[1] + box[3], height)))
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _filled(edges: tuple[int, int, int, int], whole: tuple[int, int], size: tuple[int, int]) -> Mask:
    """A box within `whole` as a mask of `size`: every cell that it touches."""
    left, top, right, bottom = edges
    columns, rows = (
        slice(a * to // of, -(-b * to // of)) for a, b, to, of in zip((left, top), (right, bottom), size, whole, strict=True)
    )
    plane = np.zeros(size[::-1], bool)
    plane[rows, columns] = True
    return plane


def _from_ring(lab: Floats, inside: Mask) -> Floats:
    """How far each colour is from the five nearest of those around the box."""
    ring = lab[~inside] if (~inside).any() else lab.reshape(-1, 3)
    ring = ring[:: max(1, len(ring) // _RING)]
    apart = np.linalg.norm(lab.reshape(-1, 1, 3) - ring[None], axis=-1)
    return np.asarray(np.sort(apart, 1)[:, :5].mean(1).reshape(inside.shape), np.float32)


def _working(pixels: Pixels) -> tuple[Pixels, tuple[int, int]]:
    height, width = pixels.shape[:2]
    scale = min(2.0, _WORK / max(height, width))
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.ascontiguousarray(cv2.resize(pixels, size, interpolation=way)), size


def _scaled(plane: Floats, size: tuple[int, int]) -> Floats:
    return np.asarray(cv2.resize(np.asarray(plane, np.float32), size, interpolation=cv2.INTER_LINEAR))


def _windowed(plane: Floats, window: tuple[int, int, int, int], whole: tuple[int, int], size: tuple[int, int]) -> Floats:
    """What of a plane over the whole picture lies in the window, at `size`."""
    (x, y, wide, high), across, down = window, plane.shape[1] / whole[0], plane.shape[0] / whole[1]
    step = (wide * across / size[0], high * down / size[1])
    there = np.array([[step[0], 0, x * across + step[0] / 2 - 0.5], [0, step[1], y * down + step[1] / 2 - 0.5]], np.float32)
    flags, plane = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, np.asarray(plane, np.float32)
    return np.asarray(cv2.warpAffine(plane, there, size, flags=flags, borderMode=cv2.BORDER_REPLICATE))


def _sampled(grid: Floats, x: float, y: float) -> Floats:
    """The grid's value at a share of its width and height, between the four nearest cells."""
    at = np.clip(np.array([y, x]) * GRID - 0.5, 0, GRID - 1)
    (r, c), (a, b) = np.minimum(at.astype(int), GRID - 2), at - np.minimum(at.astype(int), GRID - 2)
    return np.asarray(
        (1 - a) * ((1 - b) * grid[r, c] + b * grid[r, c + 1]) + a * ((1 - b) * grid[r + 1, c] + b * grid[r + 1, c + 1])
    )


def _unit(vector: Floats) -> Floats:
    return vector / max(float(np.linalg.norm(vector)), 1e-9)


def _lab(image: Pixels) -> Floats:
    smooth: Any = cv2.GaussianBlur(image, (0, 0), 0.8)
    return np.asarray(cv2.cvtColor(smooth.astype(np.float32) / 255, cv2.COLOR_RGB2LAB))


def _over(plane: Floats, inside: Mask) -> Floats:
    """0 where it is as around the box, 1 where it is as the box's strongest."""
    low = float(np.percentile(plane[~inside], 60)) if (~inside).any() else float(plane.min())
    return np.asarray(np.clip((plane - low) / max(float(np.percentile(plane[inside], 95)) - low, 1e-6), 0, 1), np.float32)


def _piece(mask: NDArray[np.bool_], x: int, y: int) -> Mask:
    """The connected piece at (x, y), or the largest within three pixels; empty where there is none."""
    _, pieces = cv2.connectedComponents(mask.astype(np.uint8))
    near = pieces[max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4]
    number = int(pieces[y, x]) or int(np.bincount(near[near > 0], minlength=1).argmax())
    return np.asarray(pieces == number) if number else np.zeros(mask.shape, bool)


def _cut(image: Pixels, labels: NDArray[Any]) -> Mask:
    """GrabCut from such a start; the start itself where it leaves nothing to part."""
    start: Any = np.ascontiguousarray(labels, np.uint8)
    fore = (start == cv2.GC_FGD) | (start == cv2.GC_PR_FGD)
    if min(int(fore.sum()), int((~fore).sum())) < 8:  # its colour models have five parts
        return np.asarray(fore)
    cv2.setRNGSeed(0)  # its colour models start from random ones
    back, front = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(image, start, None, back, front, _ITERATIONS, cv2.GC_INIT_WITH_MASK)  # type: ignore[call-overload]
    return np.asarray((start == cv2.GC_FGD) | (start == cv2.GC_PR_FGD))


def _segment(mask: Mask) -> Segment:
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    line = cv2.approxPolyDP(max(outlines, key=cv2.contourArea), 1.0, True)[:, 0, :]
    rows, columns = np.nonzero(mask)
    centre = (float(columns.mean()), float(rows.mean()))
    box = (int(columns.min()), int(rows.min()), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1)
    height, width = mask.shape
    polygon = tuple((int(x), int(y)) for x, y in line)
    return Segment(box, polygon, len(rows), 100 * len(rows) / mask.size, centre, place_of(*centre, width, height), mask)
