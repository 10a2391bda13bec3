"""The vision experts behind one protocol, by name: `extractor`, `fit`, `held_out`, `load_expert`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from models import backbones
from models.experts.base import (
    TEMPLATE,
    Cancelled,
    Copies,
    Expert,
    Extractor,
    FeaturesRefused,
    FitCancelled,
    Floats,
    Progress,
    RawScore,
    State,
)
from models.experts.view import Region, View

__all__ = [
    "KINDS",
    "TEMPLATE",
    "Copies",
    "Expert",
    "Extractor",
    "FeaturesRefused",
    "FitCancelled",
    "RawScore",
    "Region",
    "View",
    "extractor",
    "fit",
    "held_out",
    "load_expert",
    "notes",
    "without_own",
]

KINDS = ("patchcore", "padim", "reference", "zeroshot")
REGION = "region"
_TYPES = {
    "float16": ("features",),
    "float32": ("memory_bank", "second_bank", "mean", "precision", "fellow", "scale", "share"),
    "float64": ("units",),
    "int32": ("source", "second_source", "index"),
    "uint8": ("pictures", REGION, TEMPLATE),
}


def extractor(
    kind: str, view: View, region: Region | None = None, threads: int = 1, template: np.ndarray | None = None
) -> Extractor:
    """The backbone in the line's runtime, over tiles where the view has them; for `reference` with each cell's own pixels.

    Backbones that look together give one row a picture (fused.py).
    With a `region` (at the map's size) only the patches inside, but for `reference`, which lays whole pictures over each other.
    With a `template` (PaDiM alone, no region) each picture is laid on it, and its pose goes with the features.
    Raises as `runtime.Backbone`, ValueError for a size the expert cannot take or a region or template that does not fit.
    """
    if kind == "reference":
        from models.experts.cells import Cells

        return Cells(view.backbone, view.input, threads)
    if len(view.halves) > 1:
        from models.experts.fused import Both

        return Both(view, region, threads)
    from models.experts.tiles import Regional, Tiles
    from models.runtime import Backbone

    session = Backbone(view.backbone, view.input, threads, view.precision)
    if template is not None:
        from models.experts.registered import Registered

        return Registered(session, view.backbone, template)
    whole = session if view.tile is None else Tiles(view, session)
    return whole if region is None else Regional(whole, view, region)


def check_view(kind: str, view: View) -> None:
    """Raise ValueError for a view that the backbone or the expert cannot take."""
    view.grid  # noqa: B018 - raises
    if view.tile is not None and kind != "patchcore":
        raise ValueError(f"tiles are for PatchCore: {kind} looks at the whole picture at once")
    if len(view.halves) > 1:
        if kind != "patchcore" or view.tile is not None:
            raise ValueError(f"{view.backbone} is for PatchCore and whole pictures: name one backbone")
        return
    if view.precision == "int8" and (kind not in ("patchcore", "padim") or not backbones.spec(view.backbone).l2_normalised):
        raise ValueError(f"int8 is for PatchCore and PaDiM on dinov2_vits14, not for {kind} on {view.backbone}: take float32")
    if kind == "zeroshot" and not backbones.spec(view.backbone).l2_normalised:
        raise ValueError(f"the zero-shot expert looks through a vision transformer, not {view.backbone}: take dinov2_vits14")
    if kind == "reference":
        from models.experts.cells import check_size as whole_cells

        whole_cells(backbones.spec(view.backbone), view.input)
    if kind == "padim":
        from models.experts import padim

        padim.check_size(backbones.spec(view.backbone), view.input)


def working_size(kind: str, backbone: str, sides: Sequence[int]) -> int:
    """The side of the square input where none is asked for: the backbone's own, or chosen by the pictures for `reference`.

    Defects on a template may be a few pixels wide: the median of the longer `sides`, at most `cells.MOST_SIDE`.
    """
    spec = backbones.spec(backbones.members(backbone)[0])
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
    view: View | None = None,
    region: Region | None = None,
    turned: Copies = (),
    template: np.ndarray | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> State:
    """Pictures' patch features `[P, D]`, read once → the expert's state: what a recipe keeps and `load_expert` takes.

    `rows` is PatchCore's, `dims` PaDiM's; the reference expert and backbones that look together need the `view`; `region` is
    kept beside the arrays.
    `turned`: copies that join PatchCore's bank, each counted as its original. `template`: what PaDiM's
    pictures were laid on. Raises FeaturesRefused, FitCancelled.
    """
    state = _fitted(kind, features, turned, template, rows, dims, seed, view, region, progress, cancelled)
    return state if region is None else {**state, REGION: region}


def _fitted(
    kind: str,
    features: Iterable[Floats],
    turned: Copies,
    template: np.ndarray | None,
    rows: int,
    dims: int,
    seed: int,
    view: View | None,
    region: Region | None,
    progress: Progress | None,
    cancelled: Cancelled | None,
) -> State:
    if kind == "patchcore" and view is not None and len(view.halves) > 1:
        from models.experts.fused import Fusion, fit_fused

        fusion = Fusion(view, region)
        return fit_fused(features, fusion, turned, rows=rows, seed=seed, progress=progress, cancelled=cancelled)
    if kind == "patchcore":
        from models.experts import patchcore

        return patchcore.fitted(features, turned, rows=rows, seed=seed, progress=progress, cancelled=cancelled)
    if kind == "padim":
        from models.experts.padim import fit_padim

        return fit_padim(features, dims=dims, seed=seed, progress=progress, cancelled=cancelled, template=template)
    if kind == "reference":
        from models.experts.reference import fit_reference

        if view is None:
            raise ValueError("the reference expert needs its view")
        width = backbones.spec(view.backbone).width
        return fit_reference(features, width=width, progress=progress, cancelled=cancelled)
    if kind == "zeroshot":
        from models.experts.rarity import fit_rarity

        return fit_rarity()
    raise _unknown(kind)


def held_out(
    kind: str,
    features: Sequence[Floats],
    state: Mapping[str, np.ndarray],
    *,
    view: View,
    copies: Copies = (),
    turned: Copies = (),
    seed: int = 0,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Iterator[tuple[int, RawScore]]:
    """Each normal picture's number and its score by an expert that never saw it, one at a time (maps in a list are not bounded).

    `features`: those the state was fitted on, in the same order; may read from disk, is walked several times. `copies`:
    altered normal pictures, each with the number of its original and scored by the expert that never saw that; they are
    numbered on from the last normal picture. `turned`: those the state was fitted on; a picture's own leave with it.
    PatchCore refits its coreset in folds (`progress`) and scores the first 512 pictures, PaDiM takes one picture out exactly,
    the reference expert compares with the other pictures (and runs the backbone on copies of those that have no fellow).
    Raises FeaturesRefused, FitCancelled.
    """
    if kind == "reference":
        from models.experts import rehearsal
        from models.experts.cells import Cells

        cells = Cells(view.backbone, view.input)
        return rehearsal.held_out(features, state, cells, copies=copies, seed=seed, cancelled=cancelled)
    from models.experts.layout import Layout

    if kind == "patchcore" and len(view.halves) > 1:
        from models.experts import fused

        fusion = fused.Fusion(view, state.get(REGION))
        return fused.held_out(
            features, state, fusion, copies=copies, turned=turned, seed=seed, progress=progress, cancelled=cancelled
        )
    layout = Layout(view, state.get(REGION))
    if kind == "patchcore":
        from models.experts import patchcore

        sure = patchcore.sure(layout)
        found = patchcore.held_out(
            features, state, sure=sure, copies=copies, turned=turned, seed=seed, progress=progress, cancelled=cancelled
        )
        return ((number, layout.raw(distances, "nearest")) for number, distances in found)
    if kind == "padim":
        from models.experts import padim

        return padim.held_out(features, state, layout=layout, copies=copies, cancelled=cancelled)
    if kind == "zeroshot":
        from models.experts import rarity

        return rarity.held_out(features, state, layout=layout, copies=copies)
    raise _unknown(kind)


def without_own(
    features: Sequence[Floats], state: Mapping[str, np.ndarray], *, view: View, cancelled: Cancelled | None = None
) -> Iterator[float]:
    """PatchCore's raw score of each normal picture that `held_out` leaves out, in order, by the bank without its rows.

    One search each and no refit: to tell odd pictures by, and nothing else. Raises FitCancelled.
    """
    from models.experts import patchcore
    from models.experts.fused import BANKS, SOURCES, UNITS, Fusion, Half
    from models.experts.layout import Layout

    region = state.get(REGION)
    if len(view.halves) == 1:
        layout = Layout(view, region)
        found = patchcore.without_own(features, state["memory_bank"], state["source"], cancelled)
        return (layout.pooled(distances) for distances in found)
    fusion, units = Fusion(view, region), state[UNITS].tolist()
    both = [
        patchcore.without_own(Half(features, fusion, half), state[bank], state[source], cancelled)
        for half, (bank, source) in enumerate(zip(BANKS, SOURCES, strict=True))
    ]
    return (sum(fusion.pooled(one, half) / units[half] for half, one in enumerate(pair)) for pair in zip(*both, strict=True))


def notes(kind: str, state: Mapping[str, np.ndarray], normals: int) -> tuple[str, ...]:
    """What a person should know of an expert fitted on `normals` pictures, as sentences; most have nothing to say."""
    if kind == "zeroshot":
        from models.experts import rarity

        return rarity.notes(normals)
    if kind != "reference":
        return ()
    from models.experts import rehearsal

    return rehearsal.notes(state, normals)


def load_expert(
    kind: str,
    state: Mapping[str, np.ndarray],
    view: View,
    *,
    runtime: Literal["line", "torch"] = "line",
    threads: int = 1,
    source: Extractor | None = None,
) -> Expert:
    """A fitted expert ready to score: the line's runtime, or anomalib's own models in torch (the oracle).

    `source`: the `extractor` of this kind and view where one stands already; else one is made.
    Raises ValueError for an unknown kind, a state of other types or shapes than a fit's on the view's features, or a view the
    runtime cannot take; KeyError where an array is missing.
    """
    if kind not in KINDS:
        raise _unknown(kind)
    for name, array in state.items():
        if name not in _TYPES.get(array.dtype.name, ()):
            raise ValueError(f"no expert's arrays hold {array.dtype} as {name}")
    region, template = state.get(REGION), state.get(TEMPLATE) if kind == "padim" else None
    if kind == "reference":
        from models.experts.cells import Cells
        from models.experts.reference import Reference

        if runtime == "torch":
            raise ValueError("the reference expert runs on the line's runtime alone: there is no torch model of it")
        return Reference(state, Cells(view.backbone, view.input, threads))
    from models.experts.layout import Layout

    if len(view.halves) > 1:
        from models.experts.fused import Fused, Fusion

        if runtime == "torch":
            raise ValueError(f"{view.backbone} runs on the line's runtime alone: name one backbone")
        check_view(kind, view)
        _check_arrays(kind, state, view)
        return Fused(state, source or extractor(kind, view, region, threads), Fusion(view, region), threads)
    layout = Layout(view, region)
    _check_arrays(kind, state, view, layout.count)
    if runtime == "torch":
        whole = view.tile is None and region is None and template is None
        if not whole or kind == "zeroshot" or view.precision != "float32":
            raise ValueError("tiles, regions, templates, int8 and the zero-shot expert run on the line's runtime alone")
        from models.experts.oracle import TorchExpert

        return TorchExpert(kind, state, layout, threads)
    source = source or extractor(kind, view, region, threads, template)
    if kind == "patchcore":
        from models.experts.patchcore import PatchCore

        return PatchCore(state, source, layout, threads)
    if kind == "zeroshot":
        from models.experts.rarity import Rarity

        return Rarity(state, source, layout)
    from models.experts.padim import Padim

    return Padim(state, source, layout)


def _unknown(kind: str) -> ValueError:
    return ValueError(f"unknown expert {kind!r}: one of {', '.join(KINDS)}")


def _check_arrays(kind: str, state: Mapping[str, np.ndarray], view: View, patches: int = 0) -> None:
    """Raise ValueError for a memory bank or Gaussians of other shapes than the view's features give."""
    widths, holds = [backbones.spec(name).width for name in backbones.members(view.backbone)], True
    if kind == "patchcore":
        from models.experts.fused import BANKS, SOURCES

        for width, bank, source in zip(widths, BANKS, SOURCES, strict=False):
            rows = state[source].shape
            holds = holds and len(rows) == 1 and state[bank].shape == (*rows, width)
    elif kind == "padim":
        index, dims = state["index"], state["index"].size
        shapes = [state[name].shape for name in ("mean", "precision", "index")]
        holds = dims > 0 and shapes == [(patches, dims), (patches, dims, dims), (dims,)]
        holds = holds and bool(((index >= 0) & (index < widths[0])).all())
    if not holds:
        raise ValueError(f"the expert's arrays were not made from {view.backbone}'s features at this picture size")
