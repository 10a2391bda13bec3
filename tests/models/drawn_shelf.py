"""A shelf of one drawn weight: a tiny Llama in GGUF, in a wheel, in a folder that pip reads. No network."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import gguf
import numpy as np

from models import convert
from models.catalog import TENSORS, files

NAME = "tiny_llama"
MEMBER = "tiny_llama/tiny.gguf"
WHEEL = "tiny_llama-1.0-py3-none-any.whl"


def draw_gguf(path: Path, seed: int = 0) -> None:
    """Two layers of width 64, three query heads on one key head, Q4_1 and Q8_0 like the real one."""
    rng = np.random.default_rng(seed)
    letters = [chr(code) for code in range(ord("!"), ord("~"))] + ["Ġ", "Ċ", "Ġa", "th"]
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *letters]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(2)
    writer.add_context_length(128)
    writer.add_embedding_length(96)
    writer.add_feed_forward_length(128)
    writer.add_head_count(3)
    writer.add_head_count_kv(1)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(32)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3, *[1] * (len(tokens) - 3)])
    writer.add_token_merges(["Ġ a", "t h"])
    for kind, index in {"bos": 1, "eos": 2, "unk": 0, "pad": 2}.items():
        getattr(writer, f"add_{kind}_token_id")(index)
    writer.add_chat_template("{{ messages[0]['content'] }}")
    shapes = {"attn_q": (96, 96), "attn_k": (32, 96), "attn_v": (32, 96), "attn_output": (96, 96)}
    shapes |= {"ffn_gate": (128, 96), "ffn_up": (128, 96), "ffn_down": (96, 128)}
    matrices = {f"blk.{block}.{part}": shape for block in range(2) for part, shape in shapes.items()}
    for name, shape in {"token_embd": (len(tokens), 96), **matrices}.items():
        kind = gguf.GGMLQuantizationType.Q8_0 if name == "token_embd" else gguf.GGMLQuantizationType.Q4_1
        packed = gguf.quants.quantize(rng.standard_normal(shape, np.float32) * 0.2, kind)
        writer.add_tensor(f"{name}.weight", packed, raw_dtype=kind)
    for name in ["output_norm", *(f"blk.{block}.{part}" for block in range(2) for part in ("attn_norm", "ffn_norm"))]:
        writer.add_tensor(f"{name}.weight", rng.uniform(0.5, 1.5, 96).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def draw_wheel(folder: Path, member: Path) -> Path:
    """The file in a wheel as pip wants it."""
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
        wheel.write(member, MEMBER)
        wheel.writestr("tiny_llama/__init__.py", "raise SystemExit('code of a package must never run')\n")
        wheel.writestr("tiny_llama-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-llama\nVersion: 1.0\n")
        wheel.writestr("tiny_llama-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("tiny_llama-1.0.dist-info/RECORD", "")
    return folder / WHEEL


def draw_catalogue(folder: Path) -> Path:
    """A catalogue that pins the drawn weight, its wheel beside it in `index/`."""
    member, converted = folder / "tiny.gguf", folder / "converted"
    converted.mkdir()
    draw_gguf(member)
    wheel = draw_wheel(folder / "index", member)
    convert.llama(member, converted)
    small = {path.name: files.file_sha256(path) for path in converted.iterdir() if path.name != TENSORS}
    values = {
        "role": "language model",
        "licence": "none",
        "origin": "drawn",
        "notes": "",
        "package": "tiny-llama",
        "version": "1.0",
        "package_bytes": wheel.stat().st_size,
        "package_sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "member": MEMBER,
        "member_bytes": member.stat().st_size,
        "member_sha256": files.file_sha256(member),
        "conversion": "llama",
        "bytes": (converted / TENSORS).stat().st_size,
        "sha256": files.tensors_sha256(converted / TENSORS),
    }
    lines = [f"[{NAME}]", *(f"{key} = {value!r}" for key, value in values.items()), f"[{NAME}.files]"]
    lines += [f"{name!r} = {digest!r}" for name, digest in small.items()]
    catalogue = folder / "catalog.toml"
    catalogue.write_text("\n".join(lines))
    return catalogue
