"""The bodies of docs/api.md."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, field_validator

T = TypeVar("T")
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]


def _printable(value: str) -> str:
    if "\x00" in value:  # PostgreSQL keeps none
        raise ValueError("must not hold a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError("must be valid Unicode") from error
    return value


def _utc(value: datetime) -> datetime:
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("is out of range") from error


Text = Annotated[str, AfterValidator(_printable)]
Tag = Annotated[Text, StringConstraints(min_length=1, max_length=200)]
Time = Annotated[datetime, AfterValidator(_utc)]
Raw = Annotated[float, Field(gt=0, lt=1e12, allow_inf_nan=False)]
Role = Literal["viewer", "line", "operator", "engineer", "admin"]
VerdictName = Literal["pass", "review", "reject"]
Format = Literal["json", "csv"]


class Body(BaseModel):
    """A request: an unknown field is an error, not a silent loss."""

    model_config = ConfigDict(extra="forbid")


class View(BaseModel):
    """A response, read from a row."""

    model_config = ConfigDict(from_attributes=True)


class Page(BaseModel, Generic[T]):
    """One page of a list; `next_cursor` is null on the last."""

    items: list[T]
    next_cursor: str | None = None


class Problem(BaseModel):
    """The one envelope of every error."""

    code: str
    message: str
    request_id: str
    details: dict[str, Any]


class KeyIn(Body):
    """A key to make."""

    name: Annotated[Text, StringConstraints(min_length=1, max_length=100)]
    role: Role


class KeyView(View):
    """A key without its secret."""

    id: str
    name: str
    role: str
    created_at: datetime
    revoked_at: datetime | None
    created_by: str


class KeyMade(KeyView):
    """A new key: the only time it is shown."""

    key: str


class ProductIn(Body):
    """A product to make."""

    name: Name
    description: Annotated[Text, StringConstraints(max_length=2000)] = ""


class ProductPatch(Body):
    """What may be changed on a product."""

    description: Annotated[Text, StringConstraints(max_length=2000)] | None = None
    archived: bool | None = None


class ProductView(View):
    """A product."""

    id: str
    name: str
    description: str
    promoted: int | None
    created_at: datetime
    archived_at: datetime | None


class ImageView(View):
    """A picture given for enrolment or tests."""

    id: str
    kind: str
    label: str | None
    filename: str
    sha256: str
    mask_sha256: str | None
    format: str
    width: int
    height: int
    bytes: int
    created_at: datetime


class Refused(BaseModel):
    """One file that was not taken, and why."""

    filename: str
    code: str
    message: str
    details: dict[str, Any] = {}


class Uploaded(BaseModel):
    """What became of each file: kept, already there, or refused."""

    items: list[ImageView]
    duplicates: int
    refused: list[Refused]


class EnrollIn(Body):
    """How to make a recipe of a product's normal pictures."""

    expert: Literal["patchcore", "padim", "reference"] = "patchcore"
    backbone: Annotated[Text, StringConstraints(min_length=1, max_length=100)] = "auto"
    image_size: Annotated[int, Field(ge=32, le=2048)] | None = None
    coreset: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    false_reject_rate: Annotated[float, Field(gt=0, lt=0.5)] = 0.01
    review_rate: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    promote: bool = False
    force: bool = False


class PromoteIn(Body):
    """`force` promotes an uncalibrated recipe too."""

    force: bool = False


class Limit(BaseModel):
    """One threshold, raw and calibrated, and whether the request set it."""

    raw: float | None
    score: float | None
    overridden: bool = False


class Limits(BaseModel):
    """The two thresholds a verdict is decided by."""

    review: Limit
    reject: Limit


class RecipeView(BaseModel):
    """A recipe: its number and digest, its limits, and what recipe.json says of it."""

    model_config = ConfigDict(extra="allow")
    product: str
    number: int
    sha256: str
    promoted: bool
    thresholds: Limits
    expert: str
    backbone: str
    image_size: int
    calibration: dict[str, Any]
    warnings: list[str]
    normals: list[str]
    files: dict[str, Any]
    job_id: str | None
    created_at: datetime
    created_by: str
    links: dict[str, str]


class JobIn(Body):
    """A re-inspection: which recorded inspections to judge again, by which recipe."""

    type: Literal["reinspect"]
    product: Name
    recipe: Annotated[int, Field(ge=1, lt=2**31)]
    since: Time | None = None
    until: Time | None = None
    lot: Tag | None = None
    verdict: VerdictName | None = None


class JobView(View):
    """Long work and how far it is."""

    id: str
    type: str
    product: str
    state: str
    stage: str
    done: int
    total: int
    failed: int
    eta_s: float | None
    attempts: int
    params: dict[str, Any]
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    created_by: str
    links: dict[str, str]


DEPTH = 16


