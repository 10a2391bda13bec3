"""A backbone on an accelerator, through torch. Imported only where `KENSOR_DEVICE` names one."""

from __future__ import annotations

import numpy as np
import torch

from models import backbones
from models.catalog import DeviceUnavailable
from models.experts.base import Floats

LACKING = (RuntimeError, AssertionError, NotImplementedError)
"""What torch raises for a device that it does not know or that is not there."""


def reason(device: str) -> str:
    """Why torch cannot compute on `device`, in a line; empty where it can."""
    try:
        return "" if float(torch.ones(2, device=device).sum()) == 2 else "it adds wrongly"
    except LACKING as error:
        return _first(error)


class Network:
    """Preprocessed pictures → patch features in float32, within 1e-4 of the exported graph's."""

    def __init__(self, name: str, device: str) -> None:
        """Put the backbone on torch's `device`. Raises as `backbones.build`, catalog.DeviceUnavailable."""
        torch.backends.cudnn.allow_tf32 = False  # its 10 bits part scores by 1e-3
        network = backbones.build(name)
        self.nbytes = sum(parameter.nbytes for parameter in network.parameters())
        self._device = device
        try:
            self._network = network.to(device)
        except LACKING as error:
            raise self._unavailable(error) from error

    def __call__(self, images: Floats) -> Floats:
        """`[B, 3, H, W]` → `[B, h*w, D]`, patches row by row; all in one run. Raises catalog.DeviceUnavailable."""
        try:
            with torch.inference_mode():
                grid = self._network(torch.from_numpy(np.ascontiguousarray(images)).to(self._device))
                features: Floats = grid.flatten(2).transpose(1, 2).contiguous().cpu().numpy()
                return features
        except torch.OutOfMemoryError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> DeviceUnavailable:
        return DeviceUnavailable(
            f"KENSOR_DEVICE is {self._device}, which cannot be used: {_first(error)}. Unset it to run on the processor.",
            device=self._device,
        )


def _first(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].partition(". ")[0].rstrip(".")
