"""Converted weights are the originals: tensors, words and answers."""

from __future__ import annotations

from pathlib import Path

import drawn_shelf
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from models import catalog, convert
from models.catalog import TENSORS


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn GGUF and, in `converted/`, what we make of it."""
    folder = tmp_path_factory.mktemp("tiny")
    drawn_shelf.draw_gguf(folder / "tiny.gguf")
    (folder / "converted").mkdir()
    convert.llama(folder / "tiny.gguf", folder / "converted")
    return folder


def test_llama_equals_transformers_own_reading_of_the_gguf(tiny: Path) -> None:
    ours = AutoModelForCausalLM.from_pretrained(tiny / "converted").eval()
    theirs = AutoModelForCausalLM.from_pretrained(tiny, gguf_file="tiny.gguf").eval()
    expected = theirs.state_dict()
    assert ours.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in ours.state_dict().items())
    for setting in ("num_key_value_heads", "rope_parameters", "max_position_embeddings", "tie_word_embeddings", "head_dim"):
        assert getattr(ours.config, setting) == getattr(theirs.config, setting)
    tokens = torch.arange(3, 40)[None]
    with torch.inference_mode():
        assert (ours(tokens).logits - theirs(tokens).logits).abs().max() < 1e-5


def test_tokenizer_equals_transformers_own_reading_of_the_gguf(tiny: Path) -> None:
    ours = AutoTokenizer.from_pretrained(tiny / "converted")
    theirs = AutoTokenizer.from_pretrained(tiny, gguf_file="tiny.gguf")
    for text in ("the path a", "<|im_start|>a 12<|im_end|>", "that\nthing"):
        assert ours(text).input_ids == theirs(text).input_ids
    assert (ours.eos_token, ours.pad_token, ours.unk_token) == ("<|im_end|>", "<|im_end|>", "<|endoftext|>")


def test_smollm2_speaks_and_counts_digit_by_digit() -> None:
    folder = catalog.locate("smollm2_135m_instruct")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    assert model.dtype == torch.float32
    assert tokenizer.tokenize("2024 parts") == ["2", "0", "2", "4", "Ġparts"]
    assert tokenizer.decode(tokenizer("Ünïcode – 検査 12,\n  x").input_ids) == "Ünïcode – 検査 12,\n  x"
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    assert tokenizer.decode(prompt["input_ids"][0]).endswith("<|im_end|>\n<|im_start|>assistant\n")
    with torch.inference_mode():
        said = model.generate(**prompt, max_new_tokens=12, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert tokenizer.decode(said, skip_special_tokens=True) == "The capital of France is Paris."


def test_transposed_arrays_are_written_in_order(tmp_path: Path) -> None:
    """safetensors writes an array's memory as it lies; this once scrambled every convolution silently."""
    array = np.arange(24, dtype=np.float32).reshape(4, 6).T
    convert._save({"a": array}, tmp_path)
    assert np.array_equal(load_file(tmp_path / TENSORS)["a"], array)


def test_lite0_refuses_a_checkpoint_of_another_network(tmp_path: Path) -> None:
    torch.save({"_conv_stem.weight": torch.zeros(32, 3, 3, 3), "_bn0.bias": torch.zeros(32)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"_bn0\.bias .* does not fit bn1\.weight"):
        convert.lite0(tmp_path / "other.pth", tmp_path)
    assert not (tmp_path / TENSORS).exists()


def test_lite0_runs_no_pickled_code(tmp_path: Path) -> None:
    torch.save({"_conv_stem.weight": Evil(tmp_path / "ran")}, tmp_path / "evil.pth")
    with pytest.raises(Exception, match="Weights only load failed"):
        convert.lite0(tmp_path / "evil.pth", tmp_path)
    assert not (tmp_path / "ran").exists()


class Evil:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")
