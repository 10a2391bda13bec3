"""Reviews, and the counts that sum them up."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints

from app.schemas.common import Body, Text, View
from app.schemas.drift import DriftBrief


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


class ReviewIn(Body):
    """A judgement to add; `expected_revision` is the newest one the reviewer saw (0: none)."""

    decision: Literal["pass", "reject"]
    defect_type: Annotated[Text, StringConstraints(min_length=1, max_length=100)] | None = None
    finding: Annotated[str, StringConstraints(pattern=r"^f\d{1,4}$")] | None = None
    comment: Annotated[Text, StringConstraints(max_length=4000)] | None = None
    expected_revision: Annotated[int, Field(ge=0, lt=2**31)]


class Summary(BaseModel):
    """Simple counts."""

    inspections: int
    verdicts: dict[str, int]
    reviewed: int
    agreement: dict[str, dict[str, int]]
    questions: int
    groundings: dict[str, int]
    drift: DriftBrief | None
    """Of the product asked for; `None` without one, or where it has no promoted recipe."""
