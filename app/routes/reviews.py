"""`/v1/inspections/{id}/reviews`, `/v1/queue`, `/v1/reports/summary`, `/v1/reports/drift`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from app.db.queries.inspections import Filter
from app.dependencies import Ctx, Operator, Read, RowId, Viewer
from app.routes import After, Limit
from app.routes.inspections import chosen
from app.schemas.common import Name, Page, Tag, VerdictName
from app.schemas.drift import Drift
from app.schemas.inspections import InspectionView
from app.schemas.reviews import ReviewIn, ReviewView, Summary
from app.services import drift, inspections, reviews

router = APIRouter(prefix="/v1", tags=["reviews"])


@router.post("/inspections/{inspection_id}/reviews", status_code=201)
def review(inspection_id: RowId, body: ReviewIn, ctx: Ctx, caller: Operator) -> ReviewView:
    """Add a judgement beside the verdict."""
    with ctx.database.write() as session:
        return ReviewView.model_validate(reviews.add(session, inspection_id, body, caller))


@router.get("/inspections/{inspection_id}/reviews")
def review_list(inspection_id: RowId, session: Read, caller: Viewer) -> Page[ReviewView]:
    """All judgements, oldest first."""
    return Page(items=[ReviewView.model_validate(row) for row in reviews.listed(session, inspection_id)])


@router.get("/queue")
def queue(
    session: Read,
    caller: Viewer,
    product: Annotated[str | None, Query(max_length=64)] = None,
    verdict: VerdictName | None = "review",
    cursor: After = None,
    limit: Limit = 50,
) -> Page[InspectionView]:
    """What waits for a person: not reviewed yet, the least sure first."""
    what = Filter(product=product, verdict=verdict, reviewed=False)
    rows, following = inspections.listed(session, what, cursor, limit, uncertain=True)
    return Page(items=rows, next_cursor=following)


@router.get("/reports/summary")
def summary(session: Read, caller: Viewer, what: Annotated[Filter, Depends(chosen)]) -> Summary:
    """Simple counts: verdicts, what people said of them, answers."""
    return Summary(**reviews.summary(session, what))


@router.get("/reports/drift")
def drift_report(
    session: Read,
    caller: Viewer,
    product: Annotated[Name, Query()],
    recipe: Annotated[int | None, Query(ge=1, lt=2**31, description="Default: the promoted one.")] = None,
    station: Tag | None = None,
    window: Annotated[int, Query(ge=30, le=10_000, description="Newest parts looked at.")] = drift.WINDOW,
) -> Drift:
    """Whether parts still score as the recipe's normals did, and what rates the limits really give."""
    return Drift(**drift.report(session, product, recipe, station, window))
