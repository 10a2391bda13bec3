"""What is being asked: kind, language and sense of a question, by rules a person can read."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from inspection.evidence import InspectionError

MAX_CHARACTERS = 2000
LANGUAGES = ("en", "de", "ja")


class QuestionRefused(InspectionError):
    """A question that is empty, too long, or in an unknown form."""

    code = "question_refused"


@dataclass(frozen=True, slots=True)
class Question:
    """A question as understood."""

    text: str
    kind: str
    language: str
    sense: int
    """What "yes" would say: +1 there is a defect, -1 the part is sound, 0 neither."""
    names_type: bool
    """It takes a defect type (a scratch, a crack) for granted."""


_FILE = tomllib.loads(Path(__file__).with_name("questions.toml").read_text(encoding="utf-8"))


def _any(patterns: list[str]) -> re.Pattern[str]:
    return re.compile("|".join(patterns))


_DEFECT, _SOUND, _NONE, _TYPES, _PART, _ABOUT_VERDICT, _INJECTION = (
    _any(_FILE[name]) for name in ("defect", "sound", "none", "types", "part", "about_verdict", "injection")
)
_RULES: list[tuple[str, re.Pattern[str]]] = [
    (rule["kind"], _any(rule["any"] + (_FILE["types"] if rule["kind"] == "type" else []))) for rule in _FILE["rule"]
]


def understand(text: str, language: str | None = None) -> Question:
    """Kind, language and sense of a question; raises `QuestionRefused` when empty or longer than 2,000 characters."""
    text = "".join(c if c.isprintable() else " " for c in text).strip()
    if not text:
        raise QuestionRefused("the question is empty", limit=MAX_CHARACTERS)
    if len(text) > MAX_CHARACTERS:
        raise QuestionRefused(f"the question has {len(text)} characters, more than {MAX_CHARACTERS}", limit=MAX_CHARACTERS)
    low = text.lower()
    kind = _kind(low)
    return Question(text, kind, _language(low, language), _sense(low) if kind == "yes_no" else 0, bool(re.search(_TYPES, low)))


def _kind(low: str) -> str:
    verdict_asked = bool(re.search(_ABOUT_VERDICT, low))
    for kind, pattern in _RULES:
        if pattern.search(low) and not (kind == "unanswerable" and verdict_asked and not _INJECTION.search(low)):
            return kind
    if re.search(_DEFECT, low) or re.search(_SOUND, low):
        return "yes_no"
    return "description" if re.search(_PART, low) and len(low.split()) < 40 else "unanswerable"


def _sense(low: str) -> int:
    """A negative auxiliary ("isn't there…?") keeps the sense; "no defects" and "free of" turn it; "good or bad?" has none."""
    low = re.sub(r"\b(is|are|does|do|has|was|were)n['’]t\b", r"\1", low)
    low = re.sub(r"\byes or no\b", "", low)
    defect, sound, negated = (bool(re.search(p, low)) for p in (_DEFECT, _SOUND, _NONE))
    if defect and sound:
        return 0
    if sound:
        return 0 if negated else -1
    return -1 if negated else 1


_GERMAN = set(_FILE["german"])


def _language(low: str, asked: str | None) -> str:
    tag = (asked or "").lower().replace("_", "-").split("-")[0]
    if tag in LANGUAGES:
        return tag
    if re.search(r"[぀-ヿ]", low):
        return "ja"
    return "de" if len(_GERMAN & set(re.findall(r"\w+", low))) >= 2 else "en"
