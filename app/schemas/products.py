"""Products and their pictures."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, StringConstraints

from app.schemas.common import Body, Name, Refused, Text, View


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


class Uploaded(BaseModel):
    """What became of each file: kept, already there, or refused."""

    items: list[ImageView]
    duplicates: int
    refused: list[Refused]
