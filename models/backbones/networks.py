"""The backbones in torch, timm's networks inside, and their export. Imported only where torch is wanted anyway."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import timm
import torch
from safetensors.torch import load_file
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import pad_same_arg
from torch import Tensor, nn
from torch.nn import functional

from models import backbones, catalog

if TYPE_CHECKING:
    from models.backbones import BackboneSpec


def tensor_shapes(architecture: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors timm gives that network, in timm's order."""
    with torch.device("meta"):
        network = timm.create_model(architecture, pretrained=False)
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def describe(architecture: str, layers: tuple[str, ...]) -> BackboneSpec:
    """What timm says of a convolutional network and those of its layers. Raises catalog.UnknownWeight."""
    if not timm.is_model(architecture):
        raise catalog.UnknownWeight(f"Neither the catalogue nor timm has a backbone named {architecture!r}.", name=architecture)
    stages = _stages(architecture)
    if len({stage["reduction"] for stage in stages.values()}) < 2:
        raise catalog.UnknownWeight(f"{architecture} is no convolutional network with stages; use dinov2_vits14 for a ViT.")
    if unknown := [layer for layer in layers if layer not in stages]:
        message = f"{architecture} has no {', '.join(unknown)}; name layers of {', '.join(stages)}: `timm:{architecture}:A+B`."
        raise catalog.UnknownWeight(message, layers=list(stages))
    config = timm.get_pretrained_cfg(architecture)
    if config is None or not config.hf_hub_id:
        raise catalog.UnknownWeight(f"timm names no trained weights for {architecture} on the hub.", name=architecture)
    return backbones.BackboneSpec(
        name="timm:" + architecture + ("" if layers == ("layer2", "layer3") else ":" + "+".join(layers)),
        weights=config.hf_hub_id,
        architecture=architecture,
        layers=layers,
        width=sum(stages[layer]["num_chs"] for layer in layers),
        stride=stages[layers[0]]["reduction"],
        mean=tuple(config.mean),
        std=tuple(config.std),
        l2_normalised=False,
        image_size=224,
    )


def _stages(architecture: str) -> dict[str, dict[str, Any]]:
    with torch.device("meta"):
        return {stage["module"]: stage for stage in timm.create_model(architecture, features_only=True).feature_info}


