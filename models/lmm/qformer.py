"""The Q-Former: a few learned queries that gather what they need from many patches (BLIP-2, section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.lmm.config import Config


class Block(nn.Module):
    """Self-attention among queries and instructions, cross-attention to the patches, a feed-forward; each after a norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.own = nn.MultiheadAttention(width, heads, batch_first=True)
        self.cross = nn.MultiheadAttention(width, heads, batch_first=True)
        self.feed = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, queries: Tensor, patches: Tensor | None) -> Tensor:
        """Queries `[B, Q, W]`, patches `[B, P, W]` → `[B, Q, W]`."""
        normed = self.norms[0](queries)
        queries = queries + self.own(normed, normed, normed, need_weights=False)[0]
        if patches is not None:
            queries = queries + self.cross(self.norms[1](queries), patches, patches, need_weights=False)[0]
        out: Tensor = queries + self.feed(self.norms[2](queries))
        return out


class QFormer(nn.Module):
    """Patch features `[B, P, D]` and instructions `[B, I, W]` → the queries' answers `[B, Q, W]`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.queries = nn.Parameter(0.02 * torch.randn(config.queries, config.width))
        self.enter = nn.Linear(config.vision_width, config.width)
        self.at = nn.Parameter(0.02 * torch.randn(config.patches**2, config.width))
        self.norm = nn.LayerNorm(config.width)
        self.blocks = nn.ModuleList(Block(config.width, config.attention_heads) for _ in range(config.layers))
        self.out = nn.LayerNorm(config.width)

    def forward(self, patches: Tensor | None, instructions: Tensor | None, batch: int) -> Tensor:
        """Without patches or instructions the queries do without them."""
        found = self.queries.expand(batch, -1, -1)
        count = found.shape[1]
        seen = None if patches is None else self.norm(self.enter(patches) + self.at)
        if instructions is not None:
            found = torch.cat((found, instructions), 1)
        for block in self.blocks:
            found = block(found, seen)
        out: Tensor = self.out(found[:, :count])
        return out
