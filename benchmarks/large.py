"""Large pictures, small defects: 5,000 × 4,000 pixels with one defect of 12, in tiles and without; memory and time beside.

Tile and score rule were chosen on the products 1 and 2; figures are of others. `python -m benchmarks.large`, or
`kensor bench large`.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inspection.features import features_file
from inspection.findings import find, map_stats
from inspection.image import Pixels, decode
from inspection.metrics import auroc, auroc_interval
from inspection.options import EnrolOptions, resolved, view_of
from models.experts import View, fit, load_expert
from models.experts.layout import Layout
from models.experts.tiles import prepared

WIDTH, HEIGHT = 5000, 4000
DEFECT = 12
"""Longest side of a defect, pixels."""
CONTRAST = (0.15, 0.5)
"""Log-uniform; the grain's rms is .016."""
KINDS = ("spot", "scratch", "pit")
TILED = EnrolOptions(backbone="efficientnet_lite0", image_size=448, tile=448, score_rule="max")
WHOLE = EnrolOptions(backbone="efficientnet_lite0", image_size=224, score_rule="max")
ROWS = 2000


def picture(
    product: int, index: int, defect: str | None = None, size: tuple[int, int] = (WIDTH, HEIGHT)
) -> tuple[Pixels, NDArray[np.bool_]]:
    """A drawn cast plate `[H, W, 3]` with bores and engraved lines, and the mask of its defect.

    `product` fixes the plate. `index` is the part: its grain and clouds are its own, it lies up to 12 pixels off and a little
    turned, in light that falls otherwise, and its bores are not quite where they should be.
    """
    plate, part = np.random.default_rng([product]), np.random.default_rng([product, index])
    width, height = size
    grey = _ground(plate.uniform(0.4, 0.6), width, height, part)
    turn = np.radians(part.normal(0, 0.05))
    move = part.uniform(-12, 12, 2)

    def at(x: float, y: float) -> NDArray[np.float64]:
        dx, dy = x - width / 2, y - height / 2
        cos, sin = np.cos(turn), np.sin(turn)
        return np.array([width / 2 + cos * dx - sin * dy, height / 2 + sin * dx + cos * dy]) + move

    pitch, radius = plate.uniform(420, 560), plate.uniform(60, 110)
    for row in np.arange(pitch * 0.7, height - pitch / 2, pitch):
        for column in np.arange(pitch * 0.7, width - pitch / 2, pitch):
            place, wide = at(column, row) + part.normal(0, 1.5, 2), radius * part.normal(1, 0.01)
            _disc(grey, place, wide * 1.18, 0.62 + part.normal(0, 0.015))
            _disc(grey, place, wide, 0.12 + part.normal(0, 0.01))
    for fraction in plate.uniform(0.05, 0.95, 6):
        ends = (at(0, fraction * height), at(width, fraction * height)), (at(fraction * width, 0), at(fraction * width, height))
        for start, stop in ends:
            cv2.line(grey, _fixed(start), _fixed(stop), 0.3 + part.normal(0, 0.01), 9, cv2.LINE_AA, 4)
    mask = np.zeros((height, width), bool)
    if defect is not None:
        _spoil(grey, mask, defect, part)
    noise = np.empty((height, width), np.int8)
    cv2.setRNGSeed(int(part.integers(2**31)))
    cv2.randn(noise, np.zeros(1), np.full(1, 2.0))  # the camera's
    plane = np.clip(255 * cv2.GaussianBlur(grey, (0, 0), 0.8) + noise, 0, 255).astype(np.uint8)
    return np.repeat(plane[..., None], 3, 2), mask


