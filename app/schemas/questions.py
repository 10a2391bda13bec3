"""Questions, answers, feedback."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, StringConstraints

from app.schemas.common import Body, Text, View, printable


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


class QuestionIn(Body):
    """A question about one inspection."""

    question: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000), AfterValidator(printable)]
    conversation_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f-]{36}$")] | None = None
    language: Annotated[str, BeforeValidator(_lower), StringConstraints(pattern=r"^[a-z]{2}(-[a-z]{2})?$")] | None = None
    engine: Annotated[Text, StringConstraints(min_length=1, max_length=100)] = "builtin"
    stream: bool = False


class EvidenceView(View):
    """One thing an answer rests on."""

    kind: str
    ref: str
    value: Any


class AnswerView(View):
    """An answer: what was delivered, what the model itself said, and what it rests on."""

    id: str
    question_id: str
    answer: str
    own_words: str
    kind: str
    evidence: list[EvidenceView]
    grounding: str
    agrees_with_detector: bool
    model: dict[str, Any]
    prompt_sha256: str
    latency_ms: float
    created_at: datetime


class AnswerOut(AnswerView):
    """An answer with its question's conversation."""

    conversation_id: str


class QuestionView(View):
    """A question, and its answer once there is one."""

    id: str
    inspection_id: str
    conversation_id: str
    question: str
    language: str
    engine: str
    state: str
    error: str | None
    asked_by: str
    created_at: datetime
    closed_at: datetime | None
    answer: AnswerView | None


class FeedbackIn(Body):
    """What a person thinks of an answer."""

    vote: Literal["up", "down"]
    edit: Annotated[Text, StringConstraints(max_length=4000)] | None = None


class FeedbackView(View):
    """Feedback as kept."""

    id: str
    answer_id: str
    vote: str
    edit: str | None
    created_by: str
    created_at: datetime


class OriginView(View):
    """The answer that one side of a pair was."""

    id: str
    own_words: str
    grounding: str
    model: dict[str, Any]
    prompt_sha256: str


class PairView(View):
    """One preference: of two texts that answer the same question on the same evidence, people chose one."""

    source: Literal["edit", "votes"]
    prompt: str
    chosen: str
    rejected: str
    who: list[str]
    when: datetime
    product: str
    inspection_id: str
    kind: str
    evidence: list[EvidenceView]
    chosen_answer: OriginView | None
    """None: a person wrote it."""
    rejected_answer: OriginView
