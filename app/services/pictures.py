"""An inspection's picture and map, drawn for people."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sqlalchemy.orm import Session

from app.context import Context
from app.db.queries import recipes as queries
from app.db.tables import Inspection
from app.services import inspections
from app.services.recipes import folder
from inspection import heatmap as drawing
from inspection.image import decode
from inspection.recipe import region as region_of
from models.experts import Region


class Style(NamedTuple):
    """How a recipe's maps are drawn."""

    scale: float
    """Upper end of the one heatmap scale, raw units of the map."""
    regional: bool
    """Not all of the picture was looked at."""


def drawn(ctx: Context, inspection_id: str, draw: Callable[[Context, Inspection, Style], bytes]) -> bytes:
    """An inspection drawn by `heatmap` or `overlay`; the database is free again before that begins."""
    with ctx.database.read() as session:
        row = inspections.get(session, inspection_id)
        how = style(session, row)
    return draw(ctx, row, how)


def style(session: Session, row: Inspection) -> Style:
    """As the inspection's recipe has it."""
    recipe = queries.by_id(session, row.recipe_id)
    if recipe is None:
        return Style(1.0, False)
    return Style(float(recipe.manifest["heatmap_max"]), "region" in recipe.manifest["options"])


def _region(ctx: Context, row: Inspection, how: Style) -> Region | None:
    return region_of(folder(ctx, row.recipe_sha256)) if how.regional else None


def heatmap(ctx: Context, row: Inspection, how: Style) -> bytes:
    """The map in colours, in the picture's size; PNG."""
    size = (row.width, row.height) if max(row.width, row.height) <= 2048 else None
    with ctx.decoding:
        return drawing.heatmap_png(inspections.anomaly_map(ctx, row), how.scale, size, _region(ctx, row, how))


def overlay(ctx: Context, row: Inspection, how: Style) -> bytes:
    """The picture with map and findings over it; PNG."""
    with ctx.decoding:
        picture = decode(ctx.store.get(row.image_sha256), limits=ctx.limits)
        heat, found = inspections.anomaly_map(ctx, row), inspections.findings(row)
        return drawing.overlay_png(picture.pixels, heat, found, how.scale, region=_region(ctx, row, how))
