"""Defects painted into any picture of a sound part, with exact masks: an expert is tested on them where no real one is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inspection.brushes import Alpha, Point, blob, box, clouds, curve, stroke, walk
from inspection.image import Pixels
from inspection.part import Mask, part

Floats = NDArray[np.float32]

SIZES: dict[str, tuple[float, float]] = {
    "scratch": (0.03, 0.4),
    "crack": (0.04, 0.5),
    "spot": (0.008, 0.04),
    "stain": (0.03, 0.2),
    "hole": (0.012, 0.08),
    "dent": (0.03, 0.15),
    "missing": (0.025, 0.4),
    "extra": (0.02, 0.15),
    "colour": (0.03, 0.25),
    "contamination": (0.03, 0.2),
    "misprint": (0.03, 0.2),
    "cutpaste": (0.02, 0.2),
    "noise": (0.03, 0.25),
}
"""Half the length (lines) or the radius of each kind over the part's size; log-uniform, so small ones are common."""
KINDS = tuple(SIZES)
CONTRAST = (0.1, 0.6)
"""Difference from the surface, of full scale, log-uniform; never under the spread of the surface itself."""
LEVELS = 5
"""A pixel that changes by fewer levels of 255 is left as it was."""
_TRIES = 8
_LEAST = 6  # changed pixels
_FILLED = 160  # side of the window in which what is missing is filled in
_VISIBLE = 12  # levels that the stronger quarter of them changes by, at least: else it is painted anew, elsewhere


@dataclass(frozen=True, slots=True)
class _Canvas:
    """What a kind is painted on: a window of the picture in 0 … 1, and what lies around it."""

    window: Floats
    part: Alpha
    """1 on the part."""
    whole: Pixels
    at: Point
    """The defect's middle in the window."""
    size: float
    amplitude: float
    ground: Any
    """Colour of the ground where the part is told from it, else `None`."""

    @property
    def shape(self) -> tuple[int, int]:
        return self.part.shape[0], self.part.shape[1]


