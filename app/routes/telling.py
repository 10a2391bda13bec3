"""An answer as it comes into being: told by its thread, heard by whoever streams it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from typing import Any

from starlette.concurrency import run_in_threadpool

from app.context import Context
from app.services import questions

_RUNNING: set[asyncio.Task[None]] = set()


async def told(ctx: Context, question_id: str) -> AsyncGenerator[tuple[str, Any], None]:
    """`evidence`, `loading`, `text`…, then `done` with the whole answer or `error` with what was raised.

    Closing it ends the question as interrupted, within a moment and whatever the engine waits for."""
    loop, left = asyncio.get_running_loop(), threading.Event()
    heard: asyncio.Queue[tuple[str, Any] | None] = asyncio.Queue()

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
        loop.call_soon_threadsafe(heard.put_nowait, None)

    task = asyncio.ensure_future(run_in_threadpool(work))
    _RUNNING.add(task)
    task.add_done_callback(_RUNNING.discard)
    try:
        while (item := await heard.get()) is not None:
            yield item
        await task
    finally:
        left.set()
