"""What is being asked: kind, language and sense of a question.

The kind of an English one is learned from some ten thousand wordings, which rules that a person can read lean on; the sense, on
which a yes or no hangs, is theirs alone.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import e
from pathlib import Path

from inspection.claims import nameable, pattern_of
from inspection.evidence import InspectionError
from models.topics import Topics

MAX_CHARACTERS = 2000
SURE = 0.95
"""Probability of a kind that is beyond doubt: across folds .992 of them are right (docs/decisions/0023)."""
LANGUAGES = ("en", "de", "ja")
KINDS: dict[str, tuple[str, int]] = {
    "direct": ("yes_no", 1),
    "inverted": ("yes_no", -1),
    "either": ("yes_no", 0),
    "score": ("description", 0),
    **{kind: (kind, 0) for kind in ("place", "count", "size", "description", "action", "type", "history", "unanswerable")},
}
"""Topic → kind of its questions, and what a yes to them says."""


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
    focus: str = ""
    """`first`, `largest`, `smallest`: it asks about one finding; empty: about all."""
    label: str | None = None
    """The exemplars' label that it names."""
    sure: bool = False
    """The kind is beyond doubt: an engine that refuses such a question is mistaken."""


_FILE = tomllib.loads(Path(__file__).with_name("questions.toml").read_text(encoding="utf-8"))


def _any(patterns: list[str]) -> re.Pattern[str]:
    return re.compile("|".join(patterns))


_DEFECT, _SOUND, _NONE, _TYPES, _PART, _ABOUT_VERDICT, _INJECTION = (
    _any(_FILE[name]) for name in ("defect", "sound", "none", "types", "part", "about_verdict", "injection")
)
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_SPOT = re.compile(r"\bspots?\b")  # as often a place as a type
_PRESENCE_WORDS = set(_FILE["presence_words"])
_UNCLEAR, _PRESENCE_ASKED = _any(_FILE["unclear"]), _any(_FILE["presence_asked"])
_LEAD, _UNLIKE, _BESIDE = (_any(_FILE[name]) for name in ("lead", "unlike", "beside"))
_JAPANESE = _any(sorted(_FILE["presence_words_ja"], key=len, reverse=True))
_PARTLY, _WHOLLY = (
    re.compile(r"\b(any|some)(thing|one|where)?\b"),
    re.compile(r"\b(everything|every|all|whole|entire(ly)?|completely|fully|totally)\b"),
)
_ENGLISH, _FOREIGN = set(_FILE["english"]), set(_FILE["foreign"])
_FOCUS = [(name, _any(patterns)) for name, patterns in _FILE["focus"].items()]
_RULES: list[tuple[str, re.Pattern[str]]] = [
    (rule["kind"], _any(rule["any"] + (_FILE["types"] if rule["kind"] == "type" else []))) for rule in _FILE["rule"]
]


def understand(text: str, language: str | None = None, labels: Sequence[str] = ()) -> Question:
    """Kind, language, sense and focus of a question; `labels`: names that the product's exemplars bear.

    Raises `QuestionRefused` when empty or longer than 2,000 characters.
    """
    text = "".join(c if c.isprintable() else " " for c in text).strip()
    if not text:
        raise QuestionRefused("the question is empty", limit=MAX_CHARACTERS)
    if len(text) > MAX_CHARACTERS:
        raise QuestionRefused(f"the question has {len(text)} characters, more than {MAX_CHARACTERS}", limit=MAX_CHARACTERS)
    low = _LEAD.sub("", unicodedata.normalize("NFKC", text).lower())
    spoken = _language(low, language)
    foreign = spoken == "en" and _is_foreign(low)
    learned = spoken == "en" and not foreign
    kind, probability = _kind(low, learned)
    label = next((one for one in nameable(labels) if re.search(pattern_of(one), low)), None)
    if label is not None and kind == "unanswerable":  # for the label's own words, perhaps: `cut_inner_insulation`
        named = re.sub(pattern_of(label), "defect", low)
        if _ruled(named)[0] != "unanswerable":
            kind, probability = _kind(named, learned)
    if foreign and kind != "unanswerable":
        kind = "description"
    if label is not None and kind in ("yes_no", "description") and not re.search(_ABOUT_VERDICT, low):
        kind = "type"
    sense = _settled_sense(low) if kind == "yes_no" else 0
    names_type = bool(_TYPES.search(_SPOT.sub("", low)))
    return Question(text, kind, spoken, sense, names_type, _focus(low, kind), label, probability >= SURE)


