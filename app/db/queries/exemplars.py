"""Labelled findings."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db.queries import page
from app.db.tables import Exemplar


def listed(
    session: Session, product_id: str, *, pool: str | None, after: str | None, limit: int
) -> tuple[list[Exemplar], str | None]:
    """A product's labelled findings, newest first."""
    statement = select(Exemplar).where(Exemplar.product_id == product_id)
    return page(session, statement if pool is None else statement.where(Exemplar.pool == pool), Exemplar.id, after, limit)


def of(session: Session, product_id: str, pool: str | None = None) -> list[Exemplar]:
    """All of them, oldest first."""
    statement = select(Exemplar).where(Exemplar.product_id == product_id).order_by(Exemplar.id)
    return list(session.scalars(statement if pool is None else statement.where(Exemplar.pool == pool)))


def get(session: Session, exemplar_id: str) -> Exemplar | None:
    """One of them."""
    return session.get(Exemplar, exemplar_id)


def count(session: Session, product_id: str) -> int:
    """How many a product has, both pools."""
    return session.scalar(select(func.count()).where(Exemplar.product_id == product_id)) or 0


def pool_of(session: Session, product_id: str, image_sha256: str) -> str | None:
    """The pool that a picture's labelled findings are in."""
    statement = select(Exemplar.pool).where(Exemplar.product_id == product_id, Exemplar.image_sha256 == image_sha256)
    return session.scalar(statement.limit(1))


def at(session: Session, inspection_id: str, finding: str) -> Exemplar | None:
    """What a finding was labelled as."""
    return session.scalar(select(Exemplar).where(Exemplar.inspection_id == inspection_id, Exemplar.finding == finding))


def labels(session: Session, product_id: str, pool: str | None = None) -> list[str]:
    """The names in use."""
    statement = select(Exemplar.label).where(Exemplar.product_id == product_id).distinct()
    return sorted(session.scalars(statement if pool is None else statement.where(Exemplar.pool == pool)))
