"""Picture bytes to raw score: the line's runtime beside anomalib's own model, same weights, bank, pictures and threads, one run.

Both decode and preprocess alike. Anomalib's model runs as it is by default (float32, the dense blur). Repeats alternate, so
that whatever else the machine does falls on both. `python -m benchmarks.experts`, or `kensor bench experts`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np
from skimage import data

from models import backbones
from models.experts import Expert, load_expert
from models.runtime import Backbone


def pictures(folder: Path | None, count: int) -> list[bytes]:
    """`count` pictures as PNG bytes: a folder's, or windows of scikit-image's brick wall."""
    if folder is not None:
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".bmp"))
        return [path.read_bytes() for path in files[:count]]
    wall = np.asarray(data.brick())  # type: ignore[no-untyped-call]
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 200, (count, 2))
    return [cv2.imencode(".png", wall[y : y + 300, x : x + 300])[1].tobytes() for y, x in corners]


def _score(expert: Expert, spec: backbones.BackboneSpec, size: int, content: bytes) -> float:
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    return expert.score(backbones.preprocess(image, spec, size)[None])[0].score  # type: ignore[arg-type]


def _quartiles(seconds: Sequence[float]) -> list[float]:
    return [round(float(value) * 1e3, 2) for value in np.percentile(seconds, (25, 50, 75))]


def _bank(features: list[np.ndarray], rows: int) -> np.ndarray:
    """Exactly `rows` patches, so that the search costs what it says: drawn with a little noise where there are fewer."""
    rng = np.random.default_rng(0)
    patches = np.concatenate(features)
    chosen = patches[rng.choice(len(patches), rows, replace=len(patches) < rows)]
    return (chosen + rng.normal(scale=patches.std(0) / 10, size=chosen.shape)).astype(np.float32)


def run(
    backbone: str = "efficientnet_lite0", size: int = 224, rows: int = 2000, repeats: int = 30, folder: Path | None = None
) -> dict[str, Any]:
    """Milliseconds per picture (quartiles over `repeats` of both), their ratio, and how far the scores lie apart."""
    import torch

    from models.experts.oracle import TorchExpert

    cv2.setNumThreads(1)
    session = Backbone(backbone, size)
    contents = pictures(folder, 40)
    fitted, asked = contents[:10], contents[10:] or contents
    decoded = [cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB) for content in fitted]
    prepared = np.stack([backbones.preprocess(image, session.spec, size) for image in decoded])  # type: ignore[arg-type]
    state = {"memory_bank": _bank(list(session.features(prepared)), rows), "source": np.zeros(rows, np.int32)}
    ours = load_expert("patchcore", state, backbone=backbone, image_size=size)
    theirs = TorchExpert("patchcore", state, backbone, size, precision=torch.float32)
    exact = TorchExpert("patchcore", state, backbone, size)
    contestants: list[tuple[str, Expert]] = [("kensor", ours), ("anomalib", theirs)]
    apart = {"float32": 0.0, "float64_search": 0.0}
    for content in asked[:8]:  # also the warm-up
        mine = _score(ours, session.spec, size, content)
        for name, oracle in (("float32", theirs), ("float64_search", exact)):
            other = _score(oracle, session.spec, size, content)
            apart[name] = max(apart[name], abs(mine - other) / other)
    spent: dict[str, list[float]] = {"kensor": [], "anomalib": []}
    for repeat in range(repeats):
        for name, expert in contestants:
            start = perf_counter()
            _score(expert, session.spec, size, asked[repeat % len(asked)])
            spent[name].append(perf_counter() - start)
    return {
        "backbone": backbone,
        "image_size": size,
        "rows": rows,
        "repeats": repeats,
        "threads": 1,
        "kensor_ms": _quartiles(spent["kensor"]),
        "anomalib_ms": _quartiles(spent["anomalib"]),
        "ratio": [round(float(q), 2) for q in np.percentile(np.divide(spent["anomalib"], spent["kensor"]), (25, 50, 75))],
        "score_difference": {name: float(f"{value:.1e}") for name, value in apart.items()},
    }


def settings() -> list[tuple[str, int, int]]:
    """Backbone, picture size, bank rows: what the design states its figures for."""
    return [("efficientnet_lite0", 224, 2000), ("efficientnet_lite0", 448, 2000), ("efficientnet_lite0", 224, 20_000)]


if __name__ == "__main__":
    for backbone, size, rows in settings():
        json.dump(run(backbone, size, rows), sys.stdout)
        sys.stdout.write("\n")
