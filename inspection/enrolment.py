"""Normal pictures to a recipe: features, coreset, held-out calibration, golden pictures; all of it or nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from safetensors.numpy import save as tensor_bytes

from inspection import recipe as recipes
from inspection import selftest
from inspection.calibration import calibrate
from inspection.choice import Pictures, choose, chooses
from inspection.drawn import drawn, spoil
from inspection.evidence import Cancelled, EnrolmentRefused
from inspection.features import Altered, Progress, features_file
from inspection.fitting import Stop, fitted, held_out, stopper
from inspection.gate import gate
from inspection.image import Limits, Pixels
from inspection.inspector import Inspector, weights_sha256
from inspection.normals import Normal, checked, copies_of, distinct, odd, read
from inspection.options import EnrolOptions, region_of, resolved, view_of
from inspection.recipe import Golden, Recipe
from inspection.region import described
from models.experts import TEMPLATE, FeaturesRefused, FitCancelled, load_expert, notes, without_own
from models.experts.patchcore import HELD

_GOLDEN_SIDE = 512
_DRAWN_CAP = 3
_LIBRARIES = ("kensor", "numpy", "onnxruntime", "opencv-python-headless", "safetensors")


def enroll(
    images: Sequence[bytes | Path],
    folder: Path,
    *,
    product: str,
    options: EnrolOptions = EnrolOptions(),
    progress: Progress | None = None,
    cancelled: Stop | None = None,
    names: Sequence[str] | None = None,
    region: np.ndarray | None = None,
    limits: Limits = Limits(),
    created_at: str | None = None,
    extension: Mapping[str, Any] | None = None,
    remarks: Sequence[str] = (),
    left_out: Sequence[str] = (),
) -> Recipe:
    """Make a recipe from normal pictures and write it to a new `folder`, in one step.

    `region` `[H, W]`, of the pictures' size: 0 where nothing is to be looked at. `extension`, `remarks` and `left_out`
    (extension.py) go into its options, before its warnings and before the copies that it leaves out.
    `progress(stage, done, total)` over the stages `decode`, `choose` (backbone `auto`), `features`, `turn` (turns.py),
    `coreset`, `selftest`, `refit`, `calibrate`, `odd` (of more than `HELD` pictures), `golden`. The same pictures and options
    give the same recipe digest. Raises EnrolmentRefused (no picture, bad pictures: each named in `details["bad"]`, all
    identical, options that do not fit, the folder exists), Cancelled, models.catalog.CatalogError, OSError (disk); in every
    case nothing is left behind.
    """
    tell = progress or (lambda *_: None)
    stop = stopper(cancelled)
    resolved(options)
    if folder.exists():
        raise EnrolmentRefused(f"{folder} exists already: a recipe is never overwritten.")
    given = checked(images, names, limits, tell, stop) if images or options.expert != "zeroshot" else []
    normals, warnings = distinct(given)
    if len(normals) > HELD:
        normals = _shuffled(normals, options.seed)  # the first are held out
    if options.expert == "padim" and len(normals) < 2:
        raise EnrolmentRefused("PaDiM needs at least 2 different normal pictures; PatchCore takes 1.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    typicals, further = list[float](), list[float]()
    known, table = Pictures.of(normals, limits), None
    try:
        if chooses(options):
            options, table = choose(options, known, region, tell, stop)
        options = resolved(options, [max(shape) for shape in known.shapes])
        view = view_of(options, known.shapes)
        inside = None if region is None else region_of(region, view, known.shapes)
        pictures_read = map(known.read, range(len(normals)))
        with (
            features_file(pictures_read, len(normals), options.expert, view, folder.parent, tell, stop, inside) as features,
            fitted(options, view, features, known.read, folder.parent, tell, cancelled, inside) as fit,
        ):
            warnings += fit.warnings
            state = fit.state
            copies = selftest.plan(known.digests[:HELD], "selftest") if len(normals) >= selftest.LEAST else []
            spoilt = selftest.painted(copies, known.read, region, None if view.tile else selftest.SIDE)
            with features_file(
                spoilt, len(copies), options.expert, view, folder.parent, tell, stop, inside, "selftest", state.get(TEMPLATE)
            ) as painted:
                altered = Altered([copy.picture for copy in copies], painted)
                scores, peaks = held_out(
                    options.expert, view, fit.features, state, options.seed, tell, cancelled, altered, typicals, fit.turns
                )
            if options.expert == "patchcore":
                for score in without_own(fit.features, state, view=view, cancelled=cancelled):
                    further.append(score)
                    tell("odd", len(further), len(normals) - HELD)
    except FitCancelled as error:
        raise Cancelled("The enrolment was cancelled.") from error
    except FeaturesRefused as error:
        raise EnrolmentRefused(f"The pictures cannot be enrolled: {error}.") from error
    held = len(scores) - len(copies)
    card = calibrate(scores[:held], peaks[:held], options.false_reject_rate, options.review_rate)
    card = replace(card, warnings=(*card.warnings, *notes(options.expert, state, len(normals))))
    seen = selftest.judge(scores[:held], copies, scores[held:], card.thresholds.reject)
    warnings = [*remarks, *warnings, *card.warnings, *odd(normals, card.held_out_scores, further), *selftest.warnings(seen)]
    draft = Recipe(
        product=product,
        expert=options.expert,
        backbone=options.backbone,
        image_size=view.input,
        size=view.size,
        tile=view.tile,
        score_rule=view.rule,
        precision=view.precision,
        weights_sha256=weights_sha256(options.backbone),
        options=asdict(options)
        | ({"region": described(region)} if region is not None else {})
        | ({"extension": dict(extension)} if extension else {}),
        calibration=card,
        choice=table,
        self_test=seen,
        gate=gate([n.seen for n in normals], typicals[:held]),
        heatmap_max=2 * card.finding_limit if card.finding_limit else 1.0,
        golden=(),
        normals=tuple(n.sha256 for n in normals),
        copies=(*left_out, *copies_of(given, normals)),
        warnings=tuple(warnings),
        files={},
        libraries={name: version(name) for name in _LIBRARIES},
        created_at=created_at or datetime.now(UTC).isoformat(timespec="milliseconds"),
    )
    expert = load_expert(options.expert, state, view)
    pictures = _golden_pictures(normals, limits)
    scored, files = [], {}
    for done, (name, kind, pixels) in enumerate(pictures, 1):
        stop()
        raw = Inspector(draft, expert).score(pixels)
        scored.append(Golden(name, kind, raw.score, float(raw.map.max())))
        files[name] = _png(pixels)
        tell("golden", done, len(pictures))
    if card.finding_limit is None:  # nothing held out to take the scale from: the drawn defect is the hottest known
        draft = replace(draft, heatmap_max=max(golden.map_max for golden in scored) or 1.0)
    files[recipes.ARRAYS[options.expert]] = tensor_bytes({name: np.ascontiguousarray(a) for name, a in state.items()})
    return recipes.save(folder, replace(draft, golden=tuple(scored)), files)


def _shuffled(normals: list[Normal], seed: int) -> list[Normal]:
    """The pictures in an order drawn by `seed`, whatever order they came in."""
    named = sorted(normals, key=lambda normal: normal.pixels_sha256)
    return [named[n] for n in np.random.default_rng(seed).permutation(len(named))]


def _golden_pictures(normals: list[Normal], limits: Limits) -> list[tuple[str, str, Pixels]]:
    """Three normal pictures (a drawn part where there is none) and the first with a drawn defect, at most 512 pixels a side."""
    chosen = sorted({0, len(normals) // 2, len(normals) - 1}) if normals else []
    pictures = [
        (f"golden/normal{n}.png", "normal", _small(read(normals[at].source, limits).pixels)) for n, at in enumerate(chosen)
    ]
    if not pictures:
        pictures = [("golden/normal0.png", "normal", drawn(_DRAWN_CAP, 0)[0])]
    floats = pictures[0][2].astype(np.float32) / 255
    spoilt, _ = spoil(floats, "spot", np.random.default_rng(0))
    return [*pictures, ("golden/synthetic.png", "synthetic", (255 * spoilt + 0.5).astype(np.uint8))]


def _small(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    scale = _GOLDEN_SIDE / max(height, width)
    if scale >= 1:
        return pixels
    target = (max(16, round(width * scale)), max(16, round(height * scale)))
    return np.asarray(cv2.resize(pixels, target, interpolation=cv2.INTER_AREA), np.uint8)


def _png(pixels: Pixels) -> bytes:
    bgr: Any = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", bgr)[1].tobytes()
