"""Any server that speaks OpenAI's chat completions (vLLM, a gateway of a closed model): pictures as `data:` URLs, streamed."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import queue
import random
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
from anyio.from_thread import start_blocking_portal

from models.lmm.engines import Wants
from models.lmm.errors import EngineError
from models.lmm.prompt import Picture, Prompt

CONNECT = 5.0
ATTEMPTS = 3
LARGEST = 2**20
"""Bytes of one reply; a server that sends more is cut off."""
POLL = 0.25
RENAMED = {"max_tokens": "max_completion_tokens", "temperature": None}
"""Parameters that some models refuse, and what they take instead."""


class OpenAIEngine:
    """An engine behind an address. Thread-safe; several calls at once go over connections of their own.

    url: the base, such as `http://host:8000/v1`. timeout: seconds for one reply, tries and waiting included. pause: seconds
    before the second try; doubled before the third. `sha256` is the digest of address and model name: weights are out of sight.
    """

    wants: Wants = "pictures"

    def __init__(self, url: str, model: str, key: str | None = None, *, timeout: float = 60.0, pause: float = 0.5) -> None:
        self.name, self._url = model, url.rstrip("/")
        self.sha256 = hashlib.sha256(f"{self._url}\n{model}".encode()).hexdigest()
        self._host = urlsplit(self._url).hostname or ""
        self._headers = {"Accept-Encoding": "identity", **({"Authorization": f"Bearer {key}"} if key else {})}
        self._timeout, self._pause = timeout, pause

    def generate(
        self, prompt: Prompt, *, max_tokens: int = 64, waiting: Callable[[], None] | None = None
    ) -> Generator[str, None, None]:
        """Yield the reply in pieces. Closing the iterator closes the connection, whatever the server is at.

        `waiting` is called while nothing comes; what it raises ends the call. Raises EngineError: `language_unavailable`
        (not there, or 5xx), `language_busy` (429), `language_refused` (other statuses), `language_timeout`,
        `language_broken` (no chat completion, or half of one). All but refusals are tried again before the first word.
        """
        told: queue.Queue[str | None] = queue.Queue()
        body = {
            "model": self.name,
            "messages": messages(prompt),
            "max_tokens": max_tokens,
            "temperature": 0,
            "stream": True,
        }
        with start_blocking_portal() as portal:
            asked = portal.start_task_soon(self._within, body, told.put)
            asked.add_done_callback(lambda _: told.put(None))
            try:
                while True:
                    try:
                        piece = told.get(timeout=POLL)
                    except queue.Empty:
                        if waiting is not None:
                            waiting()
                        continue
                    if piece is None:
                        break
                    yield piece
                asked.result()
            finally:
                asked.cancel()

    async def _within(self, body: dict[str, Any], tell: Callable[[str], None]) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await self._tried(body, tell)
        except TimeoutError as error:
            message = f"The language server at {self._host} took longer than {self._timeout:g} s."
            raise EngineError(message, "language_timeout", timeout_s=self._timeout) from error

    async def _tried(self, body: dict[str, Any], tell: Callable[[str], None]) -> None:
        here = self._host in ("localhost", "127.0.0.1", "::1")  # no proxy of the environment leads there
        limits = httpx.Timeout(self._timeout, connect=CONNECT)
        attempt, spoke = 0, False

        def heard(piece: str) -> None:
            nonlocal spoke
            spoke = True
            tell(piece)

        async with httpx.AsyncClient(headers=self._headers, timeout=limits, trust_env=not here) as client:
            while True:
                attempt += 1
                try:
                    async with client.stream("POST", f"{self._url}/chat/completions", json=body) as response:
                        if response.status_code == 200:
                            await self._read(response, heard)
                            return
                        failure = await self._refusal(response, body)
                except httpx.ConnectTimeout as error:
                    failure = self._lost(error, spoke)
                except httpx.TimeoutException as error:
                    raise TimeoutError from error
                except httpx.HTTPError as error:
                    failure = self._lost(error, spoke)
                except EngineError as error:
                    failure = error
                if failure is None:  # it takes other parameters
                    continue
                if spoke or not failure.again or attempt == ATTEMPTS:
                    raise failure
                pause = self._pause * 2 ** (attempt - 1) * random.uniform(1, 1.2)
                if (failure.retry_after or 0) > self._timeout:
                    raise failure
                await asyncio.sleep(max(pause, failure.retry_after or 0))

    async def _read(self, response: httpx.Response, tell: Callable[[str], None]) -> None:
        streamed = response.headers.get("content-type", "").startswith("text/event-stream")
        rest, seen = b"", 0
        async for data in response.aiter_bytes():
            seen += len(data)
            if seen > LARGEST:
                raise self._broken(f"its reply is larger than {LARGEST:,} bytes", again=False)
            *lines, rest = (rest + data).split(b"\n") if streamed else (rest + data,)
            for line in lines:
                if line.startswith(b"data:") and self._event(line[5:].strip(), tell):
                    return
        if streamed:
            raise self._broken("its reply ended amid the stream")
        self._event(rest, tell, "message")

    def _event(self, data: bytes, tell: Callable[[str], None], part: str = "delta") -> bool:
        """One event of the stream; whether it was the last."""
        if data == b"[DONE]":
            return True
        try:
            said = json.loads(data)
            if said.get("error"):
                raise self._broken(f"it reported an error: {_worded(said)}")
            choice = said["choices"][0] if said["choices"] or part == "message" else {}
            text = (choice.get(part) or {}).get("content")
            if not isinstance(text, str | None):
                raise TypeError(type(text))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise self._broken("its reply is no chat completion") from error
        if text:
            tell(text)
        return bool(choice.get("finish_reason"))

    async def _refusal(self, response: httpx.Response, body: dict[str, Any]) -> EngineError | None:
        """What a status other than 200 means; `None` once the body asks otherwise."""
        status, said = response.status_code, b""
        async for data in response.aiter_bytes():
            said += data
            if len(said) > 2**16:
                break
        where = f"The language server at {self._host}"
        details: dict[str, Any] = {"status": status}
        if status == 429:
            wait = response.headers.get("retry-after", "")
            seconds = min(int(wait), 3600) if wait.isdigit() else None
            return EngineError(f"{where} is busy.", "language_busy", again=True, retry_after=seconds, **details)
        if status >= 500:
            return EngineError(f"{where} failed with status {status}.", again=True, **details)
        if status in (401, 403):
            return EngineError(f"{where} refused the key (KENSOR_OPENAI_KEY).", "language_refused", **details)
        with suppress(ValueError, RecursionError):
            message = _worded(json.loads(said))
            if status == 400:
                for name, instead in RENAMED.items():
                    if name in body and (instead or name) in message:
                        value = body.pop(name)
                        if instead:
                            body[instead] = value
                        return None
            return EngineError(f"{where} refused: {message}", "language_refused", **details)
        return EngineError(f"{where} refused with status {status}.", "language_refused", **details)

    def _lost(self, error: httpx.HTTPError, spoke: bool) -> EngineError:
        if spoke:
            return self._broken("its reply ended amid the stream")
        message = f"The language server at {self._host} does not answer: {type(error).__name__}."
        return EngineError(message, again=isinstance(error, httpx.TransportError))

    def _broken(self, why: str, again: bool = True) -> EngineError:
        return EngineError(f"The language server at {self._host} sent something else: {why}.", "language_broken", again=again)


def messages(prompt: Prompt) -> list[dict[str, Any]]:
    """The prompt as chat messages; the question comes last, after all that questions on one inspection share."""
    parts: list[dict[str, Any]] = [{"type": "text", "text": prompt.context}]
    for picture in prompt.pictures:
        parts += [
            {"type": "text", "text": f"Picture: {picture.label}."},
            {"type": "image_url", "image_url": {"url": _url(picture)}},
        ]
    parts.append({"type": "text", "text": f"Question: {prompt.question}"})
    return [{"role": "system", "content": prompt.system}, {"role": "user", "content": parts}]


def _url(picture: Picture) -> str:
    return f"data:{picture.media_type};base64,{base64.b64encode(picture.data).decode()}"


def _worded(said: Any) -> str:
    """What an error's body says, in one short line."""
    error = said.get("error", said) if isinstance(said, dict) else said
    message = error.get("message") or error.get("detail") if isinstance(error, dict) else error
    return " ".join(str(message).split())[:200]
