"""Questions, answers, feedback."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db.queries import page
from app.db.queries.inspections import Filter, select_
from app.db.tables import Answer, Feedback, Inspection, Product, Question


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


def feedback(session: Session, after: str | None, limit: int) -> tuple[list[Feedback], str | None]:
    """What people thought of answers, newest first."""
    return page(session, select(Feedback), Feedback.id, after, limit)


def feedback_beside(session: Session, ids: Collection[str]) -> list[tuple[Feedback, Answer, Question, str]]:
    """All feedback on the inspections that some feedback is about, oldest first, with answer, question and product's name."""
    about = (
        select(Question.inspection_id)
        .join(Answer, Answer.question_id == Question.id)
        .join(Feedback, Feedback.answer_id == Answer.id)
        .where(Feedback.id.in_(ids))
    )
    statement = (
        select(Feedback, Answer, Question, Product.name)
        .join(Answer, Answer.id == Feedback.answer_id)
        .join(Question, Question.id == Answer.question_id)
        .join(Inspection, Inspection.id == Question.inspection_id)
        .join(Product, Product.id == Inspection.product_id)
        .where(Question.inspection_id.in_(about))
        .order_by(Feedback.id)
    )
    return [(row[0], row[1], row[2], row[3]) for row in session.execute(statement).unique()]


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
