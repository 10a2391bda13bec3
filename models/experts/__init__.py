"""The vision experts behind one protocol, by name: `extractor`, `fit`, `held_out`, `load_expert`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, Protocol

import numpy as np

from models import backbones
from models.experts.base import Cancelled, Expert, FeaturesRefused, FitCancelled, Floats, Progress, RawScore, State

__all__ = [
    "KINDS",
    "Expert",
    "FeaturesRefused",
    "FitCancelled",
    "RawScore",
    "extractor",
    "fit",
    "held_out",
    "load_expert",
    "notes",
]

KINDS = ("patchcore", "padim", "reference")


class Extractor(Protocol):
    """What turns preprocessed pictures into the features that an expert is fitted on and scores."""

    size: int
    grid: tuple[int, int]

    def features(self, images: Floats) -> Floats:
        """`[B, 3, size, size]` → `[B, h*w, D]`."""
        ...


def extractor(kind: str, backbone: str, image_size: int, threads: int = 1) -> Extractor:
    """The backbone in the line's runtime; for `reference` with each cell's own pixels beside its features.

    Raises as `runtime.Backbone`, ValueError for a size the expert cannot take.
    """
    if kind == "reference":
        from models.experts.cells import Cells

        return Cells(backbone, image_size, threads)
    from models.runtime import Backbone

    return Backbone(backbone, image_size, threads)


def check_size(kind: str, backbone: str, image_size: int) -> None:
    """Raise ValueError for a size that the backbone or the expert cannot take."""
    spec = backbones.spec(backbone)
    spec.grid(image_size)
    if kind == "reference":
        from models.experts.cells import check_size as whole_cells

        whole_cells(spec, image_size)


def working_size(kind: str, backbone: str, sides: Sequence[int]) -> int:
    """The side of the square input where none is asked for: the backbone's own, or chosen by the pictures for `reference`.

    Defects on a template may be a few pixels wide: the median of the longer `sides`, at most `cells.MOST_SIDE`.
    """
    spec = backbones.spec(backbone)
    if kind != "reference":
        return spec.image_size
    from models.experts.cells import fitting_size

    return fitting_size(spec, sides)


def fit(
    kind: str,
    features: Iterable[Floats],
    *,
    rows: int = 2000,
    dims: int = 100,
    seed: int = 0,
    backbone: str | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> State:
    """Pictures' patch features `[P, D]`, read once → the expert's state: what a recipe keeps and `load_expert` takes.

    `rows` is PatchCore's, `dims` PaDiM's, `backbone` (its name) the reference expert's. Raises FeaturesRefused, FitCancelled.
    """
    if kind == "patchcore":
        from models.experts.patchcore import fit_patchcore

        bank, source = fit_patchcore(features, rows=rows, seed=seed, progress=progress, cancelled=cancelled)
        return {"memory_bank": bank, "source": source}
    if kind == "padim":
        from models.experts.padim import fit_padim

        return fit_padim(features, dims=dims, seed=seed, progress=progress, cancelled=cancelled)
    if kind == "reference":
        from models.experts.reference import fit_reference

        width = backbones.spec(_named(backbone)).width
        return fit_reference(features, width=width, progress=progress, cancelled=cancelled)
    raise _unknown(kind)


def held_out(
    kind: str,
    features: Sequence[Floats],
    state: Mapping[str, np.ndarray],
    *,
    image_size: int,
    seed: int = 0,
    backbone: str | None = None,
    cancelled: Cancelled | None = None,
) -> Iterator[tuple[int, RawScore]]:
    """Each normal picture's number and its score by an expert that never saw it, one at a time (maps in a list are not bounded).

    `features`: those the state was fitted on, in the same order; may read from disk, is walked several times. PatchCore
    refits its coreset in folds, PaDiM takes one picture out exactly, the reference
    expert compares with the other pictures (and runs `backbone` on copies of those that have no fellow).
    Raises FeaturesRefused, FitCancelled.
    """
    if kind == "patchcore":
        from models.experts import patchcore

        return patchcore.held_out(features, state, image_size=image_size, seed=seed, cancelled=cancelled)
    if kind == "padim":
        from models.experts import padim

        return enumerate(padim.leave_one_out(features, state, image_size=image_size))
    if kind == "reference":
        from models.experts import rehearsal
        from models.experts.cells import Cells

        return rehearsal.held_out(features, state, Cells(_named(backbone), image_size), seed=seed, cancelled=cancelled)
    raise _unknown(kind)


def notes(kind: str, state: Mapping[str, np.ndarray], normals: int) -> tuple[str, ...]:
    """What a person should know of an expert fitted on `normals` pictures, as sentences; most have nothing to say."""
    if kind != "reference":
        return ()
    from models.experts import rehearsal

    return rehearsal.notes(state, normals)


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
    if kind == "reference":
        from models.experts.cells import Cells
        from models.experts.reference import Reference

        if runtime == "torch":
            raise ValueError("the reference expert runs on the line's runtime alone: there is no torch model of it")
        return Reference(state, Cells(backbone, image_size, threads))
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


def _named(backbone: str | None) -> str:
    if backbone is None:
        raise ValueError("the reference expert needs its backbone's name")
    return backbone


def _unknown(kind: str) -> ValueError:
    return ValueError(f"unknown expert {kind!r}: one of {', '.join(KINDS)}")


def _fits(holds: bool, backbone: str) -> None:
    if not holds:
        raise ValueError(f"the expert's arrays were not made from {backbone}'s features at this picture size")
