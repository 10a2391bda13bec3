"""What normal pictures score against the reference expert's other pictures, and what stands in where no other shows the part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import cv2
import numpy as np

from models.experts.base import Cancelled, Copies, FitCancelled, Floats, RawScore, numbered
from models.experts.cells import Cells, Grey, split
from models.experts.reference import References, lonely, raw

_WAVE = 12.0  # pixels over which the outline wanders
_WANDER = 0.5  # pixels, rms
_SHIFT = 1.5
_LIGHT = 0.03
_NOISE = 2.0  # grey levels


def notes(state: Mapping[str, np.ndarray], normals: int) -> tuple[str, ...]:
    """What a person should know of the references, as sentences."""
    alone, kept = int(lonely(state["fellow"]).sum()), len(state["source"])
    found = []
    if alone:
        found.append(
            f"{alone} of {kept} normal pictures are the only ones of their part. They are calibrated against disturbed copies "
            "of themselves (moved, turned wavy, other light, noise): the limits hold as far as real parts vary no more than "
            "that. Enroll two or more pictures of each part for limits that are measured."
        )
    if kept < normals:
        found.append(f"{kept} of {normals} normal pictures are kept as references, the most different; the rest did not fit.")
    return tuple(found)


def held_out(
    features: Sequence[Floats],
    state: Mapping[str, np.ndarray],
    cells: Cells,
    *,
    copies: Copies = (),
    seed: int = 0,
    cancelled: Cancelled | None = None,
) -> Iterator[tuple[int, RawScore]]:
    """The number of each normal picture and copy, and its score against the other references.

    One that has no fellow is disturbed and compared with itself instead: nothing else shows its part. Raises
    FeaturesRefused, FitCancelled.
    """
    references = References(state)
    own = {int(number): at for at, number in enumerate(state["source"])}
    alone = lonely(state["fellow"])
    for number, (at, one) in ((n, found) for n in range(len(features)) for found in numbered(features, copies, n)):
        if cancelled is not None and cancelled():
            raise FitCancelled("the calibration was cancelled")
        deep, picture = split(one, cells.spec.width)
        row = own.get(number, -1)
        if row >= 0 and alone[row]:
            copy = disturbed(picture, np.random.default_rng([seed, at]))
            deep = deep + cells.of_grey(copy) - cells.of_grey(picture)  # the features know colours, the copy does not
            picture, row = copy, -1
        seen = references.compare(deep, picture, references.nearest(picture, row))
        yield at, raw(seen, references.side, region=state.get("region"))


def disturbed(picture: Grey, rng: np.random.Generator) -> Grey:
    """A copy as another good part of the same board might look: moved, its outlines wavy, in other light, noisy."""
    size = len(picture)
    at = np.mgrid[0:size, 0:size].astype(np.float32)
    for axis in (0, 1):
        wave = cv2.GaussianBlur(rng.normal(0, 1, (size, size)).astype(np.float32), (0, 0), _WAVE)
        at[axis] += np.float32(_WANDER / max(float(wave.std()), 1e-6)) * wave + np.float32(rng.uniform(-_SHIFT, _SHIFT))
    moved = cv2.remap(picture, at[1], at[0], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
    lit = moved * rng.uniform(1 - _LIGHT, 1 + _LIGHT) + rng.normal(0, _NOISE, moved.shape)
    return np.asarray(np.clip(lit + 0.5, 0, 255), np.uint8)
