"""The grammar of the check: a clause of a model's reply is read into claims, or not read at all.

The vocabulary is closed: a word outside it (a defect type, a cause, a price, another part, a hedge) makes a clause unreadable.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from inspection.evidence import Verdict

BANDS = (("tiny", 0.1), ("small", 1.0), ("medium", 5.0), ("large", float("inf")))
"""Size band and its upper end, per cent of the picture's area."""

_COUNTED = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_NUMBERS = {w: i for i, w in enumerate(_COUNTED)}
_CUT = re.compile(r"\s*[,;:]\s+|\s+(?=(?:and|but|which|because|with)\b)")
_CELLS = {"upper": "top", "lower": "bottom", "center": "centre", "middle": "centre", "central": "centre"} | {
    w: w for w in ("top", "bottom", "left", "right", "centre")
}
_SIZES = {"tiny": "tiny", "small": "small", "medium": "medium", "moderate": "medium", "large": "large", "big": "large"}
_DEFECT_NOUNS = {"defect", "defects", "flaw", "flaws", "fault", "faults", "anomaly", "anomalies"}
_DEFECT_ADJECTIVES = {"defective", "flawed", "faulty", "anomalous", "abnormal"}
_SOUND = {"good", "normal", "fine", "ok", "okay", "acceptable", "sound"}
_REGION = {"finding", "findings", "region", "regions", "standout"}
_NEGATORS = {"no", "not", "none", "without", "free", "nothing"}
_VERDICTS = (
    dict.fromkeys(("pass", "passes", "passed", "release", "released", "accepted"), Verdict.PASS)
    | dict.fromkeys(("review", "personlooks", "unsure"), Verdict.REVIEW)
    | dict.fromkeys(("reject", "rejects", "rejected", "setaside"), Verdict.REJECT)
)
_ACTIONS = {"release", "released", "personlooks", "setaside"}
_SCOPES = {"largest": "largest", "biggest": "largest", "strongest": "strongest", "highest": "strongest", "peak": "strongest"}
_RELATIONS = dict.fromkeys(("over", "above", "exceeds"), 1) | dict.fromkeys(("under", "below", "within"), -1)
_PRONOUNS = {"it", "its", "they", "these", "all", "both", "each"}
_EVERY = {"they", "these", "all", "both", "each"}
_PARTS = {"part", "piece", "product"}
_THINGS = {*_PARTS, "picture", "image", "map", "detector", "verdict"}
_LIMITS = {"limit", "threshold"}
_RECORD = {*_LIMITS, "verdict", "score", "value"}
"""What is written about the part: it has no defects, places or sizes of its own."""
_SHAPES = {"side", "corner", "number"}
_VERBS = {
    "is",
    "are",
    "be",
    "has",
    "have",
    "show",
    "shows",
    "contain",
    "contains",
    "cover",
    "covers",
    "find",
    "finds",
    "lie",
    "lies",
}
_SCORED = {*_PARTS, "score", "value", "it"}
_UNSCORED = {*_LIMITS, *_DEFECT_NOUNS, *_REGION, *_SCOPES, "map"}
_SIGHTS = {"find", "finds", "found", "detected", "show", "shows", "seen", "visible"}
_NEUTRAL = {
    *_THINGS, *_PRONOUNS,
    "a", "an", "the", "this", "that", "is", "are", "be", "there", "in", "on", "at", "of", "to", "with", "for", "by", "as", "and",
    "has", "have", "show", "shows", "contain", "contains", "cover", "covers", "located", "lie", "lies", "found", "find", "finds",
    "detected", "visible", "seen", "side", "corner", "area", "size", "number", "about",
    "approximately", "any", "very", "should", "look",
    "raw", "calibrated", "value", "score", "limit", "threshold",
}  # fmt: skip
_WHOLE = {"viewdefect", "viewnone", "typeless"}
"""What `_MULTI` makes of a whole clause: nothing may stand beside it."""
_MULTI = (
    (r"\bthe model sees a (?:defect|flaw|fault)\b", "viewdefect"),
    (r"\bthe model sees no (?:defect|flaw|fault)\b", "viewnone"),
    (r"\bthe (?:type|kind) cannot be named\b", "typeless"),
    (r"\bstands? out\b", "standout"),
    (r"\bset (it |the part |this part )?aside\b", "setaside"),
    (r"\b(?:a|the) person should (?:have a )?look(?: at (?:it|(?:the|this) (?:part|piece|product)))?\b", "personlooks"),
    (r"\bper ?cent\b", "%"),
    (r"n['’]t\b", " not"),
    (r"\bnot (?:free of|without)\b", "with"),
    (r"\bnot (?:sure|certain)\b|\buncertain\b", "unsure"),
    (r"\byou should\b", "should"),
)
_A_PART, _OTHER = (
    "(?:part|piece|product)",
    "(?:picture|image|map|detector|verdict|score|value|limit|threshold|side|corner|number)",
)
_FOUND = "(?:defects?|flaws?|faults?|anomaly|anomalies|findings?|regions?)"
_CROOKED = re.compile(
    rf"\b(?:is|are|be) (?:an?|the|this|that) (?:{_A_PART}|{_OTHER})\b"  # the defect is the part
    rf"|\b{_A_PART} (?:is|are|be|lies?|located|found|seen)\b(?!.*\b(?:with|no|not|free|without|none)\b).*\b{_FOUND}\b"
    rf"|\bfaults? (?:of|by|with|lies?|is with)\b"  # whose fault
    r"|\d (?:times )?(?:over|above|under|below|within)\b"  # 18.2 over the limit, or 18.2 and over it?
)
"""Clauses of known words that say something else than their claims, or nothing."""


