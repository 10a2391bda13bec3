"""What running work sees of its job: progress out, a wish to cancel in, and proof that the lease still holds."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from app.db.queries import jobs as queries
from app.db.tables import Job, now


class LeaseLost(Exception):
    """Another worker has the job; whatever this one would write is void."""


@dataclass
class Task:
    """One claimed job."""

    id: str
    type: str
    product: str
    params: dict[str, Any]
    created_by: str
    owner: str
    stage: str = ""
    done: int = 0
    total: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def of(cls, job: Job, owner: str) -> Task:
        """A job just claimed."""
        return cls(job.id, job.type, job.product.name, job.params, job.created_by, owner, job.stage, job.done, job.total)

    def progress(self, stage: str, done: int, total: int) -> None:
        """Say how far the work is; the heartbeat carries it to the database."""
        self.stage, self.done, self.total = stage, done, total

    def cancelled(self) -> bool:
        """Whether to stop."""
        return self.stop.is_set()

    def hold(self, session: Session) -> Job:
        """The job's row, held to the end of the transaction. Raises `LeaseLost`."""
        job = queries.owned(session, self.id, self.owner)
        if job is None:
            raise LeaseLost(self.id)
        return job

    def finish(
        self, session: Session, state: str, result: dict[str, Any] | None = None, error: dict[str, Any] | None = None
    ) -> None:
        """Close the job in the transaction that holds its last result."""
        job = self.hold(session)
        job.state, job.result, job.error = state, result, error
        job.stage, job.done, job.total = self.stage, self.done, self.total
        job.lease_owner, job.lease_until, job.finished_at = None, None, now()
