"""The worker: claims jobs under a lease, says that it lives, and leaves nothing half-done behind when it does not."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from math import inf
from typing import Any
from uuid import uuid4

from app.context import Context
from app.db.engine import UNAVAILABLE
from app.db.queries import idempotency, jobs
from app.db.tables import now
from app.errors import describe
from app.runners import Local
from app.services import enrolments, questions, reinspections
from app.settings import Settings
from app.task import LeaseLost, Task
from inspection.evidence import Cancelled

log = logging.getLogger("kensor.worker")
MAX_ATTEMPTS = 5
PURGE_SECONDS = 600
PURGED = 1000


class Worker:
    """One worker. `stop` ends it after handing its job back to the queue."""

    def __init__(self, ctx: Context, *, tidies: bool = True) -> None:
        self.ctx, self._tidies = ctx, tidies
        self.owner = uuid4().hex
        self.stop = threading.Event()
        self._task: Task | None = None
        self._tidied = -inf

    def run(self) -> None:
        """Work until told to stop; a database that is away is waited for."""
        while not self.stop.is_set():
            try:
                self._tidy()
                if not self.once():
                    self.stop.wait(self.ctx.settings.poll_seconds)
            except UNAVAILABLE:
                log.warning("the database does not answer; trying again")
                self.stop.wait(max(self.ctx.settings.poll_seconds, 1.0))

    def _tidy(self) -> None:
        """Now and then, also during a job of days: forget some old responses, soon again where there are more, and close what
        nobody answers."""
        if not self._tidies or time.monotonic() < self._tidied + PURGE_SECONDS:
            return
        with self.ctx.database.write() as session:
            more = idempotency.purge(session, PURGED) == PURGED
            questions.abandon(session, self.ctx.settings)
        self._tidied = -inf if more else time.monotonic()

    def once(self, only: str | None = None) -> bool:
        """Claim and do one job (`only` this one); False: there was none."""
        with self.ctx.database.write() as session:
            job = jobs.claim(session, self.owner, self.ctx.settings.lease_seconds, only)
            if job is None:
                return False
            task, attempts, cancelling = Task.of(job, self.owner), job.attempts, job.state == "cancelling"
        if cancelling or attempts > MAX_ATTEMPTS:
            enrolments.sweep(self.ctx, task.id)
        if cancelling:
            self._close(task, "cancelled")
        elif attempts > MAX_ATTEMPTS:
            message = f"The job was begun {MAX_ATTEMPTS} times and its worker died each time."
            self._close(task, "failed", {"code": "worker_lost", "message": message, "details": {}})
        else:
            self._do(task)
        return True

    def leave(self) -> None:
        """Stop soon: the running job is interrupted and goes back to the queue."""
        self.stop.set()
        if self._task is not None:
            self._task.stop.set()

    def _do(self, task: Task) -> None:
        self._task = task
        if self.stop.is_set():
            task.stop.set()
        try:
            with self._heartbeat(task):
                if task.type == "enroll":
                    enrolments.run(self.ctx, task)
                else:
                    reinspections.run(self.ctx, task, Local(self.ctx.store, self.ctx.pool))
        except LeaseLost:
            log.warning("job %s: another worker has it now", task.id)
        except UNAVAILABLE:
            raise
        except Cancelled:
            self._close(task, "queued")
        except Exception as error:
            status, code, message, details = describe(error)
            if status == 500:
                log.exception("job %s failed", task.id)
            self._close(task, "failed", {"code": code, "message": message, "details": details})
        finally:
            self._task = None

    def _close(self, task: Task, state: str, error: dict[str, Any] | None = None) -> None:
        with contextlib.suppress(LeaseLost), self.ctx.database.write() as session:
            job = task.hold(session)
            if state == "queued" and job.state == "cancelling":
                state = "cancelled"
            failed = job.failed
            task.finish(session, state, None, error)
            job.failed = failed
            if state == "queued":
                job.finished_at, job.attempts = None, job.attempts - 1

    @contextlib.contextmanager
    def _heartbeat(self, task: Task) -> Iterator[None]:
        over = threading.Event()
        lease = self.ctx.settings.lease_seconds
        renewed = time.monotonic()

        def beat() -> None:
            nonlocal renewed
            while not over.wait(min(0.5, lease / 4)):
                seen = (task.stage, task.done, task.total)
                try:
                    with self.ctx.database.write() as session:
                        state = jobs.beat(session, task.id, self.owner, now() + timedelta(seconds=lease), *seen)
                except UNAVAILABLE:
                    if time.monotonic() - renewed > lease:
                        task.stop.set()
                    continue
                renewed = time.monotonic()
                if state != "running":
                    task.stop.set()
                try:
                    self._tidy()
                except Exception:
                    log.exception("old rows could not be tidied away")

        thread = threading.Thread(target=beat, name="kensor-heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def run_worker(settings: Settings, *, parent_pipe: bool = False) -> None:
    """Work until SIGTERM or SIGINT; with `parent_pipe`, also until standard input ends, as it does when the parent is killed."""
    ctx = Context.open(settings)
    worker = Worker(ctx)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.leave())
    if parent_pipe:
        threading.Thread(target=_until_orphaned, args=(worker,), daemon=True).start()
    try:
        worker.run()
    finally:
        ctx.close()


def _until_orphaned(worker: Worker) -> None:
    while os.read(0, 1):  # not sys.stdin: its lock would be held when the interpreter ends
        pass
    worker.leave()
    time.sleep(20)
    os._exit(1)  # the work does not listen; its lease will expire


def main() -> None:
    """The child of `kensor serve`; its settings come by the environment."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s worker %(levelname)s %(message)s")
    try:
        run_worker(Settings(), parent_pipe=True)
    except UNAVAILABLE:
        log.error("the database does not answer; the service starts this worker again")
        raise SystemExit(1) from None