@dataclass(slots=True)
class Claims:
    """What a text says, as far as the grammar reads it."""

    present: set[bool] = field(default_factory=set)
    regions: set[bool] = field(default_factory=set)
    answers: set[bool] = field(default_factory=set)
    places: set[str] = field(default_factory=set)
    counts: set[int] = field(default_factory=set)
    bands: set[str] = field(default_factory=set)
    percents: set[str] = field(default_factory=set)
    ids: set[str] = field(default_factory=set)
    verdicts: set[Verdict] = field(default_factory=set)
    actions: set[Verdict] = field(default_factory=set)
    scopes: set[str] = field(default_factory=set)
    every: set[bool] = field(default_factory=set)
    relations: set[tuple[int, str]] = field(default_factory=set)
    figures: set[tuple[str, str]] = field(default_factory=set)
    types: set[str] = field(default_factory=set)
    """Labels of the product's exemplars."""
    views: set[bool] = field(default_factory=set)
    """Whether the model that speaks sees a defect itself."""
    typeless: set[bool] = field(default_factory=set)
    """That no type can be named."""

    def __or__(self, other: Claims) -> Claims:
        return Claims(*(getattr(self, f) | getattr(other, f) for f in self.__slots__))

    def __bool__(self) -> bool:
        return any(getattr(self, f) for f in self.__slots__ if f not in ("every", "scopes"))

    @property
    def astray(self) -> bool:
        """Whether a view stands beside more than a verdict in one sentence: a place or a size there would seem to be its own."""
        return bool(self.views) and any(getattr(self, f) for f in self.__slots__ if f not in ("views", "verdicts"))


def band(area_pct: float) -> str:
    """Size band of a finding that covers `area_pct` per cent of the picture."""
    return next(name for name, end in BANDS if area_pct < end)


def pattern_of(label: str) -> str:
    """A label as a text may write it, lower-case: in quotes, in the plural, `broken_large` as two words."""
    words = [re.escape(word) for word in re.split(r"[ _-]+", label.lower())]
    if re.search("[\u3040-\u9fff]", label):  # scripts that write no blanks between words
        return "".join(words)
    return rf"""(?<!\w)["“„'‘]?{"[ _-]".join(words)}(?:e?s)?["”“'’]?(?!\w)"""


def nameable(labels: Iterable[str]) -> list[str]:
    """The labels that a text can be read for, the longest first: none made of the grammar's own words (`defect`, `top left`)."""
    own = {*_CELLS, *_SIZES, *_NUMBERS, *_VERDICTS, *_SCOPES, *_RELATIONS, *_DEFECT_ADJECTIVES, *_SOUND, *_NEGATORS}
    own |= _NEUTRAL | _DEFECT_NOUNS | _REGION
    found = [label for label in labels if not set(words_of(label.replace("_", " "))) <= own]
    return sorted(found, key=len, reverse=True)[: len(_PRIVATE)]


_PRIVATE = range(0xE000, 0xF000)
"""A label within a clause becomes one character of these."""
_LIKENESS = rf"\b(?:looks?|seems) like (?:an? |the )?(?=[{chr(0xE000)}-{chr(0xF000)}])"
_KIND = rf"\b(?:of )?(?:the |its )?(?:type|kind)(?: is| of)? (?:an? |the )?(?=[{chr(0xE000)}-{chr(0xF000)}])"


