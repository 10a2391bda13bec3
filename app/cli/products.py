"""kensor product roi | exemplars."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.output import BY, Json, Refused, checked, record, show

if TYPE_CHECKING:
    from app.schemas.regions import RegionIn


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(no_args_is_help=True, help="Products.")
    group.command("roi")(roi)
    group.command("exemplars")(exemplars)
    app.add_typer(group, name="product")


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
    with record() as ctx:
        if add is not None:
            body = checked(ExemplarIn, inspection_id=add, finding=finding, label=label, pool="test" if test else "exemplar")
            service.add(ctx, product, body, BY)
        if remove is not None:
            with ctx.database.write() as session:
                service.remove(session, product, remove)
        with ctx.database.read() as session:
            rows, _, summary = service.listed(session, product, None, None, 500)
    items = [ExemplarView.model_validate(row) for row in rows]
    lines = [f"{one.label:<20} {one.pool:<9} {one.finding:<4} of {one.inspection_id}  [{one.id}]" for one in items]
    tested = summary["test"]
    if tested:
        lines.append(f"of {tested['n']} in the test pool {tested['named']} are named, {tested['right']} rightly")
    show({"product": product, "items": items, **summary}, as_json, lines or [f"{product}: no finding is labelled."])