def _focus(low: str, kind: str) -> str:
    return next((name for name, pattern in _FOCUS if kind in ("place", "size") and pattern.search(low)), "")


@cache
def topics() -> Topics:
    """The learned topics that come with the program."""
    return Topics.load()


def _kind(low: str, learned: bool) -> tuple[str, float]:
    """By topics learned and by rules, with its probability: a rule that matches makes its kind e times as likely.

    Not `learned`: by rules alone, which know no probability (0).
    """
    ruled, matched = _ruled(low)
    if not learned:
        return ruled, 0.0
    if ruled == "yes_no" and _settled_sense(low):
        return ruled, 1.0
    odds = dict.fromkeys((kind for kind, _ in KINDS.values()), 0.0)
    for topic, probability in topics()(low).items():
        odds[KINDS[topic][0]] += probability
    odds[ruled] *= e if matched else 1.0
    kind = max(odds, key=odds.__getitem__)
    return kind, odds[kind] / sum(odds.values())


def _ruled(low: str) -> tuple[str, bool]:
    """A kind by rules alone, and whether one of them matched."""
    verdict_asked = bool(re.search(_ABOUT_VERDICT, low))
    for kind, pattern in _RULES:
        if pattern.search(low) and not (kind == "unanswerable" and verdict_asked and not _INJECTION.search(low)):
            return kind, True
    if re.search(_DEFECT, low) or re.search(_SOUND, low):
        return "yes_no", False
    return ("description" if re.search(_PART, low) and len(low.split()) < 40 else "unanswerable"), False


def _sense(low: str) -> int:
    """A negative auxiliary ("isn't there…?") keeps the sense; "no defects" and "free of" turn it; "good or bad?" has none."""
    low = re.sub(r"\b(is|are|does|do|has|was|were)n['’]t\b", r"\1", low)
    defect, sound, negated = (bool(re.search(p, low)) for p in (_DEFECT, _SOUND, _NONE))
    if defect and sound:
        return 0
    if sound:
        return 0 if negated else -1
    return -1 if negated else 1


def _settled_sense(low: str) -> int:
    """The one sense of all sentences that ask for presence and nothing more; 0 for any other question, and for no question."""
    if not _PRESENCE_ASKED.search(low):
        return 0
    low = re.sub(r"^\W*(and|but|so)\b|\b(yes ?(or|/) ?no|or not|even (one|a|the)( small| tiny| little)?)\b", " ", low)
    asked = [part for part in re.split(r"[?.!;]+", _UNLIKE.sub("defective", low)) if part.strip()]
    if _UNCLEAR.search(low) or not all(map(_plain, asked)):
        return 0
    senses = {_sense(part) for part in asked if _DEFECT.search(part) or _SOUND.search(part)}
    return senses.pop() if len(senses) == 1 else 0


def _plain(low: str) -> bool:
    """Whether a text speaks of presence alone, once, and of the whole part.

    A yes is no answer to "could the flaw start a fire?", nor to "is any of it good?".
    """
    defect, sound, none = len(_DEFECT.findall(low)), len(_SOUND.findall(low)), len(_NONE.findall(low))
    if max(defect, sound, none) > 1 or _TYPES.search(low):
        return False
    if (sound and not none and _PARTLY.search(low)) or (defect and _WHOLLY.search(low)):
        return False
    for pattern in (_BESIDE, _NONE, _DEFECT, _SOUND):
        low = pattern.sub(" ", low)
    words = [word.replace("’", "'") for word in _WORD.findall(_JAPANESE.sub("", low))]
    return all(word in _PRESENCE_WORDS for word in words)


def _is_foreign(low: str) -> bool:
    """Whether a text is in another script, or has more words of other languages than of English."""
    letters = [c for c in low if c.isalpha()]
    if 2 * sum("LATIN" not in unicodedata.name(c, "") for c in letters) > len(letters):
        return True
    words = re.findall(r"[^\W\d_]+", low)
    return sum(w in _FOREIGN for w in words) > sum(w in _ENGLISH for w in words)


_GERMAN = set(_FILE["german"])


def _language(low: str, asked: str | None) -> str:
    tag = (asked or "").lower().replace("_", "-").split("-")[0]
    if tag in LANGUAGES:
        return tag
    if re.search(r"[぀-ヿ]", low):
        return "ja"
    words = set(re.findall(r"\w+", low))
    german, english = words & _GERMAN, words & _ENGLISH - _GERMAN  # a die, a hat: words of both
    return "de" if len(german) >= 2 and len(german) > len(english) else "en"
