"""An inspection's picture and map, drawn for people."""

from __future__ import annotations

from sqlalchemy.orm import Session

from app.context import Context
from app.db.queries import recipes as queries
from app.db.tables import Inspection
from app.services import inspections
from inspection import heatmap as drawing
from inspection.image import decode


def scale(session: Session, row: Inspection) -> float:
    """Upper end of the recipe's one heatmap scale, raw units of the map."""
    recipe = queries.by_id(session, row.recipe_id)
    return float(recipe.manifest["heatmap_max"]) if recipe is not None else 1.0


def heatmap(ctx: Context, row: Inspection, upper: float) -> bytes:
    """The map in colours, in the picture's size; PNG."""
    size = (row.width, row.height) if max(row.width, row.height) <= 2048 else None
    with ctx.decoding:
        return drawing.heatmap_png(inspections.anomaly_map(ctx, row), upper, size)


def overlay(ctx: Context, row: Inspection, upper: float) -> bytes:
    """The picture with map and findings over it; PNG."""
    with ctx.decoding:
        picture = decode(ctx.store.get(row.image_sha256), limits=ctx.limits)
        return drawing.overlay_png(picture.pixels, inspections.anomaly_map(ctx, row), inspections.findings(row), upper)
