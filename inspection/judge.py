"""A second reader of answers, by plain patterns that share nothing with the check: what a text says, what of it is not borne."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise

from inspection.evidence import Evidence, Verdict

FORBIDDEN = (
    r"scratch|crack|dent\b|stain|hole|chip|contaminat|rust|burr|because|caus|due to|price|cost|euro|\$|supplier|machine"
    r"|operator|batch|other part|next part|instruction|prompt|system|ignore|sorry|maybe|might|could|probabl|<\|"
    r"|\b(?:is|are) (?:an?|the|this) (?:part|piece|product|detector|verdict|map|picture)\b|\bfaults? (?:of|lies|with|by)\b"
)
"""What no answer of this product may say, whatever the evidence: types, causes, prices, other parts, guesses, the prompt."""
_COUNTS = {w: n for n, w in enumerate(("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"))}
_COUNTS["no"] = 0
_BANDS = {"tiny": (0, 0.1), "small": (0.1, 1), "medium": (1, 5), "large": (5, 101)}
_BAND_WORDS = {"moderate": "medium", "big": "large", "huge": "large", "minute": "tiny", "little": "small"} | {
    b: b for b in _BANDS
}
_NEGATION = r"\b(no|not|none|neither|without|free|nothing|zero|never)\b|(?<![\d.])0(?![\d.])|n['’]t\b|cannot"
_DEFECT = r"\b(defect|flaw(?!less)|fault(?!less)|anomal|abnormal|damage|broken|imperfect|blemish|irregular|problem|issue)"
_SOUND = r"\b(good|normal|fine|ok|okay|acceptable|sound|flawless|intact|perfect)\b"
_PLACE = r"(?:\b(?:top|upper|bottom|lower|cent(?:re|er|ral)|middle|left|right)\b(?:-?hand)?[ -]?)+"
_NOUN = r"(?:defect\w*|flaws?|faults?|findings?|regions?|anomal\w+|spots?|areas?|places?)"
_VERDICTS = {
    Verdict.REJECT: r"\breject(s|ed)?\b(?! (limit|threshold))|aside",
    Verdict.PASS: r"\bpass(es|ed)?\b|\breleased?\b|\baccepted\b",
    Verdict.REVIEW: r"\breview\b(?! (limit|threshold))|\bperson\b|not sure",
}
_CANNOT = r"(?:can(?:not|'t|’t| not)|unable to|not able to|not possible to|impossible to|do(?:es)?(?: not|n't|n’t))"
_TELL = r"(?:be|say|tell|answer|know|determine|show|see|state|name|judge|provide|identify)"
_REFUSAL = (
    rf"{_CANNOT} {_TELL}\b|\bunknown\b|\bnot (?:known|stated|recorded)\b"
    r"|\bno (?:information|record|way to)|\bnot in the (?:facts|picture)"
)


@dataclass(slots=True)
class Heard:
    """What a text says, in the order it says it."""

    present: set[bool] = field(default_factory=set)
    """Whether there is a defect; both values where the text contradicts itself."""
    places: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    bands: list[str] = field(default_factory=list)
    opinion: bool | None = None
    """Whether the model that speaks says that it sees a defect itself: its own side, beside what it reports."""
    refuses: bool = False
    """It says that it cannot say."""

    @property
    def side(self) -> bool | None:
        """The one side it reports on presence."""
        return next(iter(self.present)) if len(self.present) == 1 else None

    @property
    def own(self) -> bool | None:
        """The side it takes itself: what it says that it sees, or else what it reports."""
        return self.side if self.opinion is None else self.opinion


def size_band(area_pct: float) -> str:
    """Size band of `area_pct` per cent of the picture."""
    return next(name for name, (_, high) in _BANDS.items() if area_pct < high or name == "large")


def hear(text: str, sense: int = 0) -> Heard:
    """Read an English answer; `sense`: what "yes" says of presence (+1 a defect, -1 none, 0 nothing)."""
    heard = Heard()
    for sentence in _sentences(text):
        sentence, seen = _view(sentence)
        heard.opinion = heard.opinion if seen is None else seen
        lead, sentence = _lead(sentence)
        if lead is not None and sense:
            heard.present.add(lead == (sense > 0))
        if re.fullmatch(r"the (?:type|kind) cannot be named\W*", sentence):
            continue
        if re.search(_REFUSAL, sentence):
            heard.refuses = True
            continue
        negated = bool(re.search(_NEGATION, sentence.replace("not sure", "")))
        said = re.search(_DEFECT, sentence)
        if said:
            heard.present.add(not negated)
        if re.search(_SOUND, sentence):
            heard.present.add(negated)
        for verdict, side in ((Verdict.REJECT, True), (Verdict.PASS, False)):
            if re.search(_VERDICTS[verdict], sentence) and not negated:
                heard.present.add(side)
        if not (negated and said):
            heard.places += [_cell(named) for named in re.findall(_PLACE, sentence)]
        heard.counts += _counts(sentence)
        heard.bands += _bands(sentence)
    return heard


def objections(text: str, e: Evidence, sense: int = 0) -> list[str]:
    """What an English answer says that the evidence does not bear, sentence by sentence."""
    bad = [f"forbidden: {m.group()}" for m in re.finditer(FORBIDDEN, text.lower())]
    defect = {Verdict.REJECT: True, Verdict.PASS: False}.get(e.verdict)
    for sentence in _sentences(text):
        sentence, seen = _view(sentence)
        if seen is not None and (e.view is None or seen != (e.view >= 0.5)):
            bad.append(f"the model's view: {seen}")
        if "cannot be" in sentence:
            continue
        lead, sentence = _lead(sentence)
        if lead is not None and (sense == 0 or defect is None or lead != (defect == (sense > 0))):
            bad.append(f"yes or no: {lead}, {sentence}")
        past = "earlier inspections" in sentence or "of them had" in sentence
        if not past:
            bad += [f"{claim}: {sentence}" for claim in _presence(sentence, e, defect) + _verdict(sentence, e)]
            bad += [f"{claim}: {sentence}" for claim in _figures(sentence, e)]
        places = {_cell(named) for named in re.findall(_PLACE, sentence)}
        allowed = {f.place for f in e.findings} | ({e.map_stats.peak_place} if "highest" in sentence else set())
        if places - allowed:
            bad.append(f"place {places - allowed}: {sentence}")
    return bad


def _sentences(text: str) -> list[str]:
    found = re.split(r"(?<=[.!?])\s+|\n+", text.lower().replace("anomaly map", "map").strip())
    return [s.replace("not free of", "with").replace("not without", "with") for s in found if s]


def _view(sentence: str) -> tuple[str, bool | None]:
    """A sentence without what the model says to see itself, and whether that is a defect."""
    said = re.search(r"[,;]?(?: but)? ?\bthe model sees (a|no) (?:defect|flaw|fault)\b", sentence)
    return (sentence, None) if said is None else (sentence[: said.start()] + sentence[said.end() :], said[1] == "a")


def _lead(sentence: str) -> tuple[bool | None, str]:
    """A yes or no that answers, and the sentence without it; "no defect" is none."""
    said = re.match(
        r"(yes|no)\b(?! (?:defect|flaw|fault|anomal|finding|region|problem|issue|damage|information|way|record))", sentence
    )
    if not said:
        return None, sentence
    return said[1] == "yes", re.sub(r"^(yes|no)\b,?(?= (the|there|it|this|they|i)\b|[.!]?$)", "", sentence)


def _cell(words: str) -> str:
    vertical = "top" if re.search("top|upper", words) else "bottom" if re.search("bottom|lower", words) else ""
    horizontal = "left" if "left" in words else "right" if "right" in words else ""
    return f"{vertical} {horizontal}".strip() or "centre"


def _counts(sentence: str) -> list[int]:
    number = rf"\d+|{'|'.join(_COUNTS)}"
    found = re.findall(rf"\b({number}) (?:[a-z]+ )?{_NOUN}\b", sentence)
    found = found or re.findall(rf"^\W*(?:there (?:is|are) |it has |i see )?({number})\W*$", sentence)
    if not found and re.search(r"\b(none|nothing)\b", sentence):
        return [0]
    return [int(_COUNTS.get(n, n)) for n in found if len(n) < 10]


def _bands(sentence: str) -> list[str]:
    shares = re.findall(r"(\d+(?:\.\d+)?) ?(?:%|per ?cent)", sentence)
    if shares:
        return [size_band(float(share)) for share in shares]
    words = re.findall(r"[a-z]+", sentence)
    named = [
        "tiny" if before == "very" and word == "small" else _BAND_WORDS[word]
        for before, word in pairwise(["", *words])
        if word in _BAND_WORDS
    ]
    return [] if re.search(_NEGATION, sentence) else named


def _presence(sentence: str, e: Evidence, defect: bool | None) -> list[str]:
    negated, bad = bool(re.search(_NEGATION, sentence)), []
    if re.search(_DEFECT, sentence) and defect is not (not negated):
        bad.append("presence")
    if re.search(_SOUND, sentence) and defect is not negated:
        bad.append("soundness")
    if (
        re.search(r"\b(findings?|regions?)\b|stands? out", sentence)
        and not re.search(r"\(findings? f", sentence)
        and bool(e.findings) is negated
    ):
        bad.append("regions")
    return bad


def _verdict(sentence: str, e: Evidence) -> list[str]:
    return [f"verdict {v}" for v, pattern in _VERDICTS.items() if re.search(pattern, sentence) and v is not e.verdict]


def _figures(sentence: str, e: Evidence) -> list[str]:
    areas, t = [f.area_pct for f in e.findings], e.thresholds
    shares = re.findall(r"(\d+(?:\.\d+)?) ?(?:%|per ?cent)", sentence)
    bad = [f"{n} %" for n in shares if not float(n) or not any(_near(a, n) for a in areas)]
    number = rf"\d+|{'|'.join(_COUNTS)}"
    counted = rf"\b({number}) (?:defects?|flaws?|findings?|regions?|anomal\w+)(?! (?:is|at the))"
    if not re.search("at the|in the|on the", sentence):
        said = [n for n in re.findall(counted, sentence) if n != "no"]
        bad += [f"count {n}" for n in said if int(_COUNTS.get(n, n)) != len(areas)]
    for name, (low, high) in _BANDS.items():
        if re.search(rf"(?<!very )\b{name}\b", sentence) and not any(low <= a < high for a in areas):
            bad.append(f"size {name}")
    bad += [name for name in re.findall(r"\bf\d+\b", sentence) if name not in {f.id for f in e.findings}]
    for side, kind in re.findall(r"\b(over|above|exceeds|under|below) the (review|reject) (?:limit|threshold)", sentence):
        limit = t.review if kind == "review" else t.reject
        if limit is None or (e.raw_score >= limit) != (side in ("over", "above", "exceeds")):
            bad.append(f"{side} {kind}")
    scores = re.findall(r"score (?:is|of) (\d+(?:\.\d+)?)\b(?!\.\d| times)", sentence)
    bad += [f"score {n}" for n in scores if not _near(e.raw_score, n) and not _near(e.score or -1, n)]
    over = [value / limit for value in (e.raw_score, *(f.peak for f in e.findings)) for limit in (t.review, t.reject) if limit]
    return bad + [f"{n} times" for n in re.findall(r"(\d+(?:\.\d+)?) times", sentence) if not any(_near(x, n) for x in over)]


def _near(truth: float, said: str) -> bool:
    return bool(abs(truth - float(said)) <= 0.5 * 10 ** -len(said.partition(".")[2]) + 1e-6)
