"""Normal pictures added to a recipe: what is new in them goes into its memory bank, the limits follow, the parent stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from safetensors.numpy import save as tensor_bytes

from inspection import recipe as recipes
from inspection import selftest
from inspection.calibration import Calibration, calibrate
from inspection.enrolment import enroll
from inspection.evidence import Cancelled, EnrolmentRefused
from inspection.features import Altered, Progress, features_file
from inspection.fitting import Stop, stopper
from inspection.gate import Gate, Look, typical, widened
from inspection.image import Limits, decode
from inspection.inspector import Inspector
from inspection.normals import Normal, checked, copies_of, distinct, read, some
from inspection.options import MAX_BANK, EnrolOptions
from inspection.recipe import Golden, Recipe
from models.experts import REGION, FeaturesRefused, FitCancelled, load_expert
from models.experts.fused import BANKS, Fusion
from models.experts.insertion import Inserted, insert, insert_fused
from models.experts.layout import Layout

LEAST = 32
"""Pictures from which on a recipe is extended; a smaller one changes too much with each, and is quickly fitted anew."""
GROWTH = 1.5
"""Rows of the memory bank at most, over those of the first recipe of the line."""
_RISE = 1.1
_EACH = 2  # copies of each kind in the self-test, half an enrolment's: it is seconds that count here


def extend(
    parent: Path,
    images: Sequence[bytes | Path],
    folder: Path,
    *,
    originals: Callable[[str], bytes | Path] | None = None,
    progress: Progress | None = None,
    cancelled: Stop | None = None,
    names: Sequence[str] | None = None,
    limits: Limits = Limits(),
    created_at: str | None = None,
) -> Recipe:
    """Make a recipe from the one in `parent` and further normal pictures, and write it to a new `folder`, in one step.

    PatchCore keeps its bank and takes in the patches beyond its covering radius; the parent's held-out scores stay, which
    bounds them from above, and the new pictures' come from insertions without them, like the self-test. PaDiM, the reference
    expert and recipes of fewer than `LEAST` pictures are fitted anew from all pictures: `originals` gives the parent's by
    digest (without it a small PatchCore recipe is extended all the same). `options["extension"]` says what it was made from.
    Pictures that the parent has already are skipped.

    Raises RecipeRefused (a parent that does not hold), EnrolmentRefused (bad pictures, nothing new), Cancelled,
    models.catalog.CatalogError, OSError; in every case nothing is left behind.
    """
    tell, stop = progress or (lambda *_: None), stopper(cancelled)
    if folder.exists():
        raise EnrolmentRefused(f"{folder} exists already: a recipe is never overwritten.")
    before = Inspector.load(parent, limits=limits).recipe
    given = checked(images, names, limits, tell, stop)
    known = {*before.normals, *before.copies}
    unknown = [normal for normal in given if normal.sha256 not in known]
    if not unknown:
        raise EnrolmentRefused(f"The recipe has all {len(given)} pictures already: there is nothing to add.", known=len(given))
    normals, remarks = distinct(unknown)
    left_out = (*before.copies, *copies_of(unknown, normals))
    if len(unknown) < len(given):
        remarks.insert(0, f"{len(given) - len(unknown)} of {len(given)} pictures are in the recipe already.")
    remarks += _unlike(before.gate, normals)
    lineage = before.options.get("extension", {})
    state, fused = recipes.arrays(parent, before), len(before.view.halves) > 1
    extension = {
        "parents": [*lineage.get("parents", ()), before.sha256],
        "pictures": len(normals),
        "first_rows": lineage.get("first_rows", _first(state, fused)),
    }
    small = len(before.normals) < LEAST
    if before.expert != "patchcore" or (small and (originals is not None or len(before.calibration.held_out_scores) < 3)):
        if originals is None:
            raise EnrolmentRefused(
                "This recipe grows by being fitted anew, and its own pictures are not here: enroll the product with all of them."
            )
        why = f"of fewer than {LEAST} pictures" if before.expert == "patchcore" else f"of the {before.expert} expert"
        remarks.insert(0, f"A recipe {why} is not extended: this one was fitted anew from all pictures.")
        return enroll(
            [*(originals(sha256) for sha256 in before.normals), *(n.source for n in normals)],
            folder,
            product=before.product,
            options=EnrolOptions(**{name: v for name, v in before.options.items() if name not in ("extension", "region")}),
            progress=progress,
            cancelled=cancelled,
            names=[*before.normals, *(n.name for n in normals)],
            region=_whole(state.get(REGION), normals[0].seen),
            limits=limits,
            created_at=created_at,
            extension={**extension, "refitted": True},
            remarks=remarks,
            left_out=left_out,
        )
    view, region = before.view, state.get(REGION)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        pixels = (read(normal.source, limits).pixels for normal in normals)
        with features_file(pixels, len(normals), before.expert, view, folder.parent, tell, stop, region) as features:
            copies = selftest.plan([n.pixels_sha256 for n in normals], "extension", _EACH)
            inside, most = _whole(region, normals[0].seen), None if view.tile else selftest.SIDE
            spoilt = selftest.painted(copies, lambda at: read(normals[at].source, limits).pixels, inside, most)
            with features_file(
                spoilt, len(copies), before.expert, view, folder.parent, tell, stop, region, "selftest"
            ) as painted:
                tell("coreset", 0, len(normals))
                put: Any = partial(insert, layout=Layout(view, region))
                if fused:
                    put = partial(insert_fused, fusion=Fusion(view, region))
                found: Inserted = put(
                    list(features),
                    state,
                    coreset=extension["first_rows"],
                    most=_most(state, extension["first_rows"], fused),
                    first=len(before.normals),
                    copies=Altered([copy.picture for copy in copies], painted),
                    seed=before.options["seed"],
                    cancelled=cancelled,
                )
            tell("coreset", len(normals), len(normals))
    except FitCancelled as error:
        raise Cancelled("The extension was cancelled.") from error
    except FeaturesRefused as error:
        raise EnrolmentRefused(f"The pictures cannot be added: {error}.") from error
    old = before.calibration
    card = calibrate(
        [*old.held_out_scores, *found.scores],
        [*old.held_out_peaks, *found.peaks],
        old.false_reject_rate,
        old.review_rate,
    )
    tell("calibrate", len(normals), len(normals))
    seen = selftest.judge(card.held_out_scores, copies, found.altered, card.thresholds.reject)
    doubtful = _over(found.scores, old.thresholds.reject)
    draft = replace(
        before,
        options={
            **before.options,
            "extension": {
                **extension,
                "refitted": False,
                "radius": found.radius,
                "inserted": int(found.rows.sum()),
                "doubtful": [normals[at].sha256 for at in doubtful],
            },
        },
        calibration=card,
        self_test=seen,
        gate=widened(before.gate, [n.seen for n in normals], [typical(one) for one in found.patches]),
        heatmap_max=2 * card.finding_limit if card.finding_limit else before.heatmap_max,
        golden=(),
        normals=(*before.normals, *(n.sha256 for n in normals)),
        copies=left_out,
        warnings=(
            *(w for w in before.warnings if w not in (*old.warnings, *selftest.warnings(before.self_test))),
            *remarks,
            *_remarks(normals, found, old, card),
            *card.warnings,
            *selftest.warnings(seen),
        ),
        files={},
        libraries={name: version(name) for name in before.libraries},
        created_at=created_at or datetime.now(UTC).isoformat(timespec="milliseconds"),
    )
    inspector = Inspector(draft, load_expert(before.expert, found.state, view), limits)
    files = {golden.file: (parent / golden.file).read_bytes() for golden in before.golden}
    scored = []
    for done, one in enumerate(before.golden, 1):
        stop()
        raw = inspector.score(decode(files[one.file]).pixels)
        scored.append(Golden(one.file, one.kind, raw.score, float(raw.map.max())))
        tell("golden", done, len(before.golden))
    files[recipes.ARRAYS[before.expert]] = tensor_bytes({name: np.ascontiguousarray(a) for name, a in found.state.items()})
    return recipes.save(folder, replace(draft, golden=tuple(scored)), files)


def _first(state: Mapping[str, np.ndarray], fused: bool) -> int | list[int]:
    """Rows of the memory bank as first fitted, or of each backbone's."""
    return [len(state[name]) for name in BANKS] if fused else len(state.get("memory_bank", ()))


