"""`/v1/products` and their pictures."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, File, Form, Query, Response, UploadFile

from app.dependencies import Ctx, Engineer, ProductName, Read, RowId, Viewer
from app.errors import Invalid
from app.routes import After, Limit
from app.schemas.common import Page, Text
from app.schemas.products import FromInspections, ImageView, ProductIn, ProductPatch, ProductRecord, ProductView, Uploaded
from app.services import drift, images, products

router = APIRouter(prefix="/v1/products", tags=["products"])
Kind = Literal["normal", "defect", "test"]
MEDIA = {"png": "image/png", "jpeg": "image/jpeg", "bmp": "image/bmp", "tiff": "image/tiff", "webp": "image/webp"}
FOREVER = {"Cache-Control": "private, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}


@router.post("", status_code=201)
def create(body: ProductIn, ctx: Ctx, caller: Engineer, response: Response) -> ProductView:
    """Make a product."""
    response.headers["Location"] = f"/v1/products/{body.name}"
    with ctx.database.write() as session:
        return ProductView.model_validate(products.create(session, body))


@router.get("")
def listed(session: Read, caller: Viewer, archived: bool = False, cursor: After = None, limit: Limit = 50) -> Page[ProductView]:
    """Products, newest first."""
    rows, following = products.listed(session, archived=archived, after=cursor, limit=limit)
    return Page(items=[ProductView.model_validate(row) for row in rows], next_cursor=following)


@router.get("/{product}")
def show(product: ProductName, session: Read, caller: Viewer) -> ProductRecord:
    """One product, and whether its parts drift."""
    row = ProductView.model_validate(products.get(session, product))
    return ProductRecord.model_validate(row.model_dump() | {"drift": drift.brief(session, product)})


@router.patch("/{product}")
def change(product: ProductName, body: ProductPatch, ctx: Ctx, caller: Engineer) -> ProductView:
    """Describe, archive or bring back a product."""
    with ctx.database.write() as session:
        return ProductView.model_validate(products.change(session, product, body))


@router.delete("/{product}")
def archive(product: ProductName, ctx: Ctx, caller: Engineer) -> ProductView:
    """Archive a product: it is judged no longer, and its record stays."""
    with ctx.database.write() as session:
        return ProductView.model_validate(products.change(session, product, ProductPatch(archived=True)))


@router.post("/{product}/images", status_code=201)
def upload(
    product: ProductName,
    ctx: Ctx,
    caller: Engineer,
    files: Annotated[list[UploadFile], File(description="PNG, JPEG, BMP, TIFF or WebP")],
    kind: Annotated[Kind | None, Form()] = None,
    in_query: Annotated[Kind | None, Query(alias="kind")] = None,
    label: Annotated[Text | None, Form(max_length=100)] = None,
    mask: Annotated[UploadFile | None, File(description="Of the same size; with one file only")] = None,
) -> Uploaded:
    """Give pictures. Each file is judged by itself; what was refused is listed with its reason."""
    if mask is not None and len(files) != 1:
        raise Invalid("A mask belongs to exactly one picture.")
    most = ctx.limits.max_bytes + 1  # one byte more than is taken, so that the limit is seen to be passed
    return images.upload(
        ctx,
        product,
        [(file.filename or "picture", partial(file.file.read, most)) for file in files],
        kind=kind or in_query or "normal",
        by=caller.name,
        label=label,
        mask=mask.file.read(most) if mask else None,
    )


@router.post("/{product}/images:from-inspections", status_code=201)
def from_inspections(product: ProductName, body: FromInspections, ctx: Ctx, caller: Engineer) -> Uploaded:
    """Take inspected pictures that a person reviewed as good as normal ones."""
    return images.from_inspections(ctx, product, body, caller.name)


@router.get("/{product}/images")
def listed_images(
    product: ProductName,
    session: Read,
    caller: Viewer,
    kind: Annotated[Kind | None, Query()] = None,
    cursor: After = None,
    limit: Limit = 50,
) -> Page[ImageView]:
    """A product's pictures, newest first."""
    rows, following = images.listed(session, product, kind=kind, after=cursor, limit=limit)
    return Page(items=[ImageView.model_validate(row) for row in rows], next_cursor=following)


@router.get("/{product}/images/{image_id}", response_class=Response)
def picture(product: ProductName, image_id: RowId, ctx: Ctx, session: Read, caller: Viewer) -> Response:
    """The picture's own bytes."""
    row = images.get(session, product, image_id)
    return Response(ctx.store.get(row.sha256), media_type=MEDIA.get(row.format, "application/octet-stream"), headers=FOREVER)


@router.delete("/{product}/images/{image_id}", status_code=204)
def remove(product: ProductName, image_id: RowId, ctx: Ctx, caller: Engineer) -> None:
    """Take a picture out of the next enrolment."""
    with ctx.database.write() as session:
        images.remove(session, product, image_id)
