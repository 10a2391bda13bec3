"""The language model's own process: started by the first question, niced, one thread, bounded queue, restarted after a crash.

The parent speaks with it in JSON lines over two pipes and imports neither torch nor transformers. When the parent ends,
however it ends, the pipe closes and the child leaves.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol

from app.turns import POLL, LanguageBusy, LanguageTimeout, LanguageUnavailable, Turns
from inspection import answering
from inspection.evidence import Answer, Evidence
from models.lmm.engines import ViewListener, Wants
from models.lmm.prompt import Prompt
from models.lmm.weights import NAME

__all__ = ["Language", "LanguageBusy", "LanguageDied", "LanguageProcess", "LanguageTimeout", "LanguageUnavailable"]

BUILTIN = "models.lmm.trained:MyriadEngine"
Progress = Callable[[str | None], None]
"""Hears the stages of a cold start, and `None` while nothing is new; what it raises ends the question."""


class LanguageDied(LanguageUnavailable):
    """The process ended amid an answer (when before its first word: twice). The next question starts it again."""

    code = "language_died"


class LanguageProcess:
    """An `Engine` that lives in a child process. Thread-safe: questions are served one at a time, in order of arrival.

    queue_size: questions that may wait beside the one being served. timeout: seconds one reply may take. patience: seconds a
    question may wait for its turn, and the model for being loaded. options: keywords for the engine. grace: seconds in which a
    reply that nobody wants must end, before the child is killed. online: the child may reach the hub.
    """

    def __init__(
        self,
        engine: str = BUILTIN,
        *,
        queue_size: int = 8,
        timeout: float = 30.0,
        patience: float = 120.0,
        niceness: int = 10,
        options: Mapping[str, Any] | None = None,
        wants: Wants | None = None,
        grace: float = 3.0,
        online: bool = False,
    ) -> None:
        self._start = partial(_Child, engine, niceness, json.dumps(dict(options or {})), online)
        self._timeout, self._patience, self._grace = timeout, patience, grace
        self.turns = Turns(1, queue_size, patience)
        self.wants: Wants = wants or ("sight" if engine == BUILTIN else "words")
        self._child: _Child | None = None
        self.name, self.sha256 = engine.rpartition(":")[2], ""
        if engine == BUILTIN:
            self.name = NAME

    def generate(
        self, prompt: Prompt, *, max_tokens: int = 64, view: ViewListener | None = None, progress: Progress | None = None
    ) -> Generator[str, None, None]:
        """Yield the reply in pieces. Raises `LanguageBusy`, `LanguageTimeout`, `LanguageUnavailable`.

        Closing the iterator stops the generation.
        """
        tell = progress or (lambda stage: None)
        with self.turns.turn(lambda: tell(None)):
            for attempt in range(2):
                child, spoke = self._ready(tell), False
                try:
                    request = {"prompt": prompt.dumped(), "max_tokens": max_tokens}
                    with closing(self._reply(child, request, view or (lambda value: None), tell)) as pieces:
                        for piece in pieces:
                            spoke = True
                            yield piece
                    return
                except LanguageDied:
                    if spoke or attempt:
                        raise

    def _ready(self, progress: Progress) -> _Child:
        """The warm child, started anew when there is none or the last one died."""
        child = self._child
        if child is None or not child.alive:
            self._drop()
            progress("process")
            child = self._child = self._start()
        if child.ready:
            return child
        if self.turns.closed:  # closed since the turn began
            self._drop()
            raise LanguageUnavailable("the language model's process is closed")
        deadline = time.monotonic() + self._patience
        while True:
            try:
                message = self._next(child, deadline, progress, self._patience)
            except LanguageTimeout:  # it hangs, at whatever stage: the next question starts another
                self._drop()
                raise
            if message["event"] == "ready":
                self.name, self.sha256, child.ready = message["name"], message["sha256"], True
                return child
            if message["event"] == "error":
                self._drop()
                raise _refusal(message)
            deadline = time.monotonic() + self._patience
            progress(message["stage"])

    def _reply(
        self, child: _Child, request: dict[str, Any], view: ViewListener, progress: Progress
    ) -> Generator[str, None, None]:
        deadline, over = time.monotonic() + self._timeout, False
        try:
            child.send(request)
            while True:
                message = self._next(child, deadline, progress, self._timeout)
                if message["event"] == "text":
                    yield message["text"]
                    continue
                if message["event"] == "view":
                    view(message["value"])
                    continue
                over = True
                if message["event"] == "error":
                    raise _refusal(message)
                return
        finally:
            if not over and child is self._child:
                self._cancel(child)

    def _next(self, child: _Child, deadline: float, progress: Progress, limit: float) -> dict[str, Any]:
        while True:
            left = deadline - time.monotonic()
            try:
                message = child.messages.get(timeout=max(min(left, POLL), 0))
                break
            except queue.Empty:
                if left <= POLL:
                    raise LanguageTimeout("the language model took too long", timeout_s=limit) from None
                progress(None)
        if message is None:
            self._drop()
            raise LanguageDied("the language model's process died; the next question starts it again")
        return message

    def _cancel(self, child: _Child) -> None:
        """Stop a generation that nobody waits for; a child that does not listen is killed."""
        deadline = time.monotonic() + self._grace
        try:
            child.send({"cancel": True})
            while self._next(child, deadline, lambda stage: None, self._grace)["event"] not in ("done", "error"):
                pass
        except LanguageUnavailable:  # died, or deaf
            self._drop()

    def _drop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    @property
    def pid(self) -> int | None:
        """The child's process id while it lives."""
        child = self._child
        return child.process.pid if child is not None and child.alive else None

    def close(self) -> None:
        """End the child. A question being served fails with `LanguageUnavailable`."""
        self.turns.closed = True
        self._drop()


