"""The expert instructor: tokens from the anomaly map that tell the Q-Former's queries where to look (Myriad, section 3.3)."""

from __future__ import annotations

from torch import Tensor, nn

from models.lmm.trunk import Trunk, channels


class ExpertInstructor(nn.Module):
    """The map `[B, 56, 56]` → `[B, 49, W]`: a trunk of its own, then a 1 × 1 convolution to the Q-Former's width."""

    def __init__(self, trunk: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.trunk = Trunk(trunk)
        self.out = nn.Conv2d(trunk[-1], width, 1)

    def forward(self, anomaly_map: Tensor) -> Tensor:
        """Row by row."""
        tokens: Tensor = self.out(self.trunk(channels(anomaly_map))).flatten(2).transpose(1, 2)
        return tokens
