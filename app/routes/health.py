"""`/healthz`, `/readyz`, `/metrics`."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from app.db import migrate
from app.dependencies import Ctx, Viewer
from app.errors import Unavailable, describe

router = APIRouter(tags=["health"])


@router.get("/healthz")
def alive(ctx: Ctx) -> JSONResponse:
    """Alive; 503 when the device is lost."""
    return JSONResponse({"status": "ok" if ctx.pool.healthy else "device_lost"}, 200 if ctx.pool.healthy else 503)


@router.get("/readyz")
def ready(ctx: Ctx) -> JSONResponse:
    """Able to judge and to record: database, schema, store; 503 says which is not."""

    def schema() -> None:
        if migrate.revision(ctx.database) != migrate.HEAD:
            raise Unavailable("The database needs `kensor db upgrade`.", code="database_outdated")

    checks: dict[str, Callable[[], None]] = {"database": ctx.database.ping, "schema": schema, "store": ctx.store.check}
    found = {name: _try(check) for name, check in checks.items()}
    good = ctx.pool.healthy and all(state == "ok" for state in found.values())
    return JSONResponse({"status": "ok" if good else "unavailable", "checks": found}, 200 if good else 503)


def _try(check: Callable[[], None]) -> str:
    try:
        check()
    except Exception as error:
        return describe(error)[1]
    return "ok"


@router.get("/metrics", response_class=Response)
def metrics(ctx: Ctx, caller: Viewer) -> Response:
    """Prometheus' text format."""
    return Response(ctx.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
