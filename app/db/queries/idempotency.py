"""Responses kept for a repeated request."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import CursorResult, delete, select, tuple_
from sqlalchemy.orm import Session

from app.db.tables import Idempotency, now

KEPT = timedelta(hours=24)


def get(session: Session, key_id: str, token: str) -> Idempotency | None:
    """The response given, unless it is too old."""
    statement = select(Idempotency).where(
        Idempotency.key_id == key_id, Idempotency.token == token, Idempotency.created_at > now() - KEPT
    )
    return session.scalar(statement)


def add(session: Session, row: Idempotency) -> None:
    """Keep a response, in place of one that is too old."""
    old = (Idempotency.key_id == row.key_id, Idempotency.token == row.token, Idempotency.created_at <= now() - KEPT)
    session.execute(delete(Idempotency).where(*old))
    session.add(row)
    session.flush()


def purge(session: Session, most: int) -> int:
    """Forget the `most` oldest of what is too old; returns how many went."""
    key = (Idempotency.key_id, Idempotency.token)
    old = select(*key).where(Idempotency.created_at <= now() - KEPT).order_by(Idempotency.created_at).limit(most)
    done = session.execute(delete(Idempotency).where(tuple_(*key).in_(old)))
    assert isinstance(done, CursorResult)
    return done.rowcount
