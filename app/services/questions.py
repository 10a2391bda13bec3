"""Questions about recorded inspections: opened first, answered, then closed, each in a transaction of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from app.settings import Settings
from inspection import evidence as domain
from inspection.image import Pixels, decode
from inspection.questions import understand
from inspection.recipe import normals

HISTORY = 20
KEPT = 64 << 20
"""Bytes of a recipe's decoded normal pictures beyond which they are read anew for each answer."""
Listener = Callable[[str, Any], None]
Array = TypeVar("Array")
log = logging.getLogger("kensor")


class Interrupted(Exception):
    """The client left; nobody reads the rest."""


def open_question(ctx: Context, inspection_id: str, body: QuestionIn, caller: Principal) -> str:
    """Put the question on record before anybody thinks about it; returns its id.

    Raises `Busy` where the engine's queue is full: before a picture is decoded for it, and before a stream has its status."""
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
    with _closing(ctx, question.id):
        if understand(body.question, body.language).language == "en":  # no other language asks the engine
            ctx.answerer.admit(body.engine)
    return question.id


def answer(ctx: Context, question_id: str, listener: Listener | None = None) -> dict[str, Any]:
    """Answer an open question and close it, whatever comes of it. What the engine raises is raised again."""
    with _closing(ctx, question_id):
        with ctx.database.read() as session:
            question = queries.get(session, question_id)
            assert question is not None
            row = inspections.get(session, question.inspection_id)
            evidence = evidence_of(session, row)
        evidence = _shown(ctx, row, _looked_at(ctx, row, evidence, question))
        language, engine = question.language or None, question.engine
        given = ctx.answerer.answer(evidence, question.question, language=language, engine=engine, on_event=listener)
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


@contextmanager
def _closing(ctx: Context, question_id: str) -> Iterator[None]:
    """What goes wrong closes the question, where the database lets it, and is raised again."""
    try:
        yield
    except BaseException as error:
        left = isinstance(error, (Interrupted, KeyboardInterrupt))
        try:
            close(ctx, question_id, "interrupted" if left else "failed", None if left else describe(error)[1])
        except Exception as second:
            log.warning("question %s stays open until it is abandoned: %s", question_id, describe(second)[2])
        raise


def abandon(session: Session, settings: Settings) -> int:
    """Close as interrupted what a server that died left open; returns how many."""
    left = queries.open_since(session, now() - timedelta(seconds=engines.longest(settings)))
    for question in left:
        question.state, question.closed_at = "interrupted", now()
    return len(left)


def evidence_of(session: Session, row: Inspection) -> domain.Evidence:
    """What an answer may rest on: the stored row, without what can be looked at. No expert runs again."""
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
    )


def _shown(ctx: Context, row: Inspection, evidence: domain.Evidence) -> domain.Evidence:
    """With picture, map and normal pictures; what is gone from the store is left out, since the row says what was found."""
    with ctx.decoding:
        image = _kept(lambda: decode(ctx.store.get(row.image_sha256), limits=ctx.limits).pixels)
        references = _references(ctx, row)
    return replace(evidence, image=image, map=_kept(lambda: inspections.anomaly_map(ctx, row)), references=references)


def _references(ctx: Context, row: Inspection) -> tuple[Pixels, ...]:
    """The recipe's normal pictures. Those of the recipe asked about last are kept, since follow-ups want them again."""
    recipe, kept = ctx.references
    if recipe == row.recipe_sha256:
        return kept
    try:
        found = tuple(decode(data).pixels for data in normals(recipes.folder(ctx, row.recipe_sha256)))
    except domain.InspectionError as error:
        log.warning("an answer does without normal pictures: %s", error)
        return ()
    if sum(pixels.nbytes for pixels in found) <= KEPT:
        ctx.references = row.recipe_sha256, found
    return found


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


def ask(
    ctx: Context, inspection_id: str, body: QuestionIn, caller: Principal, listener: Listener | None = None
) -> dict[str, Any]:
    """Open and answer in one go."""
    return answer(ctx, open_question(ctx, inspection_id, body, caller), listener)


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
