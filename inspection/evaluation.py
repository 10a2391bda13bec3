"""Figures on folders in the MVTec AD convention: features once per picture, then any number of draws of normals."""

from __future__ import annotations

import resource
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Any

import cv2
import numpy as np

from inspection.calibration import calibrate
from inspection.choice import Pictures, choose, chooses
from inspection.evidence import Cancelled, EnrolmentRefused, InspectionError, Verdict
from inspection.features import Features, Progress, features_file
from inspection.fitting import Stop, as_fitted, fitted, held_out, stopper
from inspection.image import Limits, Pixels, decode
from inspection.metrics import aupro, auroc, f1_max
from inspection.normals import checked, distinct
from inspection.options import EnrolOptions, resolved, view_of
from inspection.templates import Pair, pairs
from inspection.verdict import decide
from models.experts import TEMPLATE, FeaturesRefused, FitCancelled, View, load_expert
from models.experts.patchcore import HELD

FIGURES = (
    "image_auroc", "pixel_auroc", "aupro", "f1_max", "overkill", "escape", "review_share", "ms_per_image", "peak_mib",
)  # fmt: skip
_LOOKED_AT = 16  # normals whose size is looked at
_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


class FolderRefused(InspectionError):
    """A folder that is not in the MVTec AD convention, or has too few pictures."""

    code = "folder_refused"


@dataclass(frozen=True, slots=True)
class Sample:
    """One test picture."""

    path: Path
    defect: str
    """`good`, or the name of its folder."""
    mask: Path | None
    pair: Pair | None = None
    """Set where this sound part is made from a defective one, its template standing in at the defects."""

    @property
    def defective(self) -> bool:
        return self.defect != "good"

    def pixels(self) -> Pixels:
        """The picture. Raises NotAnImage."""
        healed = self.pair.healed() if self.pair else None
        return decode(self.path.read_bytes()).pixels if healed is None else healed


def folders(directory: Path) -> list[Path]:
    """The folders with `train/good` and `test` at `directory` or at most two levels below. Raises FolderRefused without any."""
    for candidates in ([directory], directory.glob("*"), directory.glob("*/*")):
        found = [d for d in sorted(candidates) if (d / "train/good").is_dir() and (d / "test").is_dir()]
        if found:
            return found
    raise FolderRefused(f"{directory} holds no folder with train/good and test (the MVTec AD convention).")


