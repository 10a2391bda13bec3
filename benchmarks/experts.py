"""Picture bytes to verdict beside anomalib's own model, and its coreset: same weights, bank, pictures and threads, one run.

Ours is `Inspector.inspect`, gate, findings and all. Anomalib's is the decoding by the same cv2, our preprocessing, its model
as it is by default (float32, the dense blur) and its score. Repeats alternate, so that whatever else the machine does falls
on both. A large bank's search is held against the exact one, and a transformer in int8 against float32.
`python -m benchmarks.experts`, or `kensor bench experts`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np
from skimage import data

from inspection import calibration, gate, selftest
from inspection.evidence import Thresholds
from inspection.image import decode
from inspection.inspector import Inspector, weights_sha256
from inspection.recipe import Recipe
from models import backbones
from models.bank import Bank
from models.experts import Expert, View, load_expert
from models.experts.coreset import farthest_first
from models.experts.layout import Layout
from models.experts.patchcore import sure
from models.runtime import Backbone

FITTED = 30
"""Pictures whose patches are the bank's; the others are asked about."""
SPEED = (
    ("efficientnet_lite0", 224, 2000, 3.0),
    ("efficientnet_lite0", 448, 2000, 3.5),
    ("efficientnet_lite0", 224, 20_000, 5.0),
)
"""Backbone, picture side, bank rows, and how many times anomalib's speed is aimed at."""
CORESETS = ((50_000, 1000, 20.0), (78_400, 7840, 50.0))
"""Patches, rows, and how many times anomalib's speed is aimed at."""
SCORES_APART = 1e-4
"""Largest relative difference of a raw score from anomalib's."""


def pictures(folder: Path | None, count: int) -> list[bytes]:
    """`count` pictures as PNG bytes: a folder's, or windows of scikit-image's brick wall."""
    if folder is not None:
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".bmp"))
        return [path.read_bytes() for path in files[:count]]
    wall = np.asarray(data.brick())  # type: ignore[no-untyped-call]
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 200, (count, 2))
    return [cv2.imencode(".png", wall[y : y + 300, x : x + 300])[1].tobytes() for y, x in corners]


def _features(session: Backbone, contents: Sequence[bytes]) -> np.ndarray:
    """All patches of some pictures, `[N, D]`."""
    made = (backbones.preprocess(decode(content).pixels, session.spec, session.size)[None] for content in contents)
    return np.concatenate([session.features(one)[0] for one in made])


def _score(expert: Expert, spec: backbones.BackboneSpec, size: int, content: bytes) -> float:
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    return expert.score(backbones.preprocess(image, spec, size)[None])[0].score  # type: ignore[arg-type]


def _inspector(expert: Expert, backbone: str, size: int, contents: Sequence[bytes]) -> tuple[Inspector, Thresholds]:
    """A recipe around the expert, and limits in the middle of the pictures' scores: every second one pays for its findings."""
    looks = [decode(content) for content in contents]
    spec = backbones.spec(backbone)
    raws = [expert.score(backbones.preprocess(one.pixels, spec, size)[None])[0] for one in looks]
    scores, peaks = [raw.score for raw in raws], [float(raw.map.max()) for raw in raws]
    recipe = Recipe(
        product="bench",
        expert="patchcore",
        backbone=backbone,
        image_size=size,
        size=(size, size),
        tile=None,
        score_rule="max",
        precision="float32",
        weights_sha256=weights_sha256(backbone),
        options={},
        calibration=calibration.calibrate(scores, peaks, 0.1, 0.2),
        choice=None,
        self_test=selftest.judge((), (), (), None),
        gate=gate.gate([gate.look(one) for one in looks]),
        heatmap_max=max(peaks),
        golden=(),
        normals=(),
        warnings=(),
        files={},
        libraries={},
        created_at="",
    )
    middle = float(np.median(scores))
    return Inspector(recipe, expert), Thresholds(middle, middle)


def _quartiles(seconds: Sequence[float]) -> list[float]:
    return [round(float(value) * 1e3, 2) for value in np.percentile(seconds, (25, 50, 75))]