class _Child:
    """One life of the child process."""

    def __init__(self, engine: str, niceness: int, options: str, online: bool) -> None:
        self.ready = False
        """It is loaded. A question that was given up leaves a child that loads on, for the next."""
        root = str(Path(__file__).resolve().parent.parent)
        one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        quiet = {"TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error", "TQDM_DISABLE": "1"}
        quiet["HF_HUB_OFFLINE"] = str(int(not online))
        path = os.pathsep.join(dict.fromkeys([root, *filter(None, sys.path)]))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "models.lmm.child", engine, str(niceness), str(os.getpid()), options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **one, **quiet, "PYTHONPATH": path},
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self._stdin = self.process.stdin
        self.messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,), name="language-reader", daemon=True)
        self._reader.start()

    @property
    def alive(self) -> bool:
        return self.process.poll() is None and self._reader.is_alive()

    def send(self, message: dict[str, Any]) -> None:
        try:
            self._stdin.write(json.dumps(message).encode() + b"\n")
            self._stdin.flush()
        except (OSError, ValueError) as error:
            raise LanguageDied("the language model's process died; the next question starts it again") from error

    def _read(self, stdout: IO[bytes]) -> None:
        with stdout:
            for line in stdout:
                self.messages.put(json.loads(line))
        self.messages.put(None)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        with suppress(OSError):  # the child left with half a line unread
            self._stdin.close()


def _refusal(message: dict[str, Any]) -> LanguageUnavailable:
    return LanguageUnavailable(message["message"], code=message["code"], **message["details"])


class Language:
    """Answers questions about inspections through engines by name. Blocking; safe to call from many threads."""

    def __init__(self, process: LanguageProcess | None = None, engines: Mapping[str, Remote] | None = None) -> None:
        self.process = process or LanguageProcess()
        self._engines: dict[str, Remote] = {"builtin": self.process, **(engines or {})}

    def answer(
        self,
        evidence: Evidence,
        question: str,
        language: str | None = None,
        *,
        engine: str = "builtin",
        on_event: answering.Listener | None = None,
    ) -> Answer:
        """The checked answer.

        `on_event(kind, value)` hears `evidence`, `loading` (a stage), `text` (a unit as soon as it is checked), and `waiting`
        while nothing is new. Raises `QuestionRefused`, KeyError for an engine that is not there, and the errors of
        `LanguageProcess.generate`; what `on_event` raises stops the generation.
        """
        listening = _Listening(self._engines[engine], on_event)
        return answering.answer(evidence, question, listening, language=language, on_event=on_event)

    def admit(self, engine: str = "builtin") -> None:
        """Raises `LanguageBusy` where one more question would be refused, `LanguageUnavailable` once closed."""
        self._engines[engine].turns.admit()

    def depths(self) -> dict[str, Callable[[], float]]:
        """How to ask each engine how many questions it answers or keeps waiting."""
        return {name: partial(len, engine.turns.tickets) for name, engine in self._engines.items()}

    def close(self) -> None:
        """End the language models' processes."""
        for engine in self._engines.values():
            engine.close()


class Remote(Protocol):
    """An `Engine` outside this process: it tells how far it is, and it is closed."""

    @property
    def name(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def wants(self) -> Wants: ...
    @property
    def turns(self) -> Turns: ...
    def generate(
        self, prompt: Prompt, *, max_tokens: int = 64, progress: Progress | None = None
    ) -> Generator[str, None, None]: ...
    def close(self) -> None: ...


class _Listening:
    """A remote engine whose waiting and cold start a listener hears."""

    def __init__(self, engine: Remote, on_event: answering.Listener | None) -> None:
        self._engine, self._tell = engine, on_event or (lambda kind, value: None)

    @property
    def wants(self) -> Wants:
        return self._engine.wants

    @property
    def name(self) -> str:
        return self._engine.name

    @property
    def sha256(self) -> str:
        return self._engine.sha256

    def generate(self, prompt: Prompt, *, max_tokens: int = 64, **more: Any) -> Generator[str, None, None]:
        def progress(stage: str | None) -> None:
            self._tell("waiting" if stage is None else "loading", stage)

        return self._engine.generate(prompt, max_tokens=max_tokens, progress=progress, **more)
