"""Products."""

from __future__ import annotations

from sqlalchemy.orm import Session

from app.db.queries import products as queries
from app.db.tables import Product, now
from app.errors import Conflict, NotFound
from app.schemas.products import ProductIn, ProductPatch


def create(session: Session, body: ProductIn) -> Product:
    """A new product. Raises `Conflict` where the name is taken."""
    if queries.by_name(session, body.name) is not None:
        raise Conflict(f"There is a product `{body.name}` already.", code="product_exists", product=body.name)
    product = Product(name=body.name, description=body.description)
    session.add(product)
    session.flush()
    return product


def get(session: Session, name: str, *, lock: bool = False, active: bool = False) -> Product:
    """One product. Raises `NotFound`; `Conflict` where it must be active and is archived."""
    product = queries.by_name(session, name, lock=lock)
    if product is None:
        raise NotFound(f"There is no product `{name}`.", code="unknown_product", product=name)
    if active and product.archived_at is not None:
        raise Conflict(f"The product `{name}` is archived.", code="product_archived", product=name)
    return product


def listed(session: Session, *, archived: bool, after: str | None, limit: int) -> tuple[list[Product], str | None]:
    """Products, newest first."""
    return queries.listed(session, archived=archived, after=after, limit=limit)


def change(session: Session, name: str, body: ProductPatch) -> Product:
    """Describe, archive or bring back a product."""
    product = get(session, name, lock=True)
    if body.description is not None:
        product.description = body.description
    if body.archived is not None:
        product.archived_at = (product.archived_at or now()) if body.archived else None
    return product
