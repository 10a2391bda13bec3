"""Features of normal pictures to a fitted expert, and to what the normals score where it never saw them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from inspection.evidence import Cancelled
from inspection.features import Features, Progress
from inspection.gate import typical
from inspection.image import Pixels
from inspection.options import MAX_BANK, EnrolOptions, bank_rows
from inspection.turns import turned
from models import experts
from models.experts import Copies, Region, View
from models.experts.base import State
from models.experts.patchcore import HELD

Stop = Callable[[], bool]


class Fitted(NamedTuple):
    """A fitted expert's arrays."""

    state: State
    turns: Copies
    """Turned copies that joined the bank: to be left out with their originals."""
    warnings: tuple[str, ...]


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

    `tell` over the stages `turn` and `coreset`. Raises EnrolmentRefused, Cancelled, FeaturesRefused, FitCancelled.
    """
    with turned(options, view, features, read, near, tell, stopper(cancelled), region is not None) as (turns, told):
        shape = (len(features) + len(turns), *features.shape[1:])
        rows, asked = bank_rows(options.coreset, shape), bank_rows(options.coreset, shape[:2])
        if rows < asked and options.expert == "patchcore":
            told += (f"The memory bank has {rows:,} rows: the {asked:,} asked for would pass {MAX_BANK >> 20} MiB.",)
        state = experts.fit(
            options.expert,
            features,
            rows=rows,
            seed=options.seed,
            backbone=options.backbone,
            region=region,
            turned=turns,
            progress=lambda done, total: tell("coreset", done, total or len(features)),
            cancelled=cancelled,
        )
        yield Fitted(state, turns, told)


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
