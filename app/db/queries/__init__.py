"""Every statement the service sends, one file per noun."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select
from sqlalchemy.orm import Session


def page(session: Session, statement: Select[Any], column: Any, after: str | None, limit: int) -> tuple[list[Any], str | None]:
    """One page, newest first, and the cursor of the next."""
    if after:
        statement = statement.where(column < after)
    rows = list(session.scalars(statement.order_by(column.desc()).limit(limit + 1)).unique())
    return rows[:limit], rows[limit - 1].id if len(rows) > limit else None
