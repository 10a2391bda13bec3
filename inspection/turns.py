"""Turned copies of few normal pictures for the memory bank, where the normals themselves are found at several angles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from inspection.evidence import EnrolmentRefused
from inspection.features import Altered, Floats, Progress, features_file
from inspection.image import Pixels
from inspection.options import EnrolOptions
from models.bank import Bank
from models.experts import Copies, View
from models.experts.fused import lead

ANGLES = tuple(22.5 * n for n in range(1, 16))
QUARTERS = (90.0, 180.0, 270.0)
LEAST = 3
"""Normal pictures without which nothing can be told: of two, that they differ is all that is seen."""
MOST = 16
"""Normal pictures up to which copies are made: with more, the pictures themselves cover the angles."""
LOOKED_AT = 8
AS_FAR = 1.25
"""Where quarter turns lie at most so many times as far as the pictures themselves, the product has no upright position."""
_SPARSE = 4


@contextmanager
def turned(
    options: EnrolOptions,
    view: View,
    features: Sequence[Floats],
    read: Callable[[int], Pixels],
    near: Path,
    tell: Progress,
    stop: Callable[[], None],
    region: bool,
) -> Iterator[tuple[Copies, tuple[str, ...]]]:
    """Features of the copies that join the bank, and what is to be said of it; none of either where they would not belong.

    Raises EnrolmentRefused where copies are asked for (`on`) that cannot be made, and what `features_file` and `stop` raise.
    """
    able = options.expert == "patchcore" and options.tile is None and not region
    if options.augment == "on" and not able:
        raise EnrolmentRefused("Turned copies join PatchCore's memory bank alone, without tiles or a region: take --augment off.")
    count, far = len(features), None
    if able and options.augment == "auto" and LEAST <= count <= MOST:
        looked = range(min(count, LOOKED_AT))
        quarters = (turn(read(n), angle) for n in looked for angle in QUARTERS)
        total = len(looked) * len(QUARTERS)
        with features_file(quarters, total, options.expert, view, near, tell, stop, stage="turn") as found:
            own, away = ([lead(view, one) for one in each] for each in (features[: len(looked)], found))
            far = as_far(own, [away[n : n + len(QUARTERS)] for n in range(0, total, len(QUARTERS))])
    if options.augment != "on" and (far is None or far > AS_FAR):
        yield (), ()
        return
    copies = (turn(read(n), angle) for n in range(count) for angle in ANGLES)
    total = count * len(ANGLES)
    why = "as asked for" if far is None else f"they are found at several angles (a quarter turn lies {far:.2f} times as far)"
    note = f"{len(ANGLES)} turned copies of each normal picture joined the memory bank: {why}."
    with features_file(copies, total, options.expert, view, near, tell, stop, stage="turn") as found:
        yield Altered([n // len(ANGLES) for n in range(total)], found), (note,)


def turn(pixels: Pixels, angle: float) -> Pixels:
    """The picture turned about its middle by `angle` degrees, as large as before; what comes in at the corners is mirrored."""
    height, width = pixels.shape[:2]
    about = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
    return np.asarray(cv2.warpAffine(pixels, about, (width, height), borderMode=cv2.BORDER_REFLECT_101), np.uint8)


def as_far(features: Sequence[Floats], copies: Sequence[Sequence[Floats]]) -> float:
    """How far turned copies lie from the other pictures, over how far the pictures themselves do: 1 where any angle is usual.

    `features`: pictures' `[P, D]`; `copies`: each one's turned copies. Geometric mean of mean distances to the nearest patch of
    the other pictures.
    """
    logs = []
    for number, (one, turns) in enumerate(zip(features, copies, strict=True)):
        others = Bank(np.concatenate([other for n, other in enumerate(features) if n != number]))
        own, *away = (float(others.nearest(each[::_SPARSE])[0].mean()) for each in (one, *turns))
        logs += [np.log(max(distance, 1e-9) / max(own, 1e-9)) for distance in away]
    return float(np.exp(np.mean(logs)))
