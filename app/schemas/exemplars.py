"""Labelled findings."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, StringConstraints

from app.schemas.common import Body, Page, View

LABEL = r"^[^\W_][\w /-]{0,38}[\w]$|^[^\W_]$"
Label = Annotated[str, StringConstraints(strip_whitespace=True, pattern=LABEL)]
"""Letters of any script, digits, blanks, `_`, `-` and `/`, at most 40: it is said again in answers."""
Pool = Literal["exemplar", "test"]


class ExemplarIn(Body):
    """The name of one finding. `pool` `test`: never used to name others, only to test how they are named."""

    inspection_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
    finding: Annotated[str, StringConstraints(pattern=r"^f\d{1,4}$")]
    label: Label
    pool: Pool = "exemplar"


class ExemplarView(View):
    """A labelled finding."""

    id: str
    inspection_id: str
    finding: str
    label: str
    pool: str
    created_by: str
    created_at: datetime


class Tested(BaseModel):
    """How the test pool's findings are named by the others; those whose feature is not made yet are left out."""

    n: int
    named: int
    right: int


class ExemplarPage(Page[ExemplarView]):
    """One page, with what the whole product has."""

    labels: dict[str, dict[Pool, int]]
    test: Tested | None
    """`None`: there is nothing to test, or nothing to test it by."""