def _object(value: str) -> dict[str, Any]:
    if len(value) > 8192:
        raise ValueError("is longer than 8192 characters")
    try:
        found = json.loads(value, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise ValueError("must be a JSON object of finite numbers") from error
    if not isinstance(found, dict):
        raise ValueError("must be a JSON object")
    _keepable(found, DEPTH)
    return found


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(text)
    return number


def _keepable(value: Any, depth: int) -> None:
    """What both databases keep and every reader can read again: what one takes and another does not poisons a whole list."""
    if depth < 0:
        raise ValueError(f"is nested deeper than {DEPTH} levels")
    if isinstance(value, str):
        _printable(value)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("holds a whole number of more than 64 bits")
    elif isinstance(value, (dict, list)):
        for item in (*value, *value.values()) if isinstance(value, dict) else value:
            _keepable(item, depth - 1)


class InspectFields(Body):
    """What comes with a picture, in the query or in the form."""

    recipe: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    serial: Tag | None = None
    lot: Tag | None = None
    station: Tag | None = None
    line: Tag | None = None
    shift: Tag | None = None
    captured_at: Time | None = None
    measurement_id: Tag | None = None
    custom: Annotated[str | None, Field(description="A JSON object.")] = None
    is_simulated: bool = False
    threshold_reject: Raw | None = None
    threshold_review: Raw | None = None
    detail: Literal["verdict", "full"] = "full"

    @field_validator("custom")
    @classmethod
    def _custom(cls, value: str | None) -> str | None:
        return None if value is None else json.dumps(_object(value))


class RecipeRef(BaseModel):
    """Which recipe judged."""

    number: int
    sha256: str


class FindingView(BaseModel):
    """One connected region over the limit, in pixels of the picture as displayed."""

    id: str
    bbox: list[int]
    polygon: list[list[int]]
    area_px: int
    area_pct: float
    centroid: list[float]
    peak: float
    peak_xy: list[int]
    place: str


class MapView(BaseModel):
    """The anomaly map, raw units."""

    url: str
    sha256: str
    width: int
    height: int
    min: float
    max: float
    mean: float
    peak_xy: list[int]
    peak_place: str


class ImageRef(BaseModel):
    """The picture that was judged."""

    sha256: str
    width: int
    height: int


class VerdictView(BaseModel):
    """`detail=verdict`: what a line needs."""

    id: str
    product: str
    verdict: VerdictName
    reasons: list[str]
    raw_score: float
    score: float | None
    thresholds: Limits
    margin: float | None
    recipe: RecipeRef
    created_at: datetime
    links: dict[str, str]


class InspectionView(VerdictView):
    """One picture judged once by one recipe."""

    findings: list[FindingView]
    map: MapView
    image: ImageRef
    timings_ms: dict[str, float]
    serial: str | None
    lot: str | None
    station: str | None
    line: str | None
    shift: str | None
    captured_at: datetime | None
    measurement_id: str | None
    custom: dict[str, Any]
    is_simulated: bool
    job_id: str | None
    source_id: str | None
    created_by: str


class ReviewView(View):
    """A person's judgement."""

    id: str
    inspection_id: str
    revision: int
    decision: str
    defect_type: str | None
    finding: str | None
    comment: str | None
    reviewer: str
    created_at: datetime


class InspectionRecord(InspectionView):
    """An inspection with what was added beside it."""

    revision: int
    reviews: list[ReviewView]


class BatchItem(BaseModel):
    """One file of a batch: its inspection, or its error."""

    filename: str
    status: int
    inspection: InspectionView | None = None
    error: Refused | None = None


class Batch(BaseModel):
    """Every file of a batch, in the order sent."""

    items: list[BatchItem]
    done: int
    failed: int


class ReviewIn(Body):
    """A judgement to add; `expected_revision` is the newest one the reviewer saw (0: none)."""

    decision: Literal["pass", "reject"]
    defect_type: Annotated[Text, StringConstraints(min_length=1, max_length=100)] | None = None
    finding: Annotated[str, StringConstraints(pattern=r"^f\d{1,4}$")] | None = None
    comment: Annotated[Text, StringConstraints(max_length=4000)] | None = None
    expected_revision: Annotated[int, Field(ge=0, lt=2**31)]


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


class QuestionIn(Body):
    """A question about one inspection."""

    question: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000), AfterValidator(_printable)]
    conversation_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f-]{36}$")] | None = None
    language: Annotated[str, BeforeValidator(_lower), StringConstraints(pattern=r"^[a-z]{2}(-[a-z]{2})?$")] | None = None
    engine: Literal["builtin"] = "builtin"
    stream: bool = False


class EvidenceView(View):
    """One thing an answer rests on."""

    kind: str
    ref: str
    value: Any


class AnswerView(View):
    """An answer: what was delivered, what the model itself said, and what it rests on."""

    id: str
    question_id: str
    answer: str
    own_words: str
    kind: str
    evidence: list[EvidenceView]
    grounding: str
    agrees_with_detector: bool
    model: dict[str, Any]
    prompt_sha256: str
    latency_ms: float
    created_at: datetime


class AnswerOut(AnswerView):
    """An answer with its question's conversation."""

    conversation_id: str


class QuestionView(View):
    """A question, and its answer once there is one."""

    id: str
    inspection_id: str
    conversation_id: str
    question: str
    language: str
    engine: str
    state: str
    error: str | None
    asked_by: str
    created_at: datetime
    closed_at: datetime | None
    answer: AnswerView | None


class FeedbackIn(Body):
    """What a person thinks of an answer."""

    vote: Literal["up", "down"]
    edit: Annotated[Text, StringConstraints(max_length=4000)] | None = None


class FeedbackView(View):
    """Feedback as kept."""

    id: str
    answer_id: str
    vote: str
    edit: str | None
    created_by: str
    created_at: datetime


class Summary(BaseModel):
    """Simple counts."""

    inspections: int
    verdicts: dict[str, int]
    reviewed: int
    agreement: dict[str, dict[str, int]]
    questions: int
    groundings: dict[str, int]
