"""Topics that are learned: what is committed is what the wordings give, and questions of other writers are understood."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspection.dialogues import FOLLOW_UPS, WORDINGS
from inspection.questions import KINDS, topics
from inspection.training.topics import JUDGED, judged, learned
from models.topics import BUCKETS, Topics, buckets, fit


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def test_no_question_that_is_judged_was_learned_from() -> None:
    read = {_plain(one) for said in (WORDINGS, FOLLOW_UPS) for some in said.values() for one in some}
    asked = [_plain(one) for some in JUDGED.values() for one in some]
    assert not read & set(asked) and len(set(asked)) > 900
    assert set(JUDGED) == set(KINDS)


def test_questions_of_other_writers_are_understood() -> None:
    found = judged()
    answerable = [one for topic, one in found.items() if topic != "unanswerable"]
    many = sum(one.questions for one in answerable)
    assert sum(one.questions * one.right for one in answerable) / many > 0.8
    assert sum(one.questions * one.refused for one in answerable) / many < 0.12
    assert found["unanswerable"].right > 0.85
    assert all(one.right > 0.7 for one in answerable)


def test_the_committed_topics_are_those_of_the_wordings() -> None:
    again, kept = learned(), topics()
    assert again.names == kept.names
    asked = [one for some in JUDGED.values() for one in some]
    there, here = (np.array([list(of(one).values()) for one in asked]) for of in (kept, again))
    assert np.abs(there - here).max() < 0.005


@given(st.text(max_size=300))
def test_any_text_has_a_topic(text: str) -> None:
    assert all(0 <= bucket < BUCKETS and weight > 0 for bucket, weight in buckets(text).items())
    odds = topics()(text)
    assert set(odds) == set(KINDS) and sum(odds.values()) == pytest.approx(1)


def test_topics_are_learned_kept_and_read_back(tmp_path: Path) -> None:
    said = {
        "place": ["where is it", "where does it sit", "on which side"],
        "count": ["how many", "is it one or two", "the number"],
    }
    told: list[tuple[int, int]] = []
    made = fit(
        [one for some in said.values() for one in some],
        [topic for topic, some in said.items() for _ in some],
        lambda done, total: told.append((done, total)),
    )
    assert told[-1] == (1000, 1000) and told == sorted(told) and len(told) < 500
    made.save(tmp_path / "topics.safetensors")
    back = Topics.load(tmp_path / "topics.safetensors")
    for topic, some in said.items():
        for one in some:
            assert max(back(one), key=back(one).__getitem__) == topic
            assert back(one) == pytest.approx(made(one), abs=1e-3)
    assert back("where does the flaw sit")["place"] > 0.7
