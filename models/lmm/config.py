"""The trained model's shape in one place, as `config.json` keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

PLACES = ("top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right")
"""The cells of the 3 × 3 grid, row by row."""
SIZES = ("tiny", "small", "medium", "large")
COUNTS = ("no", "one", "two", "three", "many")

Placement = Literal["none", "language", "queries", "both"]
"""Where the anomaly map enters: in the language model's input, among the Q-Former's queries, in both (Myriad, section 3.3)."""


def placed(name: str) -> Placement:
    """A placement by its name. Raises ValueError for another."""
    for one in get_args(Placement):
        if one == name:
            found: Placement = one
            return found
    raise ValueError(f"no placement {name!r}: {', '.join(get_args(Placement))}")


@dataclass(frozen=True, slots=True)
class Config:
    """Widths and counts. The frozen networks' own numbers come first."""

    vision_width: int = 384
    """D of a patch feature."""
    patches: int = 16
    """Rows and columns of patches."""
    language_width: int = 576
    map_cells: int = 56
    scalars: int = 4
    adapter_rank: int = 8
    width: int = 192
    """Of the Q-Former."""
    queries: int = 8
    layers: int = 2
    attention_heads: int = 6
    trunk: tuple[int, int, int] = (16, 32, 64)
    """Channels after each pooling of the map."""
    projection: Literal["linear", "mlp"] = "linear"
    presence_width: int = 8
    """Hidden units of the view on presence."""
    prompt_tokens: int = 4
    """Learned tokens beside those of the map (Myriad has nine)."""
    lora_rank: int = 16
    lora_alpha: float = 32.0
    lora_targets: tuple[str, ...] = ("q_proj", "v_proj")
    placement: Placement = "both"
    vision: bool = True
    """`False`: no ViT features."""
