"""Recorded pictures judged again by another recipe, and which verdicts flipped."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator
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

COLUMNS = (
    "inspection", "created_at", "serial", "lot", "station", "from_recipe", "from_verdict", "from_raw_score",
    "to_recipe", "to_verdict", "to_raw_score", "flipped", "error", "new_inspection", "reviewed",
)  # fmt: skip
TRUTH = {"pass": "good", "reject": "defective", None: "unreviewed"}
"""What the newest review says of the part."""
Flips = dict[str, dict[str, int]]


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
    job.total = queries.fill(session, job.id, what, body.last)
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
        results = runner.run(recipe.sha256, folder, [old.image_sha256 for _, old in chunk], task.cancelled)
        rows = [
            (item.position, result if isinstance(result, Failed) else _again(ctx, task, old, recipe.id, recipe.number, result))
            for (item, old), result in zip(chunk[: len(results)], results, strict=True)  # fewer than asked for, once cancelled
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
            job.attempts = 1  # it gets on: only what dies without a result counts against it
    with ctx.database.read() as session:  # many rows: not while others wait to write
        result = counts(outcomes(session, task.id))
    with ctx.database.write() as session:
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


def row(
    first: Inspection, old: Inspection, new: Inspection | None, decision: str | None, error: str | None = None
) -> dict[str, Any]:
    """One inspected picture, as it was judged and as it is judged again."""
    return {
        "inspection": first.id,
        "created_at": iso(first.created_at),
        "serial": first.serial,
        "lot": first.lot,
        "station": first.station,
        "from_recipe": old.recipe_number,
        "from_verdict": old.verdict,
        "from_raw_score": old.raw_score,
        "to_recipe": new.recipe_number if new else None,
        "to_verdict": new.verdict if new else None,
        "to_raw_score": new.raw_score if new else None,
        "flipped": new is not None and new.verdict != old.verdict,
        "error": error,
        "new_inspection": new.id if new else None,
        "reviewed": TRUTH[decision],
    }


def counts(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """From which verdict to which, how many (`error` where a picture got none), in all and by what people said of the parts;
    and what matters of it: defective parts that would pass now, sound ones that would be rejected, false alarms cleared."""
    found: Counter[tuple[str, str, str]] = Counter()
    for one in rows:
        found[one["reviewed"], one["from_verdict"], one["to_verdict"] or "error"] += 1
    split: dict[str, Flips] = {truth: {} for truth in TRUTH.values()}
    every: Flips = {}
    for (truth, before, after), n in sorted(found.items()):
        for flips in (split[truth], every):
            flips.setdefault(before, {}).setdefault(after, 0)
            flips[before][after] += n

    def changed(truth: str, to: str) -> int:
        return sum(n for (said, before, after), n in found.items() if said == truth and before != to == after)

    return {
        "flips": every,
        "reviewed": split,
        "new_escapes": changed("defective", "pass"),
        "new_overkill": changed("good", "reject"),
        "cleared": changed("good", "pass"),
    }


def outcomes(session: Session, job_id: str) -> Iterator[dict[str, Any]]:
    """One line per picture that has a result."""
    for item, old, new, decision in queries.pairs(session, job_id):
        if new is not None or item.error is not None:
            yield row(old, old, new, decision, item.error)


def report(session: Session, job_id: str) -> dict[str, Any]:
    """The counts, and the pictures whose verdict flipped or that got none. Raises `Conflict` for other jobs."""
    job = _reinspection(session, job_id)
    changed: list[dict[str, Any]] = []

    def noted() -> Iterator[dict[str, Any]]:
        for one in outcomes(session, job_id):
            if one["flipped"] or one["error"]:
                changed.append(one)
            yield one

    return {"job": jobs.view(job), **counts(noted()), "rows": changed}


def report_csv(session: Session, job_id: str) -> str:
    """All pictures, one line each; cells that a spreadsheet would run as a formula are made harmless."""
    _reinspection(session, job_id)
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for one in outcomes(session, job_id):
        writer.writerow([harmless(one[name]) for name in COLUMNS])
    return out.getvalue()


def harmless(value: Any) -> Any:
    """A text that starts like a formula gets an apostrophe before it; numbers stay numbers."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r", "\n") else value


def _reinspection(session: Session, job_id: str) -> Job:
    job = jobs.get(session, job_id)
    if job.type != "reinspect":
        raise Conflict("Only a re-inspection has a report.", code="no_report")
    return job
