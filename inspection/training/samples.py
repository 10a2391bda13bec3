"""Episodes as the training takes them: all tensors in memory, records beside them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inspection.claims import band
from inspection.episodes import shards
from inspection.evidence import InspectionError
from models.lmm.config import COUNTS, PLACES, SIZES

if TYPE_CHECKING:
    import torch

    from models.lmm.learning import Truth
    from models.lmm.myriad import Seen

NOTHING = -100
"""A class that does not count in a loss."""


class TrainingRefused(InspectionError):
    """Nothing to train on, or weights that belong to another training."""

    code = "training_refused"


@dataclass(frozen=True, slots=True)
class Samples:
    """Inspections of many episodes: row n of every tensor and `records[n]` belong together."""

    difference: torch.Tensor
    """`[N, 256, 384]`, float16."""
    map: torch.Tensor
    """`[N, 56, 56]`, float32."""
    scalars: torch.Tensor
    """`[N, 4]`."""
    truth: Truth
    records: list[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.records)

    @property
    def weight(self) -> np.ndarray:
        """Of each sample, so that every product counts alike, however many samples it has; their sum is 1."""
        products = {name: number for number, name in enumerate(dict.fromkeys(record["product"] for record in self.records))}
        of = np.array([products[record["product"]] for record in self.records])
        return np.asarray(1 / np.bincount(of)[of] / len(products))

    def seen(self, rows: Sequence[int] | np.ndarray, device: str = "cpu") -> Seen:
        """The rows as the network takes them."""
        from models.lmm.myriad import Seen

        at = list(rows)
        return Seen(self.difference[at].float().to(device), self.map[at].to(device), self.scalars[at].to(device))

    def truths(self, rows: Sequence[int] | np.ndarray, device: str = "cpu") -> Truth:
        """What is true of them."""
        from models.lmm.learning import Truth

        return Truth(*(values[list(rows)].to(device) for values in self.truth))


def load(folder: Path, held_out: bool) -> Samples:
    """All samples of the episodes whose products are held out, or not. Raises TrainingRefused without any."""
    import torch
    from safetensors.torch import load_file

    from models.lmm.adapter import difference

    kept: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    records: list[dict[str, Any]] = []
    for path in shards(folder):
        episode = json.loads(path.read_bytes())
        if episode["held_out"] != held_out:
            continue
        tensors = load_file(path.with_suffix(".safetensors"))
        references, features, maps = (tensors[name].float() for name in ("references", "features", "map"))
        moved = torch.stack([difference(one, references, at) for one, at in zip(features, maps, strict=True)])
        kept.append((moved.half(), maps, tensors["scalars"]))
        about = {"product": episode["product"], "source": episode["source"], "normals": episode["normals"]}
        records += [{**about, **sample} for sample in episode["samples"]]
    if not records:
        raise TrainingRefused(f"{folder} holds no episodes of {'held-out' if held_out else 'training'} products: make more.")
    joined = [torch.cat(column) for column in zip(*kept, strict=True)]
    return Samples(joined[0], joined[1], joined[2], _truth(records), records)


def _truth(records: Sequence[dict[str, Any]]) -> Truth:
    import torch

    from models.lmm.learning import Truth

    columns: list[list[float]] = [[], [], [], []]
    for record in records:
        truth = record["truth"]
        defective = bool(truth["defective"])
        columns[0].append(float(defective))
        columns[1].append(PLACES.index(truth["place"]) if truth["place"] else NOTHING)
        columns[2].append(SIZES.index(band(truth["area_pct"])) if defective else NOTHING)
        columns[3].append(min(int(truth["count"]), len(COUNTS) - 1))
    return Truth(torch.tensor(columns[0]), *(torch.tensor(column, dtype=torch.long) for column in columns[1:]))
