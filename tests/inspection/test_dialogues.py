"""What a model is trained to say: each wording is understood as meant, each answer stands the check where it agrees with it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from evidences import evidence, evidences, objections
from hypothesis import given
from hypothesis import strategies as st

from inspection.aims import ACTIONS, REFUSALS, TOLD, aim, aims
from inspection.dialogues import FOLLOW_UPS, HELD_OUT, LEARNED, SHARES, WORDINGS, dialogue
from inspection.evidence import Evidence, Verdict
from inspection.grounding import STATED, Check
from inspection.judge import hear
from inspection.phrases import statement
from inspection.questions import KINDS, understand

INSPECTION = Path(__file__).parents[2] / "inspection"
ALL = [(topic, one) for wordings in (WORDINGS, FOLLOW_UPS) for topic, some in wordings.items() for one in some]
TOPIC = {one: topic for topic, one in ALL}


def grounding(said: str, question: str, e: Evidence) -> str:
    asked = understand(question)
    check = Check(e, asked, statement(e, asked))
    check.begin()
    check.feed(said)
    check.finish()
    return check.grounding


def test_wordings_are_understood_as_their_topics() -> None:
    """Those without an answer are for the model to know where the sorting does not."""
    found = [(*KINDS[topic], understand(wording)) for topic, wording in ALL]
    assert {asked.language for _, _, asked in found} == {"en"}
    turned = [asked.text for _, sense, asked in found if asked.sense not in (0, sense)]
    assert len(turned) < 0.001 * len(found), turned
    others = [asked.text for kind, _, asked in found if asked.kind != kind]
    assert len(others) < 0.03 * len(found), others


@given(evidences(), st.sampled_from(sorted(KINDS)), st.none() | st.sampled_from([0.1, 0.9]))
def test_drafts_hold_what_the_model_is_taught_to_say_likeliest_first(e: Evidence, topic: str, view: float | None) -> None:
    asked = replace(understand(LEARNED[topic][0], "en"), kind=KINDS[topic][0])
    guesses = aims(e, asked)
    assert len(set(guesses)) == len(guesses) <= 14
    assert all(aim(other, asked, replace(e, view=view)) in guesses for other in KINDS)
    assert aim(topic, asked, e) in guesses[:3]


def test_wordings_are_many_and_each_stands_once() -> None:
    said = [" ".join(one.lower().split()) for _, one in ALL]
    assert len(said) == len(set(said))
    assert len(WORDINGS["unanswerable"]) >= 120
    assert all(len(WORDINGS[topic]) >= 25 for topic in ("direct", "inverted", "place", "count", "size", "description", "action"))
    assert sum(map(len, FOLLOW_UPS.values())) >= 25
    assert set(WORDINGS) == set(KINDS) == set(SHARES) and set(FOLLOW_UPS) < set(KINDS)
    assert SHARES["direct"] == SHARES["inverted"] and abs(sum(SHARES.values()) - 1) < 1e-9


def test_wordings_held_out_are_never_learned() -> None:
    assert all(HELD_OUT[topic] and {*LEARNED[topic], *HELD_OUT[topic]} == set(WORDINGS[topic]) for topic in WORDINGS)
    assert not {one for some in HELD_OUT.values() for one in some} & {one for some in LEARNED.values() for one in some}
    asked = [turn.question for turn in dialogue(evidence(), np.random.default_rng(0), 400, held_out=True)]
    assert set(asked) <= {one for some in HELD_OUT.values() for one in some} and len(set(asked)) > 60
    learned = {one for some in (LEARNED, FOLLOW_UPS) for wordings in some.values() for one in wordings}
    assert {turn.question for turn in dialogue(evidence(), np.random.default_rng(0), 400)} <= learned


def test_no_wording_is_one_that_the_model_or_the_rules_are_judged_by() -> None:
    trained = {_plain(one) for _, one in ALL}
    here = (Path(__file__).with_name(name) for name in ("test_questions.py", "adversarial.toml"))
    judged = [INSPECTION / "evaluation_questions.toml", *here]
    for path in judged:
        assert not {_plain(line) for line in re.split(r"[\n\"]", path.read_text())} & trained - {""}, path.name


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


@given(evidences(), st.sampled_from(sorted(KINDS)), st.data())
def test_an_answer_that_agrees_with_the_verdict_is_grounded_as_it_stands(e: Evidence, topic: str, data: st.DataObject) -> None:
    kind, _ = KINDS[topic]
    asked = understand(question := data.draw(st.sampled_from(WORDINGS[topic] + FOLLOW_UPS.get(topic, ()))))
    if kind in STATED or asked.kind != kind:
        return
    e = replace(e, view=data.draw(st.sampled_from((None, 0.0, 0.4, 0.5, 1.0))))
    said = aim(topic, asked, e)
    told = {f.place for f in e.findings[:TOLD]} >= {f.place for f in e.findings}
    if kind == "place" and not told:
        assert grounding(said, question, e) == "mended"
    else:
        assert grounding(said, question, e) == "grounded", said
        assert not objections(said, e, asked.sense)
    assert len(said.split()) <= 26


@given(evidences(), st.booleans())
def test_the_side_taken_is_the_view_and_the_verdict_is_told_beside_it(e: Evidence, defective: bool) -> None:
    e = replace(e, view=float(defective))
    for topic, question in (("direct", "Is the part defective?"), ("inverted", "Is it good?"), ("either", "Good or bad?")):
        asked = understand(question)
        said = aim(topic, asked, e)
        heard = hear(said, asked.sense)
        assert heard.own is defective
        assert heard.side is e.decided
        assert ("model sees" in said) is (e.decided is not defective)
        other = replace(e, view=float(not defective))
        assert grounding(said, question, e) == "grounded"
        assert ("model sees" in said) <= (grounding(said, question, other) != "grounded")


def test_answers_read_as_they_should() -> None:
    bad = evidence(18.2, ("top left", 0.83), ("right", 0.04))
    good = evidence(4.2, peak_place="bottom")

    def told(topic: str, e: Evidence) -> str:
        return aim(topic, understand(WORDINGS[topic][0]), e)

    assert told("direct", bad) == "There is a defect at the top left."
    assert told("inverted", bad) == "There is a defect at the top left."
    assert told("place", bad) == "f1 is at the top left, f2 is at the right."
    assert told("size", bad) == "The finding f1 is small: it covers 0.8 % of the picture."
    assert told("count", bad) == "There are 2 findings."
    assert told("score", bad) == "The verdict is reject: the score is 1.82 times the limit. There are 2 findings."
    assert told("description", bad) == ("The verdict is reject: there are 2 findings. The finding f1 is small, at the top left.")
    assert aim("size", understand("How big is the scratch?"), bad) == (
        "The finding f1 is small: it covers 0.8 % of the picture. The type cannot be named."
    )
    assert (
        aim("direct", understand("Is there evidence that a wrong one slipped in?"), bad) == "There is a defect at the top left."
    )
    assert told("direct", replace(bad, view=0.2)) == "The verdict is reject, but the model sees no defect."
    assert told("inverted", replace(good, view=0.9)) == (
        "The verdict is pass, but the model sees a defect. The map is highest at the bottom."
    )
    assert told("action", bad) == ACTIONS[Verdict.REJECT]
    assert told("direct", good) == "The part is good."
    assert told("inverted", good) == "The part is good."
    assert told("place", good) == "There is no finding. The map is highest at the bottom."
    assert told("unanswerable", good) == REFUSALS["unanswerable"]


def test_topics_come_as_often_as_their_shares_say() -> None:
    seen = Counter(TOPIC[turn.question] for turn in dialogue(evidence(), np.random.default_rng(0), 4000))
    assert all(abs(seen[topic] / 4000 - share) < 0.03 for topic, share in SHARES.items())


@given(evidences(), st.integers(0, 2**32), st.integers(0, 30))
def test_a_dialogue_is_drawn_by_its_seed(e: Evidence, seed: int, count: int) -> None:
    turns = dialogue(e, np.random.default_rng(seed), count)
    assert turns == dialogue(e, np.random.default_rng(seed), count)
    assert len(turns) == count
    for turn in turns:
        assert turn.kind == KINDS[TOPIC[turn.question]][0]
