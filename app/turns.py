"""The queue before a language model: questions are served in order of arrival, and a full queue is said at once."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.errors import Busy, Unavailable

POLL = 0.25


class LanguageUnavailable(Unavailable):
    """The language model did not answer: its weights are missing, it took too long, or its process or server is away."""

    code = "language_unavailable"


class LanguageTimeout(LanguageUnavailable):
    """The question took longer than it may, waiting included."""

    code = "language_timeout"


class LanguageBusy(Busy):
    """The queue of questions is full; `retry_after` says when to come back."""

    code = "language_busy"


class Turns:
    """Lets in `at_once` callers, and keeps `queue_size` more waiting, `patience` seconds at most."""

    def __init__(self, at_once: int, queue_size: int, patience: float) -> None:
        self._at_once, self._limit, self._patience = at_once, at_once + queue_size, patience
        self._line = threading.Condition()
        self.tickets: deque[object] = deque()
        """Those being served and those waiting, in order."""
        self.closed = False

    def admit(self) -> None:
        """Raises at once what `turn` would: `LanguageBusy`, `LanguageUnavailable`."""
        with self._line:
            if self.closed:
                raise LanguageUnavailable("the language model's process is closed")
            if len(self.tickets) >= self._limit:
                raise LanguageBusy("too many questions are waiting for the language model", retry_after=5)

    @contextmanager
    def turn(self, waiting: Callable[[], None] | None = None) -> Iterator[None]:
        """Wait for one's turn. `waiting` is called meanwhile; what it raises gives the place up.

        Raises `LanguageBusy`, `LanguageTimeout`, `LanguageUnavailable`."""
        ticket, until = object(), time.monotonic() + self._patience
        with self._line:
            self.admit()
            self.tickets.append(ticket)
        try:
            while not self._mine(ticket):
                if time.monotonic() >= until:
                    raise LanguageTimeout("the question waited too long for the language model", waited_s=self._patience)
                if waiting is not None:
                    waiting()
            yield
        finally:
            with self._line:
                self.tickets.remove(ticket)
                self._line.notify_all()

    def _mine(self, ticket: object) -> bool:
        with self._line:
            return self._line.wait_for(lambda: ticket in list(self.tickets)[: self._at_once], POLL)
