"""The domain adapter: patch features of ordinary pictures, moved a little towards those of parts (Myriad, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DomainAdapter(nn.Module):
    """A residual low-rank linear map without bias. It starts as the identity."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, rank, bias=False)
        self.up = nn.Linear(rank, width, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, features: Tensor) -> Tensor:
        """`[B, P, D]` → `[B, P, D]`."""
        adapted: Tensor = features + self.up(self.down(features))
        return adapted


def difference(features: Tensor, references: Tensor, anomaly_map: Tensor) -> Tensor:
    """Each patch feature less the most like it (by cosine) among normal ones, `[P, D]`.

    `features` `[P, D]`, `references` `[R, P, D]`, `anomaly_map` `[M, M]`. Without references (R = 0) the normal ones are the
    part's own patches under the median of its map. Absolute features memorise the products of the training, differences do not.
    """
    if len(references):
        normal = references.flatten(0, 1)  # [R P, D]
    else:
        side = round(len(features) ** 0.5)
        patches = torch.nn.functional.adaptive_max_pool2d(anomaly_map[None, None], side).flatten()  # [P]
        normal = features[patches <= patches.median()]
    unit = torch.nn.functional.normalize
    nearest = (unit(features, dim=-1) @ unit(normal, dim=-1).T).argmax(-1)  # [P]
    return features - normal[nearest]
