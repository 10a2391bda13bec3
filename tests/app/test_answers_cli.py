"""kensor evaluate-answers: one JSON document, a table for people, one line for a refusal."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import tiny_vlm
from chat_server import serving

from app.cli import main
from app.engines import in_process
from app.settings import Settings
from inspection.drawn import write

ENGINE = """
class Says:
    name, sha256, wants = "says", "0" * 64, "words"

    def generate(self, prompt, *, max_tokens=64):
        yield "There is no defect."

    def likelihood(self, prompt, options):
        return [float(len(option)) for option in options]


def make(progress):
    return Says()
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "says_engine.py").write_text(ENGINE)
    monkeypatch.syspath_prepend(tmp_path)
    write(tmp_path / "cap", 3, normal=4, each=1, size=128)
    return tmp_path


def kensor(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["kensor", "evaluate-answers", *map(str, words)])
    try:
        main()
    except SystemExit as leave:
        return int(leave.code or 0)
    return 0


def test_answers_evaluated(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = [place / "cap", "--shots", 3, "--limit", 2, "--backbone", "efficientnet_lite0", "--engine", "says_engine:make"]
    words += ["--no-untrained", "--out", place / "answers.jsonl"]
    assert kensor(monkeypatch, *words, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    (one,) = found["folders"]
    assert found["engine"]["name"] == "says" and one["own_words"]["decision"]["value"] == 0.5 and found["judged"]["n"] == 14
    assert kensor(monkeypatch, *words) == 0
    said = capsys.readouterr().out
    assert "own words" in said and "foreign map (own words)" in said and "14 delivered answers judged" in said
    assert kensor(monkeypatch, *words, "--seed", 1) == 1
    assert "holds answers of other settings" in capsys.readouterr().err


def test_an_engine_of_the_settings_is_evaluated(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [place / "cap", "--shots", 3, "--limit", 2, "--backbone", "efficientnet_lite0", "--engine", "openai"]
    words += ["--no-untrained", "--json"]
    with serving() as seen:
        monkeypatch.setenv("KENSOR_OPENAI_URL", seen.url)
        monkeypatch.setenv("KENSOR_OPENAI_MODEL", "good")
        assert kensor(monkeypatch, *words) == 0
        assert json.loads(capsys.readouterr().out)["engine"]["name"] == "good"
        pictures = [part for body in seen.bodies for part in body["messages"][-1]["content"] if part["type"] == "image_url"]
        assert len(pictures) >= len(seen.bodies) > 0
    assert kensor(monkeypatch, *words) == 1
    assert json.loads(capsys.readouterr().out)["code"] == "language_unavailable"


def test_a_transformers_engine_is_read_for_an_evaluation(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KENSOR_TRANSFORMERS_MODEL", str(place / "nothing"))
    assert kensor(monkeypatch, place / "cap", "--engine", "transformers", "--no-untrained") == 1
    assert "nothing" in capsys.readouterr().err
    model = tiny_vlm.save(place / "tiny-vlm")
    asked = in_process(Settings(transformers_model=str(model)), "transformers", lambda stage: None)
    assert asked.name == "tiny-vlm" and asked.wants == "pictures"


def test_multiple_choice(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    question = {"Question": "Is it defective?", "Options": {"A": "Yes.", "B": "No."}, "Answer": "A", "type": "presence"}
    entry = {"conversation": [question], "similar_templates": ["cap/train/good/000.png"], "random_templates": []}
    (place / "q.json").write_text(json.dumps({"cap/test/dent/000.png": entry}))
    words = [place, "--questions", place / "q.json", "--engine", "says_engine:make", "--backbone", "efficientnet_lite0"]
    assert kensor(monkeypatch, *words) == 0
    assert "presence  1          1.000  0.500" in capsys.readouterr().out
    (place / "q.json").write_text("{}")
    assert kensor(monkeypatch, *words) == 1
    assert "must hold a JSON object" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--engine", "gpt"], "There is no engine `gpt`"),
        (["--engine", "openai"], "set KENSOR_OPENAI_URL and KENSOR_OPENAI_MODEL"),
        (["--engine", "json:nothing"], "There is no engine `json:nothing`"),
        (["--engine", "says_engine:make", "--ablate", "tokenizer"], "tokenizer cannot be left out"),
        (["--engine", "says_engine:make", "--ablate", "map", "--shots", "3"], "words alone"),
        (["--engine", "says_engine:make", "--shots", "40"], "40 normals are asked for"),
        (["--engine", "says_engine:make", "--weights", "."], "for the engine `builtin`"),
        (["--weights", "."], "cannot be read"),
    ],
)
def test_refusals(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert kensor(monkeypatch, place / "cap", "--no-untrained", *words) == 1
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(("words", "says"), [(["--device", "mps:9"], "no device 'mps:9'"), (["--placement", "x"], "placement")])
def test_a_training_is_refused_before_episodes_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    monkeypatch.setattr("sys.argv", ["kensor", "train-lmm", str(tmp_path / "out"), *words])
    with pytest.raises(SystemExit, match="1"):
        main()
    assert says in capsys.readouterr().err and not list(tmp_path.iterdir())
