"""Recorded pictures judged again by another recipe, and which verdicts flipped."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator
from typing import Any

from sqlalchemy.orm import Session

from app.context import Context
from app.db.queries import jobs as queries
from app.db.queries.inspections import Filter
from app.db.tables import Inspection, Job, iso
from app.errors import Conflict, Invalid
from app.runners import Failed, Runner
from app.schemas.jobs import JobIn
from app.services import inspections, jobs, products, recipes
from app.task import Task
from inspection.evidence import Cancelled

COLUMNS = (
    "inspection", "created_at", "serial", "lot", "station", "from_recipe", "from_verdict", "from_raw_score",
    "to_recipe", "to_verdict", "to_raw_score", "flipped", "error", "new_inspection",
)  # fmt: skip


def submit(session: Session, body: JobIn, by: str) -> Job:
    """Queue a re-inspection of what the filter finds now. Raises `Invalid` (`nothing_to_reinspect`)."""
    owner = products.get(session, body.product, active=True)
    recipes.get(session, body.product, body.recipe)
    job = Job(
        type="reinspect", product_id=owner.id, params=body.model_dump(mode="json", exclude={"type", "product"}), created_by=by
    )
    job.product = owner
    session.add(job)
    session.flush()
    what = Filter(product=body.product, since=body.since, until=body.until, lot=body.lot, verdict=body.verdict)
    job.total = queries.fill(session, job.id, what)
    if not job.total:
        raise Invalid("No inspection on record fits this choice.", code="nothing_to_reinspect")
    return job


def run(ctx: Context, task: Task, runner: Runner) -> dict[str, Any]:
    """Chunk by chunk, one commit each: a killed worker's successor goes on where the last commit ended."""
    with ctx.database.read() as session:
        recipe, _ = recipes.get(session, task.product, int(task.params["recipe"]))
    folder = recipes.folder(ctx, recipe.sha256)
    while True:
        with ctx.database.read() as session:
            chunk = queries.pending(session, task.id, ctx.settings.chunk)
            good, bad = queries.settled(session, task.id)
        task.progress("reinspect", good + bad, task.total)
        if not chunk:
            break
        if task.cancelled():
            raise Cancelled("The re-inspection was cancelled.")
        results = runner.run(recipe.sha256, folder, [old.image_sha256 for _, old in chunk])
        rows = [
            (item.position, result if isinstance(result, Failed) else _again(ctx, task, old, recipe.id, recipe.number, result))
            for (item, old), result in zip(chunk, results, strict=True)
        ]
        with ctx.database.write() as session:
            job = task.hold(session)
            session.add_all(row for _, row in rows if isinstance(row, Inspection))
            session.flush()
            for position, row in rows:
                made, error = (None, row.code) if isinstance(row, Failed) else (row.id, None)
                queries.settle(session, task.id, position, made, error)
            job.failed = bad + sum(isinstance(row, Failed) for _, row in rows)
            job.done = good + bad + len(rows)
    with ctx.database.write() as session:
        result = {"flips": flips(session, task.id)}
        task.finish(session, "done_with_errors" if bad else "done", result)
    return result


def _again(ctx: Context, task: Task, old: Inspection, recipe_id: str, number: int, judged: Any) -> Inspection:
    values = inspections.keep(ctx, ctx.store.get(old.image_sha256), judged.outcome)
    copied = (*inspections.PLACE, "product_id", "captured_at", "custom", "is_simulated")
    return Inspection(
        **values,
        **{name: getattr(old, name) for name in copied},
        recipe_id=recipe_id,
        recipe_number=number,
        timings_ms={name: round(ms, 3) for name, ms in judged.outcome.timings_ms.items()},
        job_id=task.id,
        source_id=old.id,
        created_by=task.created_by,
    )


def flips(session: Session, job_id: str) -> dict[str, dict[str, int]]:
    """From which verdict to which, how many; `error` where a picture got none."""
    counts = Counter((old.verdict, new.verdict if new else "error") for _, old, new in queries.pairs(session, job_id))
    found: dict[str, dict[str, int]] = {}
    for (before, after), n in sorted(counts.items()):
        found.setdefault(before, {})[after] = n
    return found


def rows(session: Session, job_id: str) -> Iterator[dict[str, Any]]:
    """One line per picture that has a result."""
    for item, old, new in queries.pairs(session, job_id):
        if new is None and item.error is None:
            continue
        yield {
            "inspection": old.id,
            "created_at": iso(old.created_at),
            "serial": old.serial,
            "lot": old.lot,
            "station": old.station,
            "from_recipe": old.recipe_number,
            "from_verdict": old.verdict,
            "from_raw_score": old.raw_score,
            "to_recipe": new.recipe_number if new else None,
            "to_verdict": new.verdict if new else None,
            "to_raw_score": new.raw_score if new else None,
            "flipped": new is not None and new.verdict != old.verdict,
            "error": item.error,
            "new_inspection": new.id if new else None,
        }


def report(session: Session, job_id: str) -> dict[str, Any]:
    """The counts, and the pictures whose verdict flipped or that got none. Raises `Conflict` for other jobs."""
    job = _reinspection(session, job_id)
    changed = [row for row in rows(session, job_id) if row["flipped"] or row["error"]]
    return {"job": jobs.view(job), "flips": flips(session, job_id), "rows": changed}


def report_csv(session: Session, job_id: str) -> str:
    """All pictures, one line each; cells that a spreadsheet would run as a formula are made harmless."""
    _reinspection(session, job_id)
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for row in rows(session, job_id):
        writer.writerow([harmless(row[name]) for name in COLUMNS])
    return out.getvalue()


def harmless(value: Any) -> Any:
    """A text that starts like a formula gets an apostrophe before it; numbers stay numbers."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r", "\n") else value


def _reinspection(session: Session, job_id: str) -> Job:
    job = jobs.get(session, job_id)
    if job.type != "reinspect":
        raise Conflict("Only a re-inspection has a report.", code="no_report")
    return job
