"""Jobs: submitted, shown, cancelled, resumed. What they do stands in enrolments and reinspections."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from app.db.queries import jobs as queries
from app.db.tables import Job, iso, now
from app.errors import Conflict, NotFound
from app.services import products

OVER = ("cancelled", "failed", "done", "done_with_errors")
STATES = ("queued", "running", "cancelling", *OVER)


def view(job: Job) -> dict[str, Any]:
    """A job as api.md shows it."""
    here = f"/v1/jobs/{job.id}"
    names = ("id", "type", "state", "stage", "done", "total", "failed", "attempts", "params", "result", "error")
    times = ("created_at", "started_at", "finished_at")
    return {
        **{name: getattr(job, name) for name in names},
        "product": job.product.name,
        "eta_s": _eta(job),
        **{name: iso(getattr(job, name)) for name in times},
        "created_by": job.created_by,
        "links": {"self": here, "events": f"{here}/events", **({"report": f"{here}/report"} if job.type == "reinspect" else {})},
    }


def _eta(job: Job) -> float | None:
    begun = job.stage_at or job.started_at
    if job.state != "running" or begun is None or not 0 < job.done < job.total:
        return None
    spent = (now() - begun).total_seconds()
    return round(spent / job.done * (job.total - job.done), 1)


def get(session: Session, job_id: str, *, lock: bool = False) -> Job:
    """One job. Raises `NotFound`."""
    job = queries.get(session, job_id, lock=lock)
    if job is None:
        raise NotFound("There is no job of this id.", code="unknown_job")
    return job


def listed(
    session: Session, *, state: str | None, product: str | None, after: str | None, limit: int
) -> tuple[list[Job], str | None]:
    """Jobs, newest first."""
    product_id = products.get(session, product).id if product else None
    return queries.listed(session, state=state, product_id=product_id, after=after, limit=limit)


def cancel(session: Session, job_id: str) -> Job:
    """Stop a job: at once where nobody has begun, otherwise when its worker hears of it. Raises `Conflict` when it is over."""
    job = get(session, job_id, lock=True)
    if job.state in OVER:
        raise Conflict(f"The job is over: {job.state}.", code="job_over", state=job.state)
    if job.state == "queued":
        job.state, job.finished_at = "cancelled", now()
    else:
        job.state = "cancelling"
    return job


def resume(session: Session, job_id: str) -> Job:
    """Queue a job again that ended without its whole result; what is done stays done. Raises `Conflict` otherwise."""
    job = get(session, job_id, lock=True)
    if job.state not in ("cancelled", "failed", "done_with_errors"):
        raise Conflict(f"A job in state {job.state} cannot be resumed.", code="not_resumable", state=job.state)
    queries.retry(session, job.id)
    job.state, job.error, job.finished_at, job.attempts, job.lease_owner = "queued", None, None, 0, None
    job.failed = 0
    return job
