"""What is given with a picture, its free JSON held to what both databases keep."""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from app.schemas.common import Body, Tag, Time, printable

Raw = Annotated[float, Field(gt=0, lt=1e12, allow_inf_nan=False)]
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
        printable(value)
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