def words_of(clause: str, labels: Sequence[str] = ()) -> list[str]:
    """Lower-case words, numbers and left-over characters; a label is one character of `_PRIVATE`, by its number."""
    low = re.sub(f"[{chr(0xE000)}-{chr(0xF8FF)}]", "?", clause.lower())
    for number, label in enumerate(labels):
        low = re.sub(pattern_of(label), chr(_PRIVATE[number]), low)
    if labels:
        low = re.sub(_KIND, "is ", re.sub(_LIKENESS, "is ", low))
    for pattern, word in _MULTI:
        low = re.sub(pattern, word, low)
    return re.findall(r"f\d+\b|-(?=\d)|\d+(?:\.\d+)?|%|[a-z]+|[^\s\w-]|\w", low, re.ASCII)


def read(clause: str, *, first: bool = False, labels: Sequence[str] = ()) -> Claims | None:
    """Claims of one clause, or `None` when the grammar does not read it. `first`: it opens the reply, where yes and no answer.
    `labels`: as `nameable` gives them."""
    words, claims, i = words_of(clause, labels), Claims(), 0
    if whole := _WHOLE & set(words):
        if len(words) > 1:
            return None
        return Claims(typeless={True}) if "typeless" in whole else Claims(views={"viewdefect" in whole})
    if (
        first
        and words
        and words[0] in ("yes", "no")
        and (len(words) == 1 or words[0] == "yes" or words[1] in ("there", "the", "it", "this"))
    ):
        claims.answers.add(words.pop(0) == "yes")
    given = set(words)
    negations = sum(w in _NEGATORS for w in words)
    while i < len(words):
        word, after = words[i], words[i + 1] if i + 1 < len(words) else ""
        i += 1
        if len(word) == 1 and ord(word) in _PRIVATE:
            claims.types.add(labels[ord(word) - _PRIVATE[0]])
        elif word in _CELLS:
            run = [_CELLS[word]]
            while i < len(words) and words[i] in _CELLS:
                run.append(_CELLS[words[i]])
                i += 1
            place = _place(run)
            if place is None:
                return None
            claims.places.add(place)
        elif word in _VERDICTS and after in ("limit", "threshold"):
            continue
        elif word in _VERDICTS:
            (claims.actions if word in _ACTIONS else claims.verdicts).add(_VERDICTS[word])
        elif word in _SIZES:
            claims.bands.add("tiny" if _SIZES[word] == "small" and words[i - 2 : i - 1] == ["very"] else _SIZES[word])
        elif word == "one" and i > 1 and words[i - 2] in {"the", "this", *_SCOPES}:
            continue
        elif word in _NUMBERS or (word[0].isascii() and word[0].isdigit() and len(word) < 10):
            number = str(_NUMBERS.get(word, word))
            quantity = next(
                (w for w in reversed(words[max(0, i - 5) : i - 1]) if w in ("score", "limit", "threshold", "peak")), ""
            )
            if after == "%":
                claims.percents.add(number)
                i += 1
            elif after == "times":
                if not _LIMITS & set(words[i:]):
                    return None
                subject = "peak" if "peak" in words[:i] else "score"
                claims.figures.add((f"{subject} over {_limit(words[i:])}", number))
                i += 1
            elif quantity == "score":
                claims.figures.add((" ".join([*sorted(given & {"raw", "calibrated"}), "score"]), number))
            elif quantity:
                claims.figures.add((_limit(words[: i - 1]) if quantity in _LIMITS else quantity, number))
            elif "." in number:
                return None
            else:
                claims.counts.add(int(number))
        elif re.fullmatch(r"f\d+", word):
            claims.ids.add(word)
        elif word in _SCOPES:
            claims.scopes.add(_SCOPES[word])
        elif word in _RELATIONS:
            before = set(words[: i - 1])
            if not _LIMITS & set(words[i:]) or not before & _SCORED or before & _UNSCORED:
                return None
            claims.relations.add((_RELATIONS[word], _limit(words[i:])))
        elif word not in _NEUTRAL | _DEFECT_NOUNS | _DEFECT_ADJECTIVES | _SOUND | _REGION | _NEGATORS:
            return None
    claims.every |= {True} if given & _EVERY else set()
    claims.counts |= {2} if "both" in given else set()
    return claims if _polarity(claims, given, words, negations) else None


