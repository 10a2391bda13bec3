"""The normal pictures of an enrolment: read one by one, each different one once, twins and odd ones named."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from inspection.bounds import bound, sample
from inspection.evidence import EnrolmentRefused, InspectionError
from inspection.gate import Look, look
from inspection.image import Limits, Picture, Pixels, decode

ODD_RATE = 0.001
ODD_MOST = 50
_SAME, _ALIKE = 1.5, 0.98  # JPEG 60, noise of 4 and a gain of 1 % stay under 1.3 and over .985; other parts lie at 2.3 and more
_SIDE = 64
_OUTSIZED = 2.0
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Normal:
    """A picture that was read and can be read again; its pixels are not kept."""

    name: str
    source: bytes | Path
    sha256: str
    pixels_sha256: str
    seen: Look
    thumb: Pixels = field(repr=False, compare=False)
    """Grey, `[64, 64]`, for finding twins."""


def read(source: bytes | Path, limits: Limits) -> Picture:
    """Decode a picture from its bytes or file. Raises what `image.decode` raises, and OSError."""
    if isinstance(source, bytes):
        return decode(source, limits=limits)
    with source.open("rb") as file:  # never more than a picture may have, whatever the file is
        return decode(file.read(limits.max_bytes + 1), limits=limits)


def checked(
    images: Sequence[bytes | Path],
    names: Sequence[str] | None,
    limits: Limits,
    tell: Callable[[str, int, int], None],
    stop: Callable[[], None],
) -> list[Normal]:
    """Read every picture once. Raises EnrolmentRefused where there is none, or naming all that cannot be used."""
    if not images:
        raise EnrolmentRefused("There are no normal pictures. Enroll at least 2, better 32.")
    normals, bad = [], []
    for number, source in enumerate(images):
        stop()
        name = names[number] if names else source.name if isinstance(source, Path) else f"picture {number + 1}"
        try:
            picture = read(source, limits)
            pixels = hashlib.sha256(repr(picture.pixels.shape).encode())
            pixels.update(picture.pixels.data)
            seen, thumb = look(picture), _thumb(picture.pixels)
            normals.append(Normal(name, source, picture.sha256, pixels.hexdigest(), seen, thumb))
        except (InspectionError, OSError) as error:
            bad.append({"index": number, "name": name, "code": getattr(error, "code", "unreadable"), "message": str(error)})
        tell("decode", number + 1, len(images))
    if bad:
        listed = "; ".join(f"{one['name']}: {one['message']}" for one in bad[:20])
        more = f"; and {len(bad) - 20} more" if len(bad) > 20 else ""
        raise EnrolmentRefused(f"{len(bad)} of {len(images)} pictures cannot be used: {listed}{more}", bad=bad)
    return normals


def distinct(given: list[Normal]) -> tuple[list[Normal], list[str]]:
    """Each different picture once, and what a person should know of the set."""
    first: dict[str, Normal] = {}
    for normal in given:
        first.setdefault(normal.pixels_sha256, normal)
    copies = [f"{n.name} = {first[n.pixels_sha256].name}" for n in given if first[n.pixels_sha256] is not n]
    normals = list(first.values())
    if len(normals) == 1 and copies:
        raise EnrolmentRefused(f"All {len(given)} pictures are identical: they say nothing about how normal parts vary.")
    warnings = []
    if copies:
        warnings.append(f"{len(copies)} pictures are copies of others and were used once: {some(copies)}.")
    alike = [f"{normals[b].name} ≈ {normals[a].name}" for a, b in twins([n.thumb for n in normals])]
    if alike:
        warnings.append(
            f"Nearly the same, as if one part was taken twice or a picture encoded again: {some(alike)}. They are used, but "
            "each is scored by an expert that has seen its twin: the limits come out too "
            "tight, and more sound parts are rejected than promised. Leave one of each pair out."
        )
    sizes = sorted({(n.seen.width, n.seen.height) for n in normals})
    if len(sizes) > 1:
        warnings.append(f"The pictures have {len(sizes)} sizes, {some([f'{w} × {h}' for w, h in sizes])}: one is made of all.")
        outsized = _outsized(normals)
        if outsized:
            warnings.append(f"Of quite another size than the most, which may be another picture altogether: {some(outsized)}.")
    return normals, warnings


def copies_of(given: Sequence[Normal], normals: Sequence[Normal]) -> tuple[str, ...]:
    """SHA-256 of the files that `distinct` left out."""
    kept = {normal.sha256 for normal in normals}
    return tuple(dict.fromkeys(normal.sha256 for normal in given if normal.sha256 not in kept))


def twins(thumbs: Sequence[Pixels]) -> list[tuple[int, int]]:
    """Pairs (earlier, later) of grey `[64, 64]` thumbnails that show one picture but for noise, encoding and a change of light.

    Each is held against the earlier one nearest in 8 × 8 means: rms difference at most 1.5 grey levels once the means are
    taken out, and fine detail (what a blur of 2 takes away) that correlates by .98, so that even surfaces are no twins.
    """
    if len(thumbs) < 2:
        return []
    grey = np.stack(thumbs).astype(np.float32)
    coarse = grey.reshape(len(grey), 8, _SIDE // 8, 8, _SIDE // 8).mean((2, 4)).reshape(len(grey), -1)
    coarse -= coarse.mean(1, keepdims=True)
    half = (coarse**2).sum(1) / 2
    found = []
    for later in range(1, len(grey)):
        earlier = int(np.argmin(half[:later] - coarse[:later] @ coarse[later]))
        apart = grey[later] - grey[earlier]
        if float(apart.std()) <= _SAME and _detail(grey[later], grey[earlier]) >= _ALIKE:
            found.append((earlier, later))
    return found


def odd(normals: Sequence[Normal], held_out_scores: Sequence[float], further: Sequence[float] = ()) -> list[str]:
    """Normals whose scores are far over what the others' bound allows, by rank, at most fifty.

    `further`: scores of those after the ones held out, by the expert fitted on all, its memory bank without their own patches.

    The bound is for one in a thousand, or one in ten enrolments where the normals are many. Several odd ones raise it for each
    other, so the first g are left out together, for the largest g whose last still lies over the bound of the rest.
    """
    scores = np.array([*held_out_scores, *further])
    order, rate = np.argsort(-scores), min(ODD_RATE, 0.1 / max(len(scores), 1))
    for count in range(min(ODD_MOST, max(len(scores) // 10, 1)), 0, -1):
        if len(scores) - count < 3:
            return []
        limit = bound(sample(scores[order[count:]]), rate)
        if scores[order[count - 1]] > limit:
            named = [f"{rank}. {normals[at].name} (score {scores[at]:.3g})" for rank, at in enumerate(order[:count].tolist(), 1)]
            asked = f"the others' bound is {limit:.3g}; look whether they are good, and leave out those that are not"
            rest = f" Of {len(further)} only their own patches were left out of the bank: their rank is rough." if further else ""
            return [f"Odd among {len(scores)} normals, by rank ({asked}): {some(named, 10)}.{rest}"]
    return []


def some(items: Sequence[str], most: int = _SHOWN) -> str:
    """The first few, and how many more there are."""
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


def _thumb(pixels: Pixels) -> Pixels:
    small = cv2.resize(pixels, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)


def _detail(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Correlation of what a blur of 2 pixels takes away; 0 where there is none."""
    a, b = (x - cv2.GaussianBlur(x, (0, 0), 2) for x in (one, other))
    return float((a * b).sum() / max(float(np.sqrt((a * a).sum() * (b * b).sum())), 1e-6))


def _outsized(normals: Sequence[Normal]) -> list[str]:
    """Pictures more than twice, or less than half, as long as the median one."""
    sides = np.array([max(n.seen.width, n.seen.height) for n in normals])
    middle = float(np.median(sides))
    far = np.flatnonzero((sides > _OUTSIZED * middle) | (sides * _OUTSIZED < middle))
    return [f"{normals[at].name} ({normals[at].seen.width} × {normals[at].seen.height})" for at in far.tolist()]
