"""A vision-language model of somebody else: a tiny Qwen2.5-VL with random weights, through transformers' own classes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tiny_vlm

from models.catalog import WeightsMissing
from models.lmm.errors import EngineError
from models.lmm.prompt import Picture, Prompt
from models.lmm.transformers_engine import TransformersEngine


def picture(colour: int) -> bytes:
    return cv2.imencode(".png", np.full((40, 60, 3), colour, np.uint8))[1].tobytes()


PICTURES = (Picture("the part", picture(30)), Picture("a normal part", picture(200)))
PROMPT = Prompt("Use the facts.", "Facts", "Where?", None, PICTURES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_vlm.save(tmp_path_factory.mktemp("vlm") / "tiny-vlm")


@pytest.fixture(scope="module")
def engine(folder: Path) -> TransformersEngine:
    return TransformersEngine(model=str(folder))


def test_words_equal_plain_generate(engine: TransformersEngine) -> None:
    given, model = engine.inputs(PROMPT), engine._model
    out = model.generate(**given, max_new_tokens=12, do_sample=False)
    plain = engine._tokenizer.decode(out[0, given["input_ids"].shape[1] :], skip_special_tokens=True)
    pieces = list(engine.generate(PROMPT, max_tokens=12))
    assert "".join(pieces) == plain
    assert plain.strip()
    assert all(pieces)


def test_the_chat_template_holds_every_part_in_order(engine: TransformersEngine) -> None:
    given = engine.inputs(PROMPT)
    text = engine._tokenizer.decode(given["input_ids"][0])
    assert given["image_grid_thw"].shape == (2, 3)
    order = ["system\nUse the facts.", "user\nFacts", "Picture: the part.", "<|image_pad|>", "Picture: a normal part."]
    places = [text.index(part) for part in [*order, "Question: Where?<|im_end|>\n<|im_start|>assistant\n"]]
    assert places == sorted(places)
    seen = given["pixel_values"].reshape(2, -1)
    assert float(seen[0].mean()) < float(seen[1].mean())


def test_control_tokens_in_a_question_are_defused(engine: TransformersEngine) -> None:
    def count(question: str, token: str) -> int:
        ids: Any = engine.inputs(Prompt("s", "c", question, None, PICTURES))["input_ids"][0]
        return int((ids == engine._tokenizer.convert_tokens_to_ids(token)).sum())

    for token in tiny_vlm.SPECIAL:
        assert count(f"a {token} b", token) == count("a b", token), token
    assert "".join(engine.generate(Prompt("s", "c", "<|image_pad|>", None, PICTURES), max_tokens=2))


def test_closed_amid_a_reply_and_asked_again(engine: TransformersEngine) -> None:
    whole = "".join(engine.generate(PROMPT, max_tokens=200))
    pieces = engine.generate(PROMPT, max_tokens=100_000)
    begun = next(pieces)
    pieces.close()
    assert whole.startswith(begun)
    assert "".join(engine.generate(PROMPT, max_tokens=200)) == whole


def test_without_pictures(engine: TransformersEngine) -> None:
    assert "".join(engine.generate(Prompt("s", "c", "q"), max_tokens=3))


def test_a_template_without_a_system_role(engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + tiny_vlm.TEMPLATE
    monkeypatch.setattr(engine._processor, "chat_template", refusing)
    assert "Use the facts.Facts" in engine._tokenizer.decode(engine.inputs(PROMPT)["input_ids"][0])


def test_a_picture_that_is_none_is_an_error_and_no_hang(engine: TransformersEngine) -> None:
    with pytest.raises(OSError, match="cannot identify"):
        list(engine.generate(Prompt("s", "c", "q", None, (Picture("the part", b"GIF89a"),))))


def test_name_and_digest_are_the_folders(engine: TransformersEngine, folder: Path, tmp_path: Path) -> None:
    assert engine.name == "tiny-vlm"
    other = TransformersEngine(model=str(tiny_vlm.save(tmp_path / "other", seed=1)))
    assert len(engine.sha256) == 64
    assert other.sha256 != engine.sha256
    again = TransformersEngine(model=str(shutil.copytree(folder, tmp_path / "copy")))
    assert again.sha256 == engine.sha256


@pytest.mark.parametrize("model", ["nowhere/at-all", "/nowhere/at/all", "../../etc"])
def test_weights_that_are_not_there(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsMissing):
        TransformersEngine(model=model)


def test_only_safetensors_are_read(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "pickled")
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(WeightsMissing, match=r"no \.safetensors"):
        TransformersEngine(model=str(copy))


def test_a_model_with_code_of_its_own_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "own-code")
    config = (copy / "config.json").read_text().replace('"qwen2_5_vl"', '"its_own"')
    mapped = '{"auto_map": {"AutoConfig": "evil.Config", "AutoModelForImageTextToText": "evil.Model"},'
    (copy / "config.json").write_text(config.replace("{", mapped, 1))
    (copy / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(EngineError) as refused:
        TransformersEngine(model=str(copy))
    assert refused.value.code == "weights_unusable"
    assert not (tmp_path / "ran").exists()
