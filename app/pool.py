"""Loaded recipes, bounded in bytes, and the one queue that every picture waits in."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol

from app.errors import Busy, Unavailable, describe
from inspection.evidence import Outcome, Thresholds

log = logging.getLogger("kensor")
UNHEALTHY_AFTER = 3


class Inspecting(Protocol):
    """What the pool needs of `inspection.inspector.Inspector`."""

    @property
    def nbytes(self) -> int:
        """Resident bytes."""
        ...

    def inspect(self, data: bytes, *, thresholds: Thresholds | None = None) -> Outcome:
        """Judge one picture."""
        ...


class Judged(NamedTuple):
    """An outcome, and how long the picture waited for its turn."""

    outcome: Outcome
    queue_ms: float


class _Slot:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inspector: Inspecting | None = None


class Pool:
    """One inspector per recipe digest, loaded once under a lock of its own; the least recently used leave when `budget` bytes are
    passed (the one just asked for stays, however large). Judgements run on `threads` threads of the pool's own, never on the
    event loop; when `queue_length` pictures or `queue_bytes` wait, the next is refused with `Busy`."""

    def __init__(
        self,
        load: Callable[[Path], Inspecting],
        *,
        budget: int,
        threads: int = 1,
        queue_length: int = 64,
        queue_bytes: int = 2**29,
    ) -> None:
        self._load = load
        self._budget = budget
        self._slots: OrderedDict[str, _Slot] = OrderedDict()
        self._lock = threading.Lock()
        self._threads = threads
        self._limit, self._byte_limit = queue_length + threads, queue_bytes
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="kensor-expert")
        self._pending = self._pending_bytes = 0
        self._seconds = 0.1
        self._failures = 0

    @property
    def depth(self) -> int:
        """Pictures being judged or waiting."""
        return self._pending

    @property
    def nbytes(self) -> int:
        """Bytes of all loaded recipes."""
        with self._lock:
            return sum(slot.inspector.nbytes for slot in self._slots.values() if slot.inspector)

    @property
    def healthy(self) -> bool:
        """False after several unforeseen failures in a row: the device is lost."""
        return self._failures < UNHEALTHY_AFTER

    def submit(self, sha256: str, folder: Path, data: bytes, thresholds: Thresholds | None = None) -> Future[Judged]:
        """Queue one picture for one recipe. Raises `Busy`; the future raises what the domain raises."""
        with self._lock:
            full = self._pending and self._pending_bytes + len(data) > self._byte_limit  # one alone is always taken
            if full or self._pending >= self._limit:
                wait = max(1, math.ceil(self._pending * self._seconds / self._threads))
                raise Busy("The queue is full.", retry_after=wait, waiting=self._pending)
            self._pending += 1
            self._pending_bytes += len(data)
        try:
            future = self._executor.submit(self._judge, sha256, folder, data, thresholds, time.perf_counter())
        except RuntimeError as error:
            self._leave(len(data))
            raise Unavailable("The service is stopping.", code="stopping") from error
        future.add_done_callback(lambda _: self._leave(len(data)))
        return future

    def warm(self, sha256: str, folder: Path) -> None:
        """Load a recipe before its first picture comes; what is wrong with it is logged, and said again then."""

        def load() -> None:
            try:
                self.inspector(sha256, folder)
            except Exception as error:
                log.warning("the recipe %s cannot be loaded: %s", sha256, error)

        self._executor.submit(load)

    def inspector(self, sha256: str, folder: Path) -> Inspecting:
        """The loaded recipe, loading it at need."""
        with self._lock:
            slot = self._slots.setdefault(sha256, _Slot())
            self._slots.move_to_end(sha256)
        with slot.lock:
            if slot.inspector is None:
                try:
                    slot.inspector = self._load(folder)
                except BaseException:
                    with self._lock:
                        self._slots.pop(sha256, None)
                    raise
                self._evict(sha256)
            return slot.inspector

    def close(self) -> None:
        """Finish what is being judged, drop what waits, unload everything."""
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._slots.clear()

    def _judge(self, sha256: str, folder: Path, data: bytes, thresholds: Thresholds | None, queued: float) -> Judged:
        started = time.perf_counter()
        try:
            outcome = self.inspector(sha256, folder).inspect(data, thresholds=thresholds)
        except Exception as error:
            self._failures = self._failures + 1 if describe(error)[0] == 500 else 0  # weights, recipe or disk: not the device
            raise
        self._failures = 0
        self._seconds = 0.9 * self._seconds + 0.1 * (time.perf_counter() - started)
        return Judged(outcome, (started - queued) * 1000)

    def _evict(self, keep: str) -> None:
        with self._lock:
            loaded = [(key, slot.inspector.nbytes) for key, slot in self._slots.items() if slot.inspector]
            total = sum(nbytes for _, nbytes in loaded)
            for key, nbytes in loaded:
                if total <= self._budget:
                    return
                if key != keep:
                    del self._slots[key]
                    total -= nbytes

    def _leave(self, nbytes: int) -> None:
        with self._lock:
            self._pending -= 1
            self._pending_bytes -= nbytes
