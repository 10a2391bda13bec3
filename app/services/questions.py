"""Questions about recorded inspections: opened first, answered, then closed, each in a transaction of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from app import engines
from app.context import Context
from app.db.queries import inspections as inspection_queries
from app.db.queries import questions as queries
from app.db.tables import Answer, Feedback, Inspection, Question, iso, new_id, now
from app.errors import Invalid, NotFound, describe
from app.schemas.questions import FeedbackIn, QuestionIn
from app.security import Principal
from app.services import exemplars, inspections, likenesses, recipes
from inspection import evidence as domain
from inspection.image import Pixels, decode
from inspection.questions import understand
from inspection.recipe import normals

HISTORY = 20
FORGOTTEN = timedelta(minutes=15)
Listener = Callable[[str, Any], None]
Array = TypeVar("Array")
log = logging.getLogger("kensor")


class Interrupted(Exception):
    """The client left; nobody reads the rest."""


def open_question(ctx: Context, inspection_id: str, body: QuestionIn, caller: Principal) -> str:
    """Put the question on record before anybody thinks about it; returns its id."""
    engines.check(ctx.settings, body.engine)
    with ctx.database.write() as session:
        inspections.get(session, inspection_id)
        if body.conversation_id is not None:
            first = queries.conversation(session, body.conversation_id)
            if first is not None and first.inspection_id != inspection_id:
                raise Invalid("This conversation is about another inspection.", code="other_conversation")
        question = Question(
            inspection_id=inspection_id,
            conversation_id=body.conversation_id or new_id(),
            question=body.question,
            language=body.language or "",
            engine=body.engine,
            asked_by=caller.name,
        )
        session.add(question)
        session.flush()
        return question.id


def answer(ctx: Context, question_id: str, listener: Listener | None = None) -> dict[str, Any]:
    """Answer an open question and close it, whatever comes of it. What the engine raises is raised again."""
    with ctx.database.read() as session:
        question = queries.get(session, question_id)
        assert question is not None
    language, engine = question.language or None, question.engine
    try:
        with ctx.database.read() as session:
            row = inspections.get(session, question.inspection_id)
            evidence = evidence_of(ctx, session, row)
        evidence = _looked_at(ctx, row, evidence, question)
        given = ctx.answerer.answer(evidence, question.question, language=language, engine=engine, on_event=listener)
    except Interrupted:
        close(ctx, question_id, "interrupted", None)
        raise
    except BaseException as error:
        close(ctx, question_id, "failed", describe(error)[1])
        raise
    with ctx.database.write() as session:
        kept = queries.get(session, question_id)
        assert kept is not None
        values = {name: value for name, value in asdict(given).items() if name != "evidence"}
        said = Answer(id=new_id(), created_at=now(), question_id=question_id, evidence=_items(given), **values)
        session.add(said)
        kept.state, kept.closed_at = "done", now()
        session.flush()
        body = view(said, kept.conversation_id)
    ctx.metrics.answers.labels(given.grounding).inc()
    return body


def close(ctx: Context, question_id: str, state: str, error: str | None) -> None:
    """Close a question that got no answer."""
    with ctx.database.write() as session:
        question = queries.get(session, question_id)
        if question is not None and question.state == "open":
            question.state, question.error, question.closed_at = state, error, now()


def abandon(session: Session) -> int:
    """Close as interrupted what a server that died left open; returns how many. No answer takes `FORGOTTEN`."""
    left = queries.open_since(session, now() - FORGOTTEN)
    for question in left:
        question.state, question.closed_at = "interrupted", now()
    return len(left)


def evidence_of(ctx: Context, session: Session, row: Inspection) -> domain.Evidence:
    """What an answer may rest on: the stored row, picture and map. No expert runs again.

    A picture or map that is gone from the store is left out: the row says what was found, and answers rest on that."""
    history = tuple(
        {
            "id": past.id,
            "verdict": past.verdict,
            "created_at": iso(past.created_at),
            "lot": past.lot,
            "places": [finding["place"] for finding in past.findings],
        }
        for past in inspection_queries.before(session, row, HISTORY)
    )
    return domain.Evidence(
        inspection_id=row.id,
        product=row.product.name,
        verdict=domain.Verdict(row.verdict),
        reasons=tuple(row.reasons),
        raw_score=row.raw_score,
        score=row.score,
        thresholds=domain.Thresholds(row.threshold_review, row.threshold_reject),
        findings=inspections.findings(row),
        map_stats=inspections.map_stats(row),
        width=row.width,
        height=row.height,
        recipe_number=row.recipe_number,
        recipe_sha256=row.recipe_sha256,
        created_at=iso(row.created_at) or "",
        serial=row.serial,
        lot=row.lot,
        station=row.station,
        history=history,
        labels=exemplars.labels(session, row),
        image=_kept(lambda: decode(ctx.store.get(row.image_sha256), limits=ctx.limits).pixels),
        map=_kept(lambda: inspections.anomaly_map(ctx, row)),
        references=_references(ctx, row),
    )


def _references(ctx: Context, row: Inspection) -> tuple[Pixels, ...]:
    try:
        return tuple(decode(data).pixels for data in normals(recipes.folder(ctx, row.recipe_sha256)))
    except domain.InspectionError as error:
        log.warning("an answer does without normal pictures: %s", error)
        return ()


def _kept(read: Callable[[], Array]) -> Array | None:
    try:
        return read()
    except NotFound as gone:
        log.warning("an answer does without: %s %s", gone.message, gone.details)
        return None


def _looked_at(ctx: Context, row: Inspection, evidence: domain.Evidence, question: Question) -> domain.Evidence:
    """What the findings are called, or whether they were seen before, where the question asks for it."""
    asked = understand(question.question, question.language or None, evidence.labels)
    try:
        if asked.kind == "history":
            return replace(evidence, likeness=likenesses.of(ctx, row, evidence.findings))
        if evidence.labels and (asked.kind == "type" or asked.names_type or asked.label):
            return replace(evidence, named=exemplars.named(ctx, row, evidence.findings))
    except NotFound as gone:  # a picture or map that the store lost, of this inspection or of another
        log.warning("an answer does without likeness: %s %s", gone.message, gone.details)
    return evidence


def ask(ctx: Context, inspection_id: str, body: QuestionIn, caller: Principal) -> dict[str, Any]:
    """Open and answer in one go."""
    return answer(ctx, open_question(ctx, inspection_id, body, caller))


def listed(session: Session, inspection_id: str, after: str | None, limit: int) -> tuple[list[Question], str | None]:
    """Questions about an inspection, newest first."""
    inspections.get(session, inspection_id)
    return queries.listed(session, inspection_id, after, limit)


def feedback(session: Session, answer_id: str, body: FeedbackIn, by: str) -> Feedback:
    """What a person thinks of an answer."""
    if queries.answer(session, answer_id) is None:
        raise NotFound("There is no answer of this id.", code="unknown_answer")
    row = Feedback(answer_id=answer_id, vote=body.vote, edit=body.edit, created_by=by)
    session.add(row)
    session.flush()
    return row


def view(said: Answer, conversation_id: str) -> dict[str, Any]:
    """An answer as api.md shows it."""
    names = ("id", "question_id", "answer", "own_words", "kind", "evidence", "grounding", "agrees_with_detector", "model")
    return {
        **{name: getattr(said, name) for name in (*names, "prompt_sha256", "latency_ms")},
        "conversation_id": conversation_id,
        "created_at": iso(said.created_at),
    }


def _items(given: domain.Answer) -> list[dict[str, Any]]:
    return [dict(inspections.plain(asdict(item))) for item in given.evidence]
