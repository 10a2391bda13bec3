"""What every command shares: the record opened, one JSON document or plain lines, bars on stderr, one line for a refusal."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from app.context import Context

T = TypeVar("T")
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
BY = "cli"
"""Who did it, in the record."""


class Refused(Exception):
    """A command that cannot do what was asked; the message says why and the way out."""

    def __init__(self, message: str, code: str = "refused", **details: Any) -> None:
        super().__init__(message)
        self.message, self.code, self.details = message, code, details


@contextmanager
def record() -> Iterator[Context]:
    """The service's parts (database, store, pool), opened with the settings of the environment."""
    from app.context import Context
    from app.settings import Settings

    ctx = Context.open(Settings())
    try:
        yield ctx
    finally:
        ctx.close()


def checked(schema: Any, **values: Any) -> Any:
    """The body as HTTP would take it. Raises Refused with the first field that is wrong."""
    from pydantic import ValidationError

    try:
        return schema(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise Refused(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", "invalid") from error


def every(page: Callable[[str | None], tuple[list[T], str | None]]) -> list[T]:
    """All rows of a list that is given in pages, each from after what the one before names."""
    rows, following = page(None)
    while following is not None:
        more, following = page(following)
        rows += more
    return rows


def show(document: Any, as_json: bool, lines: Iterator[str] | list[str] | None = None) -> None:
    """Print the document as JSON, or else the lines for a person."""
    if as_json:
        typer.echo(json.dumps(plain(document), indent=2, ensure_ascii=False))
        return
    for line in lines if lines is not None else [json.dumps(plain(document), indent=2, ensure_ascii=False)]:
        typer.echo(line)


def plain(value: Any) -> Any:
    """A value as JSON has it: schemas dumped, tuples as lists."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value.isoformat() if isinstance(value, datetime) else value


def columns(rows: list[list[Any]]) -> Iterator[str]:
    """Rows as aligned text; the first is the heading."""
    cells = [["–" if value is None else str(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        yield "  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip()


def stderr() -> Console:
    """Where bars and notes go, so that stdout stays the result."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def bar() -> Iterator[Progress]:
    """Progress bars on stderr; nothing where stderr is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = stderr()
    text = TextColumn("{task.description:<24}")
    parts = (text, BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*parts, console=console, disable=not console.is_terminal) as progress:
        yield progress


@contextmanager
def stages() -> Iterator[Callable[[str, int, int], None]]:
    """A `tell(stage, done, of)` that draws one bar for each stage."""
    tasks: dict[str, Any] = {}
    with bar() as progress:

        def tell(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done, total=total)

        yield tell


@contextmanager
def download_bar() -> Iterator[Any]:
    """A catalog `progress(name, bytes, bytes in all)` that draws one bar for each name."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console, tasks = stderr(), {}
    text = TextColumn("{task.description:<24}")
    progress = Progress(text, BarColumn(30), DownloadColumn(), TransferSpeedColumn(), console=console)

    def update(name: str, done: int, total: int) -> None:
        if name not in tasks:
            progress.start()  # not before: nothing is drawn where nothing is fetched
            tasks[name] = progress.add_task(name, total=total)
        progress.update(tasks[name], completed=done, total=total)

    try:
        yield update
    finally:
        if tasks:
            progress.stop()


def refuse(error: Exception) -> int:
    """Say in one line (and, with --json, in one document) why it was refused; a fault of the program shows its trace."""
    from pydantic import ValidationError

    from app.errors import describe

    if isinstance(error, ValidationError) and error.title == "Settings":
        problems = [f"KENSOR_{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors(include_input=False)]
        error = Refused("; ".join(problems), "bad_setting")
    if isinstance(error, (Refused, OSError)):
        code = getattr(error, "code", "system_error")
        message, details = getattr(error, "message", str(error)), getattr(error, "details", {})
    else:
        status, code, message, details = describe(error)
        if status == 500:
            traceback.print_exception(error)
            message = f"{type(error).__name__}: {error}"
    if "--json" in sys.argv:
        typer.echo(json.dumps({"code": code, "message": message, "details": plain(details)}, indent=2, default=str))
    typer.echo(f"kensor: {message}", err=True)
    return 1
