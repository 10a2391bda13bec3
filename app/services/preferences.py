"""What people prefer: votes and edits on answers as pairs to train on. Derived from the record each time, never kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from app.db.queries import questions as queries
from app.db.tables import Answer, Feedback, Question, iso


class Said(NamedTuple):
    """One feedback with all that it is about."""

    feedback: Feedback
    answer: Answer
    question: Question
    product: str


def listed(session: Session, after: str | None, limit: int) -> tuple[list[dict[str, Any]], str | None]:
    """Pairs, newest first: those of one page of feedback, hence fewer than `limit`, or none, before the last page."""
    rows, following = queries.feedback(session, after, limit)
    ids = {row.id for row in rows}
    about = queries.feedback_beside(session, ids)
    found = [(anchor, pair) for anchor, pair in pairs(Said(*row) for row in about) if anchor in ids]
    return [pair for _, pair in sorted(found, key=lambda one: one[0], reverse=True)], following


def pairs(record: Iterable[Said]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Pairs with the id of the feedback that completed each; `record` in the order of time.

    An edit is chosen over the answer it edits. Two answers to the same question on the same inspection make a pair where people
    voted one up and the other down. Of each person the latest word on a text counts, and texts on which people are divided
    evenly stay out. What the check mended is no person's preference: `own_words` never stands as a side.
    """
    groups: dict[tuple[str, str], dict[str, list[Said]]] = defaultdict(lambda: defaultdict(list))
    for said in record:
        asked = " ".join(said.question.question.split()).casefold()
        groups[said.question.inspection_id, asked][said.answer.answer].append(said)
    for texts in groups.values():
        for rejected, spoken in texts.items():
            edits = {said.feedback.created_by: said for said in spoken if _edit(said)}
            for said in edits.values():
                chosen = _edit(said)
                if chosen != rejected.strip():
                    yield said.feedback.id, _pair("edit", chosen, None, said, [said])
        votes = {text: list({said.feedback.created_by: said for said in spoken}.values()) for text, spoken in texts.items()}
        liked = [spoken for spoken in votes.values() if _sum(spoken) > 0]
        disliked = [spoken for spoken in votes.values() if _sum(spoken) < 0]
        for better, worse in product(liked, disliked):
            voters = [s for s in better if s.feedback.vote == "up"] + [s for s in worse if s.feedback.vote == "down"]
            yield (
                max(said.feedback.id for said in (*better, *worse)),
                _pair("votes", better[-1].answer.answer, better[-1].answer, worse[-1], voters),
            )


def _edit(said: Said) -> str:
    return (said.feedback.edit or "").strip()


def _sum(spoken: list[Said]) -> int:
    return sum(1 if said.feedback.vote == "up" else -1 for said in spoken)


def _pair(source: str, chosen: str, chosen_answer: Answer | None, worse: Said, by: list[Said]) -> dict[str, Any]:
    question = worse.question
    return {
        "source": source,
        "prompt": question.question,
        "chosen": chosen,
        "rejected": worse.answer.answer,
        "who": sorted({said.feedback.created_by for said in by}),
        "when": iso(max(said.feedback.created_at for said in by)),
        "product": worse.product,
        "inspection_id": question.inspection_id,
        "kind": worse.answer.kind,
        "evidence": worse.answer.evidence,
        "chosen_answer": None if chosen_answer is None else _origin(chosen_answer),
        "rejected_answer": _origin(worse.answer),
    }


def _origin(answer: Answer) -> dict[str, Any]:
    """Where a side came from: enough to leave out what the check wrote, or to take the model's own words instead."""
    return {name: getattr(answer, name) for name in ("id", "own_words", "grounding", "model", "prompt_sha256")}
