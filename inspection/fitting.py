"""Features of normal pictures to a fitted expert, and to what the normals score where it never saw them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from inspection.evidence import Cancelled
from inspection.features import Features, Progress, features_file
from inspection.gate import typical
from inspection.image import Pixels
from inspection.options import MAX_BANK, EnrolOptions, bank_rows
from inspection.turns import turned
from models import backbones, experts
from models.experts import TEMPLATE, Copies, Region, View
from models.experts.base import State
from models.experts.fused import per_patch
from models.experts.patchcore import HELD
from models.experts.registered import ALIKE, MOST, template_of
from models.experts.registration import Grey

Stop = Callable[[], bool]


class Fitted(NamedTuple):
    """A fitted expert's arrays."""

    state: State
    turns: Copies
    """Turned copies that joined the bank: to be left out with their originals."""
    warnings: tuple[str, ...]
    features: Features
    """What it was fitted on: the pictures' own, or those of the parts laid on a template (`aligned`)."""


@contextmanager
def fitted(
    options: EnrolOptions,
    view: View,
    features: Features,
    read: Callable[[int], Pixels],
    near: Path,
    tell: Progress,
    cancelled: Stop | None,
    region: Region | None = None,
) -> Iterator[Fitted]:
    """Fit the expert of resolved `options` on the pictures that `read` gives by number, turned copies included.

    `tell` over the stages `turn`, `features` (again, where PaDiM's parts are laid on a template) and `coreset`.
    Raises EnrolmentRefused, Cancelled, FeaturesRefused, FitCancelled.
    """
    stop = stopper(cancelled)
    with (
        turned(options, view, features, read, near, tell, stop, region is not None) as (turns, told),
        aligned(options, view, features, read, near, tell, stop, region is not None) as (features, template, said),
    ):
        told += said
        shape = (len(features) + len(turns), *per_patch(view, features.shape[1:], region))
        rows, asked = bank_rows(options.coreset, shape), bank_rows(options.coreset, shape[:2])
        if rows < asked and options.expert == "patchcore":
            told += (f"The memory bank has {rows:,} rows: the {asked:,} asked for would pass {MAX_BANK >> 20} MiB.",)
        state = experts.fit(
            options.expert,
            features,
            rows=rows,
            seed=options.seed,
            view=view,
            region=region,
            turned=turns,
            template=template,
            progress=lambda done, total: tell("coreset", done, total or len(features)),
            cancelled=cancelled,
        )
        yield Fitted(state, turns, told, features)


@contextmanager
def aligned(
    options: EnrolOptions,
    view: View,
    features: Features,
    read: Callable[[int], Pixels],
    near: Path,
    tell: Progress,
    stop: Callable[[], None],
    region: bool,
) -> Iterator[tuple[Features, Grey | None, tuple[str, ...]]]:
    """Features of few normal pictures laid on the most usual one, that template, and what is to be said of it.

    As given and `None` where registration is off or would not pay (models/experts/registered.py).
    """
    found, count = None, len(features)
    if options.expert == "padim" and options.augment != "off" and not region and count <= MOST:
        greys = (cv2.cvtColor(backbones.resized(read(n), view.size), cv2.COLOR_RGB2GRAY) for n in range(count))
        found = template_of([np.asarray(grey, np.uint8) for grey in greys])
    if found is None:
        yield features, None, ()
        return
    template, least = found
    note = f"Each part is laid on one of the {count} normal pictures, which are alike enough (all over {ALIKE:g}: {least:.3f})."
    pictures = (read(n) for n in range(count))
    with features_file(pictures, count, options.expert, view, near, tell, stop, template=template) as laid:
        yield laid, template, (note,)


@contextmanager
def as_fitted(
    state: State,
    features: Features,
    pictures: Iterator[Pixels],
    kind: str,
    view: View,
    near: Path,
    tell: Progress,
    cancelled: Stop | None,
) -> Iterator[Features]:
    """`features` as the fitted expert takes them: made anew from their `pictures` where it lays parts on a template."""
    template = state.get(TEMPLATE)
    if template is None:
        yield features
        return
    with features_file(pictures, len(features), kind, view, near, tell, stopper(cancelled), template=template) as laid:
        yield laid


def held_out(
    kind: str,
    view: View,
    features: Features | Sequence[np.ndarray],
    state: dict[str, np.ndarray],
    seed: int,
    tell: Progress,
    cancelled: Stop | None,
    copies: Copies = (),
    typicals: list[float] | None = None,
    turns: Copies = (),
) -> tuple[list[float], list[float]]:
    """Scores of normal pictures by an expert that never saw them, then of their `copies`, in order; and their maps' peaks.

    Of PatchCore's pictures the first `HELD` are scored. `tell` over the stages `refit` (a coreset without each fold) and
    `calibrate`; `typicals` gets the typical patch distances (gate.py).
    """
    found: dict[int, tuple[float, float, float]] = {}
    stop = stopper(cancelled)
    wanted = (min(len(features), HELD) if kind == "patchcore" else len(features)) + len(copies)
    raws = experts.held_out(
        kind,
        features,
        state,
        view=view,
        copies=copies,
        turned=turns,
        seed=seed,
        progress=lambda done, total: tell("refit", done, total),
        cancelled=cancelled,
    )
    for number, raw in raws:
        stop()
        found[number] = (raw.score, float(raw.map.max()), typical(raw.patches))
        tell("calibrate", len(found), wanted)
    ordered = [found[number] for number in sorted(found)]
    if typicals is not None:
        typicals.extend(distance for _, _, distance in ordered)
    return [score for score, _, _ in ordered], [peak for _, peak, _ in ordered]


def stopper(cancelled: Stop | None) -> Callable[[], None]:
    """A function that raises Cancelled once `cancelled` says so."""

    def stop() -> None:
        if cancelled is not None and cancelled():
            raise Cancelled("The enrolment was cancelled.")

    return stop
