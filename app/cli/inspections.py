"""kensor inspect | ask | answers pairs | drift."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.output import BY, Json, Refused, bar, checked, record, show

Tag = Annotated[str | None, typer.Option(help="Kept with the inspection.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(inspect)
    app.command()(ask)
    app.command()(drift)
    answers = typer.Typer(no_args_is_help=True, help="What people said of answers.")
    answers.command("pairs")(pairs)
    app.add_typer(answers, name="answers")


def inspect(
    product: str,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Picture files, or folders of them.")],
    recipe: Annotated[int | None, typer.Option(min=1, help="Judge by this recipe; default: the promoted one.")] = None,
    serial: Tag = None,
    lot: Tag = None,
    station: Tag = None,
    as_json: Json = False,
) -> None:
    """Judge pictures and put each on the record. One bad file never fails the rest; exit 1 if any failed."""
    from app.errors import ServiceError, describe
    from app.schemas.fields import InspectFields
    from app.security import Principal
    from app.services import inspections
    from inspection.evidence import InspectionError

    fields = checked(InspectFields, recipe=recipe, serial=serial, lot=lot, station=station)
    caller = Principal(BY, BY, "admin")
    items: list[dict[str, Any]] = []
    ended: dict[str, Any] = {}
    try:
        with record() as ctx, bar() as progress:
            inspections.plan(ctx, product, fields)  # an unknown product or recipe is said once, not for each file
            for path in progress.track(files(images), description="inspect"):
                try:
                    items.append(
                        {"file": str(path), "inspection": inspections.inspect(ctx, product, _read(path), fields, caller)}
                    )
                except (InspectionError, ServiceError, Refused) as error:
                    items.append({"file": str(path), "error": {"code": error.code, "message": error.message}})
    except Exception as error:
        if not items:
            raise
        status, code, message, details = describe(error)
        if status == 500:
            traceback.print_exception(error)
        ended = {"error": {"code": code, "message": message, "details": details}}
        typer.echo(f"kensor: {message}", err=True)
    finally:  # what is on the record is told, also where the run ends before its time
        failed = sum("error" in item for item in items)
        if items:
            found = {"items": items, "done": len(items) - failed, "failed": failed, **ended}
            show(found, as_json, [line for item in items for line in _lines(item)])
    if failed or ended:
        raise typer.Exit(1)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Refused(f"The file cannot be read: {error.strerror}.", "unreadable") from error


def files(paths: list[Path]) -> list[Path]:
    """The files named, and those in the folders named (picture suffixes only), in order. Raises Refused where there is none."""
    from inspection.evaluation import pictures

    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += pictures(path)
        elif path.is_file():
            found.append(path)
        else:
            raise Refused(f"There is no file {path}.", "no_such_file", path=str(path))
    if not found:
        raise Refused(f"There is no picture in {', '.join(map(str, paths))} (PNG, JPEG, BMP, TIFF or WebP).", "no_pictures")
    return found


def _lines(item: dict[str, Any]) -> Iterator[str]:
    if "error" in item:
        yield f"error   {item['file']}: {item['error']['message']}"
        return
    body = item["inspection"]
    limit = body["thresholds"]["reject"]["raw"]
    found = "; ".join(f"{f['place']} ({f['area_pct']:.2g} %)" for f in body["findings"][:3]) or "no finding"
    against = "uncalibrated" if limit is None else f"limit {limit:.3g}"
    yield f"{body['verdict']:<7} {item['file']}: raw {body['raw_score']:.3g}, {against}; {found}  [{body['id']}]"


def ask(
    question: str,
    inspection: Annotated[str | None, typer.Option(metavar="ID", help="A recorded inspection.")] = None,
    product: Annotated[str | None, typer.Option(help="With --image: inspect this picture first.")] = None,
    image: Annotated[Path | None, typer.Option(exists=True, dir_okay=False)] = None,
    engine: Annotated[str, typer.Option(help="What answers: builtin, or transformers, openai once set up.")] = "builtin",
    as_json: Json = False,
) -> None:
    """Ask about a recorded inspection, or about a picture that is inspected first. The answer is on the record."""
    from app import engines
    from app.schemas.fields import InspectFields
    from app.schemas.questions import QuestionIn
    from app.security import Principal
    from app.services import inspections, questions

    caller = Principal(BY, BY, "admin")
    if (inspection is None) == (product is None or image is None):
        raise typer.BadParameter("give --inspection ID, or --product P with --image FILE")
    body = checked(QuestionIn, question=question, engine=engine)
    with record() as ctx, bar() as progress:
        task = progress.add_task("ask", total=None)

        def hear(kind: str, value: Any) -> None:
            if kind != "waiting":
                progress.update(task, description=f"load {value}" if kind == "loading" else "answer", refresh=True)

        engines.check(ctx.settings, engine)  # before a picture is inspected for it
        if inspection is None:
            assert product is not None and image is not None
            inspection = inspections.inspect(ctx, product, image.read_bytes(), InspectFields(), caller)["id"]
        answer = questions.ask(ctx, inspection, body, caller, hear)
    lines = [answer["answer"], f"  ({answer['grounding']}, {answer['kind']}, about inspection {inspection})"]
    if answer["own_words"] != answer["answer"]:
        lines.append(f"  the model's own words: {answer['own_words']}")
    show(answer | {"inspection_id": inspection}, as_json, lines)


def pairs(
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="Write here instead of stdout.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of a line for each pair.")] = False,
) -> None:
    """Votes and edits on answers as preference pairs to train on: one JSON object a line, newest first."""
    from app.schemas.questions import PairView
    from app.services import preferences

    found: list[dict[str, Any]] = []
    with record() as ctx, ctx.database.read() as session:
        after: str | None = None
        while True:
            page, after = preferences.listed(session, after, 500)
            found += [PairView.model_validate(pair).model_dump(mode="json") for pair in page]
            if after is None:
                break
    lines = [json.dumps(pair, ensure_ascii=False) for pair in found]
    if out is None:
        show(found, as_json, lines)
        return
    out.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    show({"file": str(out), "pairs": len(found)}, as_json, [f"{out}: {len(found)} pairs"])


def drift(
    product: str,
    recipe: Annotated[int | None, typer.Option(min=1, help="Default: the promoted one.")] = None,
    station: Annotated[str | None, typer.Option(help="Parts of this station only.")] = None,
    window: Annotated[int, typer.Option(min=30, max=10_000, help="Newest parts looked at.")] = 2000,
    as_json: Json = False,
) -> None:
    """Do the parts still score as the normal pictures did? Realised rates beside the promised ones, and what to do."""
    from app.services import drift as service

    with record() as ctx, ctx.database.read() as session:
        found = service.report(session, product, recipe, station, window)
    show(found, as_json, _drift_lines(found))


def _drift_lines(found: dict[str, Any]) -> Iterator[str]:
    since, shift = found["since"], found["shift"]
    when = f" since {since['created_at']}{' or earlier' if since['or_earlier'] else ''}" if since else ""
    where = f", station {found['station']}" if found["station"] else ""
    yield f"{found['product']}, recipe {found['recipe']}{where}: {found['state']}{when}. {found['advice']}"
    yield f"  {found['parts']} parts in the window, {found['compared']} compared"
    if shift is not None:
        yield f"  shift {shift:+.2f} standard deviations of the normals' scores; under {found['least_shift']:.2f} none is told"
    for name in ("review", "reject"):
        if found[name] is not None:
            rate = found[name]
            seen = f"{rate['low']:.2%} to {rate['high']:.2%} ({rate['confirmed']} confirmed good, {rate['open']} not looked at)"
            promised = f"{rate['promised']:.2%} ({rate['promised_low']:.2%} to {rate['promised_high']:.2%})"
            yield f"  sound parts over the {name} limit: promised {promised}; seen {seen}"
    if found["state"] == "drifting" and found["candidates"]:
        yield f"  confirmed good, newest first: {', '.join(found['candidates'][:5])}"