def _polarity(claims: Claims, given: set[str], words: list[str], negations: int) -> bool:
    """Add what the clause says about presence; whether the clause is sound grammar."""
    noun, adjective, sound, region = (bool(given & s) for s in (_DEFECT_NOUNS, _DEFECT_ADJECTIVES, _SOUND, _REGION))
    specific = claims.places or claims.bands or claims.percents
    if _crooked(claims, given, words):
        return False
    if len(claims.types) > 1 or (claims.types and (negations or claims.counts or sound or given & _RECORD)):
        return False
    if negations > 1 or (sound and (noun or adjective or region)) or ((noun or adjective) and region):
        return False
    if (sound or adjective) and given & {"map", "detector", "picture", "image"}:
        return False
    if ((sound or adjective or noun) and given & _RECORD) or (noun and "detector" in given and not given & _SIGHTS):
        return False
    if claims.ids and (claims.relations or any("score" in what for what, _ in claims.figures)):
        return False  # only the part is scored
    if given & _EVERY and given & _PARTS:
        return False  # one part was inspected
    if specific and given & _THINGS and not (noun or adjective or region or given & _PRONOUNS or claims.ids):
        return claims.scopes == {"strongest"} and "map" in given and not claims.bands and not claims.percents and not negations
    if negations and words == ["none"]:
        claims.counts.add(0)
    elif negations:
        if not (noun or adjective or sound or region) or specific or claims.counts or claims.relations or claims.figures:
            return False
        if claims.verdicts or claims.actions or claims.ids or claims.scopes:
            return False
    none = claims.counts == {0}
    if noun or adjective:
        claims.present.add(not negations and not none)
    if sound:
        claims.present.add(bool(negations))
    if region:
        claims.regions.add(not negations and not none)
    return True


def _crooked(claims: Claims, given: set[str], words: list[str]) -> bool:
    """Whether known words stand so that the clause speaks of something else than of this part and its findings."""
    noun, region = bool(given & _DEFECT_NOUNS), bool(given & _REGION)
    judged, decided = bool(given & (_SOUND | _DEFECT_ADJECTIVES)), bool(claims.verdicts or claims.actions)
    for at, word in enumerate(words):
        if word in _PARTS and at:  # "no part", "any product", "the largest piece": not this one; "a good part" may be
            before = words[at - 1]
            if before in _SOUND | _DEFECT_ADJECTIVES and at > 1:
                if words[at - 2] not in {"a", "the", "this", "that"}:
                    return True
            elif before not in {"the", "this", "that", "release", "reject", "pass"}:
                return True
    if judged and (given & _EVERY or "none" in given):
        return True
    if (claims.places or claims.bands or claims.percents) and given & (_RECORD | _SHAPES) - {"verdict"} and not (noun or region):
        return True
    if claims.counts and not (noun or region) and given & (_THINGS | _RECORD | {"side", "corner", "area", "size"}):
        return True
    if decided and given & (_RECORD | {"map", "picture", "image"}) - {"verdict"}:
        return True
    if decided and "detector" in given and not given & (_PARTS | {"unsure"}):
        return True
    return bool(_CROOKED.search(" ".join(words)))


def clauses(sentence: str) -> list[tuple[str, int]]:
    """The clauses of a sentence without the word that joins them, each with where it ends."""
    cuts = [m.span() for m in _CUT.finditer(sentence)]
    edges = [(0, 0), *cuts, (len(sentence), len(sentence))]
    whole = [(sentence[start:end].rstrip(".!"), end) for (_, start), (end, _) in pairwise(edges)]
    return [(clause.removeprefix("and ").removeprefix("but "), end) for clause, end in whole]


def says_nothing(claims: Claims, clause: str) -> bool:
    """Whether a clause that was read makes a statement of which the grammar has no claim."""
    return not claims and bool(_VERBS & set(words_of(clause)))


def _place(run: list[str]) -> str | None:
    vertical, horizontal = {"top", "bottom"} & set(run), {"left", "right"} & set(run)
    if len(vertical) > 1 or len(horizontal) > 1 or len(run) > 2:
        return None
    return " ".join([*vertical, *horizontal]) or "centre"


def _limit(words: list[str]) -> str:
    """Which limit the words speak of."""
    kinds = [w for w in words if w in ("reject", "review")]
    return f"{kinds[-1]} limit" if kinds else "limit"