def _ground(level: float, width: int, height: int, part: np.random.Generator) -> NDArray[np.float32]:
    """Cast metal: grain of some pixels, clouds, and light that falls from one side."""
    cv2.setRNGSeed(int(part.integers(2**31)))
    grain = np.empty((height // 2 + 1, width // 2 + 1), np.float32)
    cv2.randn(grain, np.zeros(1), np.ones(1))
    ground: Any = cv2.resize(cv2.GaussianBlur(grain, (0, 0), 1.2), (2 * grain.shape[1], 2 * grain.shape[0]))[:height, :width]
    ground *= np.float32(0.05 * part.normal(1, 0.1))  # the blur leaves a third of it: 1.6 % rms
    clouds = part.normal(0, 0.03, (9, 11)).astype(np.float32)
    ground += cv2.resize(clouds, (width, height), interpolation=cv2.INTER_CUBIC)
    across, down = (
        np.linspace(-s, s, n, dtype=np.float32) for s, n in zip(part.normal(0, 0.04, 2), (width, height), strict=True)
    )
    ground += np.float32(level + part.normal(0, 0.02)) + across[None] + down[:, None]
    return np.ascontiguousarray(ground)


def _fixed(point: NDArray[np.float64]) -> tuple[int, int]:
    return round(16 * float(point[0])), round(16 * float(point[1]))


def _disc(grey: NDArray[np.float32], place: NDArray[np.float64], radius: float, level: float) -> None:
    cv2.circle(grey, _fixed(place), round(16 * radius), level, -1, cv2.LINE_AA, 4)


def _spoil(grey: NDArray[np.float32], mask: NDArray[np.bool_], defect: str, part: np.random.Generator) -> None:
    """One defect no longer than `DEFECT` pixels, `CONTRAST` of full scale off its surroundings, wherever it falls."""
    height, width = grey.shape
    half = DEFECT // 2
    x, y = (int(part.integers(40, side - 40)) for side in (width, height))
    contrast = float(np.exp(part.uniform(*np.log(CONTRAST))))
    window = grey[y - half : y + half, x - half : x + half]
    rows, columns = np.mgrid[-half + 0.5 : half, -half + 0.5 : half]
    if defect == "scratch":
        angle = part.uniform(0, np.pi)
        along, off = columns * np.cos(angle) + rows * np.sin(angle), rows * np.cos(angle) - columns * np.sin(angle)
        alpha = np.clip(half - np.abs(along), 0, 1) * np.clip(1.8 - np.abs(off), 0, 1)
    else:
        alpha = np.clip(half - np.hypot(rows, columns), 0, 1)
        if defect == "pit":  # a dark hollow with a bright rim on one side
            alpha = alpha * np.where(rows * np.cos(a := part.uniform(0, 2 * np.pi)) + columns * np.sin(a) > 0, 1, -0.7)
    sign = 1 if (window.mean() < 0.35 or (window.mean() < 0.65 and part.random() < 0.5)) else -1
    window += (sign * contrast * alpha).astype(np.float32)
    mask[y - half : y + half, x - half : x + half] = np.abs(alpha) > 0.3


def views(size: tuple[int, int]) -> list[View]:
    """In tiles, and whole."""
    return [view_of(resolved(options), [size[::-1]]) for options in (TILED, WHOLE)]


def run(product: int = 11, normals: int = 8, each: int = 20, size: tuple[int, int] = (WIDTH, HEIGHT)) -> dict[str, Any]:
    """AUROC of `each` sound and defective parts of a product, enrolled on `normals`; then one picture in a process of its own."""
    cv2.setNumThreads(1)
    start, near = perf_counter(), Path(tempfile.gettempdir())
    tests = [(1000 + n, None if n < each else KINDS[n % len(KINDS)]) for n in range(2 * each)]
    defective = np.array([kind is not None for _, kind in tests])
    states, scores, top, located = [], [], [], 0
    for view in views(size):
        drawn = (picture(product, n, size=size)[0] for n in range(normals))
        with features_file(drawn, normals, "patchcore", view, near, _quiet, _quiet) as features:
            states.append(fit("patchcore", features, rows=ROWS))
    fitted = perf_counter() - start
    experts = [load_expert("patchcore", state, view) for state, view in zip(states, views(size), strict=True)]
    upper = Layout(View("efficientnet_lite0", views(size)[0].size, views(size)[0].tile, "top"))
    for index, kind in tests:
        pixels, mask = picture(product, index, kind, size)
        raws = [expert.score(prepared(pixels, view))[0] for expert, view in zip(experts, views(size), strict=True)]
        scores.append([raw.score for raw in raws])
        top.append(upper.pooled(raws[0].patches.ravel()))
        if kind is not None:
            x, y = map_stats(raws[0].map, *size).peak_xy
            located += bool(mask[max(y - DEFECT, 0) : y + DEFECT, max(x - DEFECT, 0) : x + DEFECT].any())
    values = np.array(scores)
    judged = perf_counter() - start - fitted
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as alone:
        content = cv2.imencode(".png", picture(product, tests[-1][0], tests[-1][1], size)[0])[1].tobytes()
        one = alone.submit(_alone, states[0], size, content, float(np.median(values[:each, 0]))).result()
    return {
        "product": product,
        "picture": list(size),
        "defect": DEFECT,
        "contrast": list(CONTRAST),
        "tile": TILED.tile,
        "seen_as": list(views(size)[0].size),
        "normals": normals,
        "sound": each,
        "defective": each,
        "rows": ROWS,
        "image_auroc": auroc(values[:, 0], defective),
        "interval": auroc_interval(values[:, 0], defective),
        "image_auroc_top": auroc(np.array(top), defective),
        "image_auroc_whole": auroc(values[:, 1], defective),
        "under_the_highest_sound": {
            kind: f"{sum(s <= values[:each, 0].max() for (_, k), s in zip(tests, values[:, 0], strict=True) if k == kind)} of "
            f"{sum(k == kind for _, k in tests)}"
            for kind in KINDS
        },
        "peak_on_the_defect": f"{located} of {each}",
        "fit_seconds": round(fitted, 1),
        "judge_seconds": round(judged, 1),
        "one_picture": one,
    }


def _alone(state: dict[str, np.ndarray], size: tuple[int, int], content: bytes, limit: float) -> dict[str, Any]:
    """From bytes to findings, as an inspection does it, in a process that does nothing else."""
    cv2.setNumThreads(1)
    view = views(size)[0]
    expert = load_expert("patchcore", state, view)
    timings: dict[str, float] = {}
    before, start = peak_mib(), perf_counter()
    pixels = decode(content).pixels
    timings["decode"] = 1e3 * (perf_counter() - start)
    raw = expert.score(prepared(pixels, view), timings)[0]
    found = find(raw.map, limit, *size, at_least_one=True, tile_share=view.input**2 / (view.size[0] * view.size[1]))
    seconds = perf_counter() - start
    return {
        "bytes": len(content),
        "map": list(raw.map.shape),
        "findings": len(found),
        "seconds": round(seconds, 2),
        "timings_ms": {name: round(value) for name, value in timings.items()},
        "mib_before": round(before),
        "peak_mib": round(peak_mib()),
    }


def peak_mib() -> float:
    """The process's largest resident memory so far."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says of a new process is its parent's
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 2**20)


def _quiet(*_: object) -> None:
    pass


if __name__ == "__main__":
    json.dump(run(), sys.stdout, indent=2)
    sys.stdout.write("\n")
