"""`/v1/products/{p}/roi`."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from app.dependencies import Ctx, Engineer, ProductName, Read, Viewer
from app.errors import ServiceError
from app.routes.products import FOREVER, MEDIA
from app.schemas.regions import RegionIn, RegionView
from app.services import regions

router = APIRouter(prefix="/v1/products/{product}", tags=["products"])
MASK = tuple(MEDIA.values())
BINARY = {"schema": {"type": "string", "format": "binary"}}
BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": RegionIn.model_json_schema()}, **dict.fromkeys(MASK, BINARY)},
    }
}


@router.put("/roi", response_model=RegionView, openapi_extra=BODY)
async def put(product: ProductName, request: Request, ctx: Ctx, caller: Engineer) -> RegionView:
    """Say where to look, from the next enrolment on: a mask (light is looked at, dark is not), or JSON polygons."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in (*MASK, "application/json"):
        refusal = ServiceError(f"Send a mask ({', '.join(MASK)}) or JSON polygons.", code="unsupported_media_type")
        refusal.status = 415
        raise refusal
    data = await request.body()
    try:
        given = RegionIn.model_validate_json(data) if kind == "application/json" else data
    except ValidationError as error:
        raise RequestValidationError([{**e, "loc": ("body", *e["loc"])} for e in error.errors(include_url=False)]) from error
    return RegionView.model_validate(await run_in_threadpool(regions.put, ctx, product, given))


@router.get("/roi")
def show(product: ProductName, session: Read, caller: Viewer) -> RegionView:
    """The region of interest: size, digest, share of the picture, polygons as given."""
    return RegionView.model_validate(regions.get(session, product))


@router.get("/roi.png", response_class=Response)
def picture(product: ProductName, ctx: Ctx, session: Read, caller: Viewer) -> Response:
    """The mask: 255 is looked at, 0 is not."""
    found = regions.get(session, product)["sha256"]
    return Response(ctx.store.get(found), media_type="image/png", headers={**FOREVER, "Cache-Control": "no-cache"})


@router.delete("/roi", status_code=204)
def clear(product: ProductName, ctx: Ctx, caller: Engineer) -> None:
    """Look at the whole picture again, from the next enrolment on."""
    with ctx.database.write() as session:
        regions.clear(session, product)
