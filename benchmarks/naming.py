"""Are defects named rightly by a few labelled ones? Beside the mean colour difference and the most common name."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from inspection.calibration import calibrate
from inspection.defects import KINDS, doctor
from inspection.drawn import drawn
from inspection.evaluation import folders, pictures, samples
from inspection.evidence import Finding
from inspection.exemplars import BACKBONE, SIDE, Exemplar, name, region_feature
from inspection.findings import find
from inspection.image import Pixels, decode
from inspection.part import Mask
from models import backbones, experts
from models.experts import View
from models.runtime import Backbone

EACH = (1, 2, 4)
"""Labelled examples of each type."""
TYPES = 4
"""Painted kinds taken together, drawn anew for each seed."""
PAINTED = tuple(kind for kind in KINDS if kind not in ("cutpaste", "noise"))
_LONGEST = 640


@dataclass(frozen=True, slots=True)
class Found:
    """One finding of a real expert with its true type."""

    label: str
    feature: np.ndarray
    colour: np.ndarray
    passed: bool
    """The part was passed: the region is the map's peak, which the service would not show."""


class Eyes:
    """A PatchCore of few normals, its limits, and the backbone that names."""

    def __init__(self, normals: Sequence[Pixels], backbone: Backbone) -> None:
        view = View.square("efficientnet_lite0", 224)
        self._source, self._backbone = experts.extractor("patchcore", view), backbone
        features = [self._features(one) for one in normals]
        state = experts.fit("patchcore", features)
        fresh = [raw for _, raw in experts.held_out("patchcore", features, state, view=view)]
        self._card = calibrate([raw.score for raw in fresh], [float(raw.map.max()) for raw in fresh])
        self._expert = experts.load_expert("patchcore", state, view, source=self._source)

    def found(self, pixels: Pixels, label: str, mask: Mask | None) -> Found | None:
        """The finding that holds most of the mask (without one: the strongest); `None` where none touches it."""
        raw, limits = self._expert.score_features(self._features(pixels)[None])[0], self._card.thresholds
        height, width = pixels.shape[:2]
        passed = limits.review is not None and raw.score < limits.review
        seen = find(raw.map, None if passed else self._card.finding_limit, width, height, at_least_one=True)
        if mask is not None:
            seen = tuple(sorted((one for one in seen if _over(one, mask)), key=lambda one: -_over(one, mask)))
        if not seen:
            return None
        feature = region_feature(pixels, raw.map, seen[0], self._backbone)
        return Found(label, feature, _colour(pixels, seen[0]), passed)

    def _features(self, pixels: Pixels) -> np.ndarray:
        spec = backbones.spec("efficientnet_lite0")
        return np.asarray(self._source.features(backbones.preprocess(pixels, spec, 224)[None])[0])


def accuracy(found: Sequence[Found], each: int, seeds: int, most: int = 0) -> dict[str, Any]:
    """Share named rightly by `each` examples a type, mean over pictures, with the 90 % interval of a bootstrap over pictures.

    `nearest_colour` and `majority` on the same draws. `named`: not refused as unlike; `right_of_named` of those.
    """
    labels = np.array([one.label for one in found])
    rows: list[tuple[int, bool, bool, bool, bool]] = []
    for seed in range(seeds):
        rng = np.random.default_rng([seed, each])
        kinds = [kind for kind in np.unique(labels) if (labels == kind).sum() >= each + 2]
        kinds = list(rng.choice(kinds, min(most or len(kinds), len(kinds)), replace=False))
        taken = [rng.permutation(np.flatnonzero(labels == kind)) for kind in kinds]
        shown, asked = np.concatenate([t[:each] for t in taken]), np.concatenate([t[each:] for t in taken])
        known = [Exemplar(str(i), found[i].label, str(i), found[i].feature) for i in shown]
        colours, common = np.stack([found[i].colour for i in shown]), max(kinds, key=lambda kind: (labels[asked] == kind).sum())
        for i in asked:
            named, truth = name("", found[i].feature, known), labels[i]
            nearest = labels[shown[int(np.abs(colours - found[i].colour).sum(1).argmin())]]
            best = named.label or _voted(named.nearest)
            rows.append((i, best == truth, named.label is not None, nearest == truth, common == truth))
    table = np.array(rows, float)
    told = table[:, 2] > 0
    return {
        "each": each,
        "types": len(kinds),
        "pictures": len(np.unique(table[:, 0])),
        "accuracy": _interval(table, 1),
        "nearest_colour": _interval(table, 3),
        "majority": _interval(table, 4),
        "named": round(float(told.mean()), 3),
        "right_of_named": round(float(table[told, 1].mean()), 3),
    }


def _voted(nearest: Any) -> str:
    votes: dict[str, float] = {}
    for one in nearest:
        votes[one.label] = votes.get(one.label, 0.0) + float(np.exp(one.similarity / 0.08))
    return max(votes, key=lambda label: votes[label])


