"""What may be chosen at enrolment, and the view of the pictures that follows from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

import cv2
import numpy as np

from inspection.calibration import check_rates
from inspection.evidence import EnrolmentRefused
from models import backbones, experts
from models.experts import KINDS, Region, View
from models.experts.view import RULES, Rule, cells_of

AUTO = "efficientnet_lite0"
ZERO_SHOT_AUTO = "dinov2_vits14"
ROWS = 2000
FLOAT: backbones.Precision = "float32"
MAX_BANK = 85 * 2**20
"""Bytes of a memory bank: a fit holds three of them."""
MAX_SIDE = 2048
"""Longest side of the network's input: the memory of an export or an inspection grows with its square."""
MAX_WORKING = 48 * 2**20
"""Most pixels of a picture in tiles, as the network sees it: 12 bytes each while it is judged."""


@dataclass(frozen=True, slots=True)
class EnrolOptions:
    """What may be chosen at enrolment."""

    expert: str = "patchcore"
    backbone: str = AUTO
    """Its name; `auto`: chosen by what it sees (choice.py)."""
    image_size: int | None = None
    coreset: float | None = None
    """Rows of the memory bank: a number over 1, or a share of all patches up to 1. Default 2,000 rows."""
    false_reject_rate: float = 0.01
    review_rate: float = 0.05
    seed: int = 0
    tile: int | None = None
    """Side of overlapping tiles, in the pictures' pixels, each made `image_size` for the network; `None`: the whole picture."""
    score_rule: Literal["auto", "max", "top"] = "auto"
    """A picture's raw score: its largest patch distance, or the mean of the largest 1 %; `auto`: as chosen, or `max`."""
    precision: backbones.Precision = "float32"
    """Of the network's numbers. `int8` (transformers, twice as fast) is taken where painted defects are seen as well by it."""
    augment: Literal["auto", "on", "off"] = "auto"
    """Turned copies of the normal pictures in PatchCore's bank; `auto`: where 3 to 16 are found at several angles (turns.py)."""


def resolved(options: EnrolOptions, sides: Sequence[int] = ()) -> EnrolOptions:
    """The options with backbone and size filled in; `sides`: the pictures' longer ones, once they are known.

    Raises EnrolmentRefused, models.catalog.UnknownWeight.
    """
    if options.expert not in KINDS:
        raise EnrolmentRefused(f"There is no expert {options.expert!r}; there are {', '.join(KINDS)}.")
    rule = "max" if options.score_rule == "auto" else options.score_rule
    if rule not in RULES:
        raise EnrolmentRefused(f"There is no score rule {rule!r}; there are auto, {', '.join(RULES)}.")
    check_rates(options.false_reject_rate, options.review_rate)
    bank_rows(options.coreset, (1, 1))
    usual = ZERO_SHOT_AUTO if options.expert == "zeroshot" else AUTO
    backbone, precision = (usual, FLOAT) if options.backbone == "auto" else (options.backbone, options.precision)
    if options.seed < 0:
        raise EnrolmentRefused(f"The seed must not be negative ({options.seed}).", seed=options.seed)
    size = options.image_size or experts.working_size(options.expert, backbone, sides)
    if size > MAX_SIDE:
        raise EnrolmentRefused(f"Pictures are resized to at most {MAX_SIDE} pixels a side, not {size}.", image_size=size)
    whole = replace(options, backbone=backbone, image_size=size, score_rule=rule, precision=precision)
    try:
        experts.check_view(options.expert, View(backbone, (size, size), size if options.tile else None, precision))
    except ValueError as error:
        raise EnrolmentRefused(f"{error}.", image_size=size) from error
    return whole


def view_of(options: EnrolOptions, shapes: Sequence[tuple[int, int]]) -> View:
    """How pictures of these (height, width) are seen, options resolved. Raises EnrolmentRefused for tiles that do not fit."""
    size, rule = options.image_size or 0, cast(Rule, options.score_rule)
    if options.tile is None:
        return replace(View.square(options.backbone, size), precision=options.precision, rule=rule)
    height, width = (int(np.median([shape[axis] for shape in shapes])) for axis in (0, 1))
    if not 16 <= options.tile <= min(height, width):
        raise EnrolmentRefused(
            f"Tiles of {options.tile} pixels do not fit pictures of {width} × {height}: 16 to {min(height, width)}, or none.",
            tile=options.tile,
            width=width,
            height=height,
        )
    stride = backbones.spec(options.backbone).stride
    rows, columns = (max(size, round(side * size / options.tile / stride) * stride) for side in (height, width))
    if rows * columns > MAX_WORKING:
        raise EnrolmentRefused(
            f"Tiles of {options.tile} pixels make {columns} × {rows} pixels of a picture, over {MAX_WORKING:,}: enlarge them.",
            tile=options.tile,
        )
    return View(options.backbone, (rows, columns), size, options.precision, rule)


def region_of(mask: np.ndarray, view: View, shapes: Sequence[tuple[int, int]]) -> Region:
    """A mask `[H, W]` (not 0: look here) of the pictures' own size, where there are any, brought to the map's.

    Raises EnrolmentRefused for a mask of another size than every picture, or one that leaves nothing to look at.
    """
    if shapes and mask.shape not in shapes:
        heights, widths = zip(*shapes, strict=True)
        raise EnrolmentRefused(
            f"The region's mask is {mask.shape[1]} × {mask.shape[0]} pixels; the pictures are {max(widths)} × {max(heights)}.",
            mask=list(mask.shape[:2]),
        )
    rows, columns = view.map_size
    share = cv2.resize((mask > 0).astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
    region = np.asarray(share >= 0.5, np.uint8)
    try:
        cells_of(view, region)
    except ValueError as error:
        raise EnrolmentRefused(f"The region cannot be used: {error}.") from error
    return region


def bank_rows(coreset: float | None, shape: tuple[int, ...]) -> int:
    """Rows of the memory bank for features `[N, P, D]`, at most all N·P and, where D is given, what `MAX_BANK` holds.

    Raises EnrolmentRefused unless positive and finite.
    """
    patches = shape[0] * shape[1]
    if coreset is None:
        return min(ROWS, patches)
    if not 0 < coreset < math.inf:
        raise EnrolmentRefused(f"A memory bank of {coreset:g} rows cannot be made.")
    most = min(patches, MAX_BANK // (4 * shape[2])) if len(shape) > 2 else patches
    return max(1, min(round(coreset * patches if coreset <= 1 else coreset), most))
