"""kensor serve | worker | db upgrade | doctor."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from app.cli.output import Json, Refused, show


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(serve)
    app.command()(worker)
    group = typer.Typer(no_args_is_help=True, help="The database.")
    group.command("upgrade")(upgrade)
    group.callback()(lambda: None)
    app.add_typer(group, name="db")
    app.command()(doctor)


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; default: KENSOR_HOST, or this machine alone.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Default: KENSOR_PORT, or 8000.")] = None,
    no_worker: Annotated[bool, typer.Option("--no-worker", help="Start no worker: `kensor worker` runs elsewhere.")] = False,
) -> None:
    """Serve HTTP until told to stop, with a worker for the jobs."""
    from app.main import serve as run
    from app.settings import Settings

    chosen = {"host": host, "port": port, "no_worker": no_worker or None}
    run(Settings(**{name: value for name, value in chosen.items() if value is not None}))  # type: ignore[arg-type]


def worker() -> None:
    """Work on jobs (enrolment, re-inspection) until told to stop."""
    from app.settings import Settings
    from app.worker import run_worker

    run_worker(Settings())


def upgrade(as_json: Json = False) -> None:
    """Bring the database to the schema this version expects; does nothing where it stands there."""
    from app.db import migrate
    from app.db.engine import BadAddress, Database
    from app.settings import Settings

    try:
        database = Database(Settings().url)
    except BadAddress as error:
        raise Refused(f"KENSOR_DATABASE_URL is not the address of a database: {error}.", "bad_setting") from error
    try:
        before = migrate.revision(database)
        if before is not None and before > migrate.HEAD:
            raise Refused(f"The database stands at {before}. {migrate.way_out(before)}", "database_newer")
        migrate.upgrade(database)
    finally:
        database.close()
    done = f"The database was at {before or 'nothing'} and stands at {migrate.HEAD}."
    show({"before": before, "now": migrate.HEAD}, as_json, [done])


def doctor(as_json: Json = False) -> None:
    """Look at disk, memory, weights, database and port: what is wrong, and the way out."""
    from app.doctor import examine
    from app.settings import Settings

    checks = examine(Settings())
    signs = {"ok": "ok     ", "warning": "warning", "wrong": "WRONG  "}
    lines = [f"{signs[c.state]}  {c.name}: {c.found}" + (f"\n         → {c.way_out}" if c.way_out else "") for c in checks]
    show([asdict(check) for check in checks], as_json, lines)
    wrong = [check.name for check in checks if check.state == "wrong"]
    if wrong:
        if as_json:
            raise typer.Exit(1)
        raise Refused(f"{len(wrong)} of {len(checks)} checks failed: {', '.join(wrong)}.")
