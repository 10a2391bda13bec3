"""The vision transformer that regions are looked at with: one niced thread of its own, loaded when it is first needed."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any, TypeVar

from app.errors import Busy, Unavailable
from inspection.exemplars import BACKBONE, SIDE

T = TypeVar("T")
KEPT = 4096
"""Results kept by the digest of what they were made of."""
KEPT_BYTES = 64 * 2**20


class Encoder:
    """Work that needs DINOv2, one piece at a time, in order of arrival; a verdict never waits for it: it has a thread of its own,
    which yields to every other. Callers block; never call it from the event loop."""

    def __init__(self, threads: int = 1, queue_length: int = 16, niceness: int = 10) -> None:
        self._threads, self._limit, self._niceness = threads, queue_length + 1, niceness
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="kensor-encoder", initializer=self._nice)
        self._lock = threading.Lock()
        self._pending = self._bytes = 0
        self._backbone: Any = None
        self._kept: OrderedDict[tuple[str, ...], Any] = OrderedDict()

    def run(self, work: Callable[[Any], T]) -> T:
        """`work(backbone)`, waited for. Raises `Busy`, `Unavailable`, `WeightsMissing` of the catalogue, and what it raises."""
        with self._lock:
            if self._pending >= self._limit:
                raise Busy("Too many regions are waiting to be looked at.", retry_after=2, waiting=self._pending)
            self._pending += 1
        try:
            try:
                future = self._executor.submit(self._work, work)
            except RuntimeError as error:
                raise CancelledError from error
            return future.result()
        except CancelledError as error:
            raise Unavailable("The service is stopping.", code="stopping") from error
        finally:
            with self._lock:
                self._pending -= 1

    def kept(self, key: tuple[str, ...], make: Callable[[], T], nbytes: int = 4096) -> T:
        """What `make` gave for this key, made again when it was pushed out. `make` may call `run`."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                found: T = self._kept[key][0]
                return found
        made = make()
        with self._lock:
            if key not in self._kept:
                self._kept[key] = (made, nbytes)
                self._bytes += nbytes
            while len(self._kept) > 1 and (len(self._kept) > KEPT or self._bytes > KEPT_BYTES):
                self._bytes -= self._kept.popitem(last=False)[1][1]
        return made

    def knows(self, key: tuple[str, ...]) -> bool:
        """Whether `kept` would not have to make it."""
        with self._lock:
            return key in self._kept

    def close(self) -> None:
        """Finish what is being looked at, drop what waits."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _work(self, work: Callable[[Any], T]) -> T:
        if self._backbone is None:
            from models.runtime import Backbone  # onnxruntime: only where a region is looked at

            self._backbone = Backbone(BACKBONE, SIDE, self._threads)
        return work(self._backbone)

    def _nice(self) -> None:
        with contextlib.suppress(OSError, AttributeError):  # Linux gives each thread its own niceness, and those it starts theirs
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self._niceness)
