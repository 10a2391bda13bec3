"""The weights that come with the program: they fit, they are small, and what they say follows the map."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inspection.answering import answer, build_prompt
from inspection.drawn import drawn
from inspection.evidence import Evidence, Finding, MapStats, Thresholds, Verdict
from inspection.findings import find, map_stats
from inspection.questions import understand
from models import catalog
from models.lmm.prompt import Prompt
from models.lmm.weights import FOLDER, load

pytest.importorskip("torch")

from models.lmm.trained import MyriadEngine


@pytest.fixture(scope="module")
def engine() -> MyriadEngine:
    try:
        return MyriadEngine()
    except catalog.WeightsMissing:
        pytest.skip("the frozen networks' weights are not on this machine (`kensor weights pull`)")


def part(hot: tuple[int, int] | None) -> Evidence:
    """A part over its limit in one cell of nine (row, column), or under it everywhere."""
    anomaly_map = np.full((224, 224), 4.0, np.float32)
    if hot is not None:
        row, column = (75 * at + 20 for at in hot)
        anomaly_map[row : row + 25, column : column + 25] = 22.0
    raw = float(anomaly_map.max())
    found: tuple[Finding, ...] = find(anomaly_map, 9.0, 224, 224) if hot is not None else ()
    stats: MapStats = map_stats(anomaly_map, 224, 224)
    picture = drawn(2, 5)[0]
    return Evidence(
        "018f", "part", Verdict.REJECT if hot is not None else Verdict.PASS, (), raw, raw / (raw + 10), Thresholds(8.0, 10.0),
        found, stats, 224, 224, 1, "ab" * 32, "2026-11-24T10:00:00Z", image=picture, map=anomaly_map, references=(picture,),
    )  # fmt: skip


def test_weights_are_small_and_say_where_they_come_from() -> None:
    trained = load()
    sizes = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert set(sizes) == {"config.json", "trained.safetensors"} and max(sizes.values()) < 15e6 and sum(sizes.values()) < 24e6
    assert {"command", "commit", "data", "views", "words", "seconds", "machine"} <= trained.card.keys()
    assert trained.card["command"].startswith("kensor train-lmm ") and trained.card["data"]["credits"]
    assert str(Path.home()) not in json.dumps(trained.card)


@pytest.mark.parametrize(("hot", "place"), [((0, 0), "top left"), ((2, 1), "bottom"), ((1, 2), "right")])
def test_own_words_on_a_defect(engine: MyriadEngine, hot: tuple[int, int], place: str) -> None:
    evidence = part(hot)
    direct, inverted = (answer(evidence, text, engine) for text in ("Is there a defect?", "Is the part good?"))
    assert (
        direct.answer == f"Yes, there is a defect at the {place}." and inverted.answer == f"No, there is a defect at the {place}."
    )
    assert direct.own_words == inverted.own_words == f"There is a defect at the {place}."
    assert direct.evidence[-1].value["defect"] > 0.9
    assert direct.grounding == inverted.grounding == "grounded" and direct.agrees_with_detector
    where, size = (answer(evidence, text, engine) for text in ("Where is the defect?", "How big is it?"))
    assert place in where.own_words and where.grounding == "grounded"
    assert "1.2 %" in size.own_words and "medium" in size.own_words and size.grounding == "grounded"


def test_own_words_on_a_sound_part(engine: MyriadEngine) -> None:
    said = answer(part(None), "Is there a defect?", engine)
    assert said.answer == "No, the part is good." and said.own_words == "The part is good." and said.grounding == "grounded"
    assert said.evidence[-1].value["defect"] < 0.5


def test_a_view_that_the_verdict_does_not_share_is_told(engine: MyriadEngine) -> None:
    evidence = replace(part((0, 0)), verdict=Verdict.PASS, findings=())
    said = answer(evidence, "Is the part good?", engine)
    assert "the model sees a defect" in said.answer and not said.agrees_with_detector


@pytest.mark.parametrize("text", ["Is there a defect?", "Where is it?", "How big is it?", "Describe it.", "Who made it?"])
def test_drafts_put_no_word_in_its_mouth(engine: MyriadEngine, text: str) -> None:
    for evidence in (part((1, 1)), part(None)):
        prompt = build_prompt(evidence, understand(text), "sight")
        assert len(prompt.drafts) >= 10
        plain = list(engine.generate(replace(prompt, drafts=()), max_tokens=48))
        assert list(engine.generate(prompt, max_tokens=48)) == plain
        astray = tuple(one.replace("top", "bottom").replace("good", "bad") for one in prompt.drafts)
        assert list(engine.generate(replace(prompt, drafts=astray), max_tokens=48)) == plain


def test_what_no_picture_shows_is_refused_in_its_own_words(engine: MyriadEngine) -> None:
    said = answer(part((0, 0)), "Which machine made this part?", engine)
    assert "cannot be answered" in said.own_words and said.grounding == "insufficient"


def test_another_map_is_another_place_without_facts_too(engine: MyriadEngine) -> None:
    def where(hot: tuple[int, int]) -> str:
        prompt = build_prompt(part(hot), understand("Where is the defect?"), "sight")
        return "".join(engine.generate(replace_context(prompt), max_tokens=24))

    assert "top left" in where((0, 0)) and "bottom right" in where((2, 2))


def replace_context(prompt: Prompt) -> Prompt:
    """The prompt without facts in words: what is said comes from the sight."""
    return replace(prompt, context="")


def test_left_out_parts_are_left_out(engine: MyriadEngine) -> None:
    prompt = build_prompt(part((0, 0)), understand("Where is the defect?"), "sight")
    try:
        counts = {}
        for name in ((), ("instructor",), ("tokenizer",), ("tokenizer", "instructor"), ("vision",)):
            engine.ablate(name)
            counts[name] = sum(token < 0 for token in engine.tokens(prompt))
        blind = replace(prompt, sight=None)
        assert not [token for token in engine.tokens(blind) if token < 0] and engine.view is None
    finally:
        engine.ablate(())
    queries, whole = engine.config.queries, 12 + engine.config.prompt_tokens + engine.config.queries
    assert list(counts.values()) == [whole, whole, queries, queries, whole]


def test_a_model_trained_for_one_placement_answers_by_it(engine: MyriadEngine) -> None:
    config = engine.config
    try:
        for placement, left_out, entered in (
            ("both", (), "both"),
            ("language", (), "language"),
            ("queries", (), "queries"),
            ("language", ("tokenizer",), "none"),
            ("queries", ("tokenizer",), "queries"),
        ):
            engine.config = replace(config, placement=placement)
            engine.ablate(left_out)
            assert engine._placement == entered
    finally:
        engine.config = config
        engine.ablate(())
