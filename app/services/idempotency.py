"""The same request sent twice is done once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from app.context import Context
from app.db.engine import CONFLICT
from app.db.queries import idempotency as queries
from app.db.tables import Idempotency
from app.errors import Invalid
from app.security import Principal

Body = dict[str, Any]


class Reply(NamedTuple):
    """A response's body, and whether it is the one given before."""

    body: Body
    replayed: bool = False


class Once(NamedTuple):
    """A request under an `Idempotency-Key`: who sent it, which key, and the digest of all that matters in it."""

    key_id: str
    token: str
    fingerprint: str


def once(caller: Principal, token: str | None, *parts: Any) -> Once | None:
    """`None` without a token. `parts`: everything that makes two requests the same, plain JSON values."""
    if token is None:
        return None
    text = json.dumps(parts, sort_keys=True, default=str)
    return Once(caller.id, token, hashlib.sha256(text.encode()).hexdigest())


def earlier(session: Session, request: Once | None) -> Reply | None:
    """The response given before. Raises `Invalid` (`idempotency_key_reused`) for another request under the same key."""
    found = None if request is None else queries.get(session, request.key_id, request.token)
    if found is None or request is None:
        return None
    if found.fingerprint != request.fingerprint:
        raise Invalid("This Idempotency-Key was used for another request.", code="idempotency_key_reused", key=request.token)
    return Reply(found.response, True)


def write(ctx: Context, request: Once | None, work: Callable[[Session], Body], status: int = 201) -> Reply:
    """One transaction: the work and its kept response, or nothing. Two at once: the second gets the first's response."""
    try:
        with ctx.database.write() as session:
            found = earlier(session, request)
            if found is not None:
                return found
            body = work(session)
            if request is not None:
                row = Idempotency(**request._asdict(), status=status, response=body)
                queries.add(session, row)
            return Reply(body)
    except CONFLICT:
        with ctx.database.read() as session:
            found = earlier(session, request)
        if found is None:
            raise
        return found
