"""Questions about an inspection and what a model should answer: the wordings and aims that it is trained on."""

from __future__ import annotations

import tomllib
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from inspection.claims import band
from inspection.evidence import Evidence, Finding, Verdict
from inspection.grounding import asks_for_a_type
from inspection.phrases import percent
from inspection.questions import KINDS, Question, understand

_FILE: dict[str, Any] = tomllib.loads(Path(__file__).with_name("dialogues.toml").read_text(encoding="utf-8"))
_FOLLOWS: dict[str, str] = _FILE.pop("follow")


def lines(texts: dict[str, str]) -> dict[str, tuple[str, ...]]:
    """Topic → its wordings, a line each."""
    return {topic: tuple(text.strip().splitlines()) for topic, text in texts.items()}


WORDINGS = lines(_FILE)
"""Wordings of each topic."""
HELD_OUT: dict[str, tuple[str, ...]] = {
    topic: tuple(one for one in some if zlib.crc32(one.encode()) % 10 == 0) for topic, some in WORDINGS.items()
}
"""A tenth of them, never trained on: how an answer fares in words that are new."""
LEARNED: dict[str, tuple[str, ...]] = {
    topic: tuple(one for one in some if one not in HELD_OUT[topic]) for topic, some in WORDINGS.items()
}
FOLLOW_UPS = lines(_FOLLOWS)
"""Short ones that take what was said before for known."""
SHARES = {
    "direct": 0.14, "inverted": 0.14, "either": 0.03, "place": 0.14, "count": 0.08, "size": 0.09, "description": 0.04,
    "score": 0.03, "action": 0.04, "type": 0.03, "history": 0.02, "unanswerable": 0.22,
}  # fmt: skip
"""How often each topic comes; direct and inverted questions one to one, so that neither yes nor no is the likelier."""
TOLD = 3
"""Findings that an answer tells one by one."""
FOLLOWED = 0.25
"""Share of later questions that are put shortly."""
TYPELESS = "The type cannot be named."
"""Said beside the answer where a question takes a type for granted."""
REFUSALS = {
    "type": f"{TYPELESS[:-1]}: this product has no labelled example.",
    "history": "No earlier inspection of this product is at hand.",
    "unanswerable": "This cannot be answered from the picture and its inspection.",
}
"""What is said where the inspection bears no answer."""
NOT_SURE = "The detector is not sure."
ACTIONS = {
    Verdict.PASS: "Release the part.",
    Verdict.REVIEW: "A person should look at the part.",
    Verdict.REJECT: "Set the part aside.",
}


@dataclass(frozen=True, slots=True)
class Turn:
    """One question and its answer."""

    question: str
    answer: str
    kind: str
    """As `inspection.questions.understand` says it."""


def dialogue(evidence: Evidence, rng: np.random.Generator, count: int, *, held_out: bool = False) -> list[Turn]:
    """`count` turns on different topics while there are any, drawn by `SHARES`, in wordings to learn or in those held out."""
    topics, turns = list(SHARES), list[Turn]()
    while len(turns) < count:
        drawn = rng.choice(topics, min(count - len(turns), len(topics)), replace=False, p=list(SHARES.values()))
        for topic in map(str, drawn):
            short = turns and not held_out and topic in FOLLOW_UPS and rng.random() < FOLLOWED
            wording = str(rng.choice((FOLLOW_UPS if short else HELD_OUT if held_out else LEARNED)[topic]))
            asked = replace(understand(wording, "en"), kind=KINDS[topic][0])
            turns.append(Turn(wording, answer(topic, asked, evidence), asked.kind))
    return turns


def answer(topic: str, asked: Question, evidence: Evidence) -> str:
    """What a model should say on a topic: all of it borne by the evidence, and enough with up to `TOLD` findings.

    Asked for presence, it tells its own view (`Evidence.view`) too where the verdict does not say the same. Yes and no are left
    to the check, which knows what they would say.
    """
    said = _answer(topic, evidence)
    return f"{said} {TYPELESS}" if asks_for_a_type(asked) else said


def _answer(topic: str, evidence: Evidence) -> str:
    found = evidence.findings
    if KINDS[topic][0] == "yes_no":
        return _presence(evidence)
    if topic in REFUSALS:
        return REFUSALS[topic]
    if topic == "action":
        return ACTIONS[evidence.verdict]
    if topic == "place":
        return _places(found) if found else f"There is no finding. {_highest(evidence)}"
    if topic == "count":
        return f"{_counted(found)}."
    if topic == "size":
        return _size(found[0]) if found else "There is no finding."
    if topic == "score":
        reject = evidence.thresholds.reject
        ratio = "" if reject is None else f": the score is {evidence.raw_score / reject:.2f} times the limit"
        return f"The verdict is {evidence.verdict}{ratio}. {_counted(found)}."
    told = f"The finding f1 is {band(found[0].area_pct)}, at the {found[0].place}." if found else _highest(evidence)
    counted = _counted(found)
    return f"The verdict is {evidence.verdict}: {counted[0].lower()}{counted[1:]}. {told}"


def _presence(evidence: Evidence) -> str:
    decided, sees = evidence.decided, evidence.sees
    if sees is None or sees is decided:
        if decided is None:
            return NOT_SURE
        at = f" at the {evidence.findings[0].place}" if evidence.findings else ""
        return f"There is a defect{at}." if decided else "The part is good."
    view = f"the model sees {'a' if sees else 'no'} defect."
    told = f"{NOT_SURE[:-1]}; {view}" if decided is None else f"The verdict is {evidence.verdict}, but {view}"
    return f"{told} {_highest(evidence)}" if sees else told


def _counted(found: tuple[Finding, ...]) -> str:
    return "There is no finding" if not found else "There is 1 finding" if len(found) == 1 else f"There are {len(found)} findings"


def _highest(evidence: Evidence) -> str:
    return f"The map is highest at the {evidence.findings[0].place if evidence.findings else evidence.map_stats.peak_place}."


def _places(found: tuple[Finding, ...]) -> str:
    if len(found) == 1:
        return f"The finding f1 is at the {found[0].place}."
    return ", ".join(f"{one.id} is at the {one.place}" for one in found[:TOLD]) + "."


def _size(one: Finding) -> str:
    return f"The finding {one.id} is {band(one.area_pct)}: it covers {percent(one.area_pct)} % of the picture."
