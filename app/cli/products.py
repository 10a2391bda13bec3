"""kensor product images | roi | exemplars."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.output import BY, Json, Refused, checked, every, record, show

if TYPE_CHECKING:
    from app.schemas.regions import RegionIn


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(no_args_is_help=True, help="Products.")
    group.command("images")(images)
    group.command("roi")(roi)
    group.command("exemplars")(exemplars)
    app.add_typer(group, name="product")


def images(
    product: str,
    kind: Annotated[str | None, typer.Option(help="Only normal or test pictures.")] = None,
    remove: Annotated[
        list[str] | None, typer.Option(metavar="ID|FILE", help="Leave out of the next enrolment; may be given again.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the pictures a product was given, or remove some; recipes already made keep what they learned."""
    from app.schemas.products import ImageView
    from app.services import images as service

    if kind not in (None, "normal", "test"):
        raise typer.BadParameter(f"--kind takes normal or test, not {kind!r}")
    with record() as ctx, ctx.database.write() if remove else ctx.database.read() as session:
        rows = every(lambda after: service.listed(session, product, kind=kind, after=after, limit=500))
        for wanted in remove or ():
            named = [row for row in rows if wanted in (row.id, row.filename)]
            if len(named) != 1:
                found = f"{len(named)} pictures named" if named else "no picture named"
                raise Refused(f"{product} has {found} {wanted}: give the id of one.", "unknown_image")
            service.remove(session, product, named[0].id)
            rows.remove(named[0])
        items = [ImageView.model_validate(row) for row in rows]
    lines = [f"{one.kind:<7} {one.width} × {one.height}  {one.filename}  [{one.id}]" for one in items]
    show({"product": product, "items": items}, as_json, lines or [f"{product}: no picture was given."])


def roi(
    product: str,
    mask: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="A picture: light is looked at.")] = None,
    polygons: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="JSON: width, height, include, ignore.")
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Look at the whole picture again.")] = False,
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the mask as PNG.")] = None,
    as_json: Json = False,
) -> None:
    """Show or set where to look. It holds from the next enrolment on; recipes already made keep theirs."""
    from app.services import regions

    if sum((mask is not None, polygons is not None, clear)) > 1:
        raise typer.BadParameter("give one of --mask, --polygons and --clear")
    given = mask or polygons
    with record() as ctx:
        if clear:
            with ctx.database.write() as session:
                regions.clear(session, product)
            show({"product": product, "region": None}, as_json, [f"{product}: all of a picture is looked at."])
            return
        if given is not None:
            regions.put(ctx, product, read(given, json_wanted=polygons is not None))
        with ctx.database.read() as session:
            found = regions.get(session, product)
        if out is not None:
            out.write_bytes(ctx.store.get(found["sha256"]))
    show({"product": product, "region": found}, as_json, [f"{product}: {words(found)}"])


def read(path: Path, json_wanted: bool) -> bytes | RegionIn:
    """A mask's bytes, or checked polygons. Raises Refused."""
    from app.schemas.regions import RegionIn

    if not json_wanted:
        return path.read_bytes()
    try:
        values = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise Refused(f"{path} is not JSON: {error}.", "invalid") from error
    if not isinstance(values, dict):
        raise Refused(f"{path} must hold an object with width, height, include and ignore.", "invalid")
    found: RegionIn = checked(RegionIn, **values)
    return found


def words(region: dict[str, Any]) -> str:
    """A region in a line."""
    return f"{region['share']:.1%} of {region['width']} × {region['height']} pixels looked at, mask {region['sha256'][:12]}"


def exemplars(
    product: str,
    add: Annotated[str | None, typer.Option(metavar="INSPECTION", help="Label a finding of this inspection.")] = None,
    finding: Annotated[str, typer.Option(help="Which one.")] = "f1",
    label: Annotated[str, typer.Option(help="What it is: crack, stain …")] = "",
    test: Annotated[bool, typer.Option("--test", help="Into the locked pool that only tests the naming.")] = False,
    remove: Annotated[str | None, typer.Option(metavar="ID", help="Forget a label.")] = None,
    as_json: Json = False,
) -> None:
    """Show, add or remove labelled findings; the next finding like one is named so."""
    from app.schemas.exemplars import ExemplarIn, ExemplarView
    from app.services import exemplars as service

    if add is not None and remove is not None:
        raise typer.BadParameter("give one of --add and --remove")
    if add is None and (label or test):
        raise typer.BadParameter("--label and --test go with --add INSPECTION")
    with record() as ctx:
        if add is not None:
            body = checked(ExemplarIn, inspection_id=add, finding=finding, label=label, pool="test" if test else "exemplar")
            service.add(ctx, product, body, BY)
        if remove is not None:
            with ctx.database.write() as session:
                service.remove(session, product, remove)
        with ctx.database.read() as session:
            rows = every(lambda after: service.listed(session, product, None, after, 500)[:2])
            _, _, summary = service.listed(session, product, None, None, 1)
    items = [ExemplarView.model_validate(row) for row in rows]
    lines = [f"{one.label:<20} {one.pool:<9} {one.finding:<4} of {one.inspection_id}  [{one.id}]" for one in items]
    tested = summary["test"]
    if tested:
        lines.append(f"of {tested['n']} in the test pool {tested['named']} are named, {tested['right']} rightly")
    show({"product": product, "items": items, **summary}, as_json, lines or [f"{product}: no finding is labelled."])
