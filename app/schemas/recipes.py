"""Enrolments, recipes and their limits."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from app.schemas.common import Body, Text

Number = Annotated[int, Field(ge=1, lt=2**31)]
Last = Annotated[int, Field(ge=1, le=10_000)]


class EnrollIn(Body):
    """How to make a recipe of a product's normal pictures.

    `extends`: the number of a recipe, or `present` (the promoted one), to which the normal pictures that it has not are
    added; it keeps that recipe's options. `diff_last`: so many of the newest inspections are then judged again (0: none).
    """

    extends: Number | Literal["present"] | None = None
    diff_last: Annotated[int, Field(ge=0, le=10_000)] = 200
    expert: Literal["patchcore", "padim", "reference", "zeroshot"] = "patchcore"
    backbone: Annotated[Text, StringConstraints(min_length=1, max_length=100)] = "auto"
    image_size: Annotated[int, Field(ge=32, le=2048)] | None = None
    tile: Annotated[int, Field(ge=16, le=100_000)] | None = None
    """Side of overlapping tiles, pixels of the picture; `null`: the whole picture at once."""
    score_rule: Literal["auto", "max", "top"] = "auto"
    precision: Literal["float32", "int8"] = "float32"
    augment: Literal["auto", "on", "off"] = "auto"
    coreset: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    false_reject_rate: Annotated[float, Field(gt=0, lt=0.5)] = 0.01
    review_rate: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    promote: bool = False
    force: bool = False

    @model_validator(mode="after")
    def _inherited(self) -> Self:
        given = self.model_fields_set - {"extends", "diff_last", "promote", "force"}
        if self.extends is not None and given:
            raise ValueError(f"a recipe that extends another keeps its options: leave out {', '.join(sorted(given))}")
        return self

    @property
    def options(self) -> dict[str, Any]:
        """What the domain calls `EnrolOptions`."""
        return self.model_dump(exclude={"extends", "diff_last", "promote", "force"})


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
    choice: dict[str, Any] | None = None
    self_test: dict[str, Any] | None = None
    warnings: list[str]
    normals: list[str]
    files: dict[str, Any]
    job_id: str | None
    created_at: datetime
    created_by: str
    links: dict[str, str]


class DiffView(BaseModel):
    """Two recipes' verdicts over the newest inspections of a product."""

    product: str
    recipe: int
    against: int | None
    """`null`: the verdicts as they were given."""
    inspections: int
    compared: int
    not_judged: dict[str, int]
    """By recipe number: pictures that it has not judged yet; `POST /v1/jobs` re-inspects them."""
    flips: dict[str, dict[str, int]]
    reviewed: dict[str, dict[str, dict[str, int]]]
    """The same by what the newest review says: `good`, `defective`, `unreviewed`."""
    new_escapes: int
    """Parts reviewed as defective that pass now and did not."""
    new_overkill: int
    """Parts reviewed as good that are rejected now and were not."""
    cleared: int
    """Parts reviewed as good that pass now and did not."""
    rows: list[dict[str, Any]]
    """The pictures whose verdict is another."""
