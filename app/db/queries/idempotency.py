"""Responses kept for a repeated request."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import delete, select
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


def purge(session: Session) -> None:
    """Forget what is too old."""
    session.execute(delete(Idempotency).where(Idempotency.created_at <= now() - KEPT))
