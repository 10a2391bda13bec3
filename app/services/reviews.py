"""People's judgements, beside the verdict."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy.orm import Session

from app.db.queries import inspections as queries
from app.db.queries import questions as question_queries
from app.db.queries.inspections import Filter
from app.db.tables import Review
from app.errors import Conflict, Invalid
from app.schemas.exemplars import LABEL
from app.schemas.reviews import ReviewIn
from app.security import Principal
from app.services import drift, exemplars, inspections


def add(session: Session, inspection_id: str, body: ReviewIn, caller: Principal) -> Review:
    """Add a judgement. Raises `Conflict` (`stale_revision`) where somebody was faster."""
    row = inspections.get(session, inspection_id)
    if body.finding is not None and body.finding not in {finding["id"] for finding in row.findings}:
        raise Invalid(f"This inspection has no finding `{body.finding}`.", code="unknown_finding", finding=body.finding)
    last = queries.last_revision(session, inspection_id)
    if body.expected_revision != last:
        message = f"The newest review is number {last}, not {body.expected_revision}: look again."
        raise Conflict(message, code="stale_revision", revision=last)
    review = Review(
        inspection_id=inspection_id,
        revision=last + 1,
        reviewer=caller.name,
        key_id=caller.id,
        **body.model_dump(exclude={"expected_revision"}),
    )
    session.add(review)
    session.flush()
    if body.decision == "reject" and body.finding is not None and body.defect_type and re.fullmatch(LABEL, body.defect_type):
        exemplars.from_review(session, row, body.finding, body.defect_type, caller.name)
    return review


def listed(session: Session, inspection_id: str) -> list[Review]:
    """All reviews of an inspection, oldest first."""
    inspections.get(session, inspection_id)
    return queries.reviews(session, inspection_id)


def summary(session: Session, what: Filter) -> dict[str, Any]:
    """Simple counts over a filter of inspections."""
    state = None if what.product is None else drift.brief(session, what.product)
    verdicts = dict.fromkeys(("pass", "review", "reject"), 0) | queries.verdict_counts(session, what)
    agreement: dict[str, dict[str, int]] = {}
    for verdict, decision, n in queries.agreement(session, what):
        agreement.setdefault(verdict, {})[decision] = n
    groundings = question_queries.grounding_counts(session, what)
    return {
        "inspections": sum(verdicts.values()),
        "verdicts": verdicts,
        "reviewed": sum(sum(decisions.values()) for decisions in agreement.values()),
        "agreement": agreement,
        "questions": sum(groundings.values()),
        "groundings": groundings,
        "drift": state,
    }
