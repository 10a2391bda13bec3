"""Accuracy over folders: every expert and backbone, `auto` beside them, with 1, 4, 16 and all normals, over several draws."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean, pstdev
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from inspection.choice import Choice, Pictures, choose
from inspection.evaluation import Sample, folders, masks_at, pictures, samples, with_templates
from inspection.features import Progress, features_file
from inspection.fitting import as_fitted, fitted
from inspection.image import Limits
from inspection.metrics import auroc
from inspection.normals import checked, distinct
from inspection.options import EnrolOptions, resolved, view_of
from models.experts import load_expert
from models.experts.layout import Layout
from models.experts.view import RULES
from models.runtime import Backbone, Floats

SHOTS = (1, 4, 16, 0)
"""Normals per draw; 0: all of them, drawn once."""
CONFIGURATIONS = (
    EnrolOptions("patchcore", "efficientnet_lite0"),
    EnrolOptions("patchcore", "dinov2_vits14"),
    EnrolOptions("padim", "efficientnet_lite0"),
    EnrolOptions("padim", "dinov2_vits14"),
    EnrolOptions("reference", "efficientnet_lite0"),
)


class Draw(NamedTuple):
    """Which normals, of how many asked for, by which seed."""

    shots: int
    seed: int
    chosen: np.ndarray


def draws(count: int, shots: Sequence[int], seeds: int) -> list[Draw]:
    """`seeds` draws for each number of normals the folder has; one of all."""
    found = []
    for wanted in shots:
        if wanted < count:
            for seed in range(seeds if wanted else 1):
                rng = np.random.default_rng(seed)
                found.append(Draw(wanted, seed, np.sort(rng.choice(count, wanted or count, replace=False))))
    return found


def measured(folder: Path, options: EnrolOptions, wanted: Sequence[Draw]) -> Iterator[dict[str, Any]]:
    """Image and pixel AUROC of one configuration for each draw and score rule; features once per picture."""
    normals, tests = pictures(folder / "train/good"), samples(folder)
    templates, tests = with_templates(folder, tests) if options.expert == "reference" else ([], tests)
    everything = [*(Sample(path, "good", None) for path in [*templates, *normals]), *tests]
    shapes = [one.pixels().shape[:2] for one in everything[:16]]
    options = resolved(options, [max(shape) for shape in shapes])
    view, first = view_of(options, shapes), len(templates) + len(normals)
    masks, defective = masks_at(tests, view.map_size), np.array([one.defective for one in tests])
    known = [i for i, mask in enumerate(masks) if mask is not None]
    truth = np.stack([masks[i] for i in known]) if any(m is not None and m.any() for m in masks) else None
    both = options.expert == "patchcore" and len(view.halves) == 1  # of a fused score the patches do not tell the other rule
    layouts = {rule: Layout(replace(view, rule=rule)) for rule in (RULES if both else (view.rule,))}
    stream = (one.pixels() for one in everything)
    near, quiet = Path(tempfile.gettempdir()), (lambda *_: None)
    with features_file(stream, len(everything), options.expert, view, near, quiet, lambda: None) as features:
        for draw in wanted:
            start = perf_counter()
            enrolled = [*range(len(templates)), *(len(templates) + draw.chosen).tolist()]
            if options.expert == "padim" and len(enrolled) < 2:  # one picture has no covariance
                continue
            seeded, read = replace(options, seed=draw.seed), (lambda n, of=enrolled: everything[of[n]].pixels())
            with fitted(seeded, view, features.of(enrolled), read, near, quiet, None) as fit:
                joined = len(fit.turns)
            expert = load_expert(options.expert, fit.state, view)
            tested, pixels = features[first:], (one.pixels() for one in tests)
            with as_fitted(fit.state, tested, pixels, options.expert, view, near, quiet, None) as seen:
                raws = [expert.score_features(one[None])[0] for one in seen]
            pixel = None if truth is None else auroc(np.stack([raws[i].map for i in known]), truth)
            for rule, layout in layouts.items():
                scores = [raw.score if rule == view.rule else layout.pooled(raw.patches.ravel()) for raw in raws]
                yield {
                    "folder": f"{folder.parent.name}/{folder.name}",
                    "expert": options.expert,
                    "backbone": options.backbone,
                    "image_size": view.input,
                    "score_rule": rule,
                    "normals": draw.shots or len(normals),
                    "all": not draw.shots,
                    "seed": draw.seed,
                    "test_normal": int((~defective).sum()),
                    "test_defective": int(defective.sum()),
                    "turned": joined > 0,
                    "image_auroc": auroc(np.array(scores), defective),
                    "pixel_auroc": pixel,
                    "seconds": round(perf_counter() - start, 2),
                }


@contextmanager
def remembered() -> Iterator[None]:
    """Within, a backbone runs once on a picture: what it gave lies in a folder under the picture's digest.

    Configurations, draws and the choice ask for the same pictures, turned copies included, again and again.
    """
    plain = Backbone.features
    with tempfile.TemporaryDirectory(prefix="kensor-bench-") as folder:

        def features(self: Backbone, images: Floats) -> Floats:
            found = []
            for at in range(len(images)):
                digest = hashlib.blake2b(np.ascontiguousarray(images[at]).data, digest_size=16).hexdigest()
                path = Path(folder) / f"{self.name.replace('/', '-')}-{self.size}-{digest}.npy"
                if not path.exists():
                    np.save(path, plain(self, images[at : at + 1])[0])
                found.append(np.load(path))
            return np.stack(found)

        Backbone.features = features  # type: ignore[method-assign]
        try:
            yield
        finally:
            Backbone.features = plain  # type: ignore[method-assign]


def taken(files: Sequence[Path], seed: int) -> tuple[EnrolOptions, Choice]:
    """What `auto` takes by these normal pictures alone, and the table that it was chosen by."""
    limits, quiet = Limits(), (lambda *_: None)
    normals, _ = distinct(checked(files, None, limits, quiet, lambda: None))
    return choose(EnrolOptions(backbone="auto", seed=seed), Pictures.of(normals, limits), None, quiet, lambda: None)


def renamed(folder: Path, shots: int) -> dict[str, Any]:
    """What `auto` takes by normals of a folder, and by them under other names, in another order, in a folder of another name.

    `same` where way and table, times apart, are equal.
    """
    files, rng = pictures(folder / "train/good"), random.Random(shots)
    some = sorted(rng.sample(files, shots)) if 0 < shots < len(files) else files
    with remembered(), tempfile.TemporaryDirectory() as near:
        there = Path(near) / f"{rng.getrandbits(64):x}"
        there.mkdir()
        for path in some:
            (there / f"{rng.getrandbits(64):x}{path.suffix}").symlink_to(path.absolute())
        first, second = taken(some, 0), taken(pictures(there), 0)
    (options, choice), (again, table) = first, second
    untimed = [[replace(row, ms=0.0) for row in one.candidates] for one in (choice, table)]
    return {
        "folder": f"{folder.parent.name}/{folder.name}",
        "normals": len(some),
        "way": f"{options.backbone} {options.image_size} {options.score_rule}",
        "same": options == again and untimed[0] == untimed[1] and choice.note == table.note,
        "table": [asdict(row) for row in choice.candidates],
    }


def whole(folder: Path, shots: Sequence[int], seeds: int) -> list[dict[str, Any]]:
    """Every configuration on one folder, and for each draw the one that `auto` takes."""
    with remembered():
        return _whole(folder, draws(len(pictures(folder / "train/good")), shots, seeds))


def _whole(folder: Path, wanted: Sequence[Draw]) -> list[dict[str, Any]]:
    files = pictures(folder / "train/good")
    rows = [row for options in CONFIGURATIONS for row in measured(folder, options, wanted)]
    ways: dict[EnrolOptions, list[Draw]] = {}
    for draw in wanted:
        way = resolved(taken([files[i] for i in draw.chosen], draw.seed)[0])
        ways.setdefault(replace(way, seed=0), []).append(draw)
    for way, own in ways.items():
        label = {"backbone": "", "image_size": 0, "score_rule": "", "way": f"{way.backbone} {way.image_size} {way.score_rule}"}
        found = [row for row in measured(folder, way, own) if row["score_rule"] == way.score_rule]
        rows += [{**row, "expert": "auto", **label} for row in found]
    return rows


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and deviation over the draws of each folder, configuration and number of normals."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    keys = ("folder", "expert", "backbone", "image_size", "score_rule", "normals", "all")
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    found = []
    for key, own in groups.items():
        means: dict[str, Any] = dict(zip(keys, key, strict=True)) | {"draws": len(own)}
        means["turned"] = sum(row["turned"] for row in own)
        if ways := sorted(row["way"] for row in own if "way" in row):
            means["ways"] = {way: ways.count(way) for way in dict.fromkeys(ways)}
        for name in ("image_auroc", "pixel_auroc"):
            values = [row[name] for row in own if row[name] is not None]
            means[name] = round(fmean(values), 4) if values else None
            means[f"{name}_deviation"] = round(pstdev(values), 4) if values else None
        found.append(means)
    return found


def run(given: Sequence[Path], seeds: int = 3, jobs: int = 0, tell: Progress = lambda *_: None) -> Iterator[dict[str, Any]]:
    """The summary of every folder at `given` or below, largest first; `jobs` folders at a time, a thread each."""
    chosen = [one for directory in given for one in folders(directory)]
    chosen.sort(key=lambda folder: (-len(pictures(folder / "train/good")) - len(samples(folder)), folder))
    with ProcessPoolExecutor(jobs or os.cpu_count() or 1) as pool:
        for done, rows in enumerate(pool.map(whole, chosen, [SHOTS] * len(chosen), [seeds] * len(chosen)), 1):
            yield from summary(rows)
            tell("folders", done, len(chosen))


def run_renamed(given: Sequence[Path], jobs: int = 0, tell: Progress = lambda *_: None) -> Iterator[dict[str, Any]]:
    """`renamed` of every folder at `given` or below, with 16 normals and with all."""
    chosen = [(one, some) for directory in given for one in folders(directory) for some in (16, 0)]
    with ProcessPoolExecutor(jobs or os.cpu_count() or 1) as pool:
        for done, row in enumerate(pool.map(renamed, *zip(*chosen, strict=True)), 1):
            yield row
            tell("folders", done, len(chosen))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+", help="in the MVTec AD convention, or holding several such")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=0)
    asked = parser.parse_args()
    for line in run(asked.folders, asked.seeds, asked.jobs):
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
