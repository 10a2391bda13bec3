"""The ELPV solar cells: real pictures for the demo and for reporting, fetched on demand, never a dependency."""

from __future__ import annotations

import random
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from models.catalog import Entry, Progress, home
from models.catalog.files import replaced
from models.catalog.packages import download

LICENCE = (
    "The solar cells are the ELPV dataset (package elpv-dataset), licensed CC BY-NC-SA 4.0: not for commercial use, share "
    "alike. Buerhop-Lutz, Deitsch, Maier, Gallwitz, Berger, Doll, Hauch, Camus, Brabec: A Benchmark for Visual Identification "
    "of Defective Solar Cells in Electroluminescence Imagery, EU PVSEC 2018. They serve to show and to report; they are no "
    "part of Kensor."
)
PACKAGE = Entry(
    name="elpv",
    role="pictures",
    licence="CC BY-NC-SA 4.0",
    origin="ELPV dataset, ZAE Bayern",
    notes="",
    package="elpv-dataset",
    version="1.0.0.post1",
    package_bytes=90801454,
    package_sha256="85e31c1126ee9b48e62d3a0232c58f58b2d189b0814a45c13642fa0415af4a4c",
    bytes=90801454,
    sha256="",
)


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: its file's stem, the share of experts' certainty that it is defective (0, 1/3, 2/3, 1), and `mono` or `poly`."""

    name: str
    defect: float
    kind: str


class Cells:
    """The dataset, read straight from its package file."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        lines = archive.read("elpv_dataset/data/labels.csv").decode().split("\n")
        rows = [line.split() for line in lines if line.strip()]
        self.cells = [Cell(Path(path).stem, float(defect), kind) for path, defect, kind in rows]

    def png(self, cell: Cell) -> bytes:
        """The picture as it lies in the package: 300 × 300, 8-bit grey."""
        return self._archive.read(f"elpv_dataset/data/images/{cell.name}.png")

    def split(self, kind: str, seed: int = 0) -> tuple[list[Cell], list[Cell], list[Cell]]:
        """Train (half of the surely sound), test sound (the other half), test defective (the surely so), shuffled by `seed`."""
        draw = random.Random(seed)
        sound = [cell for cell in self.cells if cell.kind == kind and cell.defect == 0]
        defective = [cell for cell in self.cells if cell.kind == kind and cell.defect == 1]
        draw.shuffle(sound)
        draw.shuffle(defective)
        half = len(sound) // 2
        return sound[:half], sound[half:], defective


@contextmanager
def opened(progress: Progress | None = None) -> Iterator[Cells]:
    """The dataset's package, fetched once into KENSOR_HOME with the user's pip settings. Raises CatalogError."""
    kept = home() / "data" / f"elpv_dataset-{PACKAGE.version}.whl"
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".elpv-", dir=kept.parent) as scratch, replaced(kept) as path:
            download(PACKAGE, Path(scratch), progress or (lambda *_: None)).replace(path)
    with zipfile.ZipFile(kept) as archive:
        yield Cells(archive)


def export(folder: Path, progress: Progress | None = None, seed: int = 0) -> dict[str, dict[str, int]]:
    """Write `folder/{mono,poly}/{train/good,test/good,test/defective}/*.png`; returns how many pictures lie where."""
    counts: dict[str, dict[str, int]] = {}
    with opened(progress) as cells:
        for kind in ("mono", "poly"):
            counts[kind] = {}
            for part, chosen in zip(("train/good", "test/good", "test/defective"), cells.split(kind, seed), strict=True):
                target = folder / kind / part
                target.mkdir(parents=True, exist_ok=True)
                for cell in chosen:
                    (target / f"{cell.name}.png").write_bytes(cells.png(cell))
                counts[kind][part] = len(chosen)
        (folder / "LICENCE.txt").write_text(LICENCE + "\n", encoding="utf-8")
    return counts
