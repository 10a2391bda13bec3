"""What several bodies share: checked text and times, the forms of a request, a response, a page and an error."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

T = TypeVar("T")
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]


def printable(value: str) -> str:
    """Text that both databases keep. Raises ValueError."""
    if "\x00" in value:  # PostgreSQL keeps none
        raise ValueError("must not hold a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError("must be valid Unicode") from error
    return value


def _utc(value: datetime) -> datetime:
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("is out of range") from error


Text = Annotated[str, AfterValidator(printable)]
Tag = Annotated[Text, StringConstraints(min_length=1, max_length=200)]
Time = Annotated[datetime, AfterValidator(_utc)]
VerdictName = Literal["pass", "review", "reject"]


class Body(BaseModel):
    """A request: an unknown field is an error, not a silent loss."""

    model_config = ConfigDict(extra="forbid")


class View(BaseModel):
    """A response, read from a row."""

    model_config = ConfigDict(from_attributes=True)


class Page(BaseModel, Generic[T]):
    """One page of a list; `next_cursor` is null on the last."""

    items: list[T]
    next_cursor: str | None = None


class Problem(BaseModel):
    """The one envelope of every error."""

    code: str
    message: str
    request_id: str
    details: dict[str, Any]


class Refused(BaseModel):
    """One file that was not taken, and why."""

    filename: str
    code: str
    message: str
    details: dict[str, Any] = {}
