"""`/v1/inspections/{id}/questions`, `/v1/answers`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import asdict, is_dataclass
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from app.context import Context
from app.dependencies import Ctx, Engineer, Operator, Read, RowId, Viewer
from app.errors import reported
from app.routes import STREAM, After, Limit, event
from app.routes.telling import told, whole
from app.schemas.common import Page
from app.schemas.questions import AnswerOut, FeedbackIn, FeedbackView, PairView, QuestionIn, QuestionView
from app.services import preferences, questions

router = APIRouter(prefix="/v1", tags=["questions"])


@router.post("/inspections/{inspection_id}/questions", status_code=201, response_model=AnswerOut)
async def ask(inspection_id: RowId, body: QuestionIn, request: Request, ctx: Ctx, caller: Operator) -> Response:
    """Ask about an inspection. `stream`: server-sent events `evidence`, `loading`…, `text`…, `done` or `error`."""
    question_id = await run_in_threadpool(questions.open_question, ctx, inspection_id, body, caller)
    if body.stream:
        request_id = request.scope.get("kensor.request_id", "")
        return StreamingResponse(_events(ctx, question_id, request_id), media_type="text/event-stream", headers=STREAM)
    return JSONResponse(await whole(ctx, question_id, request), 201)


async def _events(ctx: Context, question_id: str, request_id: str) -> AsyncIterator[bytes]:
    async with aclosing(told(ctx, question_id)) as events:
        async for kind, value in events:
            if kind == "error":
                _, code, message, details = reported(value, request_id)
                value = {"code": code, "message": message, "request_id": request_id, "details": details}
            yield event(kind, _plain(value))


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


@router.get("/inspections/{inspection_id}/questions")
def listed(inspection_id: RowId, session: Read, caller: Viewer, cursor: After = None, limit: Limit = 50) -> Page[QuestionView]:
    """Questions and answers, newest first."""
    rows, following = questions.listed(session, inspection_id, cursor, limit)
    return Page(items=[QuestionView.model_validate(row) for row in rows], next_cursor=following)


@router.post("/answers/{answer_id}/feedback", status_code=201)
def feedback(answer_id: RowId, body: FeedbackIn, ctx: Ctx, caller: Operator) -> FeedbackView:
    """Say what you think of an answer, or how it should read."""
    with ctx.database.write() as session:
        return FeedbackView.model_validate(questions.feedback(session, answer_id, body, caller.name))


@router.get("/answers/preferences")
def preference_pairs(session: Read, caller: Engineer, cursor: After = None, limit: Limit = 200) -> Page[PairView]:
    """Votes and edits as pairs to train on, newest first. A page holds the pairs of `limit` votes and edits: it may be empty."""
    found, following = preferences.listed(session, cursor, limit)
    return Page(items=[PairView.model_validate(pair) for pair in found], next_cursor=following)
