"""Questions about an inspection, in the wordings that a model is trained on, with what it should answer."""

from __future__ import annotations

import tomllib
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from inspection.aims import aim
from inspection.evidence import Evidence
from inspection.questions import KINDS, understand

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
    "direct": 0.11, "inverted": 0.11, "either": 0.03, "place": 0.10, "count": 0.07, "size": 0.08, "description": 0.04,
    "score": 0.03, "action": 0.04, "type": 0.03, "history": 0.02, "unanswerable": 0.34,
}  # fmt: skip
"""How often each topic comes; direct and inverted questions one to one, so that neither yes nor no is the likelier."""
FOLLOWED = 0.25
"""Share of later questions that are put shortly."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One question and its answer."""

    question: str
    answer: str
    kind: str
    """As `inspection.questions.understand` says it."""


def dialogue(evidence: Evidence, rng: np.random.Generator, count: int, *, held_out: bool = False) -> list[Turn]:
    """`count` turns on topics drawn by `SHARES`, in wordings to learn or in those held out."""
    turns = list[Turn]()
    for topic in map(str, rng.choice(list(SHARES), count, p=list(SHARES.values()))):
        short = turns and not held_out and topic in FOLLOW_UPS and rng.random() < FOLLOWED
        wording = str(rng.choice((FOLLOW_UPS if short else HELD_OUT if held_out else LEARNED)[topic]))
        asked = replace(understand(wording, "en"), kind=KINDS[topic][0])
        turns.append(Turn(wording, aim(topic, asked, evidence), asked.kind))
    return turns
