"""How questions are sorted: the wordings that topics are learned from, and questions of other writers to judge them by."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from inspection.dialogues import FOLLOW_UPS, WORDINGS, lines
from inspection.questions import KINDS, understand
from models.topics import Topics, fit

_INSPECTION = Path(__file__).resolve().parent.parent

JUDGED = lines(tomllib.loads((_INSPECTION / "evaluation_wordings.toml").read_text(encoding="utf-8")))
"""Never learned from."""


class Judged(NamedTuple):
    """How the questions of a topic are understood."""

    questions: int
    right: float
    """Share with the right kind."""
    refused: float
    """Share taken for questions without an answer."""


def learned(tell: Callable[[str, int, int], None] = lambda *_: None) -> Topics:
    """Topics of all wordings to learn from."""
    both = [(one, topic) for said in (WORDINGS, FOLLOW_UPS) for topic, some in said.items() for one in some]
    return fit([one for one, _ in both], [topic for _, topic in both], lambda done, total: tell("topics", done, total))


def judged() -> dict[str, Judged]:
    """Each topic of the questions that nothing was learned from, as `understand` takes them."""
    found = {}
    for topic, some in JUDGED.items():
        kinds = [understand(one).kind for one in some]
        right, refused = (kinds.count(wanted) / len(kinds) for wanted in (KINDS[topic][0], "unanswerable"))
        found[topic] = Judged(len(kinds), right, refused)
    return found
