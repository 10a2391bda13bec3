"""`/v1/products/{p}/inspections` and `/v1/inspections`."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any, Literal

from anyio import to_thread
from fastapi import APIRouter, Depends, File, Query, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile as Upload

from app.context import Context
from app.db.queries.inspections import Filter
from app.dependencies import Ctx, Line, ProductName, Read, RowId, Viewer
from app.errors import Invalid, ServiceError, TooLarge, describe, reported
from app.routes import After, IdempotencyKey, Limit, replied
from app.routes.products import FOREVER, MEDIA
from app.schemas.common import Page, Refused, Tag, Time, VerdictName
from app.schemas.fields import InspectFields
from app.schemas.inspections import Batch, BatchItem, InspectionRecord, InspectionView, VerdictView
from app.schemas.reviews import ReviewView
from app.security import Principal
from app.services import inspections, pictures, reviews
from app.services.idempotency import Reply
from app.settings import MIB
from inspection.evidence import InspectionError

router = APIRouter(prefix="/v1", tags=["inspections"])
RAW = tuple(MEDIA.values())
MAX_PART = 4 * 8192 + 1024
"""Bytes of a form's field: `custom` in letters of four bytes."""
BINARY = {"schema": {"type": "string", "format": "binary"}}
FORM = {
    "schema": {
        "type": "object",
        "required": ["file"],
        "properties": {"file": {"type": "string", "format": "binary"}},
        "description": "The query's fields may stand here instead.",
    }
}
BODY = {"requestBody": {"required": True, "content": {**dict.fromkeys(RAW, BINARY), "multipart/form-data": FORM}}}


@router.post(
    "/products/{product}/inspections",
    status_code=201,
    response_model=InspectionView | VerdictView,
    openapi_extra=BODY,
)
async def inspect(
    product: ProductName,
    request: Request,
    ctx: Ctx,
    caller: Line,
    query: Annotated[InspectFields, Query()],
    key: IdempotencyKey = None,
) -> JSONResponse:
    """Judge one picture: a raw `image/*` body, or multipart with `file`."""
    started = time.perf_counter()
    try:
        data, fields = await _received(request, ctx, query)
        reply = await _judge(ctx, product, data, fields, caller, key)
    except (ServiceError, InspectionError) as error:
        ctx.metrics.refused.labels(str(describe(error)[0])).inc()
        raise
    ctx.metrics.verdict_seconds.observe(time.perf_counter() - started)
    body = inspections.brief(reply.body) if fields.detail == "verdict" else reply.body
    return replied(Reply(body, reply.replayed), 201, location=reply.body["links"]["self"])


async def _judge(
    ctx: Context, product: str, data: bytes, fields: InspectFields, caller: Principal, key: str | None = None
) -> Reply:
    once = inspections.fingerprint(caller, key, product, fields, data)
    plan = await run_in_threadpool(inspections.plan, ctx, product, fields, once)
    if isinstance(plan, Reply):
        return plan
    judged = await asyncio.wrap_future(ctx.pool.submit(plan.sha256, plan.folder, data, plan.thresholds))
    return await run_in_threadpool(inspections.record, ctx, plan, data, judged, fields, caller, once)


async def _received(request: Request, ctx: Context, query: InspectFields) -> tuple[bytes, InspectFields]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    limit = ctx.settings.max_upload_mib * MIB
    if kind == "multipart/form-data":
        async with request.form(max_files=1, max_fields=32, max_part_size=MAX_PART) as form:
            file = form.get("file")
            if not isinstance(file, Upload):
                raise Invalid("The form has no file named `file`.", code="file_missing")
            if (file.size or 0) > limit:
                raise _too_large(limit)
            given = {name: value for name, value in form.multi_items() if name != "file"}
            return await file.read(), _merged(query, given)
    if kind not in RAW:
        message = f"Send a raw body ({', '.join(RAW)}), or multipart/form-data with `file`."
        refusal = ServiceError(message, code="unsupported_media_type", content_type=kind[:100])
        refusal.status = 415
        raise refusal
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > limit:
            raise _too_large(limit)
    return bytes(data), query


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The picture is larger than {limit:,} bytes.", code="image_too_large", limit=limit)


def _merged(query: InspectFields, given: dict[str, Any]) -> InspectFields:
    try:
        return InspectFields.model_validate({**query.model_dump(exclude_unset=True), **given})
    except ValidationError as error:
        raise RequestValidationError([{**e, "loc": ("body", *e["loc"])} for e in error.errors(include_url=False)]) from error


