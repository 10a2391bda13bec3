"""The normal pictures of an enrolment: read one by one, each different one once, the odd ones named."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inspection.bounds import bound, sample
from inspection.evidence import EnrolmentRefused, InspectionError
from inspection.gate import Look, look
from inspection.image import Limits, Picture, decode

ODD_RATE = 0.001
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Normal:
    """A picture that was read and can be read again; its pixels are not kept."""

    name: str
    source: bytes | Path
    sha256: str
    pixels_sha256: str
    seen: Look


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
            normals.append(Normal(name, source, picture.sha256, pixels.hexdigest(), look(picture)))
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
    sizes = sorted({(n.seen.width, n.seen.height) for n in normals})
    if len(sizes) > 1:
        warnings.append(f"The pictures have {len(sizes)} sizes, {some([f'{w} × {h}' for w, h in sizes])}: one is made of all.")
    return normals, warnings


def odd(normals: Sequence[Normal], held_out_scores: Sequence[float]) -> list[str]:
    """Normals whose held-out score is far over what the others' bound allows (one in a thousand)."""
    scores = np.asarray(held_out_scores)
    if len(scores) < 4:
        return []
    found = []
    for number in np.argsort(-scores):
        limit = bound(sample(np.delete(scores, number)), ODD_RATE)
        if scores[number] <= limit:
            break
        found.append(f"{normals[number].name} (score {scores[number]:.3g}, the others' bound {limit:.3g})")
    return [f"Odd among the normals, most first; look whether they are good: {some(found)}."] if found else []


def some(items: Sequence[str], most: int = _SHOWN) -> str:
    """The first few, and how many more there are."""
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")
