"""`--backbone auto`: which backbone, picture size and score rule see painted defects best in these very pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf
from statistics import median
from time import perf_counter
from typing import TypeVar

import numpy as np

from inspection import selftest
from inspection.image import Limits, Pixels
from inspection.metrics import auroc, auroc_interval, gain
from inspection.normals import Normal, read
from inspection.options import AUTO, EnrolOptions, bank_rows, region_of, resolved, view_of
from models import backbones, catalog, experts
from models.experts.base import Floats
from models.experts.fused import per_patch
from models.experts.tiles import prepared
from models.experts.view import Rule

T = TypeVar("T")

LEAST = 4
"""Normal pictures without which nothing is chosen."""
EACH = 4
FOLDS = 4
ROWS = 1000
LOSS = 0.005
"""AUROC that int8 may see less than float32."""


@dataclass(frozen=True, slots=True)
class Way:
    """A configuration that `auto` may choose."""

    backbone: str
    image_size: int
    score_rule: Rule
    margin: float
    """AUROC by which it must surely see more than what was taken before; infinite: shown beside the others alone."""
    precision: backbones.Precision = "float32"


WAYS = (
    Way(backbones.FUSED, 224, "max", 0.02),
    Way(AUTO, 224, "max", inf),
    Way(backbones.FUSED, 448, "top", 0.02),
)
"""Where both backbones can look together: nothing painted tells which is better, so both are taken, and a size chosen.

The last stands with as many normal pictures as `FINE` says, else the first; the other must surely show more.
"""
FINE = range(32, 2001)
"""With fewer the finer pictures lost too much on one product (docs/decisions/0024); more take gigabytes of disk."""
SINGLE = (
    Way(AUTO, 224, "max", 0.0),
    Way(AUTO, 448, "top", 0.02),
    Way("dinov2_vits14", 224, "max", 0.2),
)
"""Elsewhere, each dearer than those before it: 3.5 times the time for .02, eight times for .2."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A configuration and what it saw."""

    backbone: str
    image_size: int
    score_rule: str
    precision: str
    auroc: float
    low: float
    """Lower end of its 90 % bootstrap interval."""
    high: float
    ms: float
    """Features, search and map of one picture as measured during the choice. Not part of the recipe's digest."""
    chosen: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """What `auto` tried; `candidates` is empty where nothing was chosen, and `note` says why or what was left out."""

    pictures: int
    copies: int
    candidates: tuple[Candidate, ...]
    note: str


@dataclass(frozen=True, slots=True)
class Pictures:
    """The normal pictures of an enrolment, as the choice sees them."""

    digests: Sequence[str]
    """Of their pixels."""
    shapes: Sequence[tuple[int, int]]
    """Height and width of each."""
    read: Callable[[int], Pixels]

    @classmethod
    def of(cls, normals: Sequence[Normal], limits: Limits) -> Pictures:
        """Those that were checked."""
        shapes = [(normal.seen.height, normal.seen.width) for normal in normals]
        return cls([n.pixels_sha256 for n in normals], shapes, lambda number: read(normals[number].source, limits).pixels)


def chooses(options: EnrolOptions) -> bool:
    """Whether these options leave something to choose."""
    return options.expert != "zeroshot" and (options.backbone == "auto" or options.precision == "int8")


