"""New normal pictures' patches put into a standing memory bank, farthest first; each picture scored without its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.bank import Bank
from models.experts.base import Cancelled, Copies, FeaturesRefused, FitCancelled, Floats, RawScore, State, checked, numbered
from models.experts.fused import BANKS, SOURCES, UNITS, Fusion, Half, HalfCopies
from models.experts.layout import Layout

FOLDS = 10
BUDGET_MIB = 512
"""Of new patches beyond the covering radius, in float32: three times as much is held while they are chosen from."""


class Inserted(NamedTuple):
    """A memory bank with new rows, and what it says of the pictures that gave them."""

    state: State
    rows: NDArray[np.int64]
    """How many rows each new picture gave, `[n]`."""
    radius: float
    """The standing bank's covering radius: farther patches are inserted."""
    uncovered: int
    """Patches still farther than that, because the bank was full."""
    scores: list[float]
    """Each new picture's raw score by the standing bank and the rows that the others give."""
    peaks: list[float]
    """The peaks of its map."""
    patches: list[Floats]
    """Its grid of patch distances, `[h, w]` each."""
    altered: list[float]
    """The scores of the copies, each like its original's."""
    before: list[float]
    """Its raw score by the standing bank alone."""


def covering_radius(coreset: Floats) -> float:
    """The distance beyond which a patch is new to a farthest-first coreset `[M, D]`, its rows in the order chosen.

    The last row was chosen at this distance from those before it because no patch lay farther (Gonzalez 1985): none does now.
    """
    if len(coreset) < 2:
        return 0.0
    gap = coreset[:-1] - coreset[-1]
    return float(np.sqrt(np.einsum("md,md->m", gap, gap).min()))


class Grown(NamedTuple):
    """One memory bank with new rows, and each picture's distances without its own."""

    bank: Floats
    source: NDArray[np.int32]
    rows: NDArray[np.int64]
    """How many rows each new picture gave."""
    radius: float
    uncovered: int
    left: dict[int, Floats]
    """By number: the distances `[P]` of a new picture, or of a copy, by the standing bank and the rows that others give."""
    before: list[Floats]
    """Those of the new pictures by the standing bank alone."""


def insert(
    features: Sequence[Floats],
    state: Mapping[str, np.ndarray],
    *,
    layout: Layout,
    coreset: int,
    most: int,
    first: int,
    copies: Copies = (),
    seed: int = 0,
    cancelled: Cancelled | None = None,
) -> Inserted:
    """Put the patches of new pictures, `[P, D]` each, into a PatchCore state: `grown`, and what its distances say.

    `copies` are altered new pictures, to be scored only. Raises as `grown`.
    """
    found = grown(
        features, state["memory_bank"], state["source"],
        coreset=coreset, most=most, first=first, copies=copies, seed=seed, cancelled=cancelled,
    )  # fmt: skip
    grew = {**state, "memory_bank": found.bank, "source": found.source}
    return _inserted(grew, [found], lambda each: layout.raw(each[0], "nearest"))


def insert_fused(
    features: Sequence[Floats],
    state: Mapping[str, np.ndarray],
    *,
    fusion: Fusion,
    coreset: Sequence[int],
    most: Sequence[int],
    first: int,
    copies: Copies = (),
    seed: int = 0,
    cancelled: Cancelled | None = None,
) -> Inserted:
    """The same for backbones that look together, each bank by itself; their units stay, so that old scores stay comparable."""
    parts, grew = [], dict(state)
    for half, (bank, source) in enumerate(zip(BANKS, SOURCES, strict=True)):
        found = grown(
            Half(features, fusion, half), state[bank], state[source],
            coreset=coreset[half], most=most[half], first=first, copies=HalfCopies(copies, fusion, half),
            seed=seed, cancelled=cancelled,
        )  # fmt: skip
        grew |= {bank: found.bank, source: found.source}
        parts.append(found)
    units = state[UNITS].tolist()
    return _inserted(grew, parts, lambda each: fusion.raw(each, units))


