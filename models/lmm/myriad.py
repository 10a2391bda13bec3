"""The trained parts around the two frozen networks, wired as in the paper's drawing (Myriad, figure 2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.lmm.adapter import DomainAdapter
from models.lmm.config import Config, Placement
from models.lmm.instructor import ExpertInstructor
from models.lmm.projection import projection
from models.lmm.qformer import QFormer
from models.lmm.tokenizer import ExpertTokenizer, Views, Words


class Seen(NamedTuple):
    """A batch of inspections as tensors."""

    difference: Tensor
    """Patch features less the nearest normal ones (`adapter.difference`), `[B, P, D]`."""
    map: Tensor
    """Anomaly map over the reject limit, `[B, 56, 56]`."""
    scalars: Tensor
    """`Sight.scalars`, `[B, 4]`."""


class Myriad(nn.Module):
    """Sight in; what is believed, and the tokens that the language model reads in place of words, out."""

    def __init__(self, config: Config, words: Words) -> None:
        super().__init__()
        self.config = config
        self.adapter = DomainAdapter(config.vision_width, config.adapter_rank)
        self.tokenizer = ExpertTokenizer(config, words)
        self.instructor = ExpertInstructor(config.trunk, config.width)
        self.qformer = QFormer(config)
        self.projection = projection(config.projection, config.width, config.language_width)

    def forward(self, seen: Seen, placement: Placement | None = None) -> tuple[Views, Tensor]:
        """Views, and tokens `[B, T, 576]`: the tokenizer's (unless the map enters by the queries alone), then the queries'."""
        at = placement or self.config.placement
        told, asked = at in ("language", "both"), at in ("queries", "both")
        batch = len(seen.map)
        patches = self.adapter(seen.difference) if self.config.vision else None  # [B, P, D]
        instructions = self.instructor(seen.map) if asked else None  # [B, 49, W]
        found = self.qformer(patches, instructions, batch)  # [B, Q, W]
        views, cells = self.tokenizer(seen.map, seen.scalars)
        own = 0.2 * self.projection(found)  # [B, Q, 576]; words have a norm of about 3, queries of 14
        return views, torch.cat((self.tokenizer.tokens(views, cells), own), 1) if told else own
