"""Many normal pictures: how long an enrolment of thousands takes, stage by stage, and how much memory and disk.

`python -m benchmarks.many 10000 DIR`, or `kensor bench many DIR`: drawn plates of 512 × 512 pixels are written to a folder of
DIR (about 40 kB each), then enrolled in this process as a worker does it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np

from benchmarks.large import KINDS, peak_mib, picture
from inspection.enrolment import enroll
from inspection.inspector import Inspector
from inspection.metrics import auroc
from inspection.options import EnrolOptions

SIDE = 512
PRODUCT = 7
TESTED = 30
"""Fresh sound parts, and as many defective ones, that the recipe judges in the end."""


class Watch:
    """Seconds spent before each report of progress, by stage; a line on stderr now and then."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = self._said = perf_counter()

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now
        if now - self._said > 10:
            self._said = now
            left = self.seconds[stage] / max(done, 1) * (total - done)
            sys.stderr.write(f"{stage:<10}{done:>6} of {total}, {left:.0f} s left, {peak_mib():.0f} MiB at most so far\n")


def drawn(index: int, defect: str | None = None) -> bytes:
    """A plate as JPEG."""
    pixels, _ = picture(PRODUCT, index, defect, (SIDE, SIDE))
    return cv2.imencode(".jpg", pixels[..., 0], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


def run(count: int, near: Path, options: EnrolOptions = EnrolOptions(backbone="efficientnet_lite0")) -> dict[str, Any]:
    """Figures of one enrolment of `count` pictures, with its scratch files in the folder `near`."""
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory(dir=near) as folder:
        start, files = perf_counter(), []
        for index in range(count):
            files.append(Path(folder) / f"{index:05}.jpg")
            files[-1].write_bytes(drawn(index))
        spent, before, watch = perf_counter() - start, peak_mib(), Watch()
        start = perf_counter()
        made = enroll(files, Path(folder) / "recipe", product="plate", options=options, progress=watch)
        seconds, peak = perf_counter() - start, peak_mib()
        inspector = Inspector.load(Path(folder) / "recipe")
        kinds = [None] * TESTED + [KINDS[n % len(KINDS)] for n in range(TESTED)]
        judged = [inspector.inspect(drawn(count + n, kind)) for n, kind in enumerate(kinds)]
    scores = [one.raw_score for one in judged]
    limit = made.calibration.thresholds.reject
    return {
        "normals": count,
        "side": SIDE,
        "backbone": made.backbone,
        "image_size": made.image_size,
        "rows": round(made.files["memory_bank.safetensors"]["bytes"] / (4 * 152 + 4)),
        "held_out": made.calibration.n,
        "drawing_seconds": round(spent, 1),
        "seconds": round(seconds, 1),
        "stages": {stage: round(value, 1) for stage, value in watch.seconds.items()},
        "mib_before": round(before),
        "peak_mib": round(peak),
        "image_auroc": auroc(np.array(scores), np.array([kind is not None for kind in kinds])),
        "over_reject": None if limit is None else sum(score >= limit for score in scores[:TESTED]),
        "warnings": list(made.warnings),
    }


if __name__ == "__main__":
    json.dump(run(int(sys.argv[1]), Path(sys.argv[2])), sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")
