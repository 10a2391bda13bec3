"""Enrolments, recipes and their limits."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from app.schemas.common import Body, Text


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
