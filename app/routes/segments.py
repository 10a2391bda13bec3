"""`/v1/inspections/{id}:segment`."""

from __future__ import annotations

from fastapi import APIRouter

from app.dependencies import Ctx, Operator, RowId
from app.schemas.segments import SegmentIn, SegmentOut
from app.services import segments

router = APIRouter(prefix="/v1", tags=["inspections"])


@router.post("/inspections/{inspection_id}:segment")
def segment(inspection_id: RowId, body: SegmentIn, ctx: Ctx, caller: Operator) -> SegmentOut:
    """Point at something in the picture, or draw a box around it: the mask of what is there. Nothing is recorded."""
    return SegmentOut(**segments.segment(ctx, inspection_id, body))
