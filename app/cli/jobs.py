"""kensor reinspect | jobs list, show, watch, cancel; and how the command line works on a job itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.output import BY, Json, Refused, bar, checked, columns, record, show

if TYPE_CHECKING:
    from app.context import Context

Id = Annotated[str, typer.Argument(metavar="ID")]


def register(app: typer.Typer) -> None:
    """Add `reinspect` and the group."""
    app.command()(reinspect)
    group = typer.Typer(no_args_is_help=True, help="Long work: enrolments and re-inspections.")
    group.command("list")(listed)
    group.command("show")(shown)
    group.command("watch")(watch)
    group.command("cancel")(cancel)
    app.add_typer(group, name="jobs")


def reinspect(
    product: str,
    recipe: Annotated[int, typer.Option(min=1, help="Judge by this one.")],
    since: Annotated[datetime | None, typer.Option(help="Recorded from this time on (UTC).")] = None,
    until: Annotated[datetime | None, typer.Option(help="Recorded before this time (UTC).")] = None,
    lot: Annotated[str | None, typer.Option(help="Of this lot.")] = None,
    verdict: Annotated[str | None, typer.Option(help="That got this verdict: pass, review or reject.")] = None,
    last: Annotated[int | None, typer.Option(min=1, max=10_000, help="Only so many of the newest.")] = None,
    runner: Annotated[str, typer.Option(help="Where it runs: local.")] = "local",
    as_json: Json = False,
) -> None:
    """Judge recorded pictures again and report the verdicts that flipped. The old verdicts stay as they are."""
    from app.schemas.jobs import JobIn
    from app.services import reinspections

    if runner != "local":
        raise Refused(f"There is no runner `{runner}`; there is local.", "unknown_runner")
    values = {"product": product, "recipe": recipe, "since": since, "until": until, "lot": lot, "verdict": verdict, "last": last}
    body = checked(JobIn, type="reinspect", **values)
    with record() as ctx:
        with ctx.database.write() as session:
            job_id = reinspections.submit(session, body, BY).id
        work(ctx, job_id)
        with ctx.database.read() as session:
            report = reinspections.report(session, job_id)
    lines = [f"job {job_id}: {report['job']['done']} judged again, {report['job']['failed']} failed"]
    lines += [f"{old} → {new}: {n}" for old, row in report["flips"].items() for new, n in row.items()]
    lines += [f"  {r['inspection']}  {r['from_verdict']} → {r['to_verdict'] or r['error']}" for r in report["rows"][:50]]
    show(report, as_json, lines)


def work(ctx: Context, job_id: str) -> dict[str, Any]:
    """Do the job in this process, with a bar; Ctrl-C cancels it. A running worker may be quicker: then wait for it, and go on
    should it leave.

    Raises Refused with the job's own error where it does not end well, and what kept this process from working on it.
    """
    from app.services import jobs
    from app.worker import Worker

    worker, over, trouble = Worker(ctx, tidies=False), threading.Event(), list[Exception]()

    def labour() -> None:
        try:
            while not over.is_set():
                worker.once(job_id)
                over.wait(ctx.settings.poll_seconds)
        except Exception as error:
            trouble.append(error)

    thread = threading.Thread(target=labour, daemon=True)
    thread.start()
    try:
        job = _follow(ctx, job_id, trouble)
    except KeyboardInterrupt:
        with ctx.database.write() as session:
            jobs.cancel(session, job_id)
        raise
    finally:
        over.set()
        thread.join(30)
    if job["state"] not in ("done", "done_with_errors"):
        error = job["error"] or {"code": job["state"], "message": f"The job was {job['state']}.", "details": {}}
        raise Refused(error["message"], error["code"], job=job_id, **error["details"])
    return job


def _follow(ctx: Context, job_id: str, trouble: Sequence[Exception] = ()) -> dict[str, Any]:
    from app.services import jobs

    with bar() as progress:
        task, stage = progress.add_task("waiting", total=None), "waiting"
        while True:
            with ctx.database.read() as session:
                job = jobs.view(jobs.get(session, job_id))
            label = job["stage"] or job["state"]
            if label != stage:  # the time left is each stage's own
                progress.reset(task)
                stage = label
            progress.update(task, description=label, completed=job["done"], total=job["total"] or None)
            if job["state"] in jobs.OVER:
                return job
            if trouble:
                raise trouble[0]
            time.sleep(0.1)


def listed(
    state: Annotated[str | None, typer.Option(help="Only jobs in this state.")] = None,
    product: Annotated[str | None, typer.Option(help="Only jobs of this product.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="The newest so many.")] = 50,
    as_json: Json = False,
) -> None:
    """Jobs, newest first."""
    from app.services import jobs

    if state is not None and state not in jobs.STATES:
        raise typer.BadParameter(f"--state takes {', '.join(jobs.STATES)}, not {state!r}")
    with record() as ctx, ctx.database.read() as session:
        rows = [jobs.view(job) for job in jobs.listed(session, state=state, product=product, after=None, limit=limit)[0]]
    heading = ["id", "type", "product", "state", "done", "total", "failed", "created"]
    cells = [[r[name] for name in heading[:-1]] + [r["created_at"][:19]] for r in rows]
    show(rows, as_json, list(columns([heading, *cells])))


def shown(job_id: Id, as_json: Json = False) -> None:
    """One job: how far it is, its result or its error."""
    from app.services import jobs

    with record() as ctx, ctx.database.read() as session:
        job = jobs.view(jobs.get(session, job_id))
    show(job, as_json, [f"{name:<12}{value}" for name, value in job.items() if value not in (None, {}) and name != "links"])


def watch(job_id: Id, as_json: Json = False) -> None:
    """Follow a job to its end; exit 1 unless it is done."""
    with record() as ctx:
        job = _follow(ctx, job_id)
    show(job, as_json, [f"{job['type']} {job_id}: {job['state']}, {job['done']} of {job['total']}"])
    if job["state"] != "done":
        raise typer.Exit(1)


def cancel(job_id: Id, as_json: Json = False) -> None:
    """Stop a job: at once where nobody has begun, otherwise as soon as its worker hears of it."""
    from app.services import jobs

    with record() as ctx, ctx.database.write() as session:
        job = jobs.view(jobs.cancel(session, job_id))
    show(job, as_json, [f"{job_id}: {job['state']}"])
