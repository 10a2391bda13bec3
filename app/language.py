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
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from app.errors import Busy, Unavailable
from inspection import answering
from inspection.evidence import Answer, Evidence
from models.lmm.engines import Wants
from models.lmm.language import WEIGHTS
from models.lmm.prompt import Prompt

BUILTIN = "models.lmm.engines:BuiltinEngine"
Progress = Callable[[str], None]


class LanguageUnavailable(Unavailable):
    """The language model did not answer: its weights are missing, it took too long, or its process died."""

    code = "language_unavailable"


class LanguageTimeout(LanguageUnavailable):
    """The question took longer than it may, waiting included."""

    code = "language_timeout"


class LanguageDied(LanguageUnavailable):
    """The process ended amid an answer (when before its first word: twice). The next question starts it again."""

    code = "language_died"


class LanguageBusy(Busy):
    """The queue of questions is full; `retry_after` says when to come back."""

    code = "language_busy"


class LanguageProcess:
    """An `Engine` that lives in a child process. Thread-safe: questions are served one at a time, in order of arrival.

    queue_size: questions that may wait beside the one being served. timeout: seconds one reply may take. patience: seconds a
    question may wait for its turn, and the model for being loaded.
    """

    def __init__(
        self,
        engine: str = BUILTIN,
        *,
        queue_size: int = 8,
        timeout: float = 30.0,
        patience: float = 120.0,
        niceness: int = 10,
        wants: Wants = "words",
    ) -> None:
        self.wants = wants
        self._engine, self._niceness = engine, niceness
        self._limit, self._timeout, self._patience = queue_size + 1, timeout, patience
        self._line = threading.Condition()
        self._waiting: deque[object] = deque()
        self._child: _Child | None = None
        self._closed = False
        self.name, self.sha256 = engine.rpartition(":")[2], ""
        if engine == BUILTIN:
            self.name = WEIGHTS

    def generate(self, prompt: Prompt, *, max_tokens: int = 64, progress: Progress | None = None) -> Generator[str, None, None]:
        """Yield the reply in pieces. Raises `LanguageBusy`, `LanguageTimeout`, `LanguageUnavailable`.

        Closing the iterator stops the generation. `progress` hears the stages of a cold start.
        """
        with self._turn():
            for attempt in range(2):
                child, spoke = self._ready(progress or (lambda stage: None)), False
                try:
                    with closing(self._reply(child, {"prompt": prompt.dumped(), "max_tokens": max_tokens})) as pieces:
                        for piece in pieces:
                            spoke = True
                            yield piece
                    return
                except LanguageDied:
                    if spoke or attempt:
                        raise

    @contextmanager
    def _turn(self) -> Iterator[None]:
        ticket = object()
        with self._line:
            if self._closed:
                raise LanguageUnavailable("the language model's process is closed")
            if len(self._waiting) >= self._limit:
                raise LanguageBusy("too many questions are waiting for the language model", retry_after=5)
            self._waiting.append(ticket)
        try:
            with self._line:
                if not self._line.wait_for(lambda: self._waiting[0] is ticket, self._patience):
                    raise LanguageTimeout("the question waited too long for the language model", waited_s=self._patience)
            yield
        finally:
            with self._line:
                self._waiting.remove(ticket)
                self._line.notify_all()

    def _ready(self, progress: Progress) -> _Child:
        """The warm child, started anew when there is none or the last one died."""
        if self._child is not None and self._child.alive:
            return self._child
        self._drop()
        progress("process")
        child = self._child = _Child(self._engine, self._niceness)
        if self._closed:  # closed since the turn began
            self._drop()
            raise LanguageUnavailable("the language model's process is closed")
        deadline = time.monotonic() + self._patience
        while True:
            message = self._next(child, deadline)
            if message["event"] == "ready":
                self.name, self.sha256 = message["name"], message["sha256"]
                return child
            if message["event"] == "error":
                self._drop()
                raise _refusal(message)
            progress(message["stage"])

    def _reply(self, child: _Child, request: dict[str, Any]) -> Generator[str, None, None]:
        deadline, over = time.monotonic() + self._timeout, False
        try:
            child.send(request)
            while True:
                message = self._next(child, deadline)
                if message["event"] == "text":
                    yield message["text"]
                    continue
                over = True
                if message["event"] == "error":
                    raise _refusal(message)
                return
        finally:
            if not over and child is self._child:
                self._cancel(child)

    def _next(self, child: _Child, deadline: float) -> dict[str, Any]:
        try:
            message = child.messages.get(timeout=max(deadline - time.monotonic(), 0))
        except queue.Empty:
            raise LanguageTimeout("the language model took too long", timeout_s=self._timeout) from None
        if message is None:
            self._drop()
            raise LanguageDied("the language model's process died; the next question starts it again")
        return message

    def _cancel(self, child: _Child, patience: float = 3.0) -> None:
        """Stop a generation that nobody waits for; a child that does not listen is killed."""
        deadline = time.monotonic() + patience
        try:
            child.send({"cancel": True})
            while self._next(child, deadline)["event"] not in ("done", "error"):
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
        self._closed = True
        self._drop()


class _Child:
    """One life of the child process."""

    def __init__(self, engine: str, niceness: int) -> None:
        root = str(Path(__file__).resolve().parent.parent)
        one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        quiet = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TQDM_DISABLE": "1"}
        path = os.pathsep.join(dict.fromkeys([root, *filter(None, sys.path)]))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "models.lmm.child", engine, str(niceness), str(os.getpid())],
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
    """Answers questions about inspections through one engine. Blocking; safe to call from many threads."""

    def __init__(self, process: LanguageProcess | None = None) -> None:
        self.process = process or LanguageProcess()

    def answer(
        self, evidence: Evidence, question: str, language: str | None = None, *, on_event: answering.Listener | None = None
    ) -> Answer:
        """The checked answer.

        `on_event(kind, value)` hears `evidence`, `loading` (a stage) and `text` (a unit as soon as it is checked).
        Raises `QuestionRefused` and the errors of `LanguageProcess.generate`; what `on_event` raises stops the generation.
        """
        return answering.answer(evidence, question, _Listening(self.process, on_event), language=language, on_event=on_event)

    def close(self) -> None:
        """End the language model's process."""
        self.process.close()


class _Listening:
    """The process as an engine that tells a listener of a cold start."""

    def __init__(self, process: LanguageProcess, on_event: answering.Listener | None) -> None:
        self._process, self._tell = process, on_event or (lambda kind, value: None)

    @property
    def wants(self) -> Wants:
        return self._process.wants

    @property
    def name(self) -> str:
        return self._process.name

    @property
    def sha256(self) -> str:
        return self._process.sha256

    def generate(self, prompt: Prompt, *, max_tokens: int = 64) -> Generator[str, None, None]:
        return self._process.generate(prompt, max_tokens=max_tokens, progress=lambda stage: self._tell("loading", stage))
