"""Folders whose manifest names each defect's template: what the template of a part is, and a sound part to test beside it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inspection.image import Pixels, decode

_MARGIN = 4  # pixels around a stated box


@dataclass(frozen=True, slots=True)
class Pair:
    """A defective picture and its template, as `manifest.jsonl` states them."""

    defective: Path
    template: Path
    boxes: tuple[tuple[int, int, int, int], ...]
    """Where the defects are: x0, y0, x1, y1 in pixels."""

    def healed(self) -> Pixels | None:
        """The defective part without its defects: the template in place of each box. `None` where the two differ in size."""
        picture, template = (decode(path.read_bytes()).pixels.copy() for path in (self.defective, self.template))
        if picture.shape != template.shape or not self.boxes:
            return None
        for x0, y0, x1, y1 in self.boxes:
            window = (slice(max(y0 - _MARGIN, 0), y1 + _MARGIN + 1), slice(max(x0 - _MARGIN, 0), x1 + _MARGIN + 1))
            picture[window] = template[window]
        return np.ascontiguousarray(picture)


def pairs(folder: Path) -> dict[Path, Pair]:
    """Per defective test picture its pair; none where there is no manifest, or it names no templates that are there."""
    manifest, found = folder / "manifest.jsonl", {}
    for line in manifest.read_text().splitlines() if manifest.is_file() else []:
        row: dict[str, Any] = json.loads(line)
        image, template = row.get("image") or "", row.get("template") or ""
        root, test, _ = image.partition("test/")
        if not test or not template.startswith(root):
            continue
        pair = Pair(
            folder / image.removeprefix(root),
            folder / template.removeprefix(root),
            tuple((int(b[0]), int(b[1]), int(b[2]), int(b[3])) for b in row.get("boxes") or ()),
        )
        if pair.defective.is_file() and pair.template.is_file():
            found[pair.defective] = pair
    return found