def _interval(table: np.ndarray, column: int) -> list[float]:
    """Mean, and the 5th and 95th percentile over resampled pictures."""
    of = [table[table[:, 0] == i, column].mean() for i in np.unique(table[:, 0])]
    rng = np.random.default_rng(0)
    drawn_ = [float(rng.choice(of, len(of)).mean()) for _ in range(1000)]
    return [round(float(x), 3) for x in (np.mean(of), *np.percentile(drawn_, [5, 95]))]


def _over(finding: Finding, mask: Mask) -> int:
    plane: Any = np.zeros(mask.shape, np.uint8)
    cv2.fillPoly(plane, [np.array(finding.polygon, np.int32)], 1)
    return int(plane[mask].sum())


def _colour(pixels: Pixels, finding: Finding) -> np.ndarray:
    """Mean colour of the region less that of the rest, Lab."""
    plane: Any = np.zeros(pixels.shape[:2], np.uint8)
    cv2.fillPoly(plane, [np.array(finding.polygon, np.int32)], 1)
    lab: Any = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)
    inside = plane > 0
    return np.asarray(lab[inside].mean(0) - lab[~inside].mean(0), np.float64)


def of_folder(folder: Path, shots: int, backbone: Backbone) -> list[Found]:
    """The findings of a folder's defects, typed by its sub-folders."""
    files = pictures(folder / "train/good")
    chosen = np.random.default_rng(0).permutation(len(files))[:shots]
    eyes, found = Eyes([_read(files[i]) for i in chosen], backbone), list[Found]()
    for one in samples(folder):
        if one.defective:
            mask = None if one.mask is None else decode(one.mask.read_bytes()).pixels[..., 0] > 0
            seen = eyes.found(one.pixels(), one.defect, mask)
            found += [seen] if seen else []
    return found


def painted(good: Callable[[int], Pixels], normals: Sequence[Pixels], backbone: Backbone, each: int = 12) -> list[Found]:
    """The findings of defects painted into good pictures, `each` of every kind."""
    eyes, found = Eyes(normals, backbone), list[Found]()
    for number, kind in enumerate(kind for kind in PAINTED for _ in range(each)):
        pixels, mask = doctor(good(number), kind, np.random.default_rng([7, number]))
        seen = eyes.found(pixels, kind, mask)
        found += [seen] if seen and not seen.passed else []
    return found


def _read(path: Path) -> Pixels:
    pixels = decode(path.read_bytes()).pixels
    scale = _LONGEST / max(pixels.shape[:2])
    small: Any = pixels if scale >= 1 else cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(small)


def run(given: Sequence[Path], shots: int = 16, seeds: int = 20, paint: bool = False) -> Iterator[dict[str, Any]]:
    """A line for each folder and number of examples, findings of passed parts counted and left out; with `paint` on defects
    painted into the folders' good pictures and into four drawn products."""
    backbone = Backbone(BACKBONE, SIDE)
    sets: list[tuple[str, Callable[[], list[Found]]]] = []
    for folder in given if paint else [one for directory in given for one in folders(directory)]:
        title = f"{folder.parent.name}/{folder.name}"
        sets.append((title, lambda at=folder: _painted_folder(at, shots, backbone) if paint else of_folder(at, shots, backbone)))
    for seed in range(8, 12) if paint else ():
        normals = [drawn(seed, n)[0] for n in range(shots)]
        sets.append((f"drawn/{seed}", lambda s=seed, n=normals: painted(lambda i: drawn(s, 100 + i)[0], n, backbone)))
    for title, make in sets:
        everything = make()
        seen = [one for one in everything if not one.passed]
        for which, part in (("flagged", seen), ("all", everything)):
            if which == "all" and len(seen) == len(everything):
                continue
            for each in EACH:
                counts = {label: sum(one.label == label for one in part) for label in {one.label for one in part}}
                if sum(count >= each + 2 for count in counts.values()) >= 2:
                    yield {"folder": title, "findings": which, **accuracy(part, each, seeds, TYPES if paint else 0)}


def _painted_folder(folder: Path, shots: int, backbone: Backbone) -> list[Found]:
    files = [*pictures(folder / "train/good"), *pictures(folder / "test/good")]
    order = np.random.default_rng(0).permutation(len(files))
    few, rest = order[: min(shots, len(files) // 2)], order[min(shots, len(files) // 2) :]
    return painted(lambda n: _read(files[rest[n % len(rest)]]), [_read(files[i]) for i in few], backbone)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+", help="in the MVTec AD convention, or holding several such")
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--paint", action="store_true")
    asked = parser.parse_args()
    for line in run(asked.folders, asked.shots, asked.seeds, asked.paint):
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