def choose(
    options: EnrolOptions,
    pictures: Pictures,
    region: np.ndarray | None,
    tell: Callable[[str, int, int], None],
    stop: Callable[[], None],
) -> tuple[EnrolOptions, Choice]:
    """The options with backbone, size, rule and precision filled in, and the table that they were chosen by.

    Up to 32 normal pictures, by content, in four folds: each one and the defects painted into it are scored by an expert of
    the other folds. One way stands (the coarsest; with both backbones and enough pictures the finest) unless another has an
    AUROC higher by its margin and the gain's standard error together (`pick`). int8, where asked for, takes the place of
    float32 unless it sees less by `LOSS`. The same pictures in another order or under other names give the same choice.
    Raises as `resolved` and `region_of`, FeaturesRefused, FitCancelled.
    """
    ways, note = _open(options, len(pictures.digests))
    if len(ways) == 1:
        note = f"{note} Only {ways[0].backbone} can be taken: nothing was compared.".strip()
    named = AUTO if options.backbone == "auto" else options.backbone
    usual = replace(options, backbone=ways[0].backbone if ways else named, precision="float32")
    if options.precision == "int8":
        ways = [each for way in ways for each in (way, replace(way, precision="int8"))[: 1 + _transforms(way)]]
    if len(pictures.digests) < LEAST:
        note = f"{note} {len(pictures.digests)} normal pictures are too few to choose by.".strip()
    if len(pictures.digests) < LEAST or len(ways) < 2:
        return usual, Choice(0, 0, (), note)
    order = sorted(range(len(pictures.digests)), key=lambda n: pictures.digests[n])[: selftest.PICTURES]
    copies = selftest.plan([pictures.digests[n] for n in order], "choice", EACH)
    trials = [_Trial(options, way, pictures.shapes, region) for way in ways]
    done = 0

    def told(items: Iterable[T]) -> Iterator[T]:
        nonlocal done
        for item in items:
            stop()
            yield item
            done += 1
            tell("choose", done, len(order) + len(copies) + len(trials))

    for number in told(range(len(order))):
        pixels = pictures.read(order[number])
        for trial in trials:
            trial.learn(pixels)
    for trial in told(trials):
        trial.fit()
    for copy, pixels in zip(
        copies, told(selftest.painted(copies, lambda number: pictures.read(order[number]), region)), strict=True
    ):
        for trial in trials:
            trial.judge(pixels, copy.picture % FOLDS)
    scores, defective = [np.array(trial.scores) for trial in trials], np.arange(len(order) + len(copies)) >= len(order)
    exact = [at for at, way in enumerate(ways) if way.precision == "float32"]
    best = exact[pick([scores[at] for at in exact], defective, [ways[at].margin for at in exact])]
    areas = [auroc(values, defective) or 0.0 for values in scores]
    if best + 1 not in exact and best + 1 < len(ways) and areas[best + 1] >= areas[best] - LOSS:
        best += 1
    elif options.precision == "int8":
        note = f"{note} int8 was asked for and not taken: {'it sees less' if _transforms(ways[best]) else 'no transformer was'}."
    rows = [trial.row(values, defective, at == best) for at, (trial, values) in enumerate(zip(trials, scores, strict=True))]
    return trials[best].options, Choice(len(order), len(copies), tuple(rows), note.strip())


def pick(scores: Sequence[np.ndarray], defective: np.ndarray, margins: Sequence[float]) -> int:
    """Which column of scores to take: the first, or a later one whose area exceeds that of the one taken so far.

    By its margin, after the gain's standard error is taken off.
    """
    best = 0
    for at in range(1, len(scores)):
        more = gain(scores[at], scores[best], defective)
        if more is not None and more[0] > 0 and more[0] - more[1] >= margins[at]:
            best = at
    return best


