"""Jobs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from app.schemas.common import Body, Name, Tag, Time, VerdictName, View
from app.schemas.recipes import Last

Format = Literal["json", "csv"]


class JobIn(Body):
    """A re-inspection: which recorded inspections to judge again, by which recipe."""

    type: Literal["reinspect"]
    product: Name
    recipe: Annotated[int, Field(ge=1, lt=2**31)]
    since: Time | None = None
    until: Time | None = None
    lot: Tag | None = None
    verdict: VerdictName | None = None
    last: Last | None = None
    """Only so many of the newest."""


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
