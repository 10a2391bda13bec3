"""What a route may ask for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Annotated, Any

from fastapi import Depends, Path, Request
from fastapi.security import HTTPBearer
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import Scope

from app.context import Context
from app.errors import Forbidden, Unauthenticated
from app.security import LOCAL, Principal, bearer, local
from app.services import keys


async def context(request: Request) -> Context:  # async: so small a thing needs no thread of its own
    """The service's parts."""
    found: Context = request.app.state.context
    return found


Ctx = Annotated[Context, Depends(context)]


def reading(ctx: Ctx) -> Iterator[Session]:
    """A session that only reads. One that writes is opened within the route: a dependency would hold the one writer's lock while
    the request waits for its next thread, which those who wait for the lock may hold."""
    with ctx.database.read() as opened:
        yield opened


Read = Annotated[Session, Depends(reading, scope="function")]


def identify(ctx: Context, scope: Scope) -> Principal:
    """Who calls. Raises `Unauthenticated`, or `Forbidden` for a stranger while the service has no key.

    While it has none, a key given (OpenAI's clients always give one) says nothing."""
    token = bearer(Headers(scope=scope))
    found = None if token is None else keys.authenticate(ctx, token)
    if found is not None:
        return found
    if keys.any_exists(ctx):
        why = "A key is needed: `Authorization: Bearer …`." if token is None else "This key is unknown or revoked."
        raise Unauthenticated(why)
    reason = local(scope)
    if reason is not None:
        message = f"The service has no key yet and answers only this machine; this request was refused because {reason}."
        raise Forbidden(f"{message} Make a key with `kensor keys create`.", code="local_only")
    return LOCAL


Bearer = Annotated[Any, Depends(HTTPBearer(auto_error=False, description="A key of the service, or of `KENSOR_ADMIN_KEY`."))]
"""Says in the OpenAPI document how a key is given; `identify` reads it."""


async def principal(request: Request, ctx: Ctx, _: Bearer) -> Principal:
    """Who calls, as the edge found out before the body was read."""
    found: Principal | None = request.scope.get("kensor.principal")
    return await run_in_threadpool(identify, ctx, request.scope) if found is None else found


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