def speed(
    backbone: str = "efficientnet_lite0",
    size: int = 224,
    rows: int = 2000,
    repeats: int = 30,
    folder: Path | None = None,
    compared: int = 20,
) -> dict[str, Any]:
    """Milliseconds per picture (quartiles over `repeats` of both), their ratio, and how far `compared` raw scores lie apart."""
    import torch

    from models.experts.oracle import TorchExpert

    cv2.setNumThreads(1)
    session = Backbone(backbone, size)
    contents = pictures(folder, FITTED + max(compared, 30))
    fitted, asked = contents[:FITTED], contents[FITTED:] or contents
    patches = _features(session, fitted)
    bank = patches[np.random.default_rng(0).permutation(len(patches))[:rows]]
    state = {"memory_bank": bank, "source": np.zeros(len(bank), np.int32)}
    view = View.square(backbone, size)
    ours = load_expert("patchcore", state, view)
    theirs = TorchExpert("patchcore", state, Layout(view), precision=torch.float32)
    exact = TorchExpert("patchcore", state, Layout(view))
    inspector, limits = _inspector(ours, backbone, size, asked[:30])
    apart = {"float32": 0.0, "float64_search": 0.0}
    for content in asked[:compared]:  # also the warm-up
        mine = inspector.inspect(content, thresholds=limits).raw_score
        for name, oracle in (("float32", theirs), ("float64_search", exact)):
            other = _score(oracle, session.spec, size, content)
            apart[name] = max(apart[name], abs(mine - other) / other)
    spent: dict[str, list[float]] = {"kensor": [], "anomalib": []}
    stages: dict[str, list[float]] = {}
    for repeat in range(repeats):
        content = asked[repeat % len(asked)]
        start = perf_counter()
        outcome = inspector.inspect(content, thresholds=limits)
        spent["kensor"].append(perf_counter() - start)
        for stage, milliseconds in outcome.timings_ms.items():
            stages.setdefault(stage, []).append(milliseconds)
        start = perf_counter()
        _score(theirs, session.spec, size, content)
        spent["anomalib"].append(perf_counter() - start)
    return {
        "backbone": backbone,
        "image_size": size,
        "rows": len(bank),
        "repeats": repeats,
        "threads": 1,
        "kensor_ms": _quartiles(spent["kensor"]),
        "kensor_stages_ms": {stage: round(float(np.median(times)), 2) for stage, times in stages.items()},
        "anomalib_ms": _quartiles(spent["anomalib"]),
        "ratio": [round(float(q), 2) for q in np.percentile(np.divide(spent["anomalib"], spent["kensor"]), (25, 50, 75))],
        "compared": min(compared, len(asked)),
        "score_difference": {name: float(f"{value:.1e}") for name, value in apart.items()},
    }


def search(rows: int = 20_000, compared: int = 100, folder: Path | None = None) -> dict[str, Any]:
    """A large bank's search beside the exact one on `compared` pictures: milliseconds, recall, how far distances lie apart."""
    session = Backbone("efficientnet_lite0", 224)
    contents = pictures(folder, FITTED + compared)
    patches = _features(session, contents[:FITTED])
    rows = min(rows, len(patches))
    chosen = patches[np.random.default_rng(0).permutation(len(patches))[:rows]]
    start = perf_counter()
    bank = Bank(chosen)
    made = perf_counter() - start
    layout = Layout(View.square("efficientnet_lite0", 224))
    spent: dict[str, list[float]] = {"lists": [], "whole": []}
    found, map_apart, score_apart, distance_apart = [], 0.0, 0.0, 0.0
    for content in contents[FITTED:] or contents:
        asked = _features(session, [content])
        start = perf_counter()
        near = bank.search(asked, sure(layout))
        between = perf_counter()
        exact, _ = bank.nearest(asked)
        spent["lists"].append(between - start)
        spent["whole"].append(perf_counter() - between)
        found.append(float(np.mean(near <= exact * (1 + 1e-6))))
        one, other = layout.raw(near, "nearest"), layout.raw(exact, "nearest")
        distance_apart = max(distance_apart, float(np.max((near - exact) / np.maximum(exact, 1e-6))))
        map_apart = max(map_apart, float(np.abs(one.map - other.map).max() / other.map.max()))
        score_apart = max(score_apart, abs(one.score - other.score) / other.score)
    return {
        "rows": rows,
        "compared": len(found),
        "lists_ms": _quartiles(spent["lists"]),
        "whole_ms": _quartiles(spent["whole"]),
        "made_ms": round(made * 1e3),
        "recall": round(float(np.mean(found)), 5),
        "recall_target": 0.999,
        "distance_apart": float(f"{distance_apart:.1e}"),
        "map_apart": float(f"{map_apart:.1e}"),
        "score_apart": float(f"{score_apart:.1e}"),
    }


