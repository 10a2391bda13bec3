"""Products and their pictures."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db.queries import page
from app.db.tables import Image, Product


def by_name(session: Session, name: str, *, lock: bool = False) -> Product | None:
    """One product; `lock` holds its row to the end of the transaction."""
    statement = select(Product).where(Product.name == name)
    return session.scalar(statement.with_for_update() if lock else statement)


def listed(session: Session, *, archived: bool, after: str | None, limit: int) -> tuple[list[Product], str | None]:
    """Products, newest first."""
    statement = select(Product)
    return page(session, statement if archived else statement.where(Product.archived_at.is_(None)), Product.id, after, limit)


def judging(session: Session, limit: int) -> list[Product]:
    """Products that have a promoted recipe, newest first."""
    statement = select(Product).where(Product.archived_at.is_(None), Product.promoted.is_not(None))
    return list(session.scalars(statement.order_by(Product.id.desc()).limit(limit)))


def images(
    session: Session, product_id: str, *, kind: str | None, after: str | None, limit: int
) -> tuple[list[Image], str | None]:
    """A product's pictures, newest first."""
    statement = select(Image).where(Image.product_id == product_id)
    return page(session, statement.where(Image.kind == kind) if kind else statement, Image.id, after, limit)


def image(session: Session, product_id: str, image_id: str) -> Image | None:
    """One picture of a product."""
    return session.scalar(select(Image).where(Image.product_id == product_id, Image.id == image_id))


def same_image(session: Session, product_id: str, kind: str, sha256: str) -> Image | None:
    """The same bytes given before."""
    return session.scalar(select(Image).where(Image.product_id == product_id, Image.kind == kind, Image.sha256 == sha256))


def sizes(session: Session, product_id: str) -> list[tuple[int, int]]:
    """The (width, height) of the normal pictures, the most common first."""
    statement = select(Image.width, Image.height).where(Image.product_id == product_id, Image.kind == "normal")
    grouped = statement.group_by(Image.width, Image.height).order_by(func.count().desc(), Image.width, Image.height)
    return [(width, height) for width, height in session.execute(grouped)]


def normals(session: Session, product_id: str) -> list[tuple[str, str]]:
    """Digests and file names of the normal pictures, in the order given."""
    statement = select(Image.sha256, Image.filename).where(Image.product_id == product_id, Image.kind == "normal")
    return [(sha256, filename) for sha256, filename in session.execute(statement.order_by(Image.id))]
