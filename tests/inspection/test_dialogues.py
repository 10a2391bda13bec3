"""What a model is trained to say: each wording is understood as meant, each answer stands the check where it agrees with it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from evidences import evidence, evidences, objections
from hypothesis import given
from hypothesis import strategies as st

from inspection.dialogues import ACTIONS, FOLLOW_UPS, KINDS, REFUSALS, SHARES, TOLD, WORDINGS, answer, dialogue
from inspection.evidence import Evidence, Verdict
from inspection.grounding import STATED, Check
from inspection.phrases import statement
from inspection.questions import understand

INSPECTION = Path(__file__).parents[2] / "inspection"
ALL = [(topic, one) for wordings in (WORDINGS, FOLLOW_UPS) for topic, some in wordings.items() for one in some]


def grounding(said: str, question: str, e: Evidence) -> str:
    asked = understand(question)
    check = Check(e, asked, statement(e, asked))
    check.begin()
    check.feed(said)
    check.finish()
    return check.grounding


@pytest.mark.parametrize(("topic", "wording"), ALL)
def test_a_wording_is_understood_as_its_topic(topic: str, wording: str) -> None:
    kind, sense = KINDS[topic]
    asked = understand(wording)
    assert (asked.kind, asked.sense, asked.language) == (kind, sense, "en")
    assert not (asked.names_type and kind in ("place", "count", "size"))


def test_wordings_are_many_and_each_stands_once() -> None:
    said = [" ".join(one.lower().split()) for _, one in ALL]
    assert len(said) == len(set(said))
    assert len(WORDINGS["unanswerable"]) >= 120
    assert all(len(WORDINGS[topic]) >= 25 for topic in ("direct", "inverted", "place", "count", "size", "description", "action"))
    assert sum(map(len, FOLLOW_UPS.values())) >= 25
    assert set(WORDINGS) == set(KINDS) == set(SHARES) and set(FOLLOW_UPS) < set(KINDS)
    assert SHARES["direct"] == SHARES["inverted"] and abs(sum(SHARES.values()) - 1) < 1e-9


def test_no_wording_is_one_that_the_model_or_the_rules_are_judged_by() -> None:
    trained = {_plain(one) for _, one in ALL}
    judged = [*INSPECTION.glob("evaluation*.toml"), Path(__file__).with_name("test_questions.py")]
    for path in judged:
        assert not {_plain(line) for line in re.split(r"[\n\"]", path.read_text())} & trained - {""}, path.name


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


@given(evidences(), st.sampled_from(sorted(KINDS)), st.data())
def test_an_answer_that_agrees_with_the_verdict_is_grounded_as_it_stands(e: Evidence, topic: str, data: st.DataObject) -> None:
    kind, sense = KINDS[topic]
    question = data.draw(st.sampled_from(WORDINGS[topic] + FOLLOW_UPS.get(topic, ())))
    if kind in STATED or (kind == "yes_no" and e.verdict is Verdict.REVIEW):
        return
    said = answer(topic, e, e.verdict is Verdict.REJECT)
    told = {f.place for f in e.findings[:TOLD]} >= {f.place for f in e.findings}
    if kind == "place" and not told:
        assert grounding(said, question, e) == "mended"
    else:
        assert grounding(said, question, e) == "grounded", said
        assert not objections(said, e, sense)
    assert len(said.split()) <= 21


@given(evidences(), st.booleans())
def test_yes_and_no_follow_the_truth_and_not_the_verdict(e: Evidence, defective: bool) -> None:
    assert answer("direct", e, defective).startswith("Yes" if defective else "No")
    assert answer("inverted", e, defective).startswith("No" if defective else "Yes")
    assert ("good" in answer("either", e, defective)) is not defective
    if e.verdict is Verdict.REVIEW or defective is not (e.verdict is Verdict.REJECT):
        assert grounding(answer("direct", e, defective), WORDINGS["direct"][0], e) != "grounded"


def test_answers_read_as_they_should() -> None:
    bad = evidence(18.2, ("top left", 0.83), ("right", 0.04))
    good = evidence(4.2, peak_place="bottom")
    assert answer("direct", bad, True) == "Yes, there is a defect at the top left."
    assert answer("inverted", bad, True) == "No, there is a defect at the top left."
    assert answer("place", bad, True) == "f1 is at the top left, f2 is at the right."
    assert answer("size", bad, True) == "The finding f1 is small: it covers 0.8 % of the picture."
    assert answer("count", bad, True) == "There are 2 findings."
    assert answer("score", bad, True) == "The verdict is reject: the score is 1.82 times the limit. There are 2 findings."
    assert answer("description", bad, True) == (
        "The verdict is reject: there are 2 findings. The finding f1 is small, at the top left."
    )
    assert answer("action", bad, True) == ACTIONS[Verdict.REJECT]
    assert answer("direct", good, False) == "No, the part is good."
    assert answer("inverted", good, False) == "Yes, the part is good."
    assert answer("place", good, False) == "There is no finding. The map is highest at the bottom."
    assert answer("unanswerable", good, False) == REFUSALS["unanswerable"]


@given(evidences(), st.booleans(), st.integers(0, 2**32), st.integers(0, 30))
def test_a_dialogue_is_drawn_by_its_seed_over_many_topics(e: Evidence, defective: bool, seed: int, count: int) -> None:
    turns = dialogue(e, {"defective": defective}, np.random.default_rng(seed), count)
    assert turns == dialogue(e, {"defective": defective}, np.random.default_rng(seed), count)
    assert len(turns) == count
    for turn in turns:
        assert understand(turn.question).kind == turn.kind
    topics = {topic for topic, one in ALL for turn in turns if turn.question == one}
    assert len(topics) == min(count, len(KINDS))