def precision(backbone: str = "dinov2_vits14", repeats: int = 30) -> dict[str, Any]:
    """Milliseconds of a backbone's pass in float32 and int8, alternating, and the mean distance of its features."""
    whole, small = Backbone(backbone, 224), Backbone(backbone, 224, precision="int8")
    spent: dict[str, list[float]] = {"float32": [], "int8": []}
    apart = []
    for content in pictures(None, repeats):
        image = backbones.preprocess(decode(content).pixels, whole.spec, 224)[None]
        made = []
        for name, session in (("float32", whole), ("int8", small)):
            start = perf_counter()
            made.append(session.features(image)[0])
            spent[name].append(perf_counter() - start)
        apart.append(float(np.linalg.norm(made[0] - made[1], axis=1).mean()))
    return {
        "backbone": backbone,
        "image_size": 224,
        "threads": 1,
        "float32_ms": _quartiles(spent["float32"]),
        "int8_ms": _quartiles(spent["int8"]),
        "ratio": round(float(np.median(spent["float32"]) / np.median(spent["int8"])), 2),
        "feature_distance": round(float(np.mean(apart)), 3),
    }


def coreset(
    points: int = 50_000, rows: int = 1000, steps: int = 60, repeats: int = 1, folder: Path | None = None
) -> dict[str, Any]:
    """Seconds to choose `rows` of `points` patches: ours whole, anomalib's projection and `steps` of its equal steps.

    Anomalib's whole time is its projection and `rows` times its median step: every step passes over all points.
    """
    import torch
    from anomalib.models.components.sampling.k_center_greedy import KCenterGreedy

    torch.set_num_threads(1)
    session = Backbone("efficientnet_lite0", 224)
    patches = _features(session, pictures(folder, -(-points // (session.grid[0] * session.grid[1]))))[:points]
    farthest_first(patches[:1000], 10, seed=0)  # compiled before the clock runs
    sampler = KCenterGreedy(torch.from_numpy(patches), rows / len(patches))
    start = perf_counter()
    sampler.model.fit(sampler.embedding)
    sampler.features = sampler.model.transform(sampler.embedding)
    projected = perf_counter() - start
    ours: list[float] = []
    theirs: list[float] = []
    index = torch.tensor(0)
    for turn in range(repeats):
        for _ in range(turn * steps // repeats, (turn + 1) * steps // repeats):
            start = perf_counter()
            sampler.update_distances(index)
            index = sampler.get_new_idx()
            theirs.append(perf_counter() - start)
        start = perf_counter()
        farthest_first(patches, rows, seed=turn)
        ours.append(perf_counter() - start)
    whole = projected + rows * float(np.median(theirs))
    return {
        "points": len(patches),
        "rows": rows,
        "threads": 1,
        "kensor_s": round(float(np.median(ours)), 2),
        "anomalib_s": round(whole, 1),
        "anomalib_projection_s": round(projected, 2),
        "anomalib_step_ms": _quartiles(theirs),
        "anomalib_steps_measured": len(theirs),
        "ratio": round(whole / float(np.median(ours)), 1),
    }


def run(repeats: int = 30, folder: Path | None = None, compared: int = 500) -> Iterator[dict[str, Any]]:
    """Every figure the design states, with what is aimed at; `compared` raw scores at the first setting, 20 at the others."""
    for number, (backbone, size, rows, target) in enumerate(SPEED):
        timed = speed(backbone, size, rows, repeats, folder, compared if number == 0 else 20)
        apart = max(timed["score_difference"].values())
        yield {**timed, "target": target, "met": timed["ratio"][1] >= target and apart <= SCORES_APART}
    yield search(folder=folder)
    yield precision(repeats=repeats)
    for points, rows, target in CORESETS:
        chosen = coreset(points, rows, repeats=3, folder=folder)
        yield {**chosen, "target": target, "met": chosen["ratio"] >= target}


if __name__ == "__main__":
    for figures in run():
        json.dump(figures, sys.stdout)
        sys.stdout.write("\n")
        sys.stdout.flush()
