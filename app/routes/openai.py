"""`/v1/chat/completions`, `/v1/models`: OpenAI's shapes, for its clients."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from app.context import Context
from app.dependencies import Ctx, Operator, Read, Viewer
from app.errors import openai_error, reported
from app.routes import STREAM
from app.routes.telling import Events, following, told, whole
from app.schemas.openai import ChatIn, Choice, Completion, Models, Said
from app.security import Principal
from app.services import chats, inspections, questions
from app.services.chats import Chat

router = APIRouter(prefix="/v1", tags=["openai"])


@router.post("/chat/completions", response_model=Completion)
async def complete(body: ChatIn, request: Request, ctx: Ctx, caller: Operator) -> Response:
    """Ask about a picture (`data:` URL: it is inspected first) or a recorded inspection (`inspection:ID`) of a product."""
    chat = await run_in_threadpool(chats.read, ctx, body)
    asked = chats.question(ctx, body, chat)  # before a picture is inspected for it
    inspection = await run_in_threadpool(chats.known, ctx, chat) or await _inspected(ctx, chat, caller)
    asked.conversation_id = chats.conversation(chat, inspection, caller)
    question_id = await run_in_threadpool(questions.open_question, ctx, inspection, asked, caller)
    made = int(time.time())
    if not body.stream:
        answer = await whole(ctx, question_id, request)
        said = str(answer["answer"])
        completion = Completion(
            id=f"chatcmpl-{question_id}",
            created=made,
            model=body.model,
            choices=[Choice(message=Said(content=said))],
            usage=chats.usage(chat, said),
            kensor={**answer, "inspection_id": inspection},
        )
        return JSONResponse(completion.model_dump(mode="json"))
    events = told(ctx, question_id)
    first = await following(request, events, ("text",))  # an error before the first word has a status of its own
    frame = {"id": f"chatcmpl-{question_id}", "object": "chat.completion.chunk", "created": made, "model": body.model}
    counted = body.stream_options is not None and body.stream_options.include_usage
    request_id = request.scope.get("kensor.request_id", "")
    chunks = _chunks(frame, first, events, chat if counted else None, inspection, request_id)
    return StreamingResponse(chunks, media_type="text/event-stream", headers=STREAM)


@router.get("/models")
def models(session: Read, caller: Viewer) -> Models:
    """Every product with a promoted recipe, as a model `kensor:<product>`."""
    return chats.models(session)


async def _inspected(ctx: Context, chat: Chat, caller: Principal) -> str:
    plan, once, before = await run_in_threadpool(chats.plan, ctx, chat, caller)
    if before is not None:
        return before
    assert chat.picture is not None
    judged = await asyncio.wrap_future(ctx.pool.submit(plan.sha256, plan.folder, chat.picture, plan.thresholds))
    fields = chats.AS_IT_COMES
    reply = await run_in_threadpool(inspections.record, ctx, plan, chat.picture, judged, fields, caller, once)
    return str(reply.body["id"])


async def _chunks(
    frame: dict[str, Any],
    first: tuple[str, Any],
    events: Events,
    counted: Chat | None,
    inspection: str,
    request_id: str,
) -> AsyncIterator[bytes]:
    async with aclosing(events):
        delta: dict[str, Any] = {"role": "assistant", "content": ""}
        yield _data({**frame, "choices": [_choice(delta)]})
        gap, item = "", first
        while True:
            kind, value = item
            if kind == "text":
                yield _data({**frame, "choices": [_choice({"content": f"{gap}{value}"})]})
                gap = " "
            elif kind == "error":
                status, code, message, details = reported(value, request_id)
                problem = {"code": code, "message": message, "request_id": request_id, "details": details}
                yield _data({**problem, "error": openai_error(status, code, message)})
                return
            elif kind == "done":
                yield _data({**frame, "choices": [_choice({}, "stop")], "kensor": {**value, "inspection_id": inspection}})
                if counted is not None:
                    usage = chats.usage(counted, value["answer"]).model_dump()
                    yield _data({**frame, "choices": [], "usage": usage})
                yield b"data: [DONE]\n\n"
                return
            item = await anext(events)


def _choice(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}


def _data(value: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(value, separators=(',', ':'))}\n\n".encode()
