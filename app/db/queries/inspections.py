"""Inspections and the reviews beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, Subquery, and_, exists, func, or_, select
from sqlalchemy.orm import Session

from app.db.tables import Inspection, Product, Review


@dataclass(frozen=True, slots=True)
class Filter:
    """Which inspections; `None` asks nothing."""

    product: str | None = None
    verdict: str | None = None
    serial: str | None = None
    lot: str | None = None
    station: str | None = None
    recipe: int | None = None
    reviewed: bool | None = None
    since: datetime | None = None
    until: datetime | None = None
    job: str | None = None
    """Re-inspections of this job; without it, first inspections only."""


BEFORE, AFTER = 60_000, 24 * 3_600_000
"""Milliseconds, more than an id's time lies before and after its row's `created_at`: so the ids tell which rows to look at.
After, since ids go on from where they were while a clock that was set back catches up."""


def id_at(when: datetime, later: int = 0) -> str:
    """The first id (UUIDv7) of a moment (UTC, where it has no zone), `later` milliseconds after it."""
    aware = when if when.tzinfo else when.replace(tzinfo=UTC)
    digits = f"{max(int(aware.timestamp() * 1000) + later, 0):012x}"
    return f"{digits[:8]}-{digits[8:]}-7000-8000-000000000000"


def select_(what: Filter) -> Select[Any]:
    """The rows of a filter."""
    statement = select(Inspection)
    if what.product is not None:
        statement = statement.join(Product, Product.id == Inspection.product_id).where(Product.name == what.product)
    for column, value in (
        (Inspection.verdict, what.verdict),
        (Inspection.serial, what.serial),
        (Inspection.lot, what.lot),
        (Inspection.station, what.station),
        (Inspection.recipe_number, what.recipe),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if what.reviewed is not None:
        reviewed = exists().where(Review.inspection_id == Inspection.id)
        statement = statement.where(reviewed if what.reviewed else ~reviewed)
    if what.since is not None:
        statement = statement.where(Inspection.created_at >= what.since, Inspection.id >= id_at(what.since, -BEFORE))
    if what.until is not None:
        statement = statement.where(Inspection.created_at < what.until, Inspection.id < id_at(what.until, AFTER))
    return statement.where(Inspection.job_id == what.job if what.job is not None else Inspection.job_id.is_(None))


def newest(session: Session, what: Filter, after: str | None, limit: int) -> list[Inspection]:
    """By falling time, from after the id `after`."""
    statement = select_(what)
    if after is not None:
        statement = statement.where(Inspection.id < after)
    return list(session.scalars(statement.order_by(Inspection.id.desc()).limit(limit)))


def least_sure(session: Session, what: Filter, after: tuple[float, str] | None, limit: int) -> list[Inspection]:
    """By rising distance from the reject limit, from after (distance, id)."""
    statement = select_(what)
    if after is not None:
        distance, last = after
        further = or_(Inspection.distance > distance, and_(Inspection.distance == distance, Inspection.id > last))
        statement = statement.where(further)
    return list(session.scalars(statement.order_by(Inspection.distance, Inspection.id).limit(limit)))


def get(session: Session, inspection_id: str) -> Inspection | None:
    """One inspection."""
    return session.get(Inspection, inspection_id)


def before(session: Session, row: Inspection, limit: int) -> list[Inspection]:
    """Earlier first inspections of the same product, newest first."""
    statement = select(Inspection).where(
        Inspection.product_id == row.product_id, Inspection.id < (row.source_id or row.id), Inspection.job_id.is_(None)
    )
    return list(session.scalars(statement.order_by(Inspection.id.desc()).limit(limit)))


def flagged_before(session: Session, row: Inspection, limit: int) -> list[Inspection]:
    """Earlier first inspections of the same product that were not passed, newest first."""
    statement = select(Inspection).where(
        Inspection.product_id == row.product_id,
        Inspection.id < (row.source_id or row.id),
        Inspection.job_id.is_(None),
        Inspection.verdict != "pass",
    )
    return list(session.scalars(statement.order_by(Inspection.id.desc()).limit(limit)))


def reviews(session: Session, inspection_id: str) -> list[Review]:
    """What people said, oldest first."""
    return list(session.scalars(select(Review).where(Review.inspection_id == inspection_id).order_by(Review.revision)))


def last_revision(session: Session, inspection_id: str) -> int:
    """The number of the newest review; 0: none."""
    return session.scalar(select(func.max(Review.revision)).where(Review.inspection_id == inspection_id)) or 0


def verdict_counts(session: Session, what: Filter) -> dict[str, int]:
    """How many of each verdict. Not by GROUP BY, for which SQLite walks through the index of all verdicts."""
    verdicts = ("pass", "review", "reject")
    each = select_(what).with_only_columns(*(func.count().filter(Inspection.verdict == verdict) for verdict in verdicts))
    counted = session.execute(each.order_by(None)).one()
    return {verdict: n for verdict, n in zip(verdicts, counted, strict=True) if n}


def newest_reviews() -> Subquery:
    """Each reviewed inspection's newest decision."""
    last = select(Review.inspection_id, func.max(Review.revision).label("last")).group_by(Review.inspection_id).subquery()
    here = and_(Review.inspection_id == last.c.inspection_id, Review.revision == last.c.last)
    return select(Review.inspection_id, Review.decision).join(last, here).subquery()


def reviewed_good(session: Session, product: str, since: datetime | None) -> list[Inspection]:
    """First inspections of a product whose newest review says `pass`, oldest first."""
    review = newest_reviews()
    statement = select_(Filter(product=product, since=since)).join(review, review.c.inspection_id == Inspection.id)
    return list(session.scalars(statement.where(review.c.decision == "pass").order_by(Inspection.id)))


def decisions(session: Session, ids: Sequence[str]) -> dict[str, str]:
    """The newest decision of those that were reviewed."""
    review = newest_reviews()
    rows = session.execute(select(review.c.inspection_id, review.c.decision).where(review.c.inspection_id.in_(ids)))
    return {row.inspection_id: row.decision for row in rows}


def again(session: Session, ids: Sequence[str], recipe: int) -> dict[str, Inspection]:
    """The newest re-inspection of each by a recipe, where there is one."""
    statement = select(Inspection).where(Inspection.source_id.in_(ids), Inspection.recipe_number == recipe)
    return {str(row.source_id): row for row in session.scalars(statement.order_by(Inspection.id))}


def agreement(session: Session, what: Filter) -> list[tuple[str, str, int]]:
    """(verdict, newest review's decision, how many)."""
    chosen = select_(what).subquery()
    review = newest_reviews()
    statement = (
        select(chosen.c.verdict, review.c.decision, func.count())
        .join(review, review.c.inspection_id == chosen.c.id)
        .group_by(chosen.c.verdict, review.c.decision)
    )
    return [(verdict, decision, n) for verdict, decision, n in session.execute(statement)]