def _inserted(state: State, parts: Sequence[Grown], raw: Callable[[Sequence[Floats]], RawScore]) -> Inserted:
    count = len(parts[0].before)

    def without_map(distances: Sequence[Floats]) -> tuple[float, float, Floats]:
        one = raw(distances)
        return one.score, float(one.map.max()), one.patches  # a tiled map has 13 MB

    seen = {at: without_map([part.left[at] for part in parts]) for at in parts[0].left}
    return Inserted(
        state=state,
        rows=np.asarray(sum(part.rows for part in parts)),
        radius=parts[0].radius,
        uncovered=sum(part.uncovered for part in parts),
        scores=[seen[at][0] for at in range(count)],
        peaks=[seen[at][1] for at in range(count)],
        patches=[seen[at][2] for at in range(count)],
        altered=[seen[at][0] for at in range(count, len(seen))],
        before=[raw([part.before[at] for part in parts]).score for at in range(count)],
    )


def _complete(source: NDArray[np.int32], patches: int) -> bool:
    """Whether rows of these pictures are all patches of theirs, picture after picture: those of a coreset are mixed."""
    if len(source) % patches:
        return False
    each = source.reshape(-1, patches)
    return bool((each == each[:, :1]).all()) and (patches > 1 or bool((np.diff(source) >= 0).all()))


def grown(
    features: Sequence[Floats],
    bank: Floats,
    source: NDArray[np.int32],
    *,
    coreset: int,
    most: int,
    first: int,
    copies: Copies = (),
    seed: int = 0,
    cancelled: Cancelled | None = None,
) -> Grown:
    """Patches of new pictures join a bank, farthest first, until all lie within its covering radius.

    That is the radius of the bank's first `coreset` rows, which the fit chose; of a bank that kept every patch, picture after
    picture, it is 0. The bank grows to at most `most` rows; the new ones' `source` counts from `first`. Held-out distances: for
    each of at most ten folds of the new pictures the insertion is done anew without them (decision 0003 says why taking their
    rows out afterwards would not do). Raises FeaturesRefused (also over `BUDGET_MIB`), FitCancelled.
    """
    from models.experts.coreset import farthest_first  # numba: a second to import, needed only here

    def look() -> None:
        if cancelled is not None and cancelled():
            raise FitCancelled("the insertion was cancelled")

    search, room = Bank(bank), max(0, most - len(bank))
    patches = len(features[0])
    radius = 0.0 if _complete(source[:coreset], patches) else covering_radius(bank[:coreset])
    distances, far, held = [], [], 0
    for one in features:
        look()
        one = checked(one)
        if one.shape[1] != bank.shape[1]:
            raise FeaturesRefused(f"features of {one.shape[1]} dimensions for a memory bank of {bank.shape[1]}")
        distances.append(search.nearest(one)[0])
        far.append(one[distances[-1] > radius])
        held += far[-1].nbytes
        if held > BUDGET_MIB << 20:
            raise FeaturesRefused(
                f"what is new in the first {len(far)} of {len(features)} pictures is over {BUDGET_MIB} MiB: enroll anew with all "
                "pictures, or add fewer at once"
            )
    new, standing = np.concatenate(far), np.concatenate([one[one > radius] for one in distances])
    owner = np.repeat(np.arange(len(far), dtype=np.int32), [len(one) for one in far])

    def chosen(among: NDArray[np.int64]) -> NDArray[np.int64]:
        if not room or not len(among):
            return among[:0]
        part = new[among]
        return among[farthest_first(part, room, seed=seed, standing=standing[among], enough=radius, cancelled=cancelled)[0]]

    everyone = np.arange(len(new))
    rows = chosen(everyone)
    apart: dict[int, Floats] = {}
    for fold in np.array_split(np.random.default_rng(seed).permutation(len(far)), min(FOLDS, len(far))):
        others = everyone[~np.isin(owner, fold)]
        kept = rows if len(others) == len(everyone) else chosen(others)
        beside = Bank(new[kept]) if len(kept) else None
        for number in fold:
            for at, one in numbered(features, copies, number):
                look()
                left = distances[number] if at == number else search.nearest(one)[0]
                if beside is not None:
                    left = np.minimum(left, beside.nearest(one)[0])
                apart[at] = left
    uncovered = 0
    if len(new):
        reach = np.minimum(standing, Bank(new[rows]).nearest(new)[0]) if len(rows) else standing
        uncovered = int((reach > radius * (1 + 1e-5)).sum())
    return Grown(
        bank=np.concatenate([bank, new[rows]]),
        source=np.concatenate([source, (first + owner[rows]).astype(np.int32)]),
        rows=np.bincount(owner[rows], minlength=len(far)),
        radius=radius,
        uncovered=uncovered,
        left=apart,
        before=distances,
    )