def _most(state: Mapping[str, np.ndarray], first: Any, fused: bool) -> int | list[int]:
    if fused:
        return [_rows(state[name], count) for name, count in zip(BANKS, first, strict=True)]
    return _rows(state["memory_bank"], first)


def _rows(bank: np.ndarray, first: int) -> int:
    """How many rows the bank may come to have."""
    return max(len(bank), min(round(GROWTH * first), MAX_BANK // (4 * int(bank.shape[1]))))


def _over(scores: Sequence[float], limit: float | None) -> list[int]:
    """New pictures over a limit of the parent's though the other new ones were added: not what those have in common."""
    return [] if limit is None else [int(at) for at in np.argsort(scores)[::-1] if scores[at] >= limit]


def _remarks(normals: list[Normal], found: Inserted, old: Calibration, new: Calibration) -> list[str]:
    """What a person should know of the pictures added, and of what they did."""
    notes, limits = [], old.thresholds
    strange = _over(found.scores, limits.review)
    if strange:
        listed = some([f"{normals[at].name} (score {found.scores[at]:.3g})" for at in strange])
        notes.append(
            f"Not like the recipe's pictures (review from {limits.review:.3g}, reject from {limits.reject:.3g}) nor like the "
            f"others added, most first; look whether they are good, since parts like them pass more easily now: {listed}."
        )
    if found.uncovered:
        notes.append(
            f"The memory bank is full ({GROWTH:g} × its first rows): {found.uncovered} new patches found no room. "
            "Enroll anew from all normal pictures."
        )
    before, after = limits.reject, new.thresholds.reject
    if before and after and after > _RISE * before:
        notes.append(f"The reject limit rose from {before:.3g} to {after:.3g}: defects may pass that were rejected before.")
    return notes


def _unlike(known: Gate, normals: list[Normal]) -> list[str]:
    """New pictures that the parent's gate would send to a person."""
    listed = [f"{n.name} ({', '.join(reasons)})" for n in normals if (reasons := known.reasons(n.seen))]
    return [f"Unlike the recipe's own pictures; its gate lets such in from now on: {some(listed)}."] if listed else []


def _whole(region: np.ndarray | None, seen: Look) -> np.ndarray | None:
    """A region at the map's size, brought to the pictures'."""
    if region is None:
        return None
    stretched: Any = cv2.resize(region, (seen.width, seen.height), interpolation=cv2.INTER_NEAREST)
    return np.asarray(stretched)
