"""Inspections, one by one and in batches."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from app.schemas.common import Refused, VerdictName
from app.schemas.recipes import Limits
from app.schemas.reviews import ReviewView


class RecipeRef(BaseModel):
    """Which recipe judged."""

    number: int
    sha256: str


class FindingView(BaseModel):
    """What stands over the limit in one region of the map, and its extent, in pixels of the picture as displayed."""

    id: str
    bbox: list[int]
    polygon: list[list[int]]
    area_px: int
    area_pct: float
    centroid: list[float]
    peak: float
    peak_xy: list[int]
    place: str


class MapView(BaseModel):
    """The anomaly map, raw units."""

    url: str
    sha256: str
    width: int
    height: int
    min: float
    max: float
    mean: float
    peak_xy: list[int]
    peak_place: str


class ImageRef(BaseModel):
    """The picture that was judged."""

    sha256: str
    width: int
    height: int


class VerdictView(BaseModel):
    """`detail=verdict`: what a line needs."""

    id: str
    product: str
    verdict: VerdictName
    reasons: list[str]
    raw_score: float
    score: float | None
    thresholds: Limits
    margin: float | None
    recipe: RecipeRef
    created_at: datetime
    links: dict[str, str]


class InspectionView(VerdictView):
    """One picture judged once by one recipe."""

    findings: list[FindingView]
    map: MapView
    image: ImageRef
    timings_ms: dict[str, float]
    serial: str | None
    lot: str | None
    station: str | None
    line: str | None
    shift: str | None
    captured_at: datetime | None
    measurement_id: str | None
    custom: dict[str, Any]
    is_simulated: bool
    job_id: str | None
    source_id: str | None
    created_by: str


class InspectionRecord(InspectionView):
    """An inspection with what was added beside it."""

    revision: int
    reviews: list[ReviewView]


class BatchItem(BaseModel):
    """One file of a batch: its inspection, or its error."""

    filename: str
    status: int
    inspection: InspectionView | None = None
    error: Refused | None = None


class Batch(BaseModel):
    """Every file of a batch, in the order sent."""

    items: list[BatchItem]
    done: int
    failed: int
