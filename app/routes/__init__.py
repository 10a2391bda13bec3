"""HTTP in, services called, schemas out: no rule of the house is decided here."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

After = Annotated[str | None, Query(alias="cursor", max_length=200, pattern=r"^[0-9a-zA-Z_=.:-]+$")]
Limit = Annotated[int, Query(ge=1, le=500)]
