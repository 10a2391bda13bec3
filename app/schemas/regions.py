"""Regions of interest."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from app.schemas.common import Body

Corner = Annotated[float, Field(ge=-100_000, le=100_000, allow_inf_nan=False)]
Polygon = Annotated[list[tuple[Corner, Corner]], Field(min_length=3, max_length=10_000)]
Polygons = Annotated[list[Polygon], Field(max_length=1000)]
Side = Annotated[int, Field(ge=16, le=100_000)]


class RegionIn(Body):
    """Polygons in pixels of pictures of this size: looked at is what lies in one of `include` (none: all of the picture) and
    in none of `ignore`."""

    width: Side
    height: Side
    include: Polygons = Field(default_factory=list)
    ignore: Polygons = Field(default_factory=list)


class RegionView(BaseModel):
    """A product's region of interest."""

    sha256: str
    """Of the mask as PNG; a recipe's `options.region` names it."""
    width: int
    height: int
    share: float
    """Of the picture that is looked at."""
    polygons: dict[str, Any] | None
    """As they were given; `null`: it was given as a mask."""
    links: dict[str, str]
