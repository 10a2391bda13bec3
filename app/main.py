"""The service, wired."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from app import errors
from app.child import WorkerChild
from app.context import Answerer, Context
from app.db.queries import recipes as recipe_queries
from app.dependencies import identify
from app.middleware import Edge
from app.routes import (
    exemplars,
    health,
    inspections,
    jobs,
    keys,
    openai,
    products,
    questions,
    recipes,
    regions,
    reviews,
    segments,
)
from app.schemas.common import Problem
from app.settings import MIB, Settings

PROBLEMS = {
    status: {"model": Problem, "description": text}
    for status, text in {
        401: "No key, or an unknown one",
        403: "The key's role does not reach",
        422: "A field is wrong",
        "default": "One envelope for every error",
    }.items()
}


WARMED = 4
"""Promoted recipes loaded at the start, before their first picture comes."""


def create_app(settings: Settings, answerer: Answerer | None = None) -> FastAPI:
    """The whole service; opens its database and store now, closes them when the server stops."""
    ctx = Context.open(settings, answerer)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        child = None if settings.no_worker else WorkerChild(settings)
        try:
            for sha256 in _promoted(ctx):
                ctx.pool.warm(sha256, settings.recipes / sha256)
            yield
        finally:
            if child is not None:
                child.close()
            ctx.close()

    app = FastAPIOffline(title="Kensor", version=version("kensor"), lifespan=lifespan, responses=PROBLEMS, redoc_url=None)
    app.state.context = ctx
    errors.install(app)
    for module in (
        health, keys, products, regions, recipes, inspections, reviews, exemplars, segments, questions, openai, jobs,
    ):  # fmt: skip
        app.include_router(module.router)
    ctx.metrics.gauge("kensor_queue_depth", "Pictures being judged or waiting", lambda: ctx.pool.depth)
    ctx.metrics.questions(ctx.answerer.depths())
    ctx.metrics.gauge("kensor_pool_bytes", "Bytes of loaded recipes", lambda: ctx.pool.nbytes)
    app.add_middleware(
        Edge,
        max_body=settings.max_body_mib * MIB,
        max_upload=settings.max_upload_mib * MIB,
        metrics=ctx.metrics,
        identify=partial(identify, ctx),
    )
    return app


def _promoted(ctx: Context) -> list[str]:
    with ctx.database.read() as session:
        return recipe_queries.promoted(session, WARMED)


KEEP_ALIVE = 75
"""Seconds an idle connection stays open: a camera with a part every ten seconds need not connect anew for each."""


def serve(settings: Settings) -> None:
    """Serve until told to stop (SIGTERM: exit 0). No proxy header is believed: who calls is who connects."""
    import uvicorn

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn stops in good order, then raises the signal again
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        proxy_headers=False,
        server_header=False,
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=10,  # an open event stream must not hold the service back
    )
