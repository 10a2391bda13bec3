"""What every vision expert gives: one number, one map, one grid of patch distances."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class RawScore(NamedTuple):
    """One picture as one expert saw it, in the expert's own units (a distance; not comparable between recipes)."""

    score: float
    """The picture's raw score: the largest patch distance (PatchCore) or the map's peak (PaDiM)."""
    map: Floats
    """Anomaly map, `[H, W]`, at the backbone's input size; covers the whole picture edge to edge."""
    patches: Floats
    """Patch distances before upsampling and blur, `[h, w]`."""


class Expert(Protocol):
    """A fitted expert: preprocessed pictures in, raw scores out. Safe to call from one thread at a time."""

    kind: str
    """`patchcore` or `padim`."""
    nbytes: int
    """Resident bytes of its arrays and session, for the pool's budget (an estimate, never below the arrays)."""

    def score(self, images: Floats) -> list[RawScore]:
        """Score a batch `[B, 3, H, W]`, float32, already resized and normalised for the backbone."""
        ...

    def state(self) -> dict[str, np.ndarray]:
        """The arrays a recipe keeps (`memory_bank`, or `mean`/`precision`/`index`), ready for safetensors."""
        ...
