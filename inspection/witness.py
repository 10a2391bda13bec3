"""An expert enrolled for the moment, and what it says of a picture as an answer takes it: for evaluations and benchmarks."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from inspection import recipe as recipes
from inspection.enrolment import enroll
from inspection.evidence import Evidence, Outcome
from inspection.image import Pixels, decode
from inspection.inspector import Inspector
from inspection.options import EnrolOptions


@dataclass(frozen=True, slots=True)
class Witness:
    """The expert, and the recipe's normal pictures, which an answer is shown beside the part."""

    inspector: Inspector
    references: tuple[Pixels, ...]

    def says(self, data: bytes) -> Evidence:
        """An encoded picture's evidence, the picture with it. Raises as `Inspector.inspect`."""
        return as_evidence(self.inspector.inspect(data), decode(data).pixels, self.references)


def witness(normals: Sequence[bytes | Path], options: EnrolOptions = EnrolOptions()) -> Witness:
    """Enroll on normal pictures and keep nothing on disk. Raises as `enroll`."""
    with tempfile.TemporaryDirectory() as near:
        folder = Path(near) / "recipe"
        enroll(normals, folder, product="part", options=options)
        references = tuple(decode(data).pixels for data in recipes.normals(folder))
        return Witness(Inspector.load(folder, check=False), references)


def as_evidence(outcome: Outcome, image: Pixels | None = None, references: tuple[Pixels, ...] = ()) -> Evidence:
    """An outcome as the record would give it to an answer: no serial, no history."""
    same = {one.name for one in fields(Evidence)} & {one.name for one in fields(Outcome)}
    taken = {name: getattr(outcome, name) for name in same}
    return Evidence(inspection_id="", product="part", recipe_number=1, created_at="", image=image, references=references, **taken)
