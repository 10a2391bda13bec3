"""Are the limits kept? The share of fresh sound parts over both limits, by number of normals, over many draws of them."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from inspection.calibration import calibrate
from inspection.evaluation import Sample, folders, pictures, samples
from inspection.features import features_file
from inspection.fitting import fitted, held_out
from inspection.metrics import auroc
from inspection.options import EnrolOptions, resolved, view_of
from models.experts import load_expert

SHOTS = (16, 32, 64, 128)


def promises(
    folder: Path, options: EnrolOptions = EnrolOptions(), shots: Sequence[int] = SHOTS, draws: int = 10
) -> Iterator[dict[str, Any]]:
    """Per number of normals: realised reject and review shares of the sound parts not drawn, and the defects' share rejected.

    Normals are drawn from all sound pictures of the folder, training and test; every other one is fresh. Each figure is
    given as mean, standard deviation, least and largest over `draws`.
    """
    tests = samples(folder)
    sound = [*pictures(folder / "train/good"), *(one.path for one in tests if not one.defective)]
    defective = [one.path for one in tests if one.defective]
    everything = [Sample(path, "good", None) for path in [*sound, *defective]]
    shapes = [everything[0].pixels().shape[:2]]
    options = resolved(options, [max(shape) for shape in shapes])
    view, quiet = view_of(options, shapes), (lambda *_: None)
    stream, near = (one.pixels() for one in everything), Path(tempfile.gettempdir())
    with features_file(stream, len(everything), options.expert, view, near, quiet, lambda: None) as features:
        for count in shots:
            if count >= len(sound):
                continue
            found: dict[str, list[float]] = {"overkill": [], "over_review": [], "recall": [], "image_auroc": []}
            for seed in range(draws):
                chosen = np.sort(np.random.default_rng(seed).permutation(len(sound))[:count])
                fresh = np.setdiff1d(np.arange(len(sound)), chosen)
                train = features.of(chosen.tolist())
                seeded, read = replace(options, seed=seed), (lambda n, of=chosen: everything[of[n]].pixels())
                with fitted(seeded, view, train, read, near, quiet, None) as fit:
                    fresh_scores = held_out(options.expert, view, train, fit.state, seed, quiet, None, turns=fit.turns)
                card = calibrate(*fresh_scores, options.false_reject_rate, options.review_rate)
                expert = load_expert(options.expert, fit.state, view)
                good, bad = (
                    np.array([expert.score_features(features[i][None])[0].score for i in rows_])
                    for rows_ in (fresh, np.arange(len(sound), len(everything)))
                )
                found["overkill"].append(float((good >= card.thresholds.reject).mean()))
                found["over_review"].append(float((good >= card.thresholds.review).mean()))
                found["recall"].append(float((bad >= card.thresholds.reject).mean()))
                found["image_auroc"].append(auroc(np.append(good, bad), np.arange(len(good) + len(bad)) >= len(good)) or 0.0)
            yield {
                "folder": folder.name,
                "expert": options.expert,
                "backbone": options.backbone,
                "image_size": view.input,
                "score_rule": view.rule,
                "normals": count,
                "draws": draws,
                "fresh": len(sound) - count,
                "defective": len(defective),
                "asked": {"overkill": options.false_reject_rate, "over_review": options.review_rate},
                **{name: _spread(values) for name, values in found.items()},
            }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {
        name: round(float(of(values)), 4)
        for name, of in (("mean", np.mean), ("deviation", np.std), ("least", np.min), ("largest", np.max))
    }


def run(directory: Path, options: EnrolOptions = EnrolOptions(), draws: int = 10) -> Iterator[dict[str, Any]]:
    """`promises` of every folder at `directory` or below."""
    for one in folders(directory):
        yield from promises(one, options, draws=draws)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="in the MVTec AD convention, or holding several such")
    parser.add_argument("--draws", type=int, default=10)
    asked = parser.parse_args()
    for row in run(asked.folder, draws=asked.draws):
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()
