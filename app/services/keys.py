"""Keys: made, listed, revoked, recognised."""

from __future__ import annotations

import hmac

from sqlalchemy.orm import Session

from app.context import Context
from app.db.queries import keys as queries
from app.db.tables import Key, now
from app.errors import NotFound
from app.security import Principal, digest, mint


def create(session: Session, name: str, role: str, by: str) -> tuple[Key, str]:
    """A new key and its secret, which is not kept."""
    secret = mint()
    key = Key(name=name, role=role, sha256=digest(secret), created_by=by)
    session.add(key)
    session.flush()
    return key, secret


def listed(session: Session, after: str | None, limit: int) -> tuple[list[Key], str | None]:
    """Keys, newest first."""
    return queries.listed(session, after, limit)


def revoke(session: Session, key_id: str) -> Key:
    """End a key, at once and for good; its record stays."""
    key = queries.get(session, key_id)
    if key is None:
        raise NotFound("There is no key of this id.")
    key.revoked_at = key.revoked_at or now()
    return key


def authenticate(ctx: Context, secret: str) -> Principal | None:
    """Whose secret this is."""
    admin = ctx.settings.admin_key
    if admin is not None and hmac.compare_digest(admin.get_secret_value().encode(), secret.encode()):
        return Principal("admin", "admin", "admin")
    with ctx.database.read() as session:
        key = queries.by_digest(session, digest(secret))
        return None if key is None else Principal(key.id, key.name, key.role)


def any_exists(ctx: Context) -> bool:
    """Whether callers need a key."""
    if ctx.settings.admin_key is not None:
        return True
    with ctx.database.read() as session:
        return queries.any_exists(session)
