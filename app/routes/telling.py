"""An answer as it comes into being: told by its thread, heard by the client as long as it is there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from anyio import to_thread
from starlette.requests import ClientDisconnect, Request

from app.context import Context
from app.services import questions

Events = AsyncGenerator[tuple[str, Any], None]
LOOK = 0.5
"""Seconds between two looks whether the client is still there, before its response has begun."""
_RUNNING: set[asyncio.Task[None]] = set()


async def told(ctx: Context, question_id: str) -> Events:
    """`evidence`, `loading`, `text`…, then `done` with the whole answer or `error` with what was raised.

    Closing it ends the question as interrupted, within a moment and whatever the engine waits for."""
    loop, left = asyncio.get_running_loop(), threading.Event()
    heard: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()

    def tell(kind: str, value: Any) -> None:
        if left.is_set():
            raise questions.Interrupted
        if kind != "waiting":
            loop.call_soon_threadsafe(heard.put_nowait, (kind, value))

    def work() -> None:
        try:
            last: tuple[str, Any] = ("done", questions.answer(ctx, question_id, tell))
        except questions.Interrupted:
            return
        except Exception as error:
            last = ("error", error)
        loop.call_soon_threadsafe(heard.put_nowait, last)

    task = asyncio.ensure_future(to_thread.run_sync(work, limiter=ctx.asking))
    _RUNNING.add(task)
    task.add_done_callback(_RUNNING.discard)
    try:
        kind = ""
        while kind not in ("done", "error"):
            kind, value = await heard.get()
            yield kind, value
    finally:
        left.set()


async def following(request: Request, events: Events, kinds: tuple[str, ...]) -> tuple[str, Any]:
    """The next event of these kinds, or `done`. Raises what ended the answer, ClientDisconnect once the client left; then the
    events are closed."""
    try:
        while True:
            step = asyncio.ensure_future(anext(events))
            while not (await asyncio.wait({step}, timeout=LOOK))[0]:
                if await request.is_disconnected():
                    step.cancel()
                    await asyncio.wait({step})
                    raise ClientDisconnect
            kind, value = step.result()
            if kind == "error":
                raise value
            if kind in (*kinds, "done"):
                return kind, value
    except BaseException:
        await events.aclose()
        raise


async def whole(ctx: Context, question_id: str, request: Request) -> dict[str, Any]:
    """The answer once it is made. Raises as `following` does."""
    async with aclosing(told(ctx, question_id)) as events:
        _, answer = await following(request, events, ())
    return dict(answer)
