"""A click or a box, and the mask it becomes."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, model_validator

from app.schemas.common import Body

At = Annotated[float, Field(ge=-100_000, le=100_000, allow_inf_nan=False)]


class SegmentIn(Body):
    """One of the two, in pixels of the picture as displayed."""

    point: tuple[At, At] | None = None
    """x, y."""
    box: tuple[At, At, At, At] | None = None
    """x, y, width, height, as a finding's `bbox`."""

    @model_validator(mode="after")
    def _one(self) -> SegmentIn:
        if (self.point is None) == (self.box is None):
            raise ValueError("give one of point and box")
        if self.box is not None and min(self.box[2:]) < 1:
            raise ValueError("a box is at least one pixel wide and high")
        return self


class SegmentOut(BaseModel):
    """The region pointed at."""

    bbox: tuple[int, int, int, int]
    polygon: list[tuple[int, int]]
    """Outline of its largest piece."""
    area_px: int
    area_pct: float
    centroid: tuple[float, float]
    place: str
    mask_png: str
    """The mask as PNG of the picture's size (255 in it, 0 elsewhere), base64."""
