"""Answers about drawn parts, evaluated: rows, truth, figures, and taking up where it stopped."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import cv2
import numpy as np
import pytest
from evidences import evidence
from scripted import Scripted

from inspection.ablation import Without
from inspection.answers_evaluation import QUESTIONS, Plan, drawn_questions, run
from inspection.answers_figures import FIGURES, Folder, _readable, evaluate, judged
from inspection.answers_rows import AnswersRefused, recorded, restored, truth_of
from inspection.drawn import write
from inspection.evaluation import Sample
from inspection.options import EnrolOptions
from models.lmm.prompt import Prompt, Sight

PLAN = Plan(EnrolOptions(backbone="efficientnet_lite0", coreset=400), shots=4, limit=6)


DIALOGUES = QUESTIONS.with_name("dialogues.toml")


def faithful(prompt: Prompt) -> str:
    """Reads the first finding out of the facts; refuses what is asked of money."""
    if re.search("euro|cost|pay|money", prompt.question):
        return "This cannot be answered from the picture."
    place = re.search(r"is at the ([a-z ]+)\.", prompt.context)
    return f"There is one defect at the {place[1]}." if place else "There is no defect."


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("answers") / "cap"
    write(root, 3, normal=6, each=2, size=128)
    return root


def test_figures_of_an_engine_that_reads_the_facts(parts: Path) -> None:
    told: list[tuple[str, int, int]] = []
    engine = Scripted(faithful)
    rows = run(parts, engine, PLAN, untrained=Scripted(name="plain"), progress=lambda *step: told.append(step))
    assert told[-1] == ("cap, draw 0", 6, 6)
    inspections = [row for row in rows if row["row"] == "inspection"]
    assert [row["truth"]["defective"] for row in inspections].count(True) == 4  # two sound ones are all there are
    assert {row["by"] for row in rows if row["row"] == "answer"} == {"engine", "foreign", "untrained"}
    (one,) = evaluate(rows)["folders"]
    own, delivered, base = one["own_words"], one["delivered"], one["baselines"]
    assert one["folder"] == "cap" and (one["test_normal"], one["test_defective"], one["masks"], one["seeds"]) == (2, 4, 4, 1)
    assert own["decision"]["value"] == delivered["decision"]["value"] == base["expert"]["decision"]["value"] == 1
    assert own["place"] == base["rule_text"]["place"] and own["place"]["low"] <= own["place"]["value"] <= own["place"]["high"]
    assert base["foreign_map"]["own_words"]["decision"]["value"] == base["foreign_expert"]["decision"]["value"] < 1
    assert base["foreign_map"]["own_words"]["place"]["value"] == base["foreign_expert"]["place"]["value"] < own["place"]["value"]
    assert base["always_no"]["decision"]["value"] == base["untrained"]["own_words"]["decision"]["value"] == 0.5
    assert base["untrained"]["own_words"]["place"]["value"] == 0 and base["majority"]["count"]["value"] == 1
    assert own["over_refusal"]["value"] == 0 and own["contradictions"]["value"] == 0 and own["readable"]["value"] == 1
    assert 0 <= own["abstention"]["value"] < delivered["abstention"]["value"] <= 1
    assert one["disagreements"] == {"n": 0, "model_right": None}
    assert judged(rows)["n"] == 42


def test_own_words_are_read_clause_by_clause() -> None:
    for said in ("The detector is not sure; the model sees a defect. The map is highest at the right.", "Yes, the part is good."):
        assert _readable(said)
    for said in ("The detector is not sure; I would scrap it.", "The part is good and cheap.", ""):
        assert not _readable(said)


def test_rows_are_kept_and_taken_up(parts: Path, tmp_path: Path) -> None:
    out = tmp_path / "answers.jsonl"
    whole = run(parts, Scripted(faithful), PLAN, out=out)
    lines = out.read_bytes().splitlines(keepends=True)
    assert len(lines) == 1 + len(whole) and [json.loads(line) for line in lines[1:]] == whole
    again = Scripted(faithful)
    assert run(parts, again, PLAN, out=out) == whole and again.prompts == []
    assert evaluate(whole[:20])["folders"][0]["own_words"]["decision"]["n"] > 0  # other pictures' evidence is not there yet
    out.write_bytes(b"".join(lines[:40]) + lines[40][:25])
    taken_up = run(parts, again, PLAN, out=out)

    def fields(rows: list[dict[str, object]]) -> list[dict[str, object]]:
        return sorted(({**row, "latency_ms": 0} for row in rows), key=lambda row: json.dumps(row, sort_keys=True))

    assert fields(taken_up) == fields(whole) and 0 < len(again.prompts) < len(whole)
    with pytest.raises(AnswersRefused, match="other settings"):
        run(parts, Scripted(name="another"), PLAN, out=out)
    out.write_text("no rows\n")
    with pytest.raises(AnswersRefused, match="no file of answers"):
        run(parts, Scripted(), PLAN, out=out)


def test_questions_are_drawn_by_picture_and_seed() -> None:
    asked = drawn_questions(0, "good/000.png")
    assert asked == drawn_questions(0, "good/000.png") != drawn_questions(1, "good/000.png")
    assert [q.topic for q in asked[:5]] == ["presence", "sound", "place", "count", "size"]
    assert [q.sense for q in asked[:3]] == [1, -1, 0] and [q.answerable for q in asked] == [True] * 5 + [False] * 2
    assert asked[5].topic != asked[6].topic and len(drawn_questions(0, "x", wordings=2)) == 12


def texts(value: object) -> set[str]:
    """Every line of a TOML document's strings that has three words and more."""
    if isinstance(value, dict):
        return set().union(*map(texts, value.values()))
    if isinstance(value, list):
        return set().union(*map(texts, value))
    return {line for line in str(value).splitlines() if len(line.split()) > 2}


