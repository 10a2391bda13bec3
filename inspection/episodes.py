"""Episodes to train on: a product, few normal pictures, a real expert fitted on them, what it says of sound and spoilt parts."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save as tensor_bytes

from inspection.calibration import calibrate
from inspection.evidence import Evidence, Finding, InspectionError, MapStats, Outcome, Thresholds, Verdict
from inspection.features import Progress, features_file
from inspection.fitting import fitted, held_out, stopper
from inspection.gate import gate, look
from inspection.image import Picture, Pixels, decode
from inspection.inspector import Inspector, weights_sha256
from inspection.options import EnrolOptions, resolved, view_of
from inspection.products import Product
from inspection.recipe import Recipe
from inspection.selftest import SelfTest
from inspection.sight import REFERENCES, scalars, scaled
from inspection.spoilt import Truth, painted, taken
from models import backbones
from models.catalog.files import replaced
from models.experts import load_expert
from models.lmm.prompt import SIDE
from models.runtime import Backbone

FEATURES = "dinov2_vits14"
"""The backbone whose patch features an episode keeps."""
SHOTS = {1: 0.03, 2: 0.05, 4: 0.34, 8: 0.17, 16: 0.33, 32: 0.08}
"""Normal pictures of an episode, and how often."""
SOUND, SPOILT = 5, 7
FOLDER_EVERY = 8
"""One episode in so many is of a folder's product."""
ROWS = 400
"""Rows of an episode's memory bank at 224 px: a small one is fitted fast and errs as a small one does."""
EXPERTS: tuple[tuple[float, EnrolOptions, int], ...] = (
    (0.56, EnrolOptions(coreset=ROWS, augment="off"), 32),
    (0.10, EnrolOptions(coreset=ROWS), 4),
    (0.10, EnrolOptions(coreset=ROWS, image_size=448, score_rule="top", augment="off"), 8),
    (0.12, EnrolOptions(coreset=ROWS, backbone=FEATURES, augment="off"), 16),
    (0.12, EnrolOptions(expert="padim"), 32),
)
"""Share of the episodes, the expert, and the most normal pictures it is fitted on here."""


@dataclass(frozen=True, slots=True)
class Episode:
    """Arrays as they are kept, and what is said of them."""

    tensors: dict[str, NDArray[Any]]
    """`features` `[n, 256, 384]` and `references` `[R, 256, 384]` float16, `map` `[n, 56, 56]` float16, `scalars` `[n, 4]`."""
    card: dict[str, Any]


