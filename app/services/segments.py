"""A click or a box on a recorded picture becomes a mask: encoded once, prompted many times. Nothing is recorded."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from app.context import Context
from app.errors import Invalid
from app.schemas.segments import SegmentIn
from app.services import inspections
from inspection import region, segmentation
from inspection.exemplars import Backbone
from inspection.image import decode


def segment(ctx: Context, inspection_id: str, body: SegmentIn) -> dict[str, Any]:
    """The region pointed at. Raises `NotFound`, `Invalid` (`outside_picture`), and what the encoder raises."""
    with ctx.database.read() as session:
        row = inspections.get(session, inspection_id)
    x, y, wide, high = (*body.point, 0.0, 0.0) if body.point else body.box or (0.0, 0.0, 0.0, 0.0)
    if x >= row.width or y >= row.height or (min(x, y) < 0 if body.point else min(x + wide, y + high) <= 0):
        message = f"This lies outside the picture, which has {row.width} × {row.height} pixels."
        raise Invalid(message, code="outside_picture", width=row.width, height=row.height)

    def work(backbone: Backbone) -> segmentation.Segment:
        with ctx.decoding:
            pixels = decode(ctx.store.get(row.image_sha256), limits=ctx.limits).pixels
            heat = inspections.anomaly_map(ctx, row)
            features = ctx.encoder.kept(
                ("picture", row.image_sha256), lambda: segmentation.encode(pixels, backbone), 4 * 256 * 384
            )
            if body.point:
                return segmentation.at_point(pixels, features, heat, body.point)
            return segmentation.in_box(pixels, features, heat, (x, y, wide, high))

    found = ctx.encoder.run(work)
    mask = region.png(np.where(found.mask, 255, 0).astype(np.uint8))
    names = ("bbox", "polygon", "area_px", "area_pct", "centroid", "place")
    return {name: getattr(found, name) for name in names} | {"mask_png": base64.b64encode(mask).decode()}