def normalised(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def pattern(wording: str) -> re.Pattern[str]:
    """A training wording, its placeholders standing for any words."""
    return re.compile(r"\s*.*\s*".join(re.escape(normalised(part)) for part in re.split(r"\{[^}]*\}", wording)))


def test_no_wording_of_the_evaluation_is_in_training() -> None:
    held_out = {normalised(text) for text in texts(tomllib.loads(QUESTIONS.read_text(encoding="utf-8")))}
    assert len(held_out) > 60
    assert pattern("Is there a {noun} on it?").fullmatch("is there a deep scratch on it")
    if not DIALOGUES.is_file():
        pytest.skip("there are no training dialogues (inspection/dialogues.toml)")
    trained = [pattern(text) for text in texts(tomllib.loads(DIALOGUES.read_text(encoding="utf-8"))) if len(normalised(text)) > 8]
    assert trained and {text for text in held_out if any(one.fullmatch(text) for one in trained)} == set()


def test_truth_comes_from_the_mask(tmp_path: Path) -> None:
    mask = np.zeros((90, 120), np.uint8)
    mask[70:80, 85:115] = mask[10:14, 5:10] = 255
    mask[13:17, 11:13] = 255  # a fragment beside: of one defect with it
    mask[50, 60] = 255  # a speck
    cv2.imwrite(str(tmp_path / "m.png"), mask)
    truth = truth_of(Sample(tmp_path / "x.png", "dent", tmp_path / "m.png"))
    assert truth == {"defective": True, "place": "bottom right", "area_pct": pytest.approx(100 * 329 / 10800), "count": 2}
    assert truth_of(Sample(tmp_path / "x.png", "good", None)) == {
        "defective": False,
        "place": None,
        "area_pct": None,
        "count": None,
    }


def test_evidence_survives_its_row() -> None:
    for e in (evidence(18.2, ("top left", 3.2), ("right", 0.5)), evidence(4.2)):
        assert recorded(restored(json.loads(json.dumps(recorded(e))))) == recorded(e)


def row(picture: str, topic: str, said: str, sense: int = 0, answerable: bool = True) -> dict[str, object]:
    return {"row": "answer", "folder": "f", "seed": 0, "picture": picture, "by": "engine", "topic": topic, "text": "?",
            "sense": sense, "answerable": answerable, "own_words": said, "answer": said,
            "grounding": "grounded", "view": None}  # fmt: skip


def inspection(picture: str, e: object, **truth: object) -> dict[str, object]:
    known = {"defective": False, "place": None, "area_pct": None, "count": None, **truth}
    return {"row": "inspection", "folder": "f", "seed": 0, "picture": picture, "evidence": recorded(e), "truth": known}


def test_figures_of_known_rows() -> None:
    bad = {"defective": True, "place": "top", "area_pct": 0.4, "count": 2}
    rows = [
        inspection("a", evidence(18.2, ("left", 2.0)), **bad),
        inspection("b", evidence(4.2)),
        row("a", "presence", "Yes.", 1),
        row("a", "sound", "Yes, it is good.", -1),
        row("a", "place", "At the top, or the left."),
        row("a", "count", "There are four defects."),
        row("a", "size", "It covers 0.5 % of the picture."),
        row("a", "money", "It costs five euros.", answerable=False),
        row("b", "presence", "It has a defect.", 1),
        row("b", "sound", "Perhaps.", -1),
        row("b", "place", "That cannot be said."),
        row("b", "money", "That cannot be said.", answerable=False),
    ]
    (one,) = evaluate(rows)["folders"]
    own = {name: one["own_words"][name]["value"] for name in FIGURES}
    assert own["decision"] == pytest.approx((0.5 + 0.25) / 2)  # a: right and wrong; b: wrong and no side
    assert one["own_words"]["decision"]["n"] == 4 and one["own_words"]["place"]["n"] == 1
    assert own["decided"] == 0.75 and own["place"] == 1 and own["count"] == 0 and own["size"] == 1
    assert own["abstention"] == 0.5 and own["over_refusal"] == pytest.approx(1 / 8) and own["contradictions"] == 0.5
    assert one["disagreements"] == {"n": 2, "model_right": 0.0}
    assert one["baselines"]["expert"]["place"]["value"] == 0 and one["baselines"]["expert"]["count"]["value"] == 1
    report = judged(rows)
    assert {one["question"] for one in report["unborne"]} == {"?"} and report["against_masks"]["place"]["untrue"] >= 0


def test_an_interval_covers_draws_of_pictures() -> None:
    rows = [inspection(str(n), evidence(18.2), defective=True, place="top", area_pct=0.4, count=1) for n in range(40)]
    folder = Folder(rows)
    draws, n = folder.draws([folder.value(r, "", n < 10) for n, r in enumerate(rows)])
    assert n == 40
    low, high = np.percentile(draws[1:], [2.5, 97.5])
    assert draws[0] == 0.25 and 0.08 < low < 0.16 and 0.34 < high < 0.42  # a binomial's: 0.25 ± 0.13


def test_what_is_left_out_of_a_prompt() -> None:
    sight = Sight(
        np.ones((224, 224, 3), np.uint8),
        np.ones((2, 224, 224, 3), np.uint8),
        np.ones((56, 56), np.float32),
        np.ones(4, np.float32),
    )
    engine = Scripted()
    for left_out, fields in ((["map", "facts"], {"map"}), (["scalars"], {"scalars"}), (["references", "picture"], {"part"})):
        "".join(Without(engine, left_out).generate(Prompt("s", "c", "q", sight)))
        cut = engine.prompts[-1]
        assert cut.sight is not None and cut.context == ("" if "facts" in left_out else "c")
        assert {name for name in ("part", "map", "scalars") if not (getattr(cut.sight, name) == 1).all()} == fields
        assert len(cut.sight.references) == (0 if "references" in left_out else 2)
    with pytest.raises(AnswersRefused, match="words alone"):
        "".join(Without(engine, ["map"]).generate(Prompt("s", "c", "q")))
    with pytest.raises(AnswersRefused, match="there are map"):
        Without(engine, ["tokenizer"])


def test_a_model_that_was_not_asked_has_no_figures(parts: Path) -> None:
    rows = run(parts, Scripted(), PLAN)
    assert "untrained" not in evaluate(rows)["folders"][0]["baselines"] and "untrained" not in evaluate(rows)["mean"]["baselines"]
