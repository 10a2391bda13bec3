"""Drawn products with natural variation, and defects with exact masks: pictures that need no licence, for tests and the demo."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Grid = NDArray[Any]

DEFECTS = ("scratch", "spot", "stain", "dent", "crack", "missing", "misprint")


def drawn(product_seed: int, index: int, defect: str | None = None, size: int = 256) -> tuple[Pixels, Mask | None]:
    """Part `index` of a product: RGB `[size, size, 3]` and, for a defect, its mask `[size, size]`.

    The same arguments give the same picture; a defective part is the sound one of its index with the defect added. The
    family is `FAMILIES[product_seed % 4]`; light, position (sub-pixel), turn and noise vary from part to part.
    """
    part = np.random.default_rng([product_seed, index, 0])
    shift = part.uniform(-0.015, 0.015, 2)
    turn = part.uniform(-0.02, 0.02)
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32) / (size / 2) - 1 + 1 / size
    x, y = columns - np.float32(shift[0]), rows - np.float32(shift[1])
    x, y = (np.cos(turn) * x + np.sin(turn) * y).astype(np.float32), (np.cos(turn) * y - np.sin(turn) * x).astype(np.float32)
    family = list(FAMILIES.values())[product_seed % len(FAMILIES)]
    picture = family(x, y, np.random.default_rng([product_seed, 1]), part)
    base, across, down = part.uniform(-0.05, 0.05, 3)
    light = 1 + base + across * columns + down * rows
    picture = picture * light[..., None]
    mask = None
    if defect is not None:
        picture, mask = spoil(picture, defect, np.random.default_rng([product_seed, index, 2 + DEFECTS.index(defect)]))
    picture = cv2.GaussianBlur(picture, (0, 0), 0.6 * size / 256) + part.normal(0, 0.012, (size, size, 1))
    return (255 * np.clip(picture, 0, 1) + 0.5).astype(np.uint8), mask


def write(folder: Path, product_seed: int, normal: int, each: int, size: int = 256) -> dict[str, int]:
    """Parts as a folder in the MVTec AD convention, masks included; returns how many pictures lie where."""
    counts: dict[str, int] = {}
    for kind in (None, "good", *DEFECTS):
        part, defect = ("train/good", None) if kind is None else (f"test/{kind}", None if kind == "good" else kind)
        first = 0 if kind is None else normal + each * ("good", *DEFECTS).index(kind)
        for n in range(normal if kind is None else each):
            picture, mask = drawn(product_seed, first + n, defect, size)
            _save(folder / part / f"{n:03}.png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
            if mask is not None:
                _save(folder / "ground_truth" / str(defect) / f"{n:03}_mask.png", mask.astype(np.uint8) * 255)
        counts[part] = n + 1
    return counts


def _save(path: Path, pixels: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


def spoil(picture: Any, defect: str, rng: np.random.Generator) -> tuple[Any, Mask]:
    """Add one defect to a float picture `[H, W, 3]` in 0 … 1, off its middle: the picture and the mask of changed pixels."""
    height, width = picture.shape[:2]
    unit = min(height, width)
    away, bearing = unit * rng.uniform(0.15, 0.28), rng.uniform(0, 2 * np.pi)
    centre = np.array([width / 2 + away * np.cos(bearing), height / 2 + away * np.sin(bearing)])
    alpha = np.zeros((height, width), np.float32)
    reach = max(3, unit // 16)
    around = picture[
        max(int(centre[1]) - reach, 0) : int(centre[1]) + reach, max(int(centre[0]) - reach, 0) : int(centre[0]) + reach
    ]
    bright = float(around.mean())
    contrast = float(rng.uniform(0.08, 0.3)) * (-1 if bright > 0.5 else 1)
    colour = np.clip(bright + contrast * rng.uniform(0.7, 1.3, 3), 0, 1).astype(np.float32)
    if defect in ("scratch", "crack"):
        steps = 2 if defect == "scratch" else 9
        angle, length = rng.uniform(0, np.pi), unit * rng.uniform(0.2, 0.35)
        along = np.linspace(-0.5, 0.5, steps)[:, None] * length * np.array([np.cos(angle), np.sin(angle)])
        jitter = rng.normal(0, unit * (0.002 if defect == "scratch" else 0.012), (steps, 2))
        line = np.rint(16 * (centre + along + jitter)).astype(np.int32)
        cv2.polylines(alpha, [line], False, 1.0, max(2, round(unit / 110)), cv2.LINE_AA, 4)
    elif defect in ("spot", "stain", "dent"):
        radius = unit * (rng.uniform(0.015, 0.03) if defect == "spot" else rng.uniform(0.04, 0.08))
        alpha = _blob(height, width, centre, radius, rng)
        if defect == "stain":
            colour = colour * rng.uniform(0.5, 1.1, 3).astype(np.float32)
            alpha *= 0.5
        if defect == "dent":  # light on one flank, shade on the other
            rows, columns = np.mgrid[0:height, 0:width]
            flank = np.clip((columns - centre[0] + rows - centre[1]) / (1.5 * radius), -1, 1)[..., None]
            return _blend(picture, picture + 0.25 * flank.astype(np.float32), alpha)
    elif defect == "missing":
        half = (unit * rng.uniform(0.06, 0.1, 2)).astype(int)
        x, y = centre.astype(int)
        alpha[y - half[1] : y + half[1], x - half[0] : x + half[0]] = 1
        colour = picture[:4, :4].reshape(-1, 3).mean(0)
        if abs(float(colour.mean()) - bright) < 0.15:
            colour = colour + np.float32(contrast)
    elif defect == "misprint":
        for _ in range(4):
            start = centre + rng.normal(0, 0.05 * unit, 2)
            end = start + rng.normal(0, 0.06 * unit, 2)
            cv2.line(alpha, tuple(start.astype(int).tolist()), tuple(end.astype(int).tolist()), 1.0, max(2, round(unit / 70)))
    else:
        raise ValueError(f"no defect {defect!r}; there are {', '.join(DEFECTS)}")
    return _blend(picture, colour, alpha)


def _blend(picture: Any, other: Any, alpha: Any) -> tuple[Any, Mask]:
    mixed = picture * (1 - alpha[..., None]) + other * alpha[..., None]
    mixed = np.clip(mixed, 0, 1)
    return mixed, np.asarray(np.abs(mixed - picture).max(-1) > 0.02)


def _blob(height: int, width: int, centre: Any, radius: float, rng: np.random.Generator) -> Any:
    rows, columns = np.mgrid[0:height, 0:width]
    angle = np.arctan2(rows - centre[1], columns - centre[0])
    edge = radius * (1 + sum(rng.normal(0, 0.12) * np.cos(n * angle + rng.uniform(0, 6.3)) for n in (2, 3, 4)))
    distance = np.hypot(rows - centre[1], columns - centre[0])
    return np.clip((edge - distance) / 2 + 0.5, 0, 1).astype(np.float32)


def inside(distance: Grid, sharpness: float = 90.0) -> Grid:
    """1 where a signed distance is negative, with an edge about two pixels wide."""
    return np.asarray(np.clip(0.5 - distance * sharpness, 0, 1), np.float32)


def _disc(x: Grid, y: Grid, product: np.random.Generator, part: np.random.Generator) -> Any:
    """A machined disc: turning marks, a bore and bolt holes, on a dark table."""
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    pitch, holes, ring = product.uniform(60, 110), int(product.integers(4, 8)), product.uniform(0.45, 0.6)
    tint = 0.6 + product.uniform(-0.08, 0.08, 3)
    marks = 0.04 * np.sin(pitch * radius + part.uniform(0, 6.3)) + 0.05 * np.cos(2 * angle + product.uniform(0, 6.3))
    spoke = (angle + np.pi) % (2 * np.pi / holes) - np.pi / holes
    hole = np.hypot(radius * np.cos(spoke) - ring, radius * np.sin(spoke)) - product.uniform(0.06, 0.1)
    body = inside(radius - 0.85) * (1 - inside(hole)) * (1 - inside(radius - product.uniform(0.15, 0.25)))
    return 0.12 + body[..., None] * (tint + marks[..., None] - 0.12)


def _weave(x: Grid, y: Grid, product: np.random.Generator, part: np.random.Generator) -> Any:
    """A woven texture: over and under, threads of slightly uneven thickness."""
    across, down = product.uniform(28, 40, 2)
    uneven = part.normal(0, 0.2, 2)
    phase = part.uniform(0, 2 * np.pi, 2)
    u = across * x + uneven[0] * np.sin(3 * y + phase[0])
    v = down * y + uneven[1] * np.sin(3 * x + phase[1])
    over = np.sin(u / 2) * np.sin(v / 2) > 0
    thread = np.where(over, np.abs(np.sin(u)), np.abs(np.sin(v)))
    warp, weft = 0.45 + product.uniform(-0.2, 0.25, (2, 3))
    return (0.45 + 0.55 * thread[..., None]) * np.where(over[..., None], warp, weft) + 0.08


def _plate(x: Grid, y: Grid, product: np.random.Generator, part: np.random.Generator) -> Any:
    """A printed plate: rows of dark marks and a coloured bar on a light ground."""
    ground, ink = 0.78 + product.uniform(-0.08, 0.08, 3), product.uniform(0.1, 0.35, 3)
    print_shift = part.normal(0, 0.006, 2)
    px, py = x - np.float32(print_shift[0]), y - np.float32(print_shift[1])
    printed = np.zeros_like(x)
    for row in np.linspace(-0.45, 0.5, int(product.integers(3, 5))):
        at = -0.65
        while at < 0.6:
            wide, high = product.uniform(0.03, 0.09), product.uniform(0.05, 0.1)
            box = np.maximum(np.abs(px - (at + wide)) - wide, np.abs(py - row) - high)
            printed = np.maximum(printed, inside(box))
            at += 2 * wide + product.uniform(0.06, 0.12)
    bar = inside(np.maximum(np.abs(px) - 0.68, np.abs(py + 0.7) - 0.08))
    plate = inside(np.maximum(np.abs(x), np.abs(y)) - 0.88)
    face = ground * (1 - printed[..., None]) + ink * printed[..., None]
    face = face * (1 - bar[..., None]) + product.uniform(0.2, 0.8, 3) * bar[..., None]
    return 0.3 + plate[..., None] * (face - 0.3)


def _cap(x: Grid, y: Grid, product: np.random.Generator, part: np.random.Generator) -> Any:
    """A moulded cap: a knurled rim, a smooth dome with a soft highlight, a raised ring."""
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    ribs, colour = int(product.integers(36, 60)), product.uniform(0.25, 0.75, 3)
    knurl = 0.12 * np.sin(ribs * angle + part.normal(0, 0.3)) * inside(np.abs(radius - 0.77) - 0.08)
    dome = 0.15 * (1 - radius**2) + 0.2 * np.exp(-((x + 0.25) ** 2 + (y + 0.3) ** 2) / 0.06)
    ring = 0.1 * np.exp(-((radius - product.uniform(0.4, 0.55)) ** 2) / 0.0006)
    body = inside(radius - 0.87)
    return 0.85 + body[..., None] * (colour + (dome + ring + knurl)[..., None] - 0.85)


FAMILIES: dict[str, Callable[[Grid, Grid, np.random.Generator, np.random.Generator], Any]] = {
    "disc": _disc,
    "weave": _weave,
    "plate": _plate,
    "cap": _cap,
}
