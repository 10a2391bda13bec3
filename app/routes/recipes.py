"""`/v1/products/{p}/recipes`."""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Body, File, Query, Response, UploadFile
from fastapi import Path as InPath
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.background import BackgroundTask

from app.dependencies import Ctx, Engineer, ProductName, Read, Viewer
from app.routes import IdempotencyKey, Limit, replied
from app.schemas.common import Page
from app.schemas.jobs import JobView
from app.schemas.products import ProductView
from app.schemas.recipes import DiffView, EnrollIn, PromoteIn, RecipeView
from app.services import diffs, enrolments, idempotency, jobs, recipes
from app.settings import MIB

router = APIRouter(prefix="/v1/products/{product}", tags=["recipes"])
Number = Annotated[int, InPath(ge=1, lt=2**31)]


@router.post("/recipes", status_code=202, response_model=JobView)
def enroll(
    product: ProductName,
    ctx: Ctx,
    caller: Engineer,
    body: Annotated[EnrollIn | None, Body()] = None,
    key: IdempotencyKey = None,
) -> JSONResponse:
    """Enroll: a job makes a recipe of the product's normal pictures, or with `extends` adds the new ones to a recipe."""
    wanted = body or EnrollIn()
    request = idempotency.once(caller, key, "enroll", product, wanted.model_dump(mode="json"))
    reply = idempotency.write(
        ctx, request, lambda session: jobs.view(enrolments.submit(session, product, wanted, caller.name)), 202
    )
    return replied(reply, 202, location=reply.body["links"]["self"])


@router.get("/recipes")
def listed(
    product: ProductName,
    session: Read,
    caller: Viewer,
    cursor: Annotated[int | None, Query(ge=1, lt=2**31)] = None,
    limit: Limit = 50,
) -> Page[RecipeView]:
    """A product's recipes, newest first."""
    rows, following = recipes.listed(session, product, cursor, limit)
    return Page(items=[RecipeView.model_validate(row) for row in rows], next_cursor=following)


@router.post("/recipes:import", status_code=201)
def take_in(product: ProductName, ctx: Ctx, caller: Engineer, file: Annotated[UploadFile, File()]) -> RecipeView:
    """Take in a recipe file made elsewhere."""
    with tempfile.NamedTemporaryFile(suffix=".zip") as copy:
        shutil.copyfileobj(file.file, copy)
        copy.flush()
        return RecipeView.model_validate(recipes.take_in(ctx, product, Path(copy.name), caller.name))


@router.get("/recipes/{number}")
def show(product: ProductName, number: Number, session: Read, caller: Viewer) -> RecipeView:
    """One recipe: limits, calibration card, digests."""
    row, promoted = recipes.get(session, product, number)
    return RecipeView.model_validate(recipes.view(row, product, promoted))


@router.get("/recipes/{number}/diff")
def diff(
    product: ProductName,
    number: Number,
    session: Read,
    caller: Viewer,
    against: Annotated[int | None, Query(ge=1, lt=2**31, description="Default: the verdicts as they were given")] = None,
    last: Annotated[int, Query(ge=1, le=10_000)] = 200,
) -> DiffView:
    """Which verdicts over the newest inspections would be others, as far as they were judged again."""
    return DiffView.model_validate(diffs.diff(session, product, number, against, last))


@router.post("/recipes/{number}:promote")
def promote(
    product: ProductName,
    number: Number,
    ctx: Ctx,
    caller: Engineer,
    body: Annotated[PromoteIn | None, Body()] = None,
) -> RecipeView:
    """Judge by this recipe from now on. It is loaded first: one whose digests or golden scores do not hold is refused."""
    recipes.verify(ctx, product, number)  # it may take longer than a verdict waits for the database
    with ctx.database.write() as session:
        row = recipes.promote(session, product, number, caller.name, force=body is not None and body.force)
        return RecipeView.model_validate(recipes.view(row, product, number))


@router.post(":rollback")
def rollback(product: ProductName, ctx: Ctx, caller: Engineer) -> ProductView:
    """Judge again by the recipe that the present one replaced. It is loaded first, as when it was promoted."""
    return ProductView.model_validate(recipes.rollback(ctx, product, caller.name))


@router.get("/recipes/{number}/export", response_class=Response)
def export(product: ProductName, number: Number, ctx: Ctx, caller: Engineer) -> Any:
    """The recipe as one file, no pickle in it."""
    path = recipes.export(ctx, product, number)
    file = path.open("rb")
    path.unlink()  # what happens to the response does not matter to it then
    headers = {
        "Content-Disposition": f'attachment; filename="{product}-{number}.kensor.zip"',
        "Content-Length": str(os.fstat(file.fileno()).st_size),
    }
    parts = iter(partial(file.read, MIB), b"")
    return StreamingResponse(parts, media_type="application/zip", headers=headers, background=BackgroundTask(file.close))
