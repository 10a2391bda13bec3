"""HTTP in, services called, schemas out: no rule of the house is decided here."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import Header, Query
from fastapi.encoders import jsonable_encoder
from fastapi.responses import JSONResponse

from app.services.idempotency import Reply

After = Annotated[str | None, Query(alias="cursor", max_length=200, pattern=r"^[0-9a-zA-Z_=.:+-]+$")]
Limit = Annotated[int, Query(ge=1, le=500)]
IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$")]


def replied(reply: Reply, status: int, *, location: str) -> JSONResponse:
    """A body that is already plain JSON, with where it lies and whether it was given before."""
    headers = {"Location": location, **({"Idempotency-Replayed": "true"} if reply.replayed else {})}
    return JSONResponse(reply.body, status, headers)


def event(name: str, data: Any) -> bytes:
    """One server-sent event."""
    return f"event: {name}\ndata: {json.dumps(jsonable_encoder(data), separators=(',', ':'))}\n\n".encode()


STREAM = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
