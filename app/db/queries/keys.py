"""Keys."""

from __future__ import annotations

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from app.db.queries import page
from app.db.tables import Key


def by_digest(session: Session, sha256: str) -> Key | None:
    """A key that is not revoked."""
    return session.scalar(select(Key).where(Key.sha256 == sha256, Key.revoked_at.is_(None)))


def any_exists(session: Session) -> bool:
    """Whether a key was ever made: revoking the last one must not open the service."""
    return bool(session.scalar(select(exists().where(Key.id.is_not(None)))))


def get(session: Session, key_id: str) -> Key | None:
    """One key."""
    return session.get(Key, key_id)


def listed(session: Session, after: str | None, limit: int) -> tuple[list[Key], str | None]:
    """All keys, newest first."""
    return page(session, select(Key), Key.id, after, limit)