def pictures(folder: Path) -> list[Path]:
    """Picture files of a folder, by name."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES) if folder.is_dir() else []


def samples(folder: Path) -> list[Sample]:
    """The test pictures of one folder, each with its mask where there is one (`ground_truth/<defect>/<stem>_mask.png`)."""
    found = []
    for kind in sorted(d for d in (folder / "test").iterdir() if d.is_dir()):
        for path in pictures(kind):
            truth = folder / "ground_truth" / kind.name
            masks = [m for m in (truth / f"{path.stem}_mask.png", truth / f"{path.stem}.png") if m.is_file()]
            found.append(Sample(path, kind.name, masks[0] if masks and kind.name != "good" else None))
    return found


def evaluate(
    directory: Path,
    options: EnrolOptions = EnrolOptions(),
    *,
    shots: int | None = None,
    seeds: int = 1,
    progress: Progress | None = None,
    cancelled: Stop | None = None,
) -> list[dict[str, Any]]:
    """Per folder, `FIGURES` as means over `seeds` draws of `shots` normals (all without `shots`), with counts and settings.

    `overkill`: normals rejected; `escape`: defects passed; `review_share`: of all pictures; all three at the calibrated
    limits, the gate apart. `ms_per_image`: decoding, features, search and map. `peak_mib`: the process's peak so far. A
    figure is `None` where it cannot be had (no masks, one kind of picture). For the reference expert, templates that a folder's
    manifest names are enrolled beside the normals (`templates`), and a test picture that is such a template, which would be
    compared with itself, gives way to the part it is the template of, its defects replaced by the template. With backbone
    `auto` each draw takes the way that its own normals choose (`ways` counts them, `options` are the last draw's).
    Raises FolderRefused, NotAnImage, EnrolmentRefused, Cancelled.
    """
    resolved(options)
    one = _by_choice if chooses(options) else _evaluate
    try:
        return [one(folder, options, shots, seeds, progress or (lambda *_: None), cancelled) for folder in folders(directory)]
    except FitCancelled as error:
        raise Cancelled("The evaluation was cancelled.") from error
    except FeaturesRefused as error:
        raise EnrolmentRefused(f"The pictures cannot be enrolled: {error}.") from error


def mean(rows: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """The mean of each figure over the folders that have it."""
    columns = {name: [row[name] for row in rows if row[name] is not None] for name in FIGURES}
    return {name: fmean(values) if values else None for name, values in columns.items()}


def _by_choice(
    folder: Path, options: EnrolOptions, shots: int | None, seeds: int, tell: Progress, cancelled: Stop | None
) -> dict[str, Any]:
    normals, rows, ways = pictures(folder / "train/good"), list[dict[str, Any]](), Counter[str]()
    wanted, stop = min(shots or len(normals), len(normals)), stopper(cancelled)
    for seed in range(options.seed, options.seed + (seeds if wanted < len(normals) else 1)):
        drawn = np.sort(np.random.default_rng(seed).choice(len(normals), wanted, replace=False))
        taken = checked([normals[i] for i in drawn], None, Limits(), tell, stop)
        chosen, _ = choose(replace(options, seed=seed), Pictures.of(distinct(taken)[0], Limits()), None, tell, stop)
        rows.append(_evaluate(folder, chosen, shots, 1, tell, cancelled))
        ways[f"{chosen.backbone} {rows[-1]['options']['image_size']} {rows[-1]['options']['score_rule']}"] += 1
    return {**rows[-1], **mean(rows), "seeds": len(rows), "ways": dict(ways)}


def _evaluate(
    folder: Path, options: EnrolOptions, shots: int | None, seeds: int, tell: Progress, cancelled: Stop | None
) -> dict[str, Any]:
    normals, tests, stop = pictures(folder / "train/good"), samples(folder), stopper(cancelled)
    wanted = shots or len(normals)
    templates, tests = with_templates(folder, tests) if options.expert == "reference" else ([], tests)
    if not tests or not 0 < wanted <= len(normals):
        asked = f"; {wanted} normals are asked for" if shots else ""
        raise FolderRefused(f"{folder} has {len(normals)} normal and {len(tests)} test pictures{asked}.")
    shapes = [decode(path.read_bytes()).pixels.shape[:2] for path in normals[:_LOOKED_AT]]
    options = resolved(options, [max(shape) for shape in shapes])
    view, near = view_of(options, shapes), Path(tempfile.gettempdir())
    start = perf_counter()
    total = len(templates) + len(normals) + len(tests)
    everything = [*(Sample(path, "good", None) for path in [*templates, *normals]), *tests]
    stream = (one.pixels() for one in everything)
    with features_file(stream, total, options.expert, view, near, tell, stop) as features:
        per_picture = 1e3 * (perf_counter() - start) / total
        masks = masks_at(tests, view.map_size)
        draws = []
        for seed in range(options.seed, options.seed + (seeds if wanted < len(normals) else 1)):
            chosen = np.sort(np.random.default_rng(seed).choice(len(normals), wanted, replace=False))
            chosen = np.concatenate([np.arange(len(templates)), len(templates) + chosen])
            seeded = replace(options, seed=seed)
            draws.append(_draw(features, chosen, everything, tests, masks, seeded, view, per_picture, tell, cancelled))
            tell("draws", len(draws), seeds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 2**20)
    return {
        "folder": folder.name,
        "normals": wanted,
        "templates": len(templates),
        "test_normal": sum(not s.defective for s in tests),
        "test_defective": sum(s.defective for s in tests),
        "seeds": len(draws),
        **{name: mean([{**dict.fromkeys(FIGURES), **draw} for draw in draws])[name] for name in FIGURES},
        "peak_mib": peak,
        "options": asdict(options),
    }


def _draw(
    features: Features,
    chosen: np.ndarray,
    everything: list[Sample],
    tests: list[Sample],
    masks: list[np.ndarray | None],
    options: EnrolOptions,
    view: View,
    per_picture: float,
    tell: Progress,
    cancelled: Stop | None,
) -> dict[str, Any]:
    if len(chosen) > HELD:
        chosen = np.random.default_rng(options.seed).permutation(chosen)  # the first ones are held out
    train, near = features.of(chosen.tolist()), Path(tempfile.gettempdir())
    with fitted(options, view, train, lambda n: everything[chosen[n]].pixels(), near, tell, cancelled) as fit:
        fresh = held_out(options.expert, view, fit.features, fit.state, options.seed, tell, cancelled, turns=fit.turns)
    limits = calibrate(*fresh, options.false_reject_rate, options.review_rate).thresholds
    expert = load_expert(options.expert, fit.state, view)
    start = perf_counter()
    tested, pixels = features[len(everything) - len(tests) :], (one.pixels() for one in tests)
    with as_fitted(fit.state, tested, pixels, options.expert, view, near, tell, cancelled) as seen:
        raws = [expert.score_features(one[None])[0] for one in seen]
    spent = 1e3 * (perf_counter() - start) / len(tests) + (0 if TEMPLATE in fit.state else per_picture)
    scores, defective = np.array([raw.score for raw in raws]), np.array([s.defective for s in tests])
    verdicts = np.array([decide(raw.score, limits)[0] for raw in raws])
    known = [i for i, mask in enumerate(masks) if mask is not None]
    maps, truths = [raws[i].map for i in known], [m for m in masks if m is not None]
    masked = any(truth.any() for truth in truths)
    return {
        "image_auroc": auroc(scores, defective),
        "pixel_auroc": auroc(np.stack(maps), np.stack(truths)) if masked else None,
        "aupro": aupro(maps, truths) if masked else None,
        "f1_max": f1_max(scores, defective),
        "overkill": _share(verdicts[~defective] == Verdict.REJECT),
        "escape": _share(verdicts[defective] == Verdict.PASS),
        "review_share": _share(verdicts == Verdict.REVIEW),
        "ms_per_image": spent,
    }


def with_templates(folder: Path, tests: list[Sample]) -> tuple[list[Path], list[Sample]]:
    """The templates that the folder's manifest names, and the tests without comparing one with itself."""
    found = pairs(folder)
    of = {pair.template: pair for pair in found.values()}
    return sorted(of), [replace(one, pair=of.get(one.path)) if not one.defective else one for one in tests]


def masks_at(tests: list[Sample], size: tuple[int, int]) -> list[np.ndarray | None]:
    """Masks at the map's size; empty for normals, `None` for a defect without one."""
    found: list[np.ndarray | None] = []
    for sample in tests:
        if not sample.defective:
            found.append(np.zeros(size, bool))
        elif sample.mask is None:
            found.append(None)
        else:
            pixels = decode(sample.mask.read_bytes()).pixels[..., 0]
            found.append(np.asarray(cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_NEAREST)) > 0)
    return found


def _share(of: np.ndarray) -> float | None:
    return float(of.mean()) if len(of) else None