class ConvolutionFeatures(nn.Module):
    """A CNN's layers as PatchCore joins them (section 3.1): `[B, 3, H, W]` → `[B, D, h, w]`, h×w of the first layer."""

    def __init__(self, spec: BackboneSpec, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        stages = list(_stages(spec.architecture))
        indices = [stages.index(layer) for layer in spec.layers]
        # `exportable` as anomalib asks it, so that both compute the same graph
        self.network = timm.create_model(spec.architecture, features_only=True, exportable=True, out_indices=indices)
        _load(self.network, tensors)
        self.pool = nn.AvgPool2d(3, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        first, *others = [self.pool(layer) for layer in self.network(images)]
        grid = first.shape[-2:]
        return torch.cat([first, *(functional.interpolate(layer, size=grid, mode="bilinear") for layer in others)], 1)

    def fix(self, size: int) -> None:
        """Take pictures of `size` only, so that a traced graph holds numbers where it would compute them for every picture."""

        def settle(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            same = cast(Conv2dSame, layer)
            pads = pad_same_arg(list(inputs[0].shape[-2:]), same.kernel_size, same.stride, same.dilation)
            same.forward = partial(_padded, same, pads)

        hooks = [m.register_forward_pre_hook(settle) for m in self.network.modules() if isinstance(m, Conv2dSame)]
        layers = self.network(torch.zeros(1, 3, size, size))
        for hook in hooks:
            hook.remove()
        side = layers[0].shape[-1]
        self.upsample = [_bilinear(layer.shape[-1], side) for layer in layers[1:]]

    def tokens(self, images: Tensor) -> Tensor:
        """As `forward`, patches row by row `[B, h*w, D]`, for the size fixed: channels last, upsampled by two small products."""
        first, *others = [self.pool(layer).permute(0, 2, 3, 1) for layer in self.network(images)]
        side = int(first.shape[1])
        joined = [first]
        for layer, matrix in zip(others, self.upsample, strict=True):
            low, width = int(layer.shape[1]), int(layer.shape[3])
            rows = (matrix @ layer.reshape(-1, low, low * width)).reshape(-1, side, low, width)
            joined.append(matrix @ rows)
        return torch.cat(joined, 3).reshape(-1, side * side, sum(int(layer.shape[3]) for layer in joined))


def _padded(same: Conv2dSame, pads: list[int], x: Tensor) -> Tensor:
    """TensorFlow's SAME convolution of an input whose padding is known; onnxruntime folds a padding that states its value."""
    x = functional.pad(x, pads, value=0.0)
    return functional.conv2d(x, same.weight, same.bias, same.stride, 0, same.dilation, same.groups)


def _bilinear(low: int, high: int) -> Tensor:
    """The `[high, low]` matrix of a bilinear upsampling along one axis."""
    return functional.interpolate(torch.eye(low)[None], size=high, mode="linear")[0].T.contiguous()


class TransformerFeatures(nn.Module):
    """The tokens of one ViT block, each of length 1: `[B, 3, H, W]` → `[B, D, h, w]`; later blocks are never run.

    Positions are resampled bicubically without antialiasing, as transformers does (timm's own way differs by 1.6 %).
    """

    def __init__(self, spec: BackboneSpec, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        depth = int(spec.layers[0].removeprefix("blocks.")) + 1
        network = timm.create_model(spec.architecture, pretrained=False, dynamic_img_size=True)
        _load(network, tensors)
        self.patches = network.patch_embed
        self.blocks = network.blocks[:depth]
        self.cls = network.cls_token
        self.positions = network.pos_embed

    def place(self, grid: tuple[int, int]) -> Tensor:
        """Positions of a grid `[1, h, w, D]`."""
        tokens = self.positions[:, 1:]
        side = math.isqrt(int(tokens.shape[1]))
        square: Tensor = tokens.reshape(1, side, side, -1)
        if grid == (side, side):
            return square
        return functional.interpolate(square.permute(0, 3, 1, 2), size=grid, mode="bicubic").permute(0, 2, 3, 1)

    def fix(self, size: int) -> None:
        """Resample the positions once and for all: the module then takes pictures of `size` only."""
        side = size // int(self.patches.patch_size[0])
        square = self.place((side, side)).flatten(1, 2)
        self.positions = nn.Parameter(torch.cat([self.positions[:, :1], square], 1), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patches(images)  # [B, h, w, D]
        h, w = patches.shape[1:3]
        tokens = (patches + self.place((int(h), int(w)))).flatten(1, 2)
        cls = (self.cls + self.positions[:, :1]).expand(tokens.shape[0], -1, -1)
        tokens = self.blocks(torch.cat([cls, tokens], 1))[:, 1:]
        return functional.normalize(tokens, dim=-1).transpose(1, 2).reshape(-1, tokens.shape[2], int(h), int(w))

    def tokens(self, images: Tensor) -> Tensor:
        """As `forward`, patches row by row `[B, h*w, D]`."""
        grid: Tensor = self(images)
        return grid.flatten(2).transpose(1, 2)


def features(spec: BackboneSpec, file: Path) -> ConvolutionFeatures | TransformerFeatures:
    """The backbone with its weights, frozen, in eval mode."""
    kind = TransformerFeatures if spec.l2_normalised else ConvolutionFeatures
    return kind(spec, load_file(file)).eval().requires_grad_(False)


def export(network: ConvolutionFeatures | TransformerFeatures, spec: BackboneSpec, size: int, path: Path) -> None:
    """Write the network as an ONNX graph `images [B, 3, size, size]` → `features [B, h*w, D]`, any batch."""
    network.fix(size)
    pictures = torch.zeros(2, 3, size, size)
    shape = tuple(network(pictures).shape)
    if shape != (2, spec.width, *spec.grid(size)):
        raise ValueError(f"{spec.name} gives {shape} at {size} px, not {(2, spec.width, *spec.grid(size))}")

    class Flat(nn.Module):
        def forward(self, images: Tensor) -> Any:
            return network.tokens(images)

    flat = Flat()
    flat.network = network
    batch = {0: "batch"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's: sizes are fixed on purpose
        torch.onnx.export(
            flat,
            (pictures,),
            str(path),
            input_names=["images"],
            output_names=["features"],
            dynamic_axes={"images": batch, "features": batch},
            opset_version=17,
            dynamo=False,  # the traced exporter needs no onnxscript
        )


def _load(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    missing = network.load_state_dict(tensors, strict=False).missing_keys
    if missing:
        raise ValueError(f"the weights lack {', '.join(missing[:3])}")
