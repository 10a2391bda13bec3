"""Patch features of many pictures in a file that has no name: as many as the disk holds, in bounded memory."""

from __future__ import annotations

import mmap
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from inspection.evidence import EnrolmentRefused
from inspection.image import Pixels
from models import experts
from models.experts import Region, View
from models.experts.tiles import prepared
from models.runtime import together

Floats = NDArray[np.float32]
Progress = Callable[[str, int, int], None]

RESIDENT = 256 * 2**20
"""Bytes handed out between two times that the pages are given back to the system; it keeps them in its cache."""


class Features(Sequence[Floats]):
    """Pictures' features `[P, D]`, float32, each read from the file when it is looked at."""

    def __init__(self, mapped: mmap.mmap | None, shape: tuple[int, int], numbers: Sequence[int]) -> None:
        self.shape = (len(numbers), *shape)
        self._mapped, self._numbers, self._handed = mapped, numbers, 0
        self._all = np.frombuffer(mapped or b"", np.float32).reshape(-1, *shape)

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, at: int) -> Floats: ...

    @overload
    def __getitem__(self, at: slice) -> Features: ...

    def __getitem__(self, at: int | slice) -> Floats | Features:
        if isinstance(at, slice):
            return self.of(range(len(self))[at])
        one: Floats = self._all[self._numbers[at]]
        self._handed += one.nbytes
        if self._mapped is not None and self._handed > RESIDENT:
            self._mapped.madvise(mmap.MADV_DONTNEED)
            self._handed = one.nbytes
        return one

    def of(self, chosen: Sequence[int]) -> Features:
        """The features of some of the pictures, in that order."""
        return Features(self._mapped, self._all.shape[1:], [self._numbers[n] for n in chosen])


class Altered(Sequence[tuple[int, Floats]]):
    """Altered pictures' features, each with the number of its original: `models.experts.Copies`."""

    def __init__(self, originals: Sequence[int], features: Features) -> None:
        self._originals, self._features = originals, features

    def __len__(self) -> int:
        return len(self._originals)

    @overload
    def __getitem__(self, at: int) -> tuple[int, Floats]: ...

    @overload
    def __getitem__(self, at: slice) -> Altered: ...

    def __getitem__(self, at: int | slice) -> tuple[int, Floats] | Altered:
        if isinstance(at, slice):
            return Altered(self._originals[at], self._features[at])
        return self._originals[at], self._features[at]


@contextmanager
def features_file(
    pictures: Iterator[Pixels],
    count: int,
    kind: str,
    view: View,
    near: Path,
    tell: Progress,
    stop: Callable[[], None],
    region: Region | None = None,
    stage: str = "features",
    template: np.ndarray | None = None,
) -> Iterator[Features]:
    """Patch features of `count` pictures, one pass of the backbone each, in a nameless file in the folder `near`.

    `template`: what registered PaDiM lays each picture on.
    Raises EnrolmentRefused where they do not fit on its disk, and what `stop` raises.
    """
    session = experts.extractor(kind, view, region, template=template)
    shape = (1, 1)
    with tempfile.TemporaryFile(dir=near, prefix=".features-") as file:
        done, step = 0, 1 if view.tile else together()
        while batch := [prepared(pixels, view) for pixels in islice(pictures, step)]:
            stop()
            found = session.features(batch[0] if len(batch) == 1 else np.concatenate(batch))
            if not done:
                shape = found.shape[1:]
                _check_room(count * found[0].nbytes, count, near)
            file.write(np.ascontiguousarray(found).data)
            done += len(batch)
            tell(stage, done, count)
        file.flush()
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if count else None
        yield Features(mapped, shape, range(count))


def _check_room(needed: int, count: int, near: Path) -> None:
    free = shutil.disk_usage(near).free
    if needed > free:
        raise EnrolmentRefused(
            f"The features of {count:,} pictures take {needed / 1e9:,.1f} GB for the time of the enrolment; {near} has "
            f"{free / 1e9:,.1f} GB left. Make room, or give fewer pictures, a smaller image size or larger tiles.",
            needed=needed,
            free=free,
        )
