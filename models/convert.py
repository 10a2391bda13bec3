"""Foreign weight files become safetensors under known names, and backbones become graphs. Run as a process: `python -m models.convert`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from models import backbones, catalog
from models.backbones import networks

Arrays = dict[str, NDArray[Any]]


def lite0(member: Path, folder: Path) -> None:
    """EfficientNet-Lite0's checkpoint: the tensors stand in timm's order under other names. Pairs must agree in kind and shape."""
    import torch

    theirs = torch.load(member, map_location="cpu", weights_only=True)
    ours = networks.tensor_shapes("tf_efficientnet_lite0")
    arrays: Arrays = {}
    for (old, tensor), (new, shape) in zip(theirs.items(), ours.items(), strict=True):
        if old.rsplit(".", 1)[-1] != new.rsplit(".", 1)[-1] or tuple(tensor.shape) != shape:
            raise ValueError(f"{old} {tuple(tensor.shape)} does not fit {new} {shape}")
        arrays[new] = tensor.numpy()
    save_file(arrays, folder / catalog.TENSORS)


def dinov2(member: Path, folder: Path) -> None:
    """DINOv2 ViT-S/14 out of a saliency network's graph: unnamed matrices are known by the bias added behind them."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(member)).graph
    have = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    product = {node.output[0]: node.input[1] for node in graph.node if node.op_type == "MatMul"}
    for node in graph.node:
        if node.op_type == "Add" and (bias := next((i for i in node.input if i.endswith(".bias")), None)):
            other = next(i for i in node.input if i != bias)
            if product.get(other) in have:
                have[bias.removesuffix("bias") + "weight"] = have[product[other]].T
    embeddings = "backbone.embeddings."
    positions = {a.shape[1]: a for a in have.values() if a.ndim == 3 and a.shape[0] == 1 and a.shape[2] == 384}
    cls_position = next(a for n, a in have.items() if a.shape == (1, 1, 384) and n != embeddings + "cls_token")
    arrays: Arrays = {
        "cls_token": have[embeddings + "cls_token"],
        "pos_embed": np.concatenate([cls_position, positions[37 * 37]], axis=1),
        "patch_embed.proj.weight": have[embeddings + "patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": have[embeddings + "patch_embeddings.projection.bias"],
        "norm.weight": have["backbone.layernorm.weight"],
        "norm.bias": have["backbone.layernorm.bias"],
    }
    for block in range(12):
        old, new = f"backbone.encoder.layer.{block}.", f"blocks.{block}."
        for kind in ("weight", "bias"):
            parts = [have[f"{old}attention.attention.{part}.{kind}"] for part in ("query", "key", "value")]
            arrays[f"{new}attn.qkv.{kind}"] = np.concatenate(parts)
            arrays[f"{new}attn.proj.{kind}"] = have[f"{old}attention.output.dense.{kind}"]
            for part in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                arrays[f"{new}{part}.{kind}"] = have[f"{old}{part}.{kind}"]
        for scale in ("1", "2"):
            arrays[f"{new}ls{scale}.gamma"] = have[f"{old}layer_scale{scale}.lambda1"]
    wanted = networks.tensor_shapes("vit_small_patch14_dinov2")
    if {name: array.shape for name, array in arrays.items()} != wanted:
        raise ValueError("the graph's tensors are not those of a DINOv2 ViT-S/14")
    save_file({name: np.ascontiguousarray(array, dtype=np.float32) for name, array in arrays.items()}, folder / catalog.TENSORS)


def graph(name: str, size: str, path: Path) -> None:
    """Export a backbone's patch features at one picture size as an ONNX graph."""
    networks.export(backbones.build(name), backbones.spec(name), int(size), path)  # type: ignore[arg-type]


KINDS: dict[str, Callable[[Path, Path], None]] = {"lite0": lite0, "dinov2": dinov2}


def main(kind: str, source: str, target: str, *more: str) -> None:
    """`KIND MEMBER FOLDER` converts a weight, `graph NAME SIZE FILE` exports a backbone."""
    if kind == "graph":
        graph(source, target, Path(more[0]))
    else:
        KINDS[kind](Path(source), Path(target))


if __name__ == "__main__":
    main(*sys.argv[1:])
