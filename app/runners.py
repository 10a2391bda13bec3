"""Where a chunk of pictures is judged. A runner sees references and a recipe, never the database, and returns values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from app.errors import Damaged, NotFound
from app.pool import Judged, Pool
from app.store import Store
from inspection.evidence import Cancelled, InspectionError


@dataclass(frozen=True, slots=True)
class Failed:
    """A picture that got no verdict, and why."""

    code: str


class Runner(Protocol):
    """Judges chunks."""

    def run(self, sha256: str, folder: Path, images: Sequence[str], cancelled: Callable[[], bool]) -> list[Judged | Failed]:
        """Judge the stored pictures by the recipe, in order. What is wrong with one picture is that picture's result.

        A recipe that cannot be loaded raises, as does a store or a machine that is away. Once `cancelled`, the first results
        alone come back; before there is one, Cancelled is raised."""
        ...


class Local:
    """In this process, through its pool."""

    def __init__(self, store: Store, pool: Pool) -> None:
        self._store, self._pool = store, pool

    def run(self, sha256: str, folder: Path, images: Sequence[str], cancelled: Callable[[], bool]) -> list[Judged | Failed]:
        """One after the other: the worker shares the machine with the line."""
        self._pool.inspector(sha256, folder)
        found: list[Judged | Failed] = []
        for image in images:
            if cancelled():
                if not found:
                    raise Cancelled("The re-inspection was cancelled.")
                break
            found.append(self._one(sha256, folder, image))
        return found

    def _one(self, sha256: str, folder: Path, image: str) -> Judged | Failed:
        try:
            return self._pool.submit(sha256, folder, self._store.get(image)).result()
        except (InspectionError, NotFound, Damaged) as error:
            return Failed(error.code)
