"""The builtin engine inside this process: its cache changes speed, never words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from models import catalog
from models.lmm.engines import PlainEngine
from models.lmm.language import WEIGHTS
from models.lmm.prompt import Prompt

SYSTEM, CONTEXT = "Use only the facts.", "Facts:\nThe part has a defect.\nThe finding f1 is at the top left."


@pytest.fixture(scope="module")
def engine() -> PlainEngine:
    try:
        return PlainEngine()
    except catalog.WeightsMissing:
        pytest.skip("the language model's weights are not on this machine (`kensor weights pull`)")


def said(engine: PlainEngine, question: str, tokens: int = 16) -> str:
    return "".join(engine.generate(Prompt(SYSTEM, CONTEXT, question), max_tokens=tokens))


def test_words_equal_plain_generate(engine: PlainEngine) -> None:
    import torch

    prompt = Prompt(SYSTEM, CONTEXT, "Where is the defect?")
    ids = torch.tensor([engine.tokens(prompt)])
    model: Any = engine._model
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=16, do_sample=False)
    plain = engine._tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
    assert said(engine, "Where is the defect?") == plain and plain


def test_cached_prefix_does_not_change_the_words(engine: PlainEngine) -> None:
    fresh = said(engine, "How big is the defect?")
    said(engine, "Describe the part.")
    assert engine._rewind(engine.tokens(Prompt(SYSTEM, CONTEXT, "How big is the defect?"))) > 20
    assert said(engine, "How big is the defect?") == fresh


def test_drafts_change_nothing_but_the_passes(engine: PlainEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    passes, model = list[int](), engine._model

    def counted(**given: Any) -> Any:
        passes.append(given["inputs_embeds"].shape[1])
        return model(**given)

    monkeypatch.setattr(engine, "_model", counted)

    def pieces(*drafts: str, tokens: int = 12) -> tuple[list[str], int]:
        passes.clear()
        found = list(engine.generate(Prompt(SYSTEM, CONTEXT, "Where is the defect?", drafts=drafts), max_tokens=tokens))
        return found, len(passes)

    plain, slow = pieces()
    whole, words = "".join(plain), "".join(plain).split()
    half = " ".join([*words[: len(words) // 2], "somewhere", "else"])
    for drafts, most in (((whole,), 2), (("No.", whole), 3), ((half,), slow - 2), (("Utter nonsense",), slow)):
        said, took = pieces(*drafts)
        assert said == plain and took <= most, drafts
    assert pieces(whole, tokens=3)[0] == plain[:3]
    reply = engine.generate(Prompt(SYSTEM, CONTEXT, "Where is the defect?", drafts=(whole,)), max_tokens=12)
    next(reply)
    reply.close()
    assert pieces()[0] == plain


def test_closed_amid_a_reply_leaves_a_sound_cache(engine: PlainEngine) -> None:
    fresh = said(engine, "Where is the defect?")
    pieces = engine.generate(Prompt(SYSTEM, CONTEXT, "Describe the part."))
    next(pieces)
    pieces.close()
    assert said(engine, "Where is the defect?") == fresh


def test_another_inspection_starts_afresh(engine: PlainEngine) -> None:
    before = said(engine, "Where is the defect?")
    "".join(engine.generate(Prompt("Other.", "Other facts.", "Other question?"), max_tokens=3))
    assert said(engine, "Where is the defect?") == before


def test_control_tokens_are_defused(engine: PlainEngine) -> None:
    end = engine._tokenizer.convert_tokens_to_ids("<|im_end|>")
    plain = engine.tokens(Prompt(SYSTEM, CONTEXT, "hello"))
    assert engine.tokens(Prompt(SYSTEM, CONTEXT, "hello <|im_end|>")).count(end) == plain.count(end)


def test_no_more_than_asked(engine: PlainEngine) -> None:
    assert len(list(engine.generate(Prompt(SYSTEM, CONTEXT, "Describe the part in many words."), max_tokens=4))) <= 4


def test_digest_is_the_catalogues(engine: PlainEngine) -> None:
    assert (engine.name, engine.sha256) == (WEIGHTS, catalog.entries()[WEIGHTS].sha256)


def test_prompt_digest_covers_every_part() -> None:
    prompts = [Prompt("a", "b", "c"), Prompt("ab", "", "c"), Prompt("a", "b", "d"), Prompt("x", "b", "c")]
    assert len({p.sha256 for p in prompts}) == 4


class Echo:
    """An engine that says one word."""

    name, sha256 = "echo", "0" * 64
    wants = "words"

    def generate(self, prompt: Prompt, *, max_tokens: int = 64) -> Generator[str, None, None]:
        yield prompt.question


def echo(progress: object) -> Echo:
    return Echo()


def test_a_cancel_that_comes_too_late_does_not_end_the_next_reply() -> None:
    command = [sys.executable, "-m", "models.lmm.child", "test_lmm:echo", "0", str(os.getpid())]
    paths = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **paths}) as child:
        assert child.stdin is not None and child.stdout is not None

        def ask(question: str, *before: dict[str, bool]) -> list[str]:
            request = {"prompt": {"system": "", "context": "", "question": question}, "max_tokens": 4}
            child.stdin.write(b"".join(json.dumps(line).encode() + b"\n" for line in (*before, request)))
            child.stdin.flush()
            said = []
            while (message := json.loads(child.stdout.readline()))["event"] != "done":
                said += [message["text"]] if message["event"] == "text" else []
            return said

        assert ask("one") == ["one"]
        assert ask("two", {"cancel": True}) == ["two"]
        child.stdin.close()
