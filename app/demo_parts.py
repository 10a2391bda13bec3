"""Where the demo's parts come from: solar cells, drawn parts, or a folder of the user's own."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path

from app import elpv
from inspection.evaluation import FolderRefused, pictures
from models.catalog import Progress


@dataclass(frozen=True, slots=True)
class Part:
    """One picture file; `defective` is `None` where nobody said."""

    name: str
    data: bytes
    defective: bool | None


@dataclass(frozen=True, slots=True)
class Parts:
    """Normal pictures to enroll on and others to inspect; the two do not overlap."""

    product: str
    title: str
    """In the plural, as a sentence has it: `solar cells`."""
    notice: str
    """Licence and origin, printed before anything else."""
    normal: list[Part]
    test: list[Part]
    download_seconds: float = 0.0


def solar_cells(seed: int, normal: int, each: int, progress: Progress | None) -> Parts:
    """`normal` sound monocrystalline cells, and `each` sound and surely defective ones, drawn by `seed`."""
    started = time.perf_counter()
    with elpv.opened(progress) as cells:
        seconds = time.perf_counter() - started
        train, sound, defective = cells.split("mono", seed)
        return Parts(
            product="solar-cell-mono",
            title="solar cells",
            notice=elpv.LICENCE,
            normal=[Part(f"{c.name}.png", cells.png(c), False) for c in train[:normal]],
            test=[Part(f"{c.name}.png", cells.png(c), c.defect == 1) for c in sound[:each] + defective[:each]],
            download_seconds=seconds,
        )


def drawn_parts(seed: int, normal: int, each: int) -> Parts:
    """The same with parts drawn by the program: free to show, and the defects' kinds are known."""
    import cv2

    from inspection.drawn import DEFECTS, drawn

    def part(index: int, defect: str | None) -> Part:
        picture, _ = drawn(seed, index, defect)
        _, png = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        return Part(f"{defect or 'sound'}-{index:03}.png", png.tobytes(), defect is not None)

    return Parts(
        product="drawn-part",
        title="drawn parts",
        notice="The parts are drawn by the program itself (inspection/drawn.py): free of any licence.",
        normal=[part(i, None) for i in range(normal)],
        test=[part(normal + i, None) for i in range(each)]
        + [part(normal + each + i, DEFECTS[i % len(DEFECTS)]) for i in range(each)],
    )


def own_folder(folder: Path, test: Path | None, seed: int, normal: int, each: int) -> Parts:
    """A folder in the MVTec AD convention, or `folder` of normal pictures and `test` (`good`, defects)."""
    train = folder / "train" / "good" if test is None else folder
    tests = folder / "test" if test is None else test
    if not train.is_dir() or not tests.is_dir():
        raise FolderRefused(
            f"{folder} has no train/good and test. Give a folder in the MVTec AD convention (train/good, test/good, "
            "test/DEFECT), or a folder of normal pictures and another with --test."
        )
    draw = random.Random(seed)
    normals = pictures(train)
    groups: dict[bool | None, list[Path]] = {None: pictures(tests), False: [], True: []}
    for kind in sorted(p for p in tests.iterdir() if p.is_dir() and not p.name.startswith(".")):
        groups[kind.name.casefold() not in ("good", "normal", "ok")] += pictures(kind)
    chosen = [(path, truth) for truth, paths in groups.items() for path in draw.sample(paths, min(each, len(paths)))]
    if not normals or not chosen:
        raise FolderRefused(f"There is no picture in {tests if normals else train} (PNG, JPEG, BMP, TIFF or WebP).")
    return Parts(
        product="own-parts",
        title="parts",
        notice=f"The pictures are your own, from {folder.resolve().name}; they stay on this machine.",
        normal=[Part(p.name, p.read_bytes(), False) for p in draw.sample(normals, min(normal, len(normals)))],
        test=[Part(f"{p.parent.name}/{p.name}" if t is not None else p.name, p.read_bytes(), t) for p, t in chosen],
    )