@router.post("/products/{product}/inspections:batch")
async def batch(
    product: ProductName,
    request: Request,
    ctx: Ctx,
    caller: Line,
    files: Annotated[list[UploadFile], File()],
    fields: Annotated[InspectFields, Query()],
) -> Batch:
    """Judge many pictures, each by itself: one bad file never fails the rest."""
    if "idempotency-key" in request.headers:
        raise Invalid(
            "An Idempotency-Key belongs to one picture; send pictures singly to use it.", code="idempotency_unsupported"
        )
    await run_in_threadpool(inspections.plan, ctx, product, fields)
    request_id = request.scope.get("kensor.request_id", "")
    items = [await _one(ctx, product, file, fields, caller, request_id) for file in files]
    done = sum(item.status == 201 for item in items)
    return Batch(items=items, done=done, failed=len(items) - done)


async def _one(
    ctx: Context, product: str, file: UploadFile, fields: InspectFields, caller: Principal, request_id: str
) -> BatchItem:
    name = (file.filename or "picture")[-255:]
    try:
        if (file.size or 0) > ctx.settings.max_upload_mib * MIB:
            raise _too_large(ctx.settings.max_upload_mib * MIB)
        reply = await _judge(ctx, product, await file.read(), fields, caller)
    except Exception as error:
        status, code, message, details = reported(error, request_id)
        ctx.metrics.refused.labels(str(status)).inc()
        return BatchItem(filename=name, status=status, error=Refused(filename=name, code=code, message=message, details=details))
    return BatchItem(filename=name, status=201, inspection=InspectionView.model_validate(reply.body))


def chosen(
    product: Annotated[str | None, Query(max_length=64)] = None,
    verdict: VerdictName | None = None,
    serial: Tag | None = None,
    lot: Tag | None = None,
    station: Tag | None = None,
    recipe: Annotated[int | None, Query(ge=1, lt=2**31)] = None,
    reviewed: bool | None = None,
    since: Annotated[Time | None, Query(alias="from")] = None,
    until: Annotated[Time | None, Query(alias="to")] = None,
    job: Annotated[
        str | None, Query(max_length=36, description="Re-inspections of this job; otherwise first inspections")
    ] = None,
) -> Filter:
    """The list's filter."""
    return Filter(product, verdict, serial, lot, station, recipe, reviewed, since, until, job)


Chosen = Annotated[Filter, Depends(chosen)]


@router.get("/inspections")
def listed(
    session: Read,
    caller: Viewer,
    what: Chosen,
    sort: Literal["newest", "uncertainty"] = "newest",
    cursor: After = None,
    limit: Limit = 50,
) -> Page[InspectionView]:
    """Inspections, newest first or least sure first."""
    rows, following = inspections.listed(session, what, cursor, limit, uncertain=sort == "uncertainty")
    return Page(items=rows, next_cursor=following)


@router.get("/inspections/{inspection_id}")
def show(inspection_id: RowId, session: Read, caller: Viewer) -> InspectionRecord:
    """One inspection, and the reviews beside it."""
    row = inspections.get(session, inspection_id)
    beside = [ReviewView.model_validate(review) for review in reviews.listed(session, inspection_id)]
    body = inspections.view(row, row.product.name)
    return InspectionRecord(**body, reviews=beside, revision=beside[-1].revision if beside else 0)


@router.get("/inspections/{inspection_id}/image", response_class=Response)
def image(inspection_id: RowId, ctx: Ctx, session: Read, caller: Viewer) -> Response:
    """The picture as it was sent."""
    row = inspections.get(session, inspection_id)
    return Response(ctx.store.get(row.image_sha256), media_type=MEDIA.get(row.image_format), headers=FOREVER)


@router.get("/inspections/{inspection_id}/map", response_class=Response)
def anomaly_map(inspection_id: RowId, ctx: Ctx, session: Read, caller: Viewer) -> Response:
    """The anomaly map: NumPy's .npy, float32 `[H, W]`, raw units."""
    row = inspections.get(session, inspection_id)
    name = {"Content-Disposition": f'attachment; filename="{row.id}.npy"'}
    return Response(ctx.store.get(row.map_sha256), media_type="application/x-npy", headers={**FOREVER, **name})


@router.get("/inspections/{inspection_id}/heatmap.png", response_class=Response)
async def heatmap(inspection_id: RowId, ctx: Ctx, caller: Viewer) -> Response:
    """The map in colours, on the recipe's one scale."""
    data = await to_thread.run_sync(pictures.drawn, ctx, inspection_id, pictures.heatmap, limiter=ctx.drawing)
    return Response(data, media_type="image/png", headers=FOREVER)


@router.get("/inspections/{inspection_id}/overlay.png", response_class=Response)
async def overlay(inspection_id: RowId, ctx: Ctx, caller: Viewer) -> Response:
    """The picture with the map and the findings' outlines over it."""
    data = await to_thread.run_sync(pictures.drawn, ctx, inspection_id, pictures.overlay, limiter=ctx.drawing)
    return Response(data, media_type="image/png", headers=FOREVER)
