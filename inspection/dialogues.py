"""Questions about an inspection and what a model should answer: the wordings and aims that it is trained on."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inspection.claims import band
from inspection.evidence import Evidence, Finding, Verdict
from inspection.phrases import percent

_FILE: dict[str, Any] = tomllib.loads(Path(__file__).with_name("dialogues.toml").read_text(encoding="utf-8"))
_FOLLOWS: dict[str, str] = _FILE.pop("follow")

WORDINGS: dict[str, tuple[str, ...]] = {topic: tuple(text.strip().splitlines()) for topic, text in _FILE.items()}
"""Wordings of each topic."""
FOLLOW_UPS: dict[str, tuple[str, ...]] = {topic: tuple(text.strip().splitlines()) for topic, text in _FOLLOWS.items()}
"""Short ones that take what was said before for known."""
KINDS: dict[str, tuple[str, int]] = {
    "direct": ("yes_no", 1),
    "inverted": ("yes_no", -1),
    "either": ("yes_no", 0),
    "score": ("description", 0),
    **{kind: (kind, 0) for kind in ("place", "count", "size", "description", "action", "type", "history", "unanswerable")},
}
"""Topic → kind and sense of its questions, as `inspection.questions.understand` finds them."""
SHARES = {
    "direct": 0.15, "inverted": 0.15, "either": 0.03, "place": 0.17, "count": 0.09, "size": 0.10, "description": 0.06,
    "score": 0.03, "action": 0.06, "type": 0.03, "history": 0.02, "unanswerable": 0.11,
}  # fmt: skip
"""How often each topic comes; direct and inverted questions one to one, so that neither yes nor no is the likelier."""
TOLD = 3
"""Findings that an answer tells one by one."""
FOLLOWED = 0.25
"""Share of later questions that are put shortly."""
REFUSALS = {
    "type": "The type cannot be named: this product has no labelled example.",
    "history": "No earlier inspection of this product is at hand.",
    "unanswerable": "This cannot be answered from the picture and its inspection.",
}
"""What is said where the inspection bears no answer."""
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


def dialogue(evidence: Evidence, truth: Mapping[str, Any], rng: np.random.Generator, count: int) -> list[Turn]:
    """`count` turns on different topics while there are any, drawn by `SHARES`; of a sample's `truth` only `defective` counts."""
    topics, turns = list(SHARES), list[Turn]()
    while len(turns) < count:
        drawn = rng.choice(topics, min(count - len(turns), len(topics)), replace=False, p=list(SHARES.values()))
        for topic in map(str, drawn):
            short = turns and topic in FOLLOW_UPS and rng.random() < FOLLOWED
            wording = str(rng.choice((FOLLOW_UPS if short else WORDINGS)[topic]))
            turns.append(Turn(wording, answer(topic, evidence, bool(truth["defective"])), KINDS[topic][0]))
    return turns


def answer(topic: str, evidence: Evidence, defective: bool) -> str:
    """What a model should say on a topic: whether there is a defect by the truth, all else by the recorded evidence.

    Where both agree, the check finds every word borne, and nothing amiss with up to `TOLD` findings.
    """
    found = evidence.findings
    first = f" at the {found[0].place}" if found else ""
    if topic in ("direct", "inverted"):
        lead = "Yes" if defective == (topic == "direct") else "No"
        return f"{lead}, there is a defect{first}." if defective else f"{lead}, the part is good."
    if topic == "either":
        return f"The part has a defect{first}." if defective else "The part is good."
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


def _counted(found: tuple[Finding, ...]) -> str:
    return "There is no finding" if not found else "There is 1 finding" if len(found) == 1 else f"There are {len(found)} findings"


def _highest(evidence: Evidence) -> str:
    return f"The map is highest at the {evidence.map_stats.peak_place}."


def _places(found: tuple[Finding, ...]) -> str:
    if len(found) == 1:
        return f"The finding f1 is at the {found[0].place}."
    return ", ".join(f"{one.id} is at the {one.place}" for one in found[:TOLD]) + "."


def _size(one: Finding) -> str:
    return f"The finding {one.id} is {band(one.area_pct)}: it covers {percent(one.area_pct)} % of the picture."
