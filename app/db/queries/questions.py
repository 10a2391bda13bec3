"""Questions, answers, feedback."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db.queries import page
from app.db.queries.inspections import Filter, select_
from app.db.tables import Answer, Question


def get(session: Session, question_id: str) -> Question | None:
    """One question, with its answer."""
    return session.get(Question, question_id)


def answer(session: Session, answer_id: str) -> Answer | None:
    """One answer."""
    return session.get(Answer, answer_id)


def listed(session: Session, inspection_id: str, after: str | None, limit: int) -> tuple[list[Question], str | None]:
    """Questions about one inspection, newest first."""
    return page(session, select(Question).where(Question.inspection_id == inspection_id), Question.id, after, limit)


def open_since(session: Session, before: datetime) -> list[Question]:
    """Questions still open that were asked before a time."""
    return list(session.scalars(select(Question).where(Question.state == "open", Question.created_at < before)))


def conversation(session: Session, conversation_id: str) -> Question | None:
    """The first question of a conversation."""
    return session.scalar(select(Question).where(Question.conversation_id == conversation_id).order_by(Question.id).limit(1))


def grounding_counts(session: Session, what: Filter) -> dict[str, int]:
    """How the answers about some inspections came to be."""
    chosen = select_(what).subquery()
    statement = (
        select(Answer.grounding, func.count())
        .join(Question, Question.id == Answer.question_id)
        .join(chosen, chosen.c.id == Question.inspection_id)
        .group_by(Answer.grounding)
    )
    return dict(session.execute(statement).all())