def doctor(pixels: Pixels, kind: str, rng: np.random.Generator, region: Mask | None = None) -> tuple[Pixels, Mask]:
    """Paint one defect of `kind` into a picture `[H, W, 3]`: the picture and the mask `[H, W]` of all pixels that changed.

    It lies on the part (`part.part`), within `region` `[H, W]` where one is given and not empty. Its size is relative to the
    part, its contrast runs from subtle to strong (`SIZES`, `CONTRAST`). The same picture, kind and state of `rng` give the
    same defect; a surface that hides it eight times gets a spot. Raises ValueError for an unknown kind.
    """
    if kind not in SIZES:
        raise ValueError(f"no defect {kind!r}; there are {', '.join(KINDS)}")
    body = part(pixels)
    unit = min(*pixels.shape[:2], 1.2 * float(np.sqrt(body.sum())))
    allowed = body & region if region is not None and (body & region).any() else body
    step = max(1, min(pixels.shape[:2]) // 256)
    thin = max(1, min(pixels.shape[:2]) // 64)
    sample = pixels[::thin, ::thin]
    around = sample[~body[::thin, ::thin]]
    ground = np.median(around, 0).astype(np.float32) / 255 if len(around) else None
    if not allowed[::step, ::step].any():
        step = 1
    places = step * np.argwhere(allowed[::step, ::step])
    grey = bool((sample[..., :1] == sample).all() and (pixels[..., :1] == pixels).all())
    for attempt in range(_TRIES):
        low, high = SIZES[kind]
        size = max(unit * _between(low, high, rng), 1.5)
        row, column = places[rng.integers(len(places))].tolist()
        reach = round(1.7 * size) + 4
        top, left = max(row - reach, 0), max(column - reach, 0)
        window = pixels[top : row + reach + 1, left : column + reach + 1]
        here = (slice(top, top + window.shape[0]), slice(left, left + window.shape[1]))
        surface = np.asarray(window / np.float32(255), np.float32)
        amplitude = max(_between(*CONTRAST, rng), 0.7 * float(surface.std((0, 1)).mean())) * (1 + attempt / _TRIES)
        on_part = np.asarray(cv2.GaussianBlur(allowed[here].astype(np.float32), (0, 0), 0.8), np.float32)
        canvas = _Canvas(surface, on_part, pixels, np.array([column - left, row - top], float), size, amplitude, ground)
        paint = _PAINT[kind] if attempt < _TRIES - 1 else _spot
        painted = (255 * np.clip(paint(canvas, rng), 0, 1) + 0.5).astype(np.uint8)
        if grey:
            painted = np.repeat(cv2.cvtColor(painted, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)
        levels = cv2.absdiff(painted, window).max(-1)
        changed: Any = (levels >= LEVELS).astype(np.uint8)
        mask = np.asarray(cv2.morphologyEx(changed, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))) > 0
        if mask.sum() >= _LEAST and np.percentile(levels[mask], 75) >= _VISIBLE:
            break
    picture, truth = pixels.copy(), np.zeros(pixels.shape[:2], bool)
    picture[here][mask] = painted[mask]
    truth[here] = mask
    return picture, truth


def _between(low: float, high: float, rng: np.random.Generator) -> float:
    """Log-uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _mix(canvas: _Canvas, other: Any, alpha: Any, on_part: bool = True) -> Floats:
    share = (alpha * canvas.part if on_part else alpha)[..., None]
    return np.asarray(canvas.window * (1 - share) + other * share, np.float32)


def _other(canvas: _Canvas, rng: np.random.Generator, tint: float = 0.15, dark: float = 0.5) -> Floats:
    """A colour `amplitude` away from the surface at the defect's middle; darker with probability `dark`, if there is room."""
    x, y = canvas.at.astype(int)
    near = canvas.window[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3].reshape(-1, 3).mean(0)
    sign = -1.0 if rng.random() < dark else 1.0
    if not 0 <= near.mean() + sign * canvas.amplitude <= 1:
        sign = -sign
    step = sign * canvas.amplitude * (1 + tint * rng.normal(0, 1, 3))
    return np.asarray(np.clip(near + step, 0, 1), np.float32)


def _scratch(canvas: _Canvas, rng: np.random.Generator) -> Floats:
    """A thin line that tapers and skips, one flank bright and the other dark, as an edge in the surface is."""
    points = curve(canvas.at, canvas.size, rng, bend=0.15)
    wide = max(canvas.size * rng.uniform(0.01, 0.05), 0.5)
    taper = wide * np.sin(np.linspace(0.15, np.pi - 0.15, len(points)))
    skips = np.clip(0.8 + 0.4 * clouds(canvas.shape, canvas.size / 3, rng), 0, 1)
    side = rng.choice([-1.0, 1.0], 2) * max(0.7 * wide, 0.6)
    colour = _other(canvas, rng, tint=0.05, dark=0.4)
    flank = _mix(canvas, 2 * canvas.window - colour, 0.4 * skips * stroke(canvas.shape, points + side, taper))
    return _over(canvas, flank, colour, skips * stroke(canvas.shape, points, taper))


def _crack(canvas: _Canvas, rng: np.random.Generator) -> Floats:
    """A jagged dark line, widest in its middle, with a branch or two."""
    wide = max(canvas.size * rng.uniform(0.02, 0.06), 0.8)
    points = walk(canvas.at, canvas.size, rng)
    alpha = stroke(canvas.shape, points, wide * (0.35 + 0.65 * np.sin(np.linspace(0.1, np.pi - 0.1, len(points)))))
    for _ in range(int(rng.integers(0, 3))):
        start = points[rng.integers(3, len(points) - 3)]
        branch = walk(start, canvas.size * rng.uniform(0.15, 0.4), rng, 8)
        branch += start - branch[0]
        alpha = np.maximum(alpha, stroke(canvas.shape, branch, wide * np.linspace(0.6, 0.2, len(branch))))
    return _mix(canvas, _other(canvas, rng, tint=0.05, dark=0.9), alpha)


def _spot(canvas: _Canvas, rng: np.random.Generator) -> Floats:
    return _mix(canvas, _other(canvas, rng), blob(canvas.shape, canvas.at, canvas.size, rng, max(1.0, 0.25 * canvas.size)))


def _stain(canvas: _Canvas, rng: np.random.Generator) -> Floats:
    """A see-through film of uneven thickness with a darker rim where it dried."""
    film = _cloudy(canvas, rng, soft=0.15)
    rim = film - np.asarray(cv2.GaussianBlur(film, (0, 0), max(1.0, 0.12 * canvas.size)), np.float32)
    thickness = film * (0.7 + 0.15 * clouds(canvas.shape, canvas.size / 2, rng)) + rng.uniform(0, 1.2) * np.maximum(rim, 0)
    absorbs = canvas.amplitude * rng.dirichlet([2.0, 2.0, 2.0]) * 3
    return _mix(canvas, canvas.window * np.clip(1 - absorbs, 0.1, 1) - 0.1 * canvas.amplitude, np.clip(thickness, 0, 1))


def _hole(canvas: _Canvas, rng: np.random.Generator) -> Floats:
    """Dark, or the ground shows through; its far wall catches the light."""
    outer = blob(canvas.shape, canvas.at, canvas.size, rng, 0.8)
    angle, depth = rng.uniform(0, 2 * np.pi), max(0.2 * canvas.size, 0.8)
    moved = np.array([[1, 0, depth * np.cos(angle)], [0, 1, depth * np.sin(angle)]])
    inner = outer * np.asarray(cv2.warpAffine(outer, moved, canvas.shape[::-1]), np.float32)
    through = canvas.ground is not None and rng.random() < 0.5
    inside = canvas.ground if canvas.ground is not None and through else canvas.window.mean((0, 1)) * rng.uniform(0.05, 0.5)
    if float(np.abs(inside - canvas.window.mean((0, 1))).max()) < canvas.amplitude:
        inside = _other(canvas, rng, tint=0.05, dark=1)
    wall = _mix(canvas, np.clip(canvas.window + 0.6 * canvas.amplitude, 0, 1), outer)
    return _over(canvas, wall, inside, inner)


def _dent(canvas: _Canvas, rng: np.random.Generator) -> Floats:
    """A bowl: one flank lit, the other in shade, what is printed on it drawn together."""
    radius, angle = canvas.size, rng.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[0 : canvas.shape[0], 0 : canvas.shape[1]].astype(np.float32)
    x, y = columns - np.float32(canvas.at[0]), rows - np.float32(canvas.at[1])
    long = rng.uniform(0.7, 1.4)
    bowl = np.exp(-2 * ((x / long) ** 2 + (y * long) ** 2) / radius**2)
    slope = (np.cos(angle) * x + np.sin(angle) * y) / radius * bowl
    pull = np.float32(rng.uniform(0.1, 0.35)) * bowl
    moved: Any = cv2.remap(canvas.window, columns + pull * x, rows + pull * y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    lit = moved + (0.6 * canvas.amplitude * slope / 0.3)[..., None] * (0.4 + 0.6 * moved)
    return _mix(canvas, lit, np.ones(canvas.shape, np.float32))


def _missing(canvas: _Canvas, rng: np.random.Generator) -> Floats:
    """Broken out down to the ground, or what stood there is gone and the surface around it goes on."""
    angled = box(canvas.shape, canvas.at, (canvas.size, canvas.size * rng.uniform(0.5, 1)), rng.uniform(0, np.pi))
    alpha = angled if rng.random() < 0.4 else blob(canvas.shape, canvas.at, canvas.size, rng, 0.8)
    if canvas.ground is not None and rng.random() < 0.5:
        grain = canvas.window - np.asarray(cv2.GaussianBlur(canvas.window, (0, 0), 1.5), np.float32)
        return _mix(canvas, canvas.ground + grain, alpha)
    scale = min(1.0, _FILLED / max(canvas.shape))  # the time of filling grows with the hole's area
    small: Any = cv2.resize((255 * canvas.window + 0.5).astype(np.uint8), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    gone: Any = cv2.resize(alpha, small.shape[1::-1], interpolation=cv2.INTER_AREA)
    hole = np.asarray(cv2.dilate((gone > 0.02).astype(np.uint8), np.ones((3, 3), np.uint8)))
    filled: Any = cv2.resize(cv2.inpaint(small, hole, 3, cv2.INPAINT_TELEA), canvas.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return _mix(canvas, filled / 255 + rng.normal(0, 0.008, (*canvas.shape, 1)), alpha)


def _extra(canvas: _Canvas, rng: np.random.Generator) -> Floats:
    """A second one of something in the picture, or a foreign piece; either throws a shadow."""
    piece: Any = _elsewhere(canvas, rng)
    alpha = blob(canvas.shape, canvas.at, canvas.size, rng, 0.8)
    if rng.random() < 0.5:
        half = (canvas.size, canvas.size * rng.uniform(0.2, 0.9))
        alpha = box(canvas.shape, canvas.at, half, rng.uniform(0, np.pi), soft=0.8)
        if rng.random() < 0.5:
            alpha = blob(canvas.shape, canvas.at, 0.7 * canvas.size, rng, 0.8)
        shade = 1 + 0.12 * np.tanh(clouds(canvas.shape, 2 * canvas.size, rng))[..., None]
        piece = _other(canvas, rng, tint=0.25) * shade + rng.normal(0, 0.01, (*canvas.shape, 1))
    away = rng.uniform(-0.25, 0.25, 2) * canvas.size
    shadow: Any = cv2.warpAffine(alpha, np.array([[1, 0, away[0]], [0, 1, away[1]]]), canvas.shape[::-1])
    shadow = cv2.GaussianBlur(shadow, (0, 0), max(0.8, 0.12 * canvas.size))
    under = canvas.window * (1 - 0.5 * canvas.amplitude * shadow[..., None])
    return np.asarray(under * (1 - alpha[..., None]) + piece * alpha[..., None], np.float32)


def _colour(canvas: _Canvas, rng: np.random.Generator) -> Floats:
    """The same surface in another colour: each channel by a gain and a step of its own."""
    alpha = blob(canvas.shape, canvas.at, canvas.size, rng, rng.uniform(0.02, 0.4) * canvas.size + 0.8)
    way = rng.normal(0, 1, 3)
    way *= canvas.amplitude / max(float(np.abs(way).max()), 1e-6)
    return _mix(canvas, np.clip(canvas.window * (1 + 0.6 * way) + 0.5 * way, 0, 1), alpha)


def _contamination(canvas: _Canvas, rng: np.random.Generator) -> Floats:
    """Crumbs of dust, and now and then a fibre."""
    painted, one = canvas.window, max(canvas.size * 0.08, 0.8)
    colour = _other(canvas, rng, tint=0.25)
    for _ in range(int(rng.integers(2, 12))):
        at = canvas.at + rng.normal(0, 0.45, 2) * canvas.size
        grain = blob(canvas.shape, at, one * _between(0.5, 2.5, rng), rng, 0.7)
        painted = _over(canvas, painted, np.clip(colour * rng.uniform(0.8, 1.2), 0, 1), grain, on_part=False)
    if rng.random() < 0.5:
        hair = stroke(canvas.shape, curve(canvas.at, canvas.size, rng, bend=0.8), [max(0.3 * one, 0.6)] * 24)
        painted = _over(canvas, painted, colour, hair, on_part=False)
    return painted


def _misprint(canvas: _Canvas, rng: np.random.Generator) -> Floats:
    """What is there printed a second time beside itself, or smeared, or strokes that belong elsewhere."""
    alpha = box(canvas.shape, canvas.at, (canvas.size, canvas.size * rng.uniform(0.4, 1)), rng.normal(0, 0.1), 1.5)
    way = rng.choice(["double", "smear", "strokes"])
    if way == "strokes" or canvas.window.std((0, 1)).max() < 0.02:  # an even surface shows no shift
        ink, colour = np.zeros(canvas.shape, np.float32), _other(canvas, rng)
        for _ in range(int(rng.integers(2, 6))):
            start = canvas.at + rng.normal(0, 0.35, 2) * canvas.size
            mark = curve(start, canvas.size * rng.uniform(0.15, 0.5), rng, bend=0.3, count=8)
            ink = np.maximum(ink, stroke(canvas.shape, mark, [max(0.07 * canvas.size, 1.0)] * 8))
        return _mix(canvas, colour, ink)
    angle, far = rng.uniform(0, 2 * np.pi), max(canvas.size * rng.uniform(0.12, 0.45), 2.0)
    if way == "double":
        shift = np.array([[1, 0, far * np.cos(angle)], [0, 1, far * np.sin(angle)]])
        ghost: Any = cv2.warpAffine(canvas.window, shift, canvas.shape[::-1], borderMode=cv2.BORDER_REFLECT)
        return _mix(canvas, ghost, rng.uniform(0.4, 0.9) * alpha)
    side = 2 * int(far) + 1
    kernel = np.zeros((side, side), np.float32)
    end = np.rint(far * np.array([np.cos(angle), np.sin(angle)])).astype(int)
    cv2.line(kernel, (side // 2, side // 2), (side // 2 + int(end[0]), side // 2 + int(end[1])), 1.0)
    return _mix(canvas, cv2.filter2D(canvas.window, -1, kernel / kernel.sum()), alpha)


def _cutpaste(canvas: _Canvas, rng: np.random.Generator) -> Floats:
    """A piece of the picture in another place, as a rectangle or a thin scar (Li et al. 2021), its colours a little off."""
    thin = rng.uniform(0.1, 0.25) if rng.random() < 0.4 else rng.uniform(0.4, 1)
    alpha = box(canvas.shape, canvas.at, (canvas.size, max(canvas.size * thin, 1.0)), rng.uniform(0, np.pi))
    return _mix(canvas, _elsewhere(canvas, rng) + rng.normal(0, 0.1, 3) * canvas.amplitude, alpha)


def _noise(canvas: _Canvas, rng: np.random.Generator) -> Floats:
    """A cloudy shape of foreign texture, or of this picture's, laid over half transparent (Zavrtanik et al. 2021)."""
    if rng.random() < 0.5:
        texture: Any = _elsewhere(canvas, rng)
    else:
        grain = max(canvas.size * _between(0.05, 0.5, rng), 1.5)
        texture = _other(canvas, rng, tint=0.4) + 0.5 * canvas.amplitude * clouds(canvas.shape, grain, rng)[..., None]
    return _mix(canvas, np.clip(texture, 0, 1), rng.uniform(0.4, 1) * _cloudy(canvas, rng, soft=0.1))


def _over(canvas: _Canvas, below: Floats, colour: Any, alpha: Alpha, on_part: bool = True) -> Floats:
    share = (alpha * canvas.part if on_part else alpha)[..., None]
    return np.asarray(below * (1 - share) + colour * share, np.float32)


def _cloudy(canvas: _Canvas, rng: np.random.Generator, soft: float) -> Alpha:
    """A patch with a cloud's outline, its edge `soft` of its radius wide."""
    rows, columns = np.mgrid[0 : canvas.shape[0], 0 : canvas.shape[1]].astype(np.float32)
    away = np.hypot(columns - np.float32(canvas.at[0]), rows - np.float32(canvas.at[1])) / canvas.size
    field = 1 - away + 0.3 * clouds(canvas.shape, canvas.size, rng)
    return np.asarray(np.clip(field / soft, 0, 1), np.float32)


def _elsewhere(canvas: _Canvas, rng: np.random.Generator) -> Floats:
    """A piece as large as the window from another place of the picture, turned; of three the one that differs most."""
    (height, width), whole = canvas.shape, canvas.whole
    pieces = []
    for _ in range(3):
        top, left = (int(rng.integers(0, max(room, 1))) for room in (whole.shape[0] - height + 1, whole.shape[1] - width + 1))
        pieces.append(whole[top : top + height, left : left + width].astype(np.float32) / 255)
    best = max(pieces, key=lambda piece: float(np.abs(piece - canvas.window).mean()))
    turn: Any = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(0, 360), 1.0)
    return np.asarray(cv2.warpAffine(best, turn, (width, height), borderMode=cv2.BORDER_REFLECT), np.float32)


_PAINT: dict[str, Callable[[_Canvas, np.random.Generator], Floats]] = {
    "scratch": _scratch,
    "crack": _crack,
    "spot": _spot,
    "stain": _stain,
    "hole": _hole,
    "dent": _dent,
    "missing": _missing,
    "extra": _extra,
    "colour": _colour,
    "contamination": _contamination,
    "misprint": _misprint,
    "cutpaste": _cutpaste,
    "noise": _noise,
}
