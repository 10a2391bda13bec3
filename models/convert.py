"""Foreign weight files become safetensors under known names, backbones become graphs: `python -m models.convert`."""

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
from models.backbones.quantised import int8

Arrays = dict[str, NDArray[Any]]


def lite0(member: Path, folder: Path) -> None:
    """EfficientNet-Lite0's checkpoint: the tensors stand in timm's order under other names; kind and shape must agree."""
    import torch

    from models.backbones import networks

    theirs = torch.load(member, map_location="cpu", weights_only=True)
    ours = networks.tensor_shapes("tf_efficientnet_lite0")
    arrays: Arrays = {}
    for (old, tensor), (new, shape) in zip(theirs.items(), ours.items(), strict=True):
        if old.rsplit(".", 1)[-1] != new.rsplit(".", 1)[-1] or tuple(tensor.shape) != shape:
            raise ValueError(f"{old} {tuple(tensor.shape)} does not fit {new} {shape}")
        arrays[new] = tensor.numpy()
    _save(arrays, folder)


def dinov2(member: Path, folder: Path) -> None:
    """DINOv2 ViT-S/14 out of a saliency network's graph: unnamed matrices are known by the bias added behind them."""
    import onnx
    from onnx import numpy_helper

    from models.backbones import networks

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
    _save(arrays, folder)


def llama(member: Path, folder: Path) -> None:
    """A Llama in GGUF with a GPT-2 tokenizer, for transformers: tensors dequantised to float32, config and tokenizer beside."""
    import gguf

    reader = gguf.GGUFReader(member)
    field: dict[str, Any] = {name: value.contents() for name, value in reader.fields.items()}
    heads, kv_heads = field["llama.attention.head_count"], field["llama.attention.head_count_kv"]
    interleaved = {"attn_q": heads, "attn_k": kv_heads}
    arrays: Arrays = {}
    for tensor in reader.tensors:
        array = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        block, _, part = tensor.name.removeprefix("blk.").removesuffix(".weight").rpartition(".")
        if count := interleaved.get(part):  # GGUF keeps the two halves of a rotary pair side by side
            array = array.reshape(count, -1, 2, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
        name = f"model.layers.{block}.{_LLAMA[part]}" if block else _LLAMA[part]
        arrays[name + ".weight"] = array
    _save(arrays, folder)
    special = {f"{kind}_token_id": field[f"tokenizer.ggml.{theirs}_token_id"] for kind, theirs in _SPECIAL.items()}
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": field["llama.vocab_size"],
        "hidden_size": field["llama.embedding_length"],
        "intermediate_size": field["llama.feed_forward_length"],
        "num_hidden_layers": field["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": field["llama.context_length"],
        "rms_norm_eps": float(f"{field['llama.attention.layer_norm_rms_epsilon']:.6g}"),
        "rope_theta": field["llama.rope.freq_base"],
        "tie_word_embeddings": "lm_head.weight" not in arrays,
        "dtype": "float32",
        **special,
    }
    tokens = field["tokenizer.ggml.tokens"]
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": field["tokenizer.chat_template"],
        "model_max_length": field["llama.context_length"],
        "clean_up_tokenization_spaces": False,
        **{f"{kind}_token": tokens[special[f"{kind}_token_id"]] for kind in _SPECIAL},
    }
    _write(folder / "config.json", config)
    _write(folder / "generation_config.json", special)
    _write(folder / "tokenizer_config.json", settings)
    _write(folder / "tokenizer.json", _tokenizer(tokens, field["tokenizer.ggml.token_type"], field["tokenizer.ggml.merges"]))


_SPECIAL = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}
_LLAMA = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def _tokenizer(tokens: list[str], kinds: list[int], merges: list[str]) -> dict[str, Any]:
    """A byte-level BPE that splits numbers into digits, as SmolLM was trained."""
    control = 3
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": i, "content": token, **plain}
            for i, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
            if kind == control
        ],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, bytes_]},
        "decoder": bytes_,
        "model": {
            "type": "BPE",
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in merges],
        },
    }


def _save(arrays: Arrays, folder: Path) -> None:
    """Made contiguous first: safetensors would write a transposed array's bytes as they lie, silently scrambled."""
    whole = {name: array.copy(order="C") for name, array in arrays.items()}
    save_file(whole, folder / catalog.TENSORS, metadata={"format": "pt"})


def _write(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, ensure_ascii=False, indent=1), encoding="utf-8")


def graph(name: str, size: str, path: Path) -> None:
    """Export a backbone's patch features at one picture size as an ONNX graph."""
    from models.backbones import networks

    networks.export(backbones.build(name), backbones.spec(name), int(size), path)  # type: ignore[arg-type]


KINDS: dict[str, Callable[[Path, Path], None]] = {"lite0": lite0, "dinov2": dinov2, "llama": llama, "int8": int8}


def main(kind: str, source: str, target: str, *more: str) -> None:
    """`KIND MEMBER FOLDER` converts a weight, `graph NAME SIZE FILE` exports a backbone, `int8 GRAPH FILE` makes it smaller."""
    if kind == "graph":
        graph(source, target, Path(more[0]))
    else:
        KINDS[kind](Path(source), Path(target))


if __name__ == "__main__":
    main(*sys.argv[1:])
