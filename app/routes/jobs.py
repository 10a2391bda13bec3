"""`/v1/jobs`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from app.context import Context
from app.dependencies import Ctx, Engineer, Read, RowId, Viewer
from app.routes import STREAM, After, IdempotencyKey, Limit, event, replied
from app.schemas.common import Page
from app.schemas.jobs import Format, JobIn, JobView
from app.services import idempotency, jobs, reinspections

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
State = Literal["queued", "running", "cancelling", "cancelled", "failed", "done", "done_with_errors"]
WATCH_SECONDS = 0.5


@router.post("", status_code=202, response_model=JobView)
def submit(body: JobIn, ctx: Ctx, caller: Engineer, key: IdempotencyKey = None) -> JSONResponse:
    """Judge recorded inspections again by another recipe."""
    request = idempotency.once(caller, key, "job", body.model_dump(mode="json"))
    reply = idempotency.write(ctx, request, lambda session: jobs.view(reinspections.submit(session, body, caller.name)), 202)
    return replied(reply, 202, location=reply.body["links"]["self"])


@router.get("")
def listed(
    session: Read,
    caller: Viewer,
    state: State | None = None,
    product: Annotated[str | None, Query(max_length=64)] = None,
    cursor: After = None,
    limit: Limit = 50,
) -> Page[JobView]:
    """Jobs, newest first."""
    rows, following = jobs.listed(session, state=state, product=product, after=cursor, limit=limit)
    return Page(items=[JobView(**jobs.view(row)) for row in rows], next_cursor=following)


@router.get("/{job_id}")
def show(job_id: RowId, session: Read, caller: Viewer) -> JobView:
    """One job, and how far it is."""
    return JobView(**jobs.view(jobs.get(session, job_id)))


@router.get("/{job_id}/events", response_class=StreamingResponse)
async def events(job_id: RowId, ctx: Ctx, caller: Viewer) -> StreamingResponse:
    """Server-sent `progress` events until `done`: a hint; the job itself is the truth."""
    first = await run_in_threadpool(_look, ctx, job_id)
    return StreamingResponse(_events(ctx, job_id, first), media_type="text/event-stream", headers=STREAM)


async def _events(ctx: Context, job_id: str, state: dict[str, Any]) -> AsyncIterator[bytes]:
    told: dict[str, Any] | None = None
    while True:
        if state != told:
            told = state
            yield event("done" if state["state"] in jobs.OVER else "progress", state)
        if state["state"] in jobs.OVER:
            return
        await asyncio.sleep(WATCH_SECONDS)
        state = await run_in_threadpool(_look, ctx, job_id)


def _look(ctx: Context, job_id: str) -> dict[str, Any]:
    with ctx.database.read() as session:
        return jobs.view(jobs.get(session, job_id))


@router.post("/{job_id}:cancel")
def cancel(job_id: RowId, ctx: Ctx, caller: Engineer) -> JobView:
    """Stop a job."""
    with ctx.database.write() as session:
        return JobView(**jobs.view(jobs.cancel(session, job_id)))


@router.post("/{job_id}:resume")
def resume(job_id: RowId, ctx: Ctx, caller: Engineer) -> JobView:
    """Queue a job again that ended without its whole result."""
    with ctx.database.write() as session:
        return JobView(**jobs.view(jobs.resume(session, job_id)))


@router.get("/{job_id}/report")
def report(job_id: RowId, session: Read, caller: Viewer, format: Format = "json") -> Response:
    """Which verdicts flipped: counts and pictures, or all pictures as CSV."""
    if format == "csv":
        name = {"Content-Disposition": f'attachment; filename="{job_id}.csv"'}
        return Response(reinspections.report_csv(session, job_id), media_type="text/csv; charset=utf-8", headers=name)
    return JSONResponse(reinspections.report(session, job_id))
