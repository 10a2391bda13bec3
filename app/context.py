"""What services and the worker share: opened once, closed once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from anyio import CapacityLimiter

from app import engines
from app.db import migrate
from app.db.engine import BadAddress, Database
from app.encoder import Encoder
from app.errors import Unavailable
from app.metrics import Metrics
from app.pool import Inspecting, Pool
from app.settings import MIB, Settings
from app.store import Store
from inspection.evidence import Answer, Evidence
from inspection.image import Limits, Pixels

DECODED = 2
"""Pictures decoded at once outside the pool: one of 100 megapixels takes up to a gigabyte, and forty threads serve."""
ASKING = 128
"""Questions in threads at once: more than the engines' queues hold, so that they say which is refused."""


class Answerer(Protocol):
    """What answers questions: blocks until it has; called from a thread."""

    def admit(self, engine: str = "builtin") -> None:
        """Raise `Busy` where one more question would be refused."""
        ...

    def answer(
        self,
        evidence: Evidence,
        question: str,
        *,
        language: str | None = None,
        engine: str = "builtin",
        on_event: Callable[[str, Any], None] | None = None,
    ) -> Answer:
        """One question about one inspection; `on_event(kind, value)` hears it come into being."""
        ...

    def depths(self) -> Mapping[str, Callable[[], float]]:
        """How to ask each engine how many questions it answers or keeps waiting."""
        ...

    def close(self) -> None:
        """End its process."""
        ...


class Watch:
    """Which products were looked at for drift, and what was last seen."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[str, int] = {}
        self._states: dict[str, str] = {}

    def due(self, product: str, every: int) -> bool:
        """Count one inspection; whether it is the first of the process, or one in `every`."""
        with self._lock:
            self._seen[product] = self._seen.get(product, -1) + 1
            return self._seen[product] % every == 0

    def changed(self, product: str, state: str) -> str | None:
        """Keep the state; returns the one before."""
        with self._lock:
            before, self._states[product] = self._states.get(product), state
            return before


@dataclass
class Context:
    """The service's parts, wired."""

    settings: Settings
    database: Database
    store: Store
    pool: Pool
    metrics: Metrics
    answerer: Answerer
    encoder: Encoder
    drift: Watch = field(default_factory=Watch)
    decoding: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(DECODED))
    """Held while a picture is decoded outside the pool."""
    references: tuple[str, tuple[Pixels, ...]] = ("", ())
    """Digest and normal pictures of the recipe asked about last."""

    @cached_property
    def asking(self) -> CapacityLimiter:
        """Threads that wait for answers: not those that serve, or a slow engine would hold every request."""
        return CapacityLimiter(ASKING)

    @cached_property
    def drawing(self) -> CapacityLimiter:
        """Threads that draw maps and overlays: no more than may decode, so that a gallery leaves the others to verdicts."""
        return CapacityLimiter(DECODED)

    @classmethod
    def open(cls, settings: Settings, answerer: Answerer | None = None) -> Context:
        """Open everything. An empty database is made; an older one is refused, since its plant may want a backup first.

        Raises `Unavailable` (`data_unwritable`, `database_outdated`, `bad_setting`) and the database's own errors."""
        settings.export()
        try:
            settings.recipes.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"The data folder {settings.data} cannot be written: {error.strerror}. Set KENSOR_DATA to one that can."
            raise Unavailable(message, code="data_unwritable") from error
        try:
            database = Database(settings.url)
        except BadAddress as error:
            raise Unavailable(f"KENSOR_DATABASE_URL is not the address of a database: {error}.", code="bad_setting") from error
        try:
            standing = migrate.revision(database)
            if standing is None:
                migrate.upgrade(database)
            elif standing != migrate.HEAD:
                message = f"The database stands at {standing}, this version needs {migrate.HEAD}. {migrate.way_out(standing)}"
                raise Unavailable(message, code="database_outdated")
            try:
                store = Store(settings.store_url or str(settings.data / "objects"))
            except (ValueError, ImportError) as error:
                raise Unavailable(f"KENSOR_STORE_URL cannot be used: {error}.", code="bad_setting") from error
        except BaseException:
            database.close()
            raise
        threads, limits = settings.backbone_threads, limits_of(settings)

        def load(folder: Path) -> Inspecting:
            from inspection.inspector import Inspector  # onnxruntime: only where a picture is judged

            return Inspector.load(folder, threads=threads, limits=limits)

        pool = Pool(
            load,
            budget=settings.pool_mib * MIB,
            threads=settings.inference_threads,
            queue_length=settings.queue_length,
            queue_bytes=settings.queue_mib * MIB,
        )
        return cls(settings, database, store, pool, Metrics(), answerer or engines.opened(settings), Encoder(threads))

    @property
    def limits(self) -> Limits:
        """What a picture may be."""
        return limits_of(self.settings)

    def close(self) -> None:
        """Close everything."""
        self.pool.close()
        self.answerer.close()
        self.encoder.close()
        self.database.close()


def limits_of(settings: Settings) -> Limits:
    """What a picture may be."""
    return Limits(max_bytes=settings.max_upload_mib * MIB, max_pixels=settings.max_megapixels * 1_000_000)
