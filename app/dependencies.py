"""What a route may ask for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Annotated

from fastapi import Depends, Path, Request
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from app.context import Context
from app.errors import Forbidden
from app.security import Principal
from app.services import keys


async def context(request: Request) -> Context:  # async: so small a thing needs no thread of its own
    """The service's parts."""
    found: Context = request.app.state.context
    return found


Ctx = Annotated[Context, Depends(context)]


def session(ctx: Ctx) -> Iterator[Session]:
    """One transaction for the request, committed before the response leaves (hence scope="function")."""
    with ctx.database.write() as opened:
        yield opened


def reading(ctx: Ctx) -> Iterator[Session]:
    """A session that only reads."""
    with ctx.database.read() as opened:
        yield opened


Write = Annotated[Session, Depends(session, scope="function")]
Read = Annotated[Session, Depends(reading, scope="function")]


async def principal(request: Request, ctx: Ctx) -> Principal:
    """Who calls: known at the edge, before the body was read. Raises what `keys.identify` does where the edge did not ask."""
    found: Principal | None = request.scope.get("kensor.principal")
    return found or await run_in_threadpool(keys.identify, ctx, request.scope)


def require(role: str) -> Callable[[Principal], Awaitable[Principal]]:
    """A dependency that lets in the role and those above it."""

    async def allowed(caller: Annotated[Principal, Depends(principal)]) -> Principal:
        if not caller.may(role):
            raise Forbidden(f"This needs the role `{role}`; the key has `{caller.role}`.", needs=role, has=caller.role)
        return caller

    allowed.role = role  # type: ignore[attr-defined]
    return allowed


Viewer = Annotated[Principal, Depends(require("viewer"))]
Line = Annotated[Principal, Depends(require("line"))]
Operator = Annotated[Principal, Depends(require("operator"))]
Engineer = Annotated[Principal, Depends(require("engineer"))]
Admin = Annotated[Principal, Depends(require("admin"))]

ProductName = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$", description="`[a-z0-9][a-z0-9_-]{0,63}`")]
RowId = Annotated[str, Path(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", description="UUIDv7")]
