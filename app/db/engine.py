"""The database: SQLite in WAL mode by default, PostgreSQL for a plant; readers and writers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DataError, IntegrityError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, SessionTransaction

UNAVAILABLE = (OperationalError, InterfaceError, PoolTimeout)
"""The database is away, locked for too long, or full."""
CONFLICT = (IntegrityError,)
BAD_VALUE = (DataError,)
ANY = (SQLAlchemyError,)

BUSY_MS = 15_000
SQLITE_DISK = ("database or disk is full", "disk I/O error", "readonly database", "unable to open database file")


def disk_reason(error: BaseException) -> str | None:
    """What SQLite says of its disk; `None`: it is not the disk. Nothing else of a driver's text is shown to a client."""
    text = str(getattr(error, "orig", None) or "")
    return next((reason for reason in SQLITE_DISK if reason in text), None)


class BadAddress(ValueError):
    """A database's address that cannot be read, or of a kind that is not served."""


def shown(url: str) -> str:
    """The database's address without its password."""
    return make_url(url).render_as_string(hide_password=True)


class WriteSession(Session):
    """A session whose transaction writes. On SQLite it begins IMMEDIATE, and the writers of one process queue on a lock
    (first come, first served) where SQLite itself would have them sleep and try again."""


@event.listens_for(WriteSession, "after_transaction_create")
def _take(session: Session, transaction: SessionTransaction) -> None:
    lock = session.info.get("lock")
    if lock is None or transaction.parent is not None:
        return
    if not lock.acquire(timeout=BUSY_MS / 1000):
        raise PoolTimeout("waited too long for the database's writer lock")
    session.info["holds"] = True


@event.listens_for(WriteSession, "after_transaction_end")
def _give(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is None and session.info.pop("holds", False):
        session.info["lock"].release()


class Database:
    """One engine and the two kinds of session. Sessions are lazy: nothing begins before the first statement."""

    def __init__(self, url: str) -> None:
        try:
            self.url = make_url(url)
        except (ArgumentError, ValueError) as error:
            raise BadAddress("it cannot be read") from error
        if self.url.get_backend_name() not in ("sqlite", "postgresql"):
            raise BadAddress("it names neither PostgreSQL (postgresql://…) nor SQLite (sqlite:///…)")
        self.sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = self._sqlite() if self.sqlite else self._postgresql()
        self._writers = threading.Lock() if self.sqlite else None
        self._write_engine = self.engine.execution_options(write=True)

    def _sqlite(self) -> Engine:
        if self.url.database:
            Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(self.url, pool_size=16, max_overflow=32, connect_args={"timeout": BUSY_MS / 1000})

        @event.listens_for(engine, "connect")
        def _configure(connection: Any, _record: Any) -> None:
            connection.isolation_level = None  # SQLAlchemy's own BEGIN, below, in place of the driver's
            # FULL: an acknowledged verdict survives a power cut; it costs one fsync a commit (docs/experiments.md).
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY_MS}"):
                connection.execute(f"PRAGMA {pragma}")

        @event.listens_for(engine, "begin")
        def _begin(connection: Any) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("write") else "BEGIN")

        return engine

    def _postgresql(self) -> Engine:
        return create_engine(self.url, pool_size=8, max_overflow=32, pool_pre_ping=True, connect_args={"connect_timeout": 5})

    def session(self, *, write: bool = False) -> Session:
        """A new session; the caller commits and closes."""
        if write:
            return WriteSession(self._write_engine, expire_on_commit=False, info={"lock": self._writers})
        return Session(self.engine, expire_on_commit=False)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for reading."""
        with self.session() as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction: committed at the end, rolled back on an exception."""
        with self.session(write=True) as session, session.begin():
            yield session

    def ping(self) -> None:
        """Raise one of `UNAVAILABLE` where the database does not answer."""
        with self.engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()
