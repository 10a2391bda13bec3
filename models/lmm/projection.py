"""From the Q-Former's width to the language model's: linear (MiniGPT-4) or two layers (LLaVA-1.5)."""

from __future__ import annotations

from typing import Literal

from torch import nn


def projection(kind: Literal["linear", "mlp"], width: int, language_width: int) -> nn.Module:
    """`[B, Q, width]` → `[B, Q, language_width]`. Raises ValueError for another kind."""
    if kind == "linear":
        return nn.Linear(width, language_width)
    if kind == "mlp":
        return nn.Sequential(nn.Linear(width, language_width), nn.GELU(), nn.Linear(language_width, language_width))
    raise ValueError(f"no projection {kind!r}: linear or mlp")
