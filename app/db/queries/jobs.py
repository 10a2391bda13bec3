"""Jobs, their leases and their pictures."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from sqlalchemy import CursorResult, and_, case, func, insert, literal, or_, select, update
from sqlalchemy.orm import Session, aliased, lazyload

from app.db.queries import page
from app.db.queries.inspections import Filter, newest_reviews, select_
from app.db.tables import Inspection, Job, JobItem, now


def get(session: Session, job_id: str, *, lock: bool = False) -> Job | None:
    """One job; `lock` holds its row."""
    statement = select(Job).where(Job.id == job_id)
    return session.scalar(statement.with_for_update(of=Job) if lock else statement)


def listed(
    session: Session, *, state: str | None, product_id: str | None, after: str | None, limit: int
) -> tuple[list[Job], str | None]:
    """Jobs, newest first."""
    statement = select(Job)
    if state is not None:
        statement = statement.where(Job.state == state)
    if product_id is not None:
        statement = statement.where(Job.product_id == product_id)
    return page(session, statement, Job.id, after, limit)


def claim(session: Session, owner: str, lease: float, only: str | None = None) -> Job | None:
    """The oldest job that waits, or whose worker fell silent; it is the owner's from now on."""
    present = now()
    lost = and_(Job.state.in_(("running", "cancelling")), Job.lease_until < present)
    statement = select(Job).where(or_(Job.state == "queued", lost))
    if only is not None:
        statement = statement.where(Job.id == only)
    job = session.scalar(statement.order_by(Job.id).limit(1).with_for_update(of=Job, skip_locked=True))
    if job is None:
        return None
    if job.state == "queued":
        job.state = "running"
    job.attempts += 1
    job.lease_owner, job.lease_until = owner, present + timedelta(seconds=lease)
    job.started_at = job.started_at or present
    return job


def owned(session: Session, job_id: str, owner: str) -> Job | None:
    """The job, held to the end of the transaction, as long as it is the owner's; `None`: the lease was lost."""
    statement = select(Job).where(Job.id == job_id, Job.lease_owner == owner, Job.state.in_(("running", "cancelling")))
    return session.scalar(statement.with_for_update(of=Job))


def beat(session: Session, job_id: str, owner: str, until: datetime, stage: str, done: int, total: int) -> str | None:
    """Renew the lease and say how far the work is; returns the job's state, `None`: the lease was lost."""
    mine = (Job.id == job_id, Job.lease_owner == owner, Job.state.in_(("running", "cancelling")))
    begun = case((Job.stage != stage, now()), else_=Job.stage_at)
    values = {"lease_until": until, "stage": stage, "stage_at": begun, "done": done, "total": total}
    result = session.execute(update(Job).where(*mine).values(**values))
    assert isinstance(result, CursorResult)
    return session.scalar(select(Job.state).where(Job.id == job_id)) if result.rowcount else None


def fill(session: Session, job_id: str, what: Filter, last: int | None = None) -> int:
    """Give a job the inspections of a filter (of these the newest `last`), oldest first; returns how many."""
    chosen = select_(what).order_by(Inspection.id.desc()).limit(last).subquery()
    rows = select(literal(job_id), func.row_number().over(order_by=chosen.c.id), chosen.c.id)
    session.execute(insert(JobItem).from_select(["job_id", "position", "inspection_id"], rows))
    return session.scalar(select(func.count()).select_from(JobItem).where(JobItem.job_id == job_id)) or 0


def pending(session: Session, job_id: str, limit: int) -> list[tuple[JobItem, Inspection]]:
    """The next pictures without a result."""
    statement = (
        select(JobItem, Inspection)
        .join(Inspection, Inspection.id == JobItem.inspection_id)
        .where(JobItem.job_id == job_id, JobItem.new_inspection_id.is_(None), JobItem.error.is_(None))
        .order_by(JobItem.position)
        .limit(limit)
    )
    return [(item, inspection) for item, inspection in session.execute(statement).unique()]


def settle(session: Session, job_id: str, position: int, new_inspection_id: str | None, error: str | None) -> None:
    """A picture's result."""
    here = (JobItem.job_id == job_id, JobItem.position == position)
    session.execute(update(JobItem).where(*here).values(new_inspection_id=new_inspection_id, error=error))


def retry(session: Session, job_id: str) -> None:
    """Forget the errors of a job's pictures."""
    session.execute(update(JobItem).where(JobItem.job_id == job_id, JobItem.error.is_not(None)).values(error=None))


def settled(session: Session, job_id: str) -> tuple[int, int]:
    """Pictures with a result, and pictures with an error."""
    statement = select(func.count(JobItem.new_inspection_id), func.count(JobItem.error)).where(JobItem.job_id == job_id)
    good, bad = session.execute(statement).one()
    return good, bad


def pairs(session: Session, job_id: str) -> Iterator[tuple[JobItem, Inspection, Inspection | None, str | None]]:
    """Every picture of a re-inspection: before, after where there is one, and what a person decided last."""
    after, review = aliased(Inspection), newest_reviews()
    statement = (
        select(JobItem, Inspection, after, review.c.decision)
        .join(Inspection, Inspection.id == JobItem.inspection_id)
        .outerjoin(after, after.id == JobItem.new_inspection_id)
        .outerjoin(review, review.c.inspection_id == Inspection.id)
        .where(JobItem.job_id == job_id)
        .order_by(JobItem.position)
        .options(lazyload("*"))  # joining `after` to its product would drop the pictures that have none
        .execution_options(yield_per=500)
    )
    for row in session.execute(statement):
        yield row[0], row[1], row[2], row[3]
