"""kensor weights pull | list | verify."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer

from app.cli.output import Json, columns, download_bar, show

Progress = Callable[[str, int, int], None]
Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="As `weights list` names them; default: all.")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(no_args_is_help=True, help="The shelf of weights, with licences and origins.")
    group.command("pull")(pull)
    group.command("list")(listed)
    group.command("verify")(verify)
    app.add_typer(group, name="weights")


def pull(names: Names = None, as_json: Json = False) -> None:
    """Fetch weights with your own pip settings, check their digests, convert them once. Does nothing where they are there."""
    from models import catalog

    chosen = names or list(catalog.entries())
    with download_bar() as progress:
        folders = fetch(chosen, progress)
    show(folders, as_json, [f"{name}: {folder}" for name, folder in folders.items()])


def fetch(names: Iterable[str], progress: Progress) -> dict[str, str]:
    """Put the weights on the shelf, and the graphs the line's runtime reads; name → folder."""
    from inspection.choice import SINGLE
    from models import catalog
    from models.backbones import graph, spec

    folders = {name: str(catalog.pull(name, progress)) for name in names}
    for name in folders:
        if catalog.entries()[name].role == "backbone":
            for size in sorted({spec(name).image_size, *(way.image_size for way in SINGLE if way.backbone == name)}):
                graph(name, size)
    return folders


def listed(as_json: Json = False) -> None:
    """Every weight the catalogue knows, and whether it is on this machine."""
    from models import catalog

    rows = [_row(catalog, entry) for entry in catalog.entries().values()]
    heading: list[Any] = ["name", "role", "licence", "on disk", "here", "origin"]
    cells = [
        [r["name"], r["role"], r["licence"], f"{r['bytes'] / 1e6:.0f} MB", "yes" if r["here"] else "no", r["origin"]]
        for r in rows
    ]
    lines = columns([heading, *cells])
    show(rows, as_json, [*lines, "", *(f"{r['name']}: {r['notes']}" for r in rows if r["notes"]), f"Shelf: {catalog.home()}"])


def verify(names: Names = None, as_json: Json = False) -> None:
    """Read every byte and hold it against the catalogue's digests."""
    from models import catalog

    chosen = names or list(catalog.entries())
    for name in chosen:
        catalog.verify(name)
    show(dict.fromkeys(chosen, "verified"), as_json, [f"{name}: as the catalogue pins it" for name in chosen])


def _row(catalog: Any, entry: Any) -> dict[str, Any]:
    here = False
    with contextlib.suppress(catalog.CatalogError):
        here = bool(catalog.locate(entry.name))
    fields = ("name", "role", "licence", "origin", "source", "bytes", "sha256", "notes")
    return {field: getattr(entry, field) for field in fields} | {"here": here}