def generate(
    folder: Path, catalogue: Sequence[Product], seed: int, numbers: Sequence[int], progress: Progress = lambda *_: None
) -> dict[int, str]:
    """Write the episodes of these numbers that `folder` lacks; returns those that no expert could be made for, and why.

    Each is written in one step, its JSON last: a run may be killed and started again, several may share the numbers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    refused: dict[int, str] = {}
    for done, number in enumerate(numbers, 1):
        said = folder / f"{number:05}.json"
        if not said.exists():
            try:
                made = episode(catalogue, seed, number)
            except InspectionError as error:
                refused[number] = error.message
            else:
                for path, data in ((said.with_suffix(".safetensors"), tensor_bytes(made.tensors)), (said, _json(made.card))):
                    with replaced(path) as scratch:
                        scratch.write_bytes(data)
        progress("episodes", done, len(numbers))
    return refused


def shards(folder: Path) -> list[Path]:
    """The JSON of each whole episode in a cache, in order of their numbers; its tensors have the same name."""
    return sorted(path for path in folder.glob("[0-9]*.json") if path.with_suffix(".safetensors").exists())


def scheduled(catalogue: Sequence[Product], seed: int, number: int) -> Product:
    """The product of an episode: every other one once before any comes again, each `FOLDER_EVERY`th a folder's."""
    folders = [one for one in catalogue if one.source == "folder"]
    others = [one for one in catalogue if one.source != "folder"]
    if folders and (number % FOLDER_EVERY == FOLDER_EVERY - 1 or not others):
        return folders[number // FOLDER_EVERY % len(folders)]
    turn = number - (number // FOLDER_EVERY if folders else 0)
    order = np.random.default_rng([seed, 1 << 20]).permutation(len(others))
    return others[int(order[turn % len(others)])]


def episode(catalogue: Sequence[Product], seed: int, number: int) -> Episode:
    """Episode `number`, a pure function of its arguments. Raises EnrolmentRefused where no expert can be made."""
    rng = np.random.default_rng([seed, number])
    product = scheduled(catalogue, seed, number)
    shots, options = _drawn(product, rng)
    count = shots + SOUND + SPOILT
    if product.size is None:
        indexes = (number << 8) + np.arange(count)
    else:
        order = rng.permutation(product.size)
        indexes = np.concatenate([order[:shots], np.resize(order[shots:], SOUND + SPOILT)])
    normals = [product.picture(int(index)) for index in indexes[:shots]]
    sight = _sight()
    spoilt = rng.permutation([False] * SOUND + [True] * SPOILT)
    features, maps, ratios, samples = [], [], [], []
    with tempfile.TemporaryDirectory(prefix="kensor-episode-") as near:
        inspector = enrolled(normals, options, Path(near))
        for index, spoil in zip(indexes[shots:], spoilt, strict=True):
            pixels, truth = painted(product.picture(int(index)), rng) if spoil else (product.picture(int(index)), Truth(False))
            data = taken(pixels, rng)
            outcome = inspector.inspect(data)
            features.append(_features(sight, decode(data).pixels))
            maps.append(np.asarray(scaled(outcome.map, outcome.thresholds.reject), np.float16))
            ratios.append(scalars(outcome.raw_score, outcome.map_stats.max, outcome.thresholds))
            samples.append({"evidence": _record(outcome), "truth": asdict(truth)})
        references = [_features(sight, normals[at]) for at in sorted({0, shots // 2})[:REFERENCES]]
        calibrated = inspector.recipe.calibration.thresholds.reject is not None
    expert = {
        "expert": options.expert, "backbone": options.backbone, "image_size": options.image_size,
        "score_rule": options.score_rule, "rows": options.coreset, "augment": options.augment, "calibrated": calibrated,
    }  # fmt: skip
    card = {
        "episode": number, "seed": seed, "product": product.name, "source": product.source, "held_out": product.held_out,
        "expert": expert, "normals": shots, "samples": samples,
    }  # fmt: skip
    tensors: dict[str, NDArray[Any]] = {
        "features": np.stack(features), "references": np.stack(references), "map": np.stack(maps), "scalars": np.stack(ratios)
    }  # fmt: skip
    return Episode(tensors, card)


def evidence_of(record: dict[str, Any]) -> Evidence:
    """A sample's evidence as a stored inspection's, without pictures; its product's name is neutral."""
    e = record["evidence"]
    review, reject = e["review"], e["reject"]
    found = tuple(Finding(**_tuples(one), polygon=()) for one in e["findings"])
    return Evidence(
        inspection_id="episode", product="product", verdict=Verdict(e["verdict"]), reasons=tuple(e["reasons"]),
        raw_score=e["raw_score"], score=None if reject is None else e["raw_score"] / (e["raw_score"] + reject),
        thresholds=Thresholds(review, reject), findings=found, map_stats=MapStats(**_tuples(e["map"])),
        width=e["width"], height=e["height"], recipe_number=1, recipe_sha256="", created_at="1970-01-01T00:00:00Z",
    )  # fmt: skip


def enrolled(normals: Sequence[Pixels], options: EnrolOptions, near: Path) -> Inspector:
    """An expert fitted and calibrated on these pictures as an enrolment does it, without self-test and golden pictures.

    `options` resolved; `near`: a folder for the time of the fit. Raises EnrolmentRefused.
    """
    view = view_of(options, [one.shape[:2] for one in normals])
    stop = stopper(None)

    def tell(stage: str, done: int, total: int) -> None:
        return None

    typicals: list[float] = []
    with (
        features_file(iter(normals), len(normals), options.expert, view, near, tell, stop) as features,
        fitted(options, view, features, normals.__getitem__, near, tell, None) as fit,
    ):
        scores, peaks = held_out(options.expert, view, fit.features, fit.state, options.seed, tell, None, (), typicals, fit.turns)
        state = fit.state
    draft = Recipe(
        product="product", expert=options.expert, backbone=options.backbone, image_size=view.input, size=view.size,
        tile=None, score_rule=view.rule, precision=view.precision, weights_sha256=weights_sha256(options.backbone),
        options=asdict(options), calibration=calibrate(scores, peaks, options.false_reject_rate, options.review_rate),
        choice=None, self_test=SelfTest(0, (), "Not tested."), gate=gate([look(_seen(one)) for one in normals], typicals),
        heatmap_max=1.0, golden=(), normals=(), warnings=(), files={}, libraries={}, created_at="",
    )  # fmt: skip
    return Inspector(draft, load_expert(options.expert, state, view))


def _drawn(product: Product, rng: np.random.Generator) -> tuple[int, EnrolOptions]:
    """How many normal pictures, and the resolved expert."""
    shots = int(rng.choice(list(SHOTS), p=list(SHOTS.values())))
    _, options, most = EXPERTS[rng.choice(len(EXPERTS), p=[share for share, *_ in EXPERTS])]
    if product.size is not None:
        most = min(most, max(product.size - SOUND - SPOILT, 1))
    shots = max(one for one in SHOTS if one <= min(shots, most))
    if options.expert == "padim" and shots < 2:
        options = EXPERTS[0][1]
    return shots, resolved(options)


def _seen(pixels: Pixels) -> Picture:
    return Picture(pixels, pixels.shape[1], pixels.shape[0], 3, 8, "png", "")


@lru_cache(maxsize=1)
def _sight() -> Backbone:
    return Backbone(FEATURES, SIDE)


def _features(sight: Backbone, pixels: Pixels) -> NDArray[np.float16]:
    found = sight.features(backbones.preprocess(pixels, sight.spec, SIDE)[None])[0]
    return np.asarray(found, np.float16)


def _record(outcome: Outcome) -> dict[str, Any]:
    """An outcome as JSON values: what `evidence_of` reads."""
    kept = [field.name for field in fields(Finding) if field.name != "polygon"]
    return {
        "verdict": str(outcome.verdict),
        "reasons": list(outcome.reasons),
        "raw_score": outcome.raw_score,
        "review": outcome.thresholds.review,
        "reject": outcome.thresholds.reject,
        "width": outcome.width,
        "height": outcome.height,
        "map": asdict(outcome.map_stats),
        "findings": [{name: getattr(found, name) for name in kept} for found in outcome.findings],
    }


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def _json(values: Any) -> bytes:
    return json.dumps(values, allow_nan=False, separators=(",", ":")).encode()
