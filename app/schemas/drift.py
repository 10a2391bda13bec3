"""The report on drift."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel

StateName = Literal["steady", "drifting", "too_few"]


class Since(BaseModel):
    """The first inspection of the drift."""

    inspection: str
    created_at: datetime
    or_earlier: bool
    """The window begins with it, and older inspections were not looked at."""


class Promise(BaseModel):
    """The share of sound parts at or over one limit."""

    promised: float
    promised_low: float
    promised_high: float
    parts: int
    confirmed: int
    open: int
    low: float
    high: float


class Drift(BaseModel):
    """Whether parts still score as the normals of the recipe did."""

    product: str
    recipe: int
    station: str | None
    window: int
    state: StateName
    signals: list[Literal["scores_shifted", "most_flagged", "rate_exceeded"]]
    since: Since | None
    parts: int
    compared: int
    shift: float | None
    least_shift: float | None
    review: Promise | None
    reject: Promise | None
    advice: str
    candidates: list[str]
    """Newest inspections that a person confirmed good: pictures to add to the normals."""


class DriftBrief(BaseModel):
    """The state alone."""

    state: StateName
    since: Since | None
    recipe: int
