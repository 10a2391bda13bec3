"""Hundreds of products to train on, each giving sound pictures without end: drawn families, pieces of photographs, folders."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from inspection.evidence import EnrolmentRefused
from inspection.image import Pixels, decode
from inspection.products import drawing, photographs

EACH = 16
"""Products of a drawn family, and of a photograph."""
HELD_OUT = 5
"""One family, photograph or folder in so many is held out for selection, with all its products."""
FOLDER_SIDE = 512
"""Longest side of a folder's picture as it is used."""
_STATED = ("dataset", "category", "repository", "licence")
_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True, slots=True)
class Product:
    """One product: `picture(index)` is its part of that number, sound."""

    source: str
    """`drawn`, `photo` or `folder`."""
    kind: str
    """The drawn family, the photograph, or the folder's path."""
    number: int
    held_out: bool
    files: tuple[Path, ...] = ()

    @property
    def credit(self) -> str:
        """Where its pictures come from and under which licence; of a folder what the `meta.json` at or above it states."""
        if self.source == "drawn":
            return "drawn by this program: free of any licence"
        if self.source == "photo":
            return photographs.CREDITS[self.kind][2]
        folder = Path(self.kind).absolute()
        for above in (folder, *folder.parents[:2]):
            with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
                said = json.loads((above / "meta.json").read_bytes())
                return ", ".join(str(said[key])[:200] for key in _STATED if key in said) or "not stated"
        return "not stated"

    @property
    def name(self) -> str:
        """Unique among the products, without any path of this machine."""
        folder = [part for part in Path(self.kind).parts if part not in ("train", "good")]
        return f"{self.source}/{'-'.join(folder[-2:]) if self.source == 'folder' else self.kind}/{self.number}"

    @property
    def size(self) -> int | None:
        """How many different pictures there are; `None`: no end."""
        return len(self.files) or None

    def picture(self, index: int) -> Pixels:
        """RGB `[H, W, 3]`; a pure function. Raises as `inspection.image.decode`, IndexError for a folder's picture it lacks."""
        if self.source == "drawn":
            return drawing.picture(self.kind, self.number, index)
        if self.source == "photo":
            return photographs.picture(self.kind, self.number, index)
        pixels = decode(self.files[index].read_bytes()).pixels
        scale = FOLDER_SIDE / max(pixels.shape[:2])
        if scale >= 1:
            return pixels
        return np.asarray(cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)

    @property
    def digest(self) -> str:
        """SHA-256 of a folder's files, in order; of the name for the others."""
        found = hashlib.sha256(self.name.encode())
        for path in self.files:
            found.update(hashlib.sha256(path.read_bytes()).digest())
        return found.hexdigest()


def products(folders: Sequence[Path] = ()) -> list[Product]:
    """All products: of every family and every photograph that is here `EACH`, and one of each folder of normal pictures.

    The last of every `HELD_OUT` of each kind is held out. Raises EnrolmentRefused for a folder with
    fewer than 3 pictures.
    """
    made = [
        Product(source, kind, number, at % HELD_OUT == HELD_OUT - 1)
        for source, kinds in (("drawn", tuple(drawing.FAMILIES)), ("photo", tuple(photographs.CREDITS)))
        for at, kind in enumerate(kinds)
        if source == "drawn" or kind in photographs.present()
        for number in range(EACH)
    ]
    for at, folder in enumerate(folders):
        files = tuple(sorted(path for path in folder.iterdir() if path.suffix.lower() in _ENDINGS))
        if len(files) < 3:
            raise EnrolmentRefused(f"{folder} holds {len(files)} pictures: a product to train on needs 3 or more.")
        made.append(Product("folder", str(folder), at, at % HELD_OUT == 3, files))
    return made
