"""The torch runtime: anomalib's own PatchcoreModel and PadimModel behind the protocol, as the oracle of parity.

Anomalib takes 20 s to import: nothing on the serving path does.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Any, cast

import numpy as np
import torch
from anomalib.models.image.padim.torch_model import PadimModel
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from torch import Tensor, nn

from models import backbones
from models.experts.base import FeaturesRefused, Floats, RawScore, State
from models.experts.layout import Layout

BATCH = 16


class _Extractor(nn.Module):
    """Stands where anomalib's extractor stood: our backbone's features (float32), or those handed in, as its one layer."""

    def __init__(self, backbone: nn.Module, precision: torch.dtype) -> None:
        super().__init__()
        self.backbone = backbone
        self.precision = precision
        self.given: Tensor | None = None

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = self.backbone(images.float()) if self.given is None else self.given
        return {"features": features.to(self.precision)}


class TorchExpert:
    """Anomalib's scoring, map and blur over the same features as the line's; on a GPU where there is one.

    The search runs in float64 unless told otherwise: in float32 anomalib's |x|² + |y|² − 2x·y loses up to 1e-3 of a distance
    between features that lie far from zero, as EfficientNet-Lite0's do.
    """

    def __init__(
        self,
        kind: str,
        state: Mapping[str, np.ndarray],
        layout: Layout,
        threads: int = 1,
        precision: torch.dtype = torch.float64,
    ) -> None:
        backbone = layout.view.backbone
        self.kind, self._layout = kind, layout
        self._state = {name: np.ascontiguousarray(array) for name, array in state.items()}
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self._device.type == "cpu":
            torch.set_num_threads(threads)
        self._extractor = _Extractor(backbones.build(backbone).to(self._device), precision)
        self._model = _patchcore(self._state) if kind == "patchcore" else _padim(self._state)
        self._model.feature_extractor = nn.Identity()
        self._model.to(self._device, precision).eval()
        self._model.anomaly_map_generator.float()  # a dense float64 blur takes torch 400 ms
        self._model.feature_extractor = self._extractor
        self._model.layers = ["features"]
        self._stamps: list[float] = []
        self._extractor.register_forward_hook(lambda *_: self._stamp())
        self._model.anomaly_map_generator.blur.register_forward_pre_hook(lambda *_: self._stamp())
        weights = sum(parameter.numel() for parameter in self._extractor.parameters())
        self.nbytes = 2 * sum(array.nbytes for array in self._state.values()) + 4 * weights

    def state(self) -> State:
        return dict(self._state)

    def score(self, images: Floats, timings: dict[str, float] | None = None) -> list[RawScore]:
        self._extractor.given = None
        return self._run([torch.from_numpy(images[i : i + BATCH]) for i in range(0, len(images), BATCH)], timings)

    def score_features(self, features: Floats, timings: dict[str, float] | None = None) -> list[RawScore]:
        scores = []
        blank = torch.zeros(1, 1, 1, 1).expand(1, 3, *self._layout.size)  # anomalib reads the picture's size from it
        for one in features:
            grid = torch.from_numpy(one.T.copy()).reshape(1, -1, *self._layout.grid)
            self._extractor.given = grid.to(self._device)
            scores += self._run([blank], timings)
        return scores

    def _stamp(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        self._stamps.append(perf_counter())

    def _run(self, batches: list[Tensor], timings: dict[str, float] | None) -> list[RawScore]:
        scores = []
        spent = np.zeros(3)
        for batch in batches:
            self._stamps.clear()
            self._stamp()
            with torch.inference_mode():
                result = self._model(batch.to(self._device))
            self._stamp()
            spent += np.diff(self._stamps) * 1e3
            patches = self._model.patches.cpu().numpy()[:, 0]
            maps = result.anomaly_map.cpu().numpy()[:, 0]
            for raw, heat, grid in zip(result.pred_score.flatten().tolist(), maps, patches, strict=True):
                if not np.isfinite(grid).all():
                    raise FeaturesRefused("the picture's features are not finite")
                scores.append(RawScore(raw if self._layout.view.rule == "max" else self._layout.pooled(grid.ravel()), heat, grid))
        if timings is not None:
            for stage, milliseconds in zip(("features", "search", "map"), spent.tolist(), strict=True):
                timings[stage] = timings.get(stage, 0.0) + milliseconds
        return scores


def _patchcore(state: State) -> Any:
    model = PatchcoreModel(backbone="resnet18", layers=["layer1"], pre_trained=False, num_neighbors=1)  # never asks the hub
    model.feature_pooler = nn.Identity()  # our features are pooled
    model.memory_bank = torch.from_numpy(state["memory_bank"])

    def keep(_: nn.Module, arguments: tuple[Tensor, Any]) -> tuple[Tensor, Any]:
        model.patches = arguments[0].float()
        return model.patches, arguments[1]

    model.anomaly_map_generator.register_forward_pre_hook(keep)
    return model


def _padim(state: State) -> Any:
    model = PadimModel(backbone="resnet18", layers=["layer1"], pre_trained=False, n_features=1)
    model.idx = torch.from_numpy(state["index"]).long()
    model.gaussian.mean = torch.from_numpy(state["mean"].T.copy())
    model.gaussian.inv_covariance = torch.from_numpy(state["precision"])
    upsample = model.anomaly_map_generator.up_sample

    def keep(distance: Tensor, image_size: Any) -> Tensor:
        model.patches = distance.float()
        return cast(Tensor, upsample(model.patches, image_size))

    model.anomaly_map_generator.up_sample = keep
    return model
