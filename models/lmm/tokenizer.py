"""The expert tokenizer: the anomaly map in words the language model knows (Myriad, section 3.3)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_max_pool2d

from models.lmm.config import COUNTS, PLACES, SIZES, Config
from models.lmm.trunk import SHARPNESS, Trunk, channels

_LEVELS = (-0.3, 0.0, 0.3)  # logarithms over the limit
_RANKS = (0.5, 0.9, 0.99)
LEAST = 1.0
"""The view on presence, as a logit, is no lower where the score is over the reject limit (docs/decisions/0022)."""


class Views(NamedTuple):
    """What the vision part believes, as logits: the defect's presence `[B]`, place `[B, 9]`, size `[B, 4]`, amount `[B, 5]`."""

    presence: Tensor
    place: Tensor
    size: Tensor
    amount: Tensor


class ExpertTokenizer(nn.Module):
    """The map `[B, 56, 56]` and the expert's scalars `[B, 4]` → views, and tokens `[B, 12 + n, 576]`.

    The paper's nine map tokens are vectors that a small language model needs thousands of steps to read. Here each is the
    embedding of its cell's word, the stronger the likelier the defect lies there, plus a projected vector; three more are
    mixtures of the words for yes and no, for sizes and for counts. The views start as what the expert says: its score over its
    limits, the map's highest cell.
    """

    place_words: Tensor
    presence_words: Tensor
    size_words: Tensor
    count_words: Tensor

    def __init__(self, config: Config, words: Words) -> None:
        super().__init__()
        c = config
        self.trunk = Trunk(c.trunk)
        self.cell = nn.Linear(c.trunk[-1] + 2, c.language_width)
        self.cell_place = nn.Linear(c.trunk[-1] + 2, 1)
        facts = 2 * c.trunk[-1] + c.scalars + 3
        hidden = nn.Linear(c.scalars + len(_LEVELS) + len(_RANKS), c.presence_width)
        self.presence = nn.Sequential(hidden, nn.Tanh(), last := nn.Linear(c.presence_width, 1))
        self.size = nn.Sequential(nn.Linear(facts, 64), nn.ReLU(), nn.Linear(64, len(SIZES)))
        self.amount = nn.Sequential(nn.Linear(facts, 64), nn.ReLU(), nn.Linear(64, len(COUNTS)))
        self.expert = nn.Parameter(torch.tensor([3.0, 3.0]))  # of score / reject limit, score / review limit
        self.peak = nn.Parameter(torch.tensor(4.0))
        self.prompt = nn.Parameter(0.02 * torch.randn(c.prompt_tokens, c.language_width))
        self.tags = nn.Parameter(torch.zeros(len(PLACES) + 3, c.language_width))
        for layer in (self.cell, self.cell_place, last):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.register_buffer("place_words", words.places, persistent=False)
        self.register_buffer("presence_words", words.presence, persistent=False)
        self.register_buffer("size_words", words.sizes, persistent=False)
        self.register_buffer("count_words", words.counts, persistent=False)

    def forward(self, anomaly_map: Tensor, scalars: Tensor) -> tuple[Views, Tensor]:
        """Views and the nine cells' features `[B, 9, C + 2]`. The view on presence adds to what the expert rejects and takes
        nothing off it.

        The picture itself has no part in the views: heads that saw it were better on products like those learned and worse on
        real parts (docs/experiments.md).
        """
        planes = channels(anomaly_map)  # [B, 2, M, M]
        deep = self.trunk(planes)  # [B, C, 7, 7]
        peaks = adaptive_max_pool2d(planes, 3).flatten(2).transpose(1, 2)  # [B, 9, 2]
        cells = torch.cat((adaptive_max_pool2d(deep, 3).flatten(2).transpose(1, 2), peaks), -1)  # [B, 9, C + 2]
        facts = torch.cat((deep.amax((2, 3)), deep.mean((2, 3)), scalars, _areas(planes[:, 0])), -1)
        presence = self.present(presence_facts(planes[:, 0], scalars)).detach()  # [B]; fitted apart, no other loss moves it
        over = (scalars[:, 0] >= 0) & (scalars[:, 3] > 0)  # [B]
        presence = torch.where(over, presence.clamp_min(LEAST), presence)
        place = self.peak * peaks[..., 0] + self.cell_place(cells)[..., 0]  # [B, 9]
        return Views(presence, place, self.size(facts), self.amount(facts)), cells

    def present(self, numbers: Tensor) -> Tensor:
        """The view on presence `[B]` from `presence_facts`, `[B, S + 6]`. Convolutions over the map were as good on painted
        defects and worse on real ones (docs/experiments.md)."""
        found: Tensor = numbers[:, :2] @ self.expert + self.presence(numbers)[:, 0]
        return found

    def tokens(self, views: Views, cells: Tensor) -> Tensor:
        """`[B, 12 + n, 576]`: nine cells, yes or no, size, count, and the learned prompt."""
        place = views.place.softmax(-1)[..., None]  # [B, 9, 1]
        yes = torch.sigmoid(2 * views.presence)[:, None]  # sharper than the view: the language model reads words, not degrees
        words = torch.cat(
            (
                self.place_words * (0.2 + 2 * place) + self.cell(cells),
                (torch.cat((1 - yes, yes), -1) @ self.presence_words)[:, None],
                (views.size.softmax(-1) @ self.size_words)[:, None],
                (views.amount.softmax(-1) @ self.count_words)[:, None],
            ),
            1,
        )
        return torch.cat((words + self.tags, self.prompt.expand(len(words), -1, -1)), 1)


def presence_facts(log: Tensor, scalars: Tensor) -> Tensor:
    """What presence is judged by, `[B, S + 6]`: the scalars `[B, S]`, and of the logarithmic map `[B, M, M]` the areas over three
    levels around the limit, the median, the upper tenth and the upper hundredth."""
    ranks = torch.quantile(log.flatten(1), torch.tensor(_RANKS, device=log.device), 1).T
    return torch.cat((scalars, _areas(log), ranks), -1)


def _areas(log: Tensor) -> Tensor:
    """Shares of the logarithmic map `[B, M, M]` over each level, as logarithms, `[B, 3]`."""
    return 0.3 * torch.stack([torch.sigmoid(SHARPNESS * (log - at)).mean((1, 2)).clamp_min(1e-4).log() for at in _LEVELS], -1)


class Words(NamedTuple):
    """Embeddings of the language model's words: `[9, 576]`, `[2, 576]` (no, yes), `[4, 576]`, `[5, 576]`."""

    places: Tensor
    presence: Tensor
    sizes: Tensor
    counts: Tensor
