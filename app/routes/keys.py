"""`/v1/keys`."""

from __future__ import annotations

from fastapi import APIRouter

from app.dependencies import Admin, Ctx, Read, RowId
from app.routes import After, Limit
from app.schemas.common import Page
from app.schemas.keys import KeyIn, KeyMade, KeyView
from app.services import keys

router = APIRouter(prefix="/v1/keys", tags=["keys"])


@router.post("", status_code=201)
def create(body: KeyIn, ctx: Ctx, caller: Admin) -> KeyMade:
    """Make a key; the answer is the only time it is shown."""
    with ctx.database.write() as session:
        key, secret = keys.create(session, body.name, body.role, caller.name)
        return KeyMade(**KeyView.model_validate(key).model_dump(), key=secret)


@router.get("")
def listed(session: Read, caller: Admin, cursor: After = None, limit: Limit = 50) -> Page[KeyView]:
    """All keys, without their secrets."""
    rows, following = keys.listed(session, cursor, limit)
    return Page(items=[KeyView.model_validate(row) for row in rows], next_cursor=following)


@router.delete("/{key_id}")
def revoke(key_id: RowId, ctx: Ctx, caller: Admin) -> KeyView:
    """End a key, at once and for good."""
    with ctx.database.write() as session:
        return KeyView.model_validate(keys.revoke(session, key_id))
