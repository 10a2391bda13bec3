"""Products and their pictures."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self

from pydantic import BaseModel, Field, StringConstraints, model_validator

from app.schemas.common import Body, Name, Refused, Text, Time, View
from app.schemas.drift import DriftBrief


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


class ProductRecord(ProductView):
    """A product, and whether its parts drift; `None`: it has no promoted recipe."""

    drift: DriftBrief | None


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


InspectionId = Annotated[Text, StringConstraints(min_length=1, max_length=36)]


class FromInspections(Body):
    """Inspected pictures to take as normal ones: those named, or all (`since` a time) that a person reviewed as good."""

    inspections: Annotated[list[InspectionId], Field(max_length=1000, default_factory=list)]
    reviewed_good: bool = False
    since: Time | None = None

    @model_validator(mode="after")
    def _either(self) -> Self:
        if bool(self.inspections) == self.reviewed_good or (self.since is not None and not self.reviewed_good):
            raise ValueError("give `inspections`, or `reviewed_good` and perhaps `since`")
        return self


class Uploaded(BaseModel):
    """What became of each file: kept, already there, or refused."""

    items: list[ImageView]
    duplicates: int
    refused: list[Refused]
