"""`/v1/products/{p}/exemplars`."""

from __future__ import annotations

from fastapi import APIRouter

from app.dependencies import Ctx, Engineer, Operator, ProductName, Read, RowId, Viewer
from app.routes import After, Limit
from app.schemas.exemplars import ExemplarIn, ExemplarPage, ExemplarView, Pool
from app.services import exemplars

router = APIRouter(prefix="/v1/products/{product}/exemplars", tags=["exemplars"])


@router.post("", status_code=201)
def add(product: ProductName, body: ExemplarIn, ctx: Ctx, caller: Operator) -> ExemplarView:
    """Label a finding: the next one like it is named so."""
    return ExemplarView.model_validate(exemplars.add(ctx, product, body, caller.name))


@router.get("")
def listed(
    product: ProductName, session: Read, caller: Viewer, pool: Pool | None = None, cursor: After = None, limit: Limit = 50
) -> ExemplarPage:
    """Labelled findings, newest first; the labels there are, and how the locked test pool is named by the rest."""
    rows, following, summary = exemplars.listed(session, product, pool, cursor, limit)
    return ExemplarPage(items=[ExemplarView.model_validate(row) for row in rows], next_cursor=following, **summary)


@router.delete("/{exemplar_id}", status_code=204)
def remove(product: ProductName, exemplar_id: RowId, ctx: Ctx, caller: Engineer) -> None:
    """Forget a label."""
    with ctx.database.write() as session:
        exemplars.remove(session, product, exemplar_id)
