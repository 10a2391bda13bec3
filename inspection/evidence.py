"""The frozen values that cross package borders, and the errors of the domain."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Verdict(StrEnum):
    """What is decided about a part. An error is never a verdict."""

    PASS = "pass"
    REVIEW = "review"
    REJECT = "reject"


class InspectionError(Exception):
    """A refusal of the domain: `code` is stable and machine-readable, `details` are plain JSON values."""

    code = "inspection_error"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class NotAnImage(InspectionError):
    """The bytes are not a picture this service reads, or are damaged."""

    code = "not_an_image"


class ImageTooLarge(InspectionError):
    """The picture has more pixels, or more bytes, than the limits allow."""

    code = "image_too_large"


class ImageUnusable(InspectionError):
    """A picture that was read, but cannot be inspected (too small, animated, a mask of another size)."""

    code = "image_unusable"


class EnrolmentRefused(InspectionError):
    """The normal pictures cannot make a recipe (none, identical, not finite)."""

    code = "enrolment_refused"


class RecipeRefused(InspectionError):
    """A recipe whose digests or golden scores do not hold, or of a format this version does not read."""

    code = "recipe_refused"


class Cancelled(InspectionError):
    """The caller asked a long task to stop."""

    code = "cancelled"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Raw-unit limits: `raw >= reject` rejects, `review <= raw < reject` asks a person. `None`: uncalibrated."""

    review: float | None
    reject: float | None


@dataclass(frozen=True, slots=True)
class Finding:
    """What stands over the finding limit in one region of the map, and its extent, in pixels of the picture as displayed."""

    id: str
    """`f1`, `f2`, …: by falling peak, stable within one inspection."""
    bbox: tuple[int, int, int, int]
    """x, y, width, height."""
    polygon: tuple[tuple[int, int], ...]
    area_px: int
    area_pct: float
    """Share of the picture's area, 0 to 100."""
    centroid: tuple[float, float]
    peak: float
    """Largest map value in the region, raw units."""
    peak_xy: tuple[int, int]
    place: str
    """One of nine cells: `top left`, `top`, `top right`, `left`, `centre`, `right`, `bottom left`, `bottom`, `bottom right`."""


@dataclass(frozen=True, slots=True)
class MapStats:
    """The whole map in a few numbers, raw units."""

    min: float
    max: float
    mean: float
    peak_xy: tuple[int, int]
    """In pixels of the picture as displayed."""
    peak_place: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """One picture judged once by one recipe: everything the record keeps, and nothing about HTTP or a database."""

    verdict: Verdict
    reasons: tuple[str, ...]
    """Stable codes: `over_reject_limit`, `over_review_limit`, `uncalibrated`, an expert's (`no_template`, `not_registered`), the
    gate's (gate.py)."""
    raw_score: float
    score: float | None
    """raw / (raw + reject): strictly increasing, 0.5 at the reject limit, below 1 for every finite raw. `None`: uncalibrated."""
    thresholds: Thresholds
    margin: float | None
    """raw / reject - 1: negative below the reject limit, relative to it. `None`: uncalibrated."""
    findings: tuple[Finding, ...]
    map: NDArray[np.float32] = field(repr=False, compare=False)
    """Anomaly map `[H, W]` at the expert's input size, covering the picture edge to edge, raw units."""
    map_stats: MapStats
    width: int
    height: int
    """Size of the picture as displayed (after EXIF orientation), pixels."""
    recipe_sha256: str
    timings_ms: dict[str, float]
    """`decode`, `features`, `search`, `map`."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A labelled example that a finding was held against."""

    ref: str
    """The exemplar's id."""
    label: str
    similarity: float
    """Cosine of the two features."""


@dataclass(frozen=True, slots=True)
class Naming:
    """What a finding is called by the product's labelled examples."""

    finding: str
    label: str | None
    """`None`: unlike anything labelled."""
    votes: int
    """How many of the nearest bear the label most of them bear."""
    similarity: float
    """To the nearest."""
    limit: float
    """Under it a finding is unlike anything labelled."""
    nearest: tuple[Neighbour, ...]


@dataclass(frozen=True, slots=True)
class Likeness:
    """How the strongest finding compares with the strongest ones of earlier inspections that were not passed."""

    finding: str
    compared: int
    left_out: int
    """Earlier ones that were not looked at."""
    limit: float
    """The similarity from which on two findings are called alike."""
    alike: tuple[dict[str, Any], ...]
    """The most alike first, whether over the limit or not: `id`, `finding`, `created_at`, `verdict`, `similarity`."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an answer may rest on: one inspection as it was recorded. Built from stored rows; no expert runs again."""

    inspection_id: str
    product: str
    verdict: Verdict
    reasons: tuple[str, ...]
    raw_score: float
    score: float | None
    thresholds: Thresholds
    findings: tuple[Finding, ...]
    map_stats: MapStats
    width: int
    height: int
    recipe_number: int
    recipe_sha256: str
    created_at: str
    """ISO 8601, UTC."""
    serial: str | None = None
    lot: str | None = None
    station: str | None = None
    history: tuple[dict[str, Any], ...] = ()
    """Earlier inspections of the product, newest first: `id`, `verdict`, `created_at`, `lot`, `places`."""
    image: NDArray[np.uint8] | None = field(default=None, repr=False, compare=False)
    """The picture, RGB `[H, W, 3]`."""
    map: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)
    labels: tuple[str, ...] = ()
    """Names that people gave to findings of the product: its exemplars'."""
    named: tuple[Naming, ...] = ()
    """What the strongest findings are called by the exemplars; empty where nobody asked, or there are none."""
    likeness: Likeness | None = None
    """`None` where nobody asked, or there is nothing to compare."""
    view: float | None = None
    """How likely the answering model itself takes a defect to be, 0 to 1. `None`: it has no view of its own."""
    references: tuple[NDArray[np.uint8], ...] = field(default=(), repr=False, compare=False)
    """Normal pictures of the product, RGB `[H, W, 3]` each: those that its recipe keeps."""

    @property
    def decided(self) -> bool | None:
        """Whether the verdict says that there is a defect; `None` for a review."""
        return {Verdict.REJECT: True, Verdict.PASS: False}.get(self.verdict)

    @property
    def sees(self) -> bool | None:
        """Whether the answering model itself sees a defect."""
        return None if self.view is None else self.view >= 0.5

    @property
    def gated(self) -> bool:
        """A review by the input gate alone: the picture is in doubt, and the expert sees nothing."""
        limit = self.thresholds.review
        return self.verdict is Verdict.REVIEW and limit is not None and self.raw_score < limit


@dataclass(frozen=True, slots=True)
class EvidenceItem:
    """One thing an answer rests on. `kind`: `finding`, `map_stat`, `exemplar`, `reference`, `history`, `view`."""

    kind: str
    ref: str
    value: Any


@dataclass(frozen=True, slots=True)
class Answer:
    """One question answered: what was delivered, what the model itself said, and what it rests on."""

    answer: str
    """The delivered text: nothing in it that the evidence does not bear."""
    own_words: str
    """The model's text before the check."""
    kind: str
    """`yes_no`, `place`, `count`, `size`, `type`, `description`, `action`, `history`, `unanswerable`."""
    evidence: tuple[EvidenceItem, ...]
    grounding: str
    """`grounded`, `mended`, `replaced`, `insufficient`."""
    agrees_with_detector: bool
    model: dict[str, str]
    """`name`, `sha256`."""
    prompt_sha256: str
    latency_ms: float
