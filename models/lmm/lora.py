"""Low-rank adaptation of frozen linear layers (LoRA, section 4.1)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class LowRank(nn.Module):
    """W x + (alpha / r) B A x, W frozen; B starts at zero."""

    def __init__(self, frozen: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.frozen, self.scale = frozen, alpha / rank
        self.a = nn.Parameter(torch.randn(rank, frozen.in_features) / rank)
        self.b = nn.Parameter(torch.zeros(frozen.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        """`[…, in]` → `[…, out]`."""
        out: Tensor = self.frozen(x) + self.scale * (x @ self.a.T) @ self.b.T
        return out


def adapt(model: Any, targets: tuple[str, ...], rank: int, alpha: float) -> nn.ModuleDict:
    """Put a `LowRank` in place of every linear layer of these names; returns them, named by layer and target."""
    added: dict[str, nn.Module] = {}
    for number, layer in enumerate(model.layers):
        for target in targets:
            adapted = LowRank(getattr(layer.self_attn, target), rank, alpha)
            setattr(layer.self_attn, target, adapted)
            added[f"{number}_{target}"] = adapted
    return nn.ModuleDict(added)


@torch.no_grad()
def merge(model: Any, targets: tuple[str, ...]) -> None:
    """Add what was learned to the frozen weights and take the detours out: the same words, sooner."""
    for layer in model.layers:
        for target in targets:
            adapted = getattr(layer.self_attn, target)
            adapted.frozen.weight += adapted.scale * adapted.b @ adapted.a
            setattr(layer.self_attn, target, adapted.frozen)
