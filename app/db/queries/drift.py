"""The stream of inspections that drift is told from."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db.tables import Inspection, Recipe, Review


class Scored(NamedTuple):
    """One part of the stream."""

    id: str
    created_at: datetime
    raw_score: float
    decision: str | None
    """The newest review's."""


def stream(session: Session, recipe: Recipe, station: str | None, most: int) -> list[Scored]:
    """The newest parts first judged by this recipe at its own limits, oldest first; simulated ones do not count."""
    chosen = (
        select(Inspection.id, Inspection.created_at, Inspection.raw_score)
        .where(Inspection.product_id == recipe.product_id, Inspection.recipe_number == recipe.number)
        .where(Inspection.job_id.is_(None), Inspection.is_simulated.is_(False))
        .where(Inspection.review_overridden.is_(False), Inspection.reject_overridden.is_(False))
        .order_by(Inspection.id.desc())
        .limit(most)
    )
    if station is not None:
        chosen = chosen.where(Inspection.station == station)
    parts = chosen.subquery()
    newest = (
        select(Review.inspection_id, func.max(Review.revision).label("last"))
        .where(Review.inspection_id.in_(select(parts.c.id)))
        .group_by(Review.inspection_id)
        .subquery()
    )
    statement = (
        select(parts.c.id, parts.c.created_at, parts.c.raw_score, Review.decision)
        .outerjoin(newest, newest.c.inspection_id == parts.c.id)
        .outerjoin(Review, (Review.inspection_id == parts.c.id) & (Review.revision == newest.c.last))
        .order_by(parts.c.id)
    )
    return [Scored(*row) for row in session.execute(statement)]