class _Trial:
    """One way on its way: its features of the normal pictures, an expert for each fold, the scores so far."""

    def __init__(self, options: EnrolOptions, way: Way, shapes: Sequence[tuple[int, int]], region: np.ndarray | None) -> None:
        self.options = resolved(
            replace(
                options,
                backbone=way.backbone,
                image_size=way.image_size,
                score_rule=way.score_rule,
                precision=way.precision,
            )
        )
        self._view = view_of(self.options, shapes)
        self._region = None if region is None else region_of(region, self._view, shapes)
        self._source = experts.extractor(options.expert, self._view, self._region)
        self._features: list[Floats] = []
        self._experts: list[experts.Expert] = []
        self._seconds: list[float] = []
        self.scores: list[float] = []
        """Of the normal pictures, then of the copies."""

    def learn(self, pixels: Pixels) -> None:
        """Take in a normal picture."""
        self._features.append(self._source.features(prepared(pixels, self._view))[0])

    def fit(self) -> None:
        """An expert without each fold, and what it says of the fold's pictures."""
        for fold in range(FOLDS):
            others = [one for n, one in enumerate(self._features) if n % FOLDS != fold]
            patches, _ = per_patch(self._view, others[0].shape, self._region)
            rows = min(ROWS, bank_rows(self.options.coreset, (len(others), patches)))
            state = experts.fit(self.options.expert, others, rows=rows, seed=0, view=self._view, region=self._region)
            self._experts.append(experts.load_expert(self.options.expert, state, self._view, source=self._source))
        for n, one in enumerate(self._features):
            self.scores.append(self._experts[n % FOLDS].score_features(one[None])[0].score)
        self._features.clear()

    def judge(self, pixels: Pixels, fold: int) -> None:
        """Score a copy of a picture of that fold."""
        start = perf_counter()
        self.scores.append(self._experts[fold].score(prepared(pixels, self._view))[0].score)
        self._seconds.append(perf_counter() - start)

    def row(self, scores: np.ndarray, defective: np.ndarray, chosen: bool) -> Candidate:
        """Its line of the table."""
        low, high = auroc_interval(scores, defective) or (0.0, 1.0)
        area, ms = auroc(scores, defective) or 0.0, round(1e3 * median(self._seconds), 1)
        view = self._view
        return Candidate(view.backbone, view.input, view.rule, view.precision, area, low, high, ms, chosen)


def _open(options: EnrolOptions, pictures: int) -> tuple[list[Way], str]:
    """The ways that these options and the shelf of weights leave, the standing one first, and what is to be told."""
    if options.expert == "reference" or options.tile is not None:
        named = f"{'Tiles' if options.tile else 'The reference expert'} and `auto` mean {AUTO}"
        return [], f"{named if options.backbone == 'auto' else 'Tiles are seen in float32'}: nothing was compared."
    if options.backbone != "auto":
        size = options.image_size or backbones.spec(backbones.members(options.backbone)[0]).image_size
        return [Way(options.backbone, size, "top" if options.score_rule == "top" else "max", 0.0)], ""
    patchcore = options.expert == "patchcore"
    together = patchcore and all(_pulled(way.backbone) for way in WAYS)
    ways = [
        way for way in (WAYS if together else SINGLE) if patchcore or way.image_size <= backbones.spec(way.backbone).image_size
    ]
    if options.image_size is not None:
        sized = [replace(way, image_size=options.image_size) for way in ways]
        ways = sized[:1] if together else list({way.backbone: way for way in reversed(sized)}.values())[::-1]
    if options.score_rule != "auto":
        ways = [replace(way, score_rule=options.score_rule) for way in ways]
    ways = [way for way in ways if _fits(way)]
    absent = {way.backbone for way in ways if not _pulled(way.backbone)}
    left = [way for way in ways if way.backbone not in absent]
    if together and pictures in FINE:
        left.reverse()
    names = " and ".join(sorted(absent))
    return left or ways[:1], f"Not tried, as its weights are not pulled: {names}." if left and absent else ""


def _transforms(way: Way) -> bool:
    """Whether the backbone is a vision transformer, which int8 is for."""
    return any(backbones.spec(name).l2_normalised for name in backbones.members(way.backbone))


def _fits(way: Way) -> bool:
    with suppress(ValueError):
        experts.View.square(way.backbone, way.image_size).grid  # noqa: B018 - raises
        return True
    return False


def _pulled(backbone: str) -> bool:
    try:
        for name in backbones.members(backbone):
            catalog.locate(backbones.spec(name).weights)
    except catalog.WeightsMissing:
        return False
    return True
