"""A product's region of interest: kept as one mask, and taken into its next enrolments."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from app.context import Context
from app.db.queries import products as queries
from app.errors import NotFound
from app.schemas.regions import RegionIn
from app.services import products
from inspection import region
from inspection.evidence import ImageUnusable
from inspection.region import Mask


def put(ctx: Context, product: str, given: bytes | RegionIn) -> dict[str, Any]:
    """Set the region, from a picture's bytes or from polygons. Raises what region.py raises, and `ImageUnusable` for a size that
    none of the product's normal pictures has."""
    if isinstance(given, RegionIn):
        with ctx.decoding:
            mask = region.from_polygons(given.include, given.ignore, given.width, given.height, ctx.limits)
    else:
        with ctx.decoding:
            mask = region.from_picture(given, ctx.limits)
    with ctx.database.read() as session:
        sizes = queries.sizes(session, products.get(session, product, active=True).id)
    height, width = mask.shape
    if sizes and (width, height) not in sizes:
        known = ", ".join(f"{w} × {h}" for w, h in sizes[:5])
        message = f"The region is {width} × {height} pixels; the product's normal pictures are {known}."
        raise ImageUnusable(message, width=width, height=height, pictures=[list(size) for size in sizes[:5]])
    polygons = given.model_dump(include={"include", "ignore"}) if isinstance(given, RegionIn) else None
    said = region.described(mask) | {"polygons": polygons}
    ctx.store.put(region.png(mask), said["sha256"])
    with ctx.database.write() as session:
        products.get(session, product, lock=True, active=True).region = said
    return _view(product, said)


def get(session: Session, product: str) -> dict[str, Any]:
    """The region. Raises `NotFound` (`no_region`) where the whole picture is looked at."""
    found = products.get(session, product).region
    if found is None:
        raise NotFound(f"The product `{product}` has no region of interest: all of a picture is looked at.", code="no_region")
    return _view(product, found)


def clear(session: Session, product: str) -> None:
    """Look at the whole picture again, from the next enrolment on."""
    products.get(session, product, lock=True).region = None


def mask(ctx: Context, sha256: str) -> Mask:
    """A mask that was kept."""
    return region.from_picture(ctx.store.get(sha256), ctx.limits)


def _view(product: str, found: dict[str, Any]) -> dict[str, Any]:
    here = f"/v1/products/{product}/roi"
    return {**found, "links": {"self": here, "mask": f"{here}.png"}}
