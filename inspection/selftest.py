"""What a new expert sees: defects painted into its normal pictures, scored by an expert that never saw the picture."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from inspection.defects import KINDS, doctor
from inspection.image import Pixels
from inspection.metrics import auroc, auroc_interval

PICTURES = 32
EACH = 4
SIDE = 1600
"""Copies are no larger: painting takes time with the area, and what a network of 448 px sees changes by under a hundredth."""
LEAST = 3
"""Normal pictures without which nothing can be said: two held-out scores are one distance."""
BLIND = 0.8
"""AUROC under which a kind of defect counts as not seen."""


@dataclass(frozen=True, slots=True)
class Seen:
    """How well painted defects of one kind are told from the normal parts."""

    kind: str
    """One of `defects.KINDS`, or `all`."""
    copies: int
    auroc: float
    low: float
    """Lower end of its 90 % bootstrap interval."""
    high: float
    found: float | None
    """Share over the reject limit; `None`: uncalibrated."""


@dataclass(frozen=True, slots=True)
class SelfTest:
    """The self-test of an enrolment; `kinds` is empty where nothing could be held out, and `note` says so."""

    pictures: int
    kinds: tuple[Seen, ...]
    """`all` first."""
    note: str


@dataclass(frozen=True, slots=True)
class Copy:
    """A defect to be painted into a picture."""

    picture: int
    """The picture's number."""
    kind: str
    seed: int


def plan(digests: Sequence[str], salt: str, each: int = EACH, most: int = PICTURES) -> list[Copy]:
    """`each` defects of every kind over at most `most` pictures, in the order of the pictures.

    Pictures and seeds follow from the pictures' content (`digests`) and `salt`: neither names nor order matter.
    """
    chosen = sorted(range(len(digests)), key=lambda n: digests[n])[:most]
    copies, count, kinds = [], len(chosen), len(KINDS)
    for turn in range(each * kinds):
        again = turn // count if count % kinds == 0 else 0  # else a picture would meet one kind only
        number, kind = chosen[turn % count], KINDS[(turn + again) % kinds]
        told = hashlib.sha256(f"{salt} {digests[number]} {kind} {turn}".encode()).digest()
        copies.append(Copy(number, kind, int.from_bytes(told[:8], "big")))
    return sorted(copies, key=lambda copy: (copy.picture, copy.kind, copy.seed))


def painted(
    copies: Sequence[Copy], read: Callable[[int], Pixels], region: np.ndarray | None = None, most: int | None = SIDE
) -> Iterator[Pixels]:
    """The copies' pictures, no side over `most`; each original is read once. `region` `[H, W]`: not 0 where a defect may lie."""
    number, inside = -1, None
    for copy in copies:
        if copy.picture != number:
            number, pixels = copy.picture, read(copy.picture)
            inside = region > 0 if region is not None and region.shape == pixels.shape[:2] else None
            scale = min(1.0, (most or math.inf) / max(pixels.shape))
            if scale < 1:
                pixels = np.asarray(cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
            if scale < 1 and inside is not None:
                size = pixels.shape[1::-1]
                inside = np.asarray(cv2.resize(inside.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)) > 0
        yield doctor(pixels, copy.kind, np.random.default_rng(copy.seed), inside)[0]


def judge(normal: Sequence[float], copies: Sequence[Copy], scores: Sequence[float], reject: float | None) -> SelfTest:
    """The self-test from held-out scores of the normal pictures and of the copies; none of either: nothing can be said."""
    if not normal or not scores:
        return SelfTest(0, (), "Not tested: too few normal pictures to hold one out.")
    kinds = [copy.kind for copy in copies]
    rows = [_seen(normal, kind, [s for k, s in zip(kinds, scores, strict=True) if kind in ("all", k)], reject)
            for kind in ("all", *dict.fromkeys(sorted(kinds, key=KINDS.index)))]  # fmt: skip
    return SelfTest(len({copy.picture for copy in copies}), tuple(rows), "")


def warnings(test: SelfTest) -> tuple[str, ...]:
    """What a person should know, as sentences."""
    if not test.kinds:
        return ()
    over, *each = sorted(test.kinds, key=_rank)
    if over.auroc >= BLIND:
        unseen = ", ".join(f"{seen.kind} ({seen.low:.2f} to {seen.high:.2f})" for seen in each if seen.high < BLIND)
        if not unseen:
            return ()
        return (
            (
                f"This expert cannot see defects of these kinds here: {unseen}, the 90 % intervals of their AUROC over "
                f"{each[0].copies} painted ones each. All kinds together reach {over.auroc:.2f}."
            ),
        )
    blind = ", ".join(f"{seen.kind} ({seen.auroc:.2f})" for seen in each if seen.auroc < BLIND)
    return (
        (
            f"This expert cannot see defects of these kinds here: {blind}. Painted ones, from subtle to strong, are told from "
            f"normal parts with an AUROC of {over.auroc:.2f} (90 %: {over.low:.2f} to {over.high:.2f}). Try a larger image size, "
            "tiles, another backbone, or pictures that vary less."
        ),
    )


def _rank(seen: Seen) -> tuple[bool, float]:
    """`all` first, then the worst seen."""
    return seen.kind != "all", seen.auroc


def _seen(normal: Sequence[float], kind: str, scores: Sequence[float], reject: float | None) -> Seen:
    values = np.array([*normal, *scores])
    defective = np.arange(len(values)) >= len(normal)
    area, interval = auroc(values, defective), auroc_interval(values, defective)
    if area is None or interval is None:
        raise ValueError("no scores to compare")
    found = None if reject is None else float(np.mean(np.asarray(scores) >= reject))
    return Seen(kind, len(scores), area, *interval, found)
