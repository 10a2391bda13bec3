"""Convolutions over the anomaly map: tokenizer and instructor have a trunk each (Myriad, section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SHARPNESS = 8.0
_FLOOR = 0.05  # of the limit: below it a map says nothing more


def channels(anomaly_map: Tensor) -> Tensor:
    """The map over its limit `[B, M, M]` → `[B, 2, M, M]`: its logarithm, and a soft step at the limit."""
    log = anomaly_map.clamp(_FLOOR, 1 / _FLOOR).log()
    return torch.stack((log, torch.sigmoid(SHARPNESS * log)), 1)


class Trunk(nn.Sequential):
    """`[B, 2, 56, 56]` → `[B, C, 7, 7]`: three times 3 × 3 convolution, norm, ReLU, 2 × 2 max-pooling."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        boxes: list[nn.Module] = []
        for before, after in zip((2, *widths), widths, strict=False):
            boxes += [nn.Conv2d(before, after, 3, padding=1), nn.GroupNorm(4, after), nn.ReLU(), nn.MaxPool2d(2)]
        super().__init__(*boxes)
