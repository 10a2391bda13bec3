"""A training's state on disk in safetensors and JSON, so that a run that was cut off goes on where it stood. No pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inspection.training.samples import TrainingRefused

if TYPE_CHECKING:
    import torch

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def save(path: Path, parameters: dict[str, torch.Tensor], optimiser: Any, state: dict[str, Any]) -> None:
    """Write parameters, AdamW's moments and `state` (plain JSON), whole or not at all."""
    from safetensors.torch import save as packed

    tensors = {f"parameter.{name}": value.detach().cpu().contiguous() for name, value in parameters.items()}
    for name, value in parameters.items():
        for moment in _MOMENTS:
            if moment in optimiser.state.get(value, {}):
                tensors[f"{moment}.{name}"] = optimiser.state[value][moment].detach().cpu().contiguous()
    scratch = path.with_suffix(".part")
    scratch.write_bytes(packed(tensors, metadata={"state": json.dumps(state)}))
    scratch.replace(path)


def load(path: Path, settings: Any, parameters: dict[str, torch.Tensor], optimiser: Any) -> dict[str, Any] | None:
    """Fill parameters and moments in; the `state`. `None` where there is no checkpoint.

    Raises TrainingRefused, with nothing changed, for one whose `state["settings"]` are others.
    """
    import torch
    from safetensors import safe_open

    if not path.is_file():
        return None
    with safe_open(path, framework="pt") as file, torch.no_grad():
        state: dict[str, Any] = json.loads(file.metadata()["state"])
        if state["settings"] != settings:
            raise TrainingRefused(f"{path} belongs to another training: remove it, or train into another folder.")
        names = set(file.keys())
        for name, value in parameters.items():
            value.copy_(file.get_tensor(f"parameter.{name}"))
            kept = {moment: file.get_tensor(f"{moment}.{name}") for moment in _MOMENTS if f"{moment}.{name}" in names}
            for moment, found in kept.items():
                optimiser.state[value][moment] = found if moment == "step" else found.to(value.device)
    return state
