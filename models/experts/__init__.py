"""The vision experts behind one protocol, by name: `fit`, `held_out`, `load_expert`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from models.experts.base import Cancelled, Expert, FeaturesRefused, FitCancelled, Floats, Progress, RawScore, State

__all__ = ["KINDS", "Expert", "FeaturesRefused", "FitCancelled", "RawScore", "fit", "held_out", "load_expert"]

KINDS = ("patchcore", "padim")


def fit(
    kind: str,
    features: Iterable[Floats],
    *,
    rows: int = 2000,
    dims: int = 100,
    seed: int = 0,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> State:
    """Pictures' patch features `[P, D]`, read once → the expert's state: what a recipe keeps and `load_expert` takes.

    `rows` is PatchCore's, `dims` PaDiM's. Raises FeaturesRefused, FitCancelled.
    """
    if kind == "patchcore":
        from models.experts.patchcore import fit_patchcore

        bank, source = fit_patchcore(features, rows=rows, seed=seed, progress=progress, cancelled=cancelled)
        return {"memory_bank": bank, "source": source}
    if kind == "padim":
        from models.experts.padim import fit_padim

        return fit_padim(features, dims=dims, seed=seed, progress=progress, cancelled=cancelled)
    raise _unknown(kind)


def held_out(
    kind: str,
    features: Sequence[Floats],
    state: Mapping[str, np.ndarray],
    *,
    image_size: int,
    seed: int = 0,
    cancelled: Cancelled | None = None,
) -> Iterator[tuple[int, RawScore]]:
    """Each normal picture's number and its score by an expert that never saw it, one at a time (maps in a list are not bounded).

    `features`: those the state was fitted on, in the same order; may read from disk, is walked several times. PatchCore
    refits its coreset in folds, PaDiM takes one picture out exactly. Raises FeaturesRefused, FitCancelled.
    """
    if kind == "patchcore":
        from models.experts import patchcore

        return patchcore.held_out(features, state, image_size=image_size, seed=seed, cancelled=cancelled)
    if kind == "padim":
        from models.experts import padim

        return enumerate(padim.leave_one_out(features, state, image_size=image_size))
    raise _unknown(kind)


def load_expert(
    kind: str,
    state: Mapping[str, np.ndarray],
    *,
    backbone: str,
    image_size: int,
    runtime: Literal["line", "torch"] = "line",
    threads: int = 1,
) -> Expert:
    """A fitted expert ready to score: the line's runtime, or anomalib's own models in torch (the GPU's path and the oracle).

    Raises ValueError for an unknown kind or a state of another shape than the backbone's features.
    """
    if kind not in KINDS:
        raise _unknown(kind)
    if runtime == "torch":
        from models.experts.oracle import TorchExpert

        return TorchExpert(kind, state, backbone, image_size, threads)
    from models.runtime import Backbone

    session = Backbone(backbone, image_size, threads)
    if kind == "patchcore":
        from models.experts.patchcore import PatchCore

        _fits(state["memory_bank"].shape[1] == session.spec.width, backbone)
        return PatchCore(state, session)
    from models.experts.padim import Padim

    _fits(len(state["mean"]) == session.grid[0] * session.grid[1] and state["index"].max() < session.spec.width, backbone)
    return Padim(state, session)


def _unknown(kind: str) -> ValueError:
    return ValueError(f"unknown expert {kind!r}: one of {', '.join(KINDS)}")


def _fits(holds: bool, backbone: str) -> None:
    if not holds:
        raise ValueError(f"the expert's arrays were not made from {backbone}'s features at this picture size")
