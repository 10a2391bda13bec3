"""Pictures given for enrolment or tests, or taken from inspections that a person reviewed as good."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

from sqlalchemy.orm import Session

from app.context import Context
from app.db.queries import inspections as inspection_queries
from app.db.queries import products as queries
from app.db.tables import Image
from app.errors import Invalid, NotFound, Unavailable, describe
from app.schemas.common import Refused
from app.schemas.products import FromInspections, ImageView, Uploaded
from app.services import products
from inspection.evidence import ImageUnusable, InspectionError
from inspection.image import decode


def upload(
    ctx: Context,
    product: str,
    files: Iterable[tuple[str, Callable[[], bytes]]],
    *,
    kind: str,
    by: str,
    label: str | None = None,
    mask: bytes | None = None,
) -> Uploaded:
    """Check and keep each file by itself: one bad file never fails the rest. All refused: raises the first one's error."""
    with ctx.database.read() as session:
        product_id = products.get(session, product, active=True).id
    refused: list[Refused] = []
    first: InspectionError | None = None
    rows: list[Image] = []
    for filename, read in files:
        try:
            data = read()
            with ctx.decoding:
                rows.append(_check(ctx, filename, data, kind, by, label, mask))
        except InspectionError as error:
            first = first or error
            _, code, message, details = describe(error)
            refused.append(Refused(filename=filename, code=code, message=message, details=details))
    if not rows and first is not None:
        first.details = {**first.details, "refused": [item.model_dump() for item in refused]}
        raise first
    return _keep(ctx, product, product_id, rows, refused)


def from_inspections(ctx: Context, product: str, body: FromInspections, by: str) -> Uploaded:
    """Take inspected pictures as normal ones, by their digest; each file name says which inspection it was.

    Only those whose newest review says `pass`: what the service itself passed is nobody's word for a good part. Raises
    `Invalid` (`nothing_reviewed_good`) where there is none."""
    with ctx.database.read() as session:
        owner = products.get(session, product, active=True).id
        if body.reviewed_good:
            found = inspection_queries.reviewed_good(session, product, body.since)
        else:
            found = [row for one in body.inspections if (row := inspection_queries.get(session, one)) is not None]
        ids = [row.id for row in found]
        decisions = dict.fromkeys(ids, "pass") if body.reviewed_good else inspection_queries.decisions(session, ids)
    refused: list[Refused] = []
    rows: list[Image] = []

    def refuse(name: str, code: str, message: str) -> None:
        refused.append(Refused(filename=name, code=code, message=message))

    for missing in set(body.inspections) - {row.id for row in found if row.product_id == owner}:
        refuse(missing, "unknown_inspection", f"The product `{product}` has no inspection of this id.")
    for one in found:
        if one.product_id != owner:
            continue
        if decisions.get(one.id) != "pass":
            refuse(one.id, "not_reviewed_good", "Nobody reviewed this part as good.")
            continue
        try:
            data = ctx.store.get(one.image_sha256)
        except (NotFound, Unavailable) as error:
            refuse(one.id, error.code, error.message)
            continue
        rows.append(
            Image(
                kind="normal",
                filename=f"inspection-{one.id}.{one.image_format}",
                sha256=one.image_sha256,
                format=one.image_format,
                width=one.width,
                height=one.height,
                bytes=len(data),
                created_by=by,
            )
        )
    if not rows:
        raise Invalid(
            "No picture of these inspections was reviewed as good.",
            code="nothing_reviewed_good",
            refused=[item.model_dump() for item in refused],
        )
    return _keep(ctx, product, owner, rows, refused)


def _keep(ctx: Context, product: str, product_id: str, rows: list[Image], refused: list[Refused]) -> Uploaded:
    kept: dict[str, ImageView] = {}
    with ctx.database.write() as session:
        products.get(session, product, lock=True, active=True)
        duplicates = 0
        for row in rows:
            same = queries.same_image(session, product_id, row.kind, row.sha256)
            duplicates += same is not None
            if same is None:
                row.product_id = product_id
                session.add(row)
                session.flush()
            kept[row.sha256] = ImageView.model_validate(same or row)
    return Uploaded(items=list(kept.values()), duplicates=duplicates, refused=refused)


def _check(ctx: Context, filename: str, data: bytes, kind: str, by: str, label: str | None, mask: bytes | None) -> Image:
    picture = decode(data, limits=ctx.limits)
    mask_sha256 = None
    if mask is not None:
        shape = decode(mask, limits=ctx.limits)
        if (shape.width, shape.height) != (picture.width, picture.height):
            size = f"{shape.width} × {shape.height}, the picture {picture.width} × {picture.height}"
            raise ImageUnusable(f"The mask is {size} pixels.")
        mask_sha256 = ctx.store.put(mask)
    return Image(
        kind=kind,
        label=label,
        filename=printable(filename)[-255:] or "picture",
        sha256=ctx.store.put(data, hashlib.sha256(data).hexdigest()),
        mask_sha256=mask_sha256,
        format=picture.format,
        width=picture.width,
        height=picture.height,
        bytes=len(data),
        created_by=by,
    )


def printable(name: str) -> str:
    """A file's name without what a terminal or a log would obey."""
    return "".join(letter for letter in name if letter.isprintable())


def listed(session: Session, product: str, *, kind: str | None, after: str | None, limit: int) -> tuple[list[Image], str | None]:
    """A product's pictures, newest first."""
    return queries.images(session, products.get(session, product).id, kind=kind, after=after, limit=limit)


def get(session: Session, product: str, image_id: str) -> Image:
    """One picture's row."""
    image = queries.image(session, products.get(session, product).id, image_id)
    if image is None:
        raise NotFound("There is no picture of this id.")
    return image


def remove(session: Session, product: str, image_id: str) -> None:
    """Take a picture out of the next enrolment; recipes already made keep its digest, and the store its bytes."""
    session.delete(get(session, product, image_id))
