"""Multiple choice in MMAD's form, over drawn pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scripted import Scripted

from inspection.answers_rows import AnswersRefused
from inspection.drawn import write
from inspection.multiple_choice import answered, read
from inspection.options import EnrolOptions
from models import catalog
from models.lmm.engines import BuiltinEngine, Chooser

LITE = EnrolOptions(backbone="efficientnet_lite0", coreset=400)
ONE = {"Question": "Is there any defect in the object?", "Options": {"A": "Yes.", "B": "No."}, "Answer": "A"}
PLACE = {"Question": "Where is it?", "Options": {"A": "Top.", "B": "At the centre.", "C": "Left."}, "Answer": "B"}
DENT, GOOD = "cap/test/dent/000.png", "cap/test/good/000.png"
NORMALS = ["cap/train/good/000.png", "cap/train/good/001.png"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("choice")
    write(folder / "cap", 3, normal=5, each=1, size=128)
    return folder


def entry(*questions: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"conversation": list(questions), "mask_path": "", "similar_templates": NORMALS, "random_templates": [], **more}


def asked(tmp_path: Path, entries: Any) -> Path:
    file = tmp_path / "questions.json"
    file.write_text(entries if isinstance(entries, str) else json.dumps(entries))
    return file


def test_the_likeliest_option_is_the_answer_and_types_have_their_means(root: Path, tmp_path: Path) -> None:
    presence, place = {**ONE, "type": "Anomaly Detection"}, {**PLACE, "type": "Defect Localization"}
    entries = {DENT: entry(presence, place), GOOD: entry({**presence, "Answer": "B"})}
    engine, told = Scripted(), list[tuple[str, int, int]]()
    found = answered(asked(tmp_path, entries), root, engine, LITE, progress=lambda *step: told.append(step))
    assert [(a["image"], a["said"], a["right"]) for a in found["answers"]] == [
        (DENT, "A", True),
        (DENT, "B", True),
        (GOOD, "A", False),
    ]
    assert found["types"] == {
        "Anomaly Detection": {"n": 2, "accuracy": 0.5, "chance": 0.5},
        "Defect Localization": {"n": 1, "accuracy": 1.0, "chance": pytest.approx(1 / 3)},
    }
    assert found["accuracy"] == 0.75 and told[-1] == ("multiple choice", 2, 2)
    assert [p.question for p in engine.prompts] == [presence["Question"], place["Question"], presence["Question"]]
    assert "verdict is reject" in engine.prompts[0].context and "verdict is pass" in engine.prompts[2].context
    assert len(answered(asked(tmp_path, entries), root, Scripted(), LITE, limit=1)["types"]) >= 1


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ("{", "not JSON"),
        ("[]", "JSON object"),
        ({}, "JSON object"),
        ({DENT: []}, "conversation"),
        ({DENT: entry()}, "conversation"),
        ({DENT: entry("text")}, "question 1: a question is a JSON object"),  # type: ignore[arg-type]
        ({DENT: entry(ONE, {**ONE, "Answer": "C"})}, "question 2: the answer 'C' is none"),
        ({DENT: entry({**ONE, "Options": {"A": "Yes."}})}, "at least two"),
        ({DENT: entry({**ONE, "Options": ["Yes.", "No."]})}, "at least two"),
        ({DENT: entry({**ONE, "Options": {"A": 1, "B": 2}})}, "must be text"),
        ({DENT: entry({**ONE, "Question": ""})}, "must be text"),
        ({DENT: entry(ONE, similar_templates=[])}, "normal pictures"),
        ({DENT: entry(ONE, similar_templates="cap")}, "normal pictures"),
        ({DENT: entry(ONE, similar_templates=["../../etc/passwd"])}, "leaves the folder"),
        ({DENT: entry(ONE, similar_templates=["/etc/passwd"])}, "leaves the folder"),
        ({DENT: entry(ONE, similar_templates=[3])}, "must be text"),
        ({"cap/none.png": entry(ONE)}, "no picture cap/none.png"),
        ({"cap/a\0b.png": entry(ONE)}, "must be text"),
    ],
)
def test_bad_files_say_what_is_wrong(root: Path, tmp_path: Path, entries: Any, says: str) -> None:
    with pytest.raises(AnswersRefused, match=says):
        read(asked(tmp_path, entries), root)


def test_an_engine_without_likelihood_is_refused(root: Path, tmp_path: Path) -> None:
    class Talker:
        name, sha256, generate = "talker", "0" * 64, Scripted.generate

    with pytest.raises(AnswersRefused, match="talker gives no likelihood"):
        answered(asked(tmp_path, {DENT: entry(ONE)}), root, Talker(), LITE)  # type: ignore[arg-type]


def test_the_builtin_engine_chooses_as_plain_scoring_does(root: Path, tmp_path: Path) -> None:
    try:
        engine = BuiltinEngine()
    except catalog.WeightsMissing:
        pytest.skip("the language model's weights are not on this machine (`kensor weights pull`)")
    import torch

    assert isinstance(engine, Chooser)
    scripted = Scripted()
    file = asked(tmp_path, {DENT: entry(PLACE)})
    answered(file, root, scripted, LITE)
    prompt, options = scripted.prompts[0], list(PLACE["Options"].values())
    found = engine.likelihood(prompt, options)
    ids = engine.tokens(prompt)
    for option, value in zip(options, found, strict=True):
        reply = [*engine._tokenizer(option, add_special_tokens=False)["input_ids"], 2]
        with torch.inference_mode():
            logits = engine._model(torch.tensor([ids + reply])).logits[0, len(ids) - 1 : -1]
        assert engine._tokenizer.convert_ids_to_tokens(2) == "<|im_end|>"
        plain = torch.log_softmax(logits, -1)[torch.arange(len(reply)), torch.tensor(reply)].mean()
        assert value == pytest.approx(float(plain), abs=1e-3)
    assert engine.likelihood(prompt, options) == pytest.approx(found, abs=1e-4)
    said = answered(file, root, engine, LITE)["answers"][0]["said"]
    assert said == "ABC"[found.index(max(found))]
