"""The check: what a model says is held against the evidence before it leaves.

A sentence is delivered only when the grammar of claims.py reads every word of it and the evidence bears every claim in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from inspection.claims import Claims, band, clauses, nameable, read, says_nothing
from inspection.evidence import Evidence, Finding, Verdict
from inspection.focus import focused
from inspection.phrases import statement
from inspection.questions import Question


@dataclass(frozen=True)
class ClaimSet:
    """Everything that may be said of one inspection: each answer is held against the same set, so none contradicts another."""

    evidence: Evidence

    def bears(self, claims: Claims, sense: int = 0) -> bool:
        """Whether the evidence bears all claims of one sentence together; `sense` as in `Question`."""
        e, decided = self.evidence, self.evidence.decided
        if claims.astray or any(seen is not e.sees for seen in claims.views) or (claims.typeless and (e.named or e.labels)):
            return False
        if any(p is not decided for p in claims.present) or any(r != bool(e.findings) for r in claims.regions):
            return False
        if any(sense == 0 or decided is None or said != (decided == (sense > 0)) for said in claims.answers):
            return False
        if any(v is not e.verdict for v in claims.verdicts | claims.actions):
            return False
        pool = self._pool(claims)
        return (
            pool is not None
            and self._bears_types(claims, pool)
            and self._bears_places(claims, pool)
            and self._bears_sizes(claims, pool)
            and all(self._bears_relation(*r) for r in claims.relations)
            and all(self._bears_figure(*f, pool) for f in claims.figures)
        )

    def _pool(self, claims: Claims) -> tuple[Finding, ...] | None:
        """The findings a sentence speaks of; `None` when it names one that is not there."""
        found = self.evidence.findings
        if not claims.ids <= {f.id for f in found} or len(claims.scopes) + bool(claims.ids) > 1:
            return None
        if claims.ids:
            return tuple(f for f in found if f.id in claims.ids)
        if claims.scopes == {"largest"}:
            return (max(found, key=lambda f: f.area_px),) if found else None
        return found[:1] if claims.scopes else found

    def _bears_types(self, claims: Claims, pool: tuple[Finding, ...]) -> bool:
        """One type, of every finding spoken of that was named at all; without ids and scopes, of every one that was."""
        if not claims.types:
            return True
        at = {f.id for f in pool if not claims.places or f.place in claims.places}
        if len(claims.types) > max(len(claims.ids), 1):
            return False
        names = {one.finding: one.label for one in self.evidence.named}
        if (claims.ids or claims.scopes or claims.every) and not at <= set(names):
            return False
        return {names[one] for one in at if one in names} == claims.types

    def _bears_places(self, claims: Claims, pool: tuple[Finding, ...]) -> bool:
        if claims.counts and (claims.scopes or claims.ids):
            return False
        at = [f for f in pool if f.place in claims.places] if claims.places else list(pool)
        if any(n != len(at) for n in claims.counts):
            return False
        if not pool:
            return claims.places <= ({self.evidence.map_stats.peak_place} if claims.scopes else set())
        if (claims.every or len(claims.ids) > 1) and claims.places:
            return {f.place for f in pool} == claims.places
        return claims.places <= {f.place for f in pool}

    def _bears_sizes(self, claims: Claims, pool: tuple[Finding, ...]) -> bool:
        if not claims.bands and not claims.percents:
            return True
        at = [f for f in pool if not claims.places or f.place in claims.places]
        return bool(at) and all(
            {band(f.area_pct)} >= claims.bands and all(float(p) > 0 and _rounds(f.area_pct, p) for p in claims.percents)
            for f in at
        )

    def _bears_relation(self, side: int, which: str) -> bool:
        t = self.evidence.thresholds
        limit = {"reject limit": t.reject, "review limit": t.review}.get(which, t.reject if side > 0 else t.review)
        return limit is not None and (self.evidence.raw_score >= limit) == (side > 0)

    def _bears_figure(self, what: str, number: str, pool: tuple[Finding, ...]) -> bool:
        e, t = self.evidence, self.evidence.thresholds
        peak = pool[0].peak if pool else e.map_stats.max
        limits = {"reject limit": t.reject, "review limit": t.review, "limit": t.reject}
        scores = {"raw score": (e.raw_score,), "calibrated score": (e.score,), "score": (e.raw_score, e.score)}
        measure, over, limit = what.partition(" over ")
        truths: tuple[float | None, ...]
        if over:
            unit = limits[limit]
            truths = ((peak if measure == "peak" else e.raw_score) / unit if unit else None,)
        else:
            truths = scores.get(what) or ({**limits, "peak": peak}.get(what),)
        return any(truth is not None and _rounds(truth, number) for truth in truths)


def _rounds(truth: float, said: str) -> bool:
    decimals = len(said.partition(".")[2])
    return abs(truth - float(said)) <= 0.5 * 10.0**-decimals + 1e-9


def answers(claims: Claims, question: Question, evidence: Evidence) -> bool:
    """Whether claims already borne say what the question asks for, of every finding that it asks about."""
    found = evidence.findings
    if question.kind == "type":
        labels = {one.label for one in evidence.named}
        return bool(labels) and claims.types == labels
    if question.kind == "yes_no" and evidence.sees not in (None, evidence.decided) and not claims.views:
        return False
    if question.kind == "yes_no":
        return bool(claims.answers or claims.present or claims.verdicts)
    if asks_for_a_type(question) and not claims.typeless:
        return False
    if question.kind == "action":
        return bool(claims.actions)
    if not found and question.kind in ("place", "count", "size"):
        return claims.counts == {0} or False in claims.regions or False in claims.present
    found = focused(evidence, question)
    if not found and question.kind in ("place", "count", "size"):
        return False
    if question.kind == "place":
        return claims.places >= {f.place for f in found}
    if question.kind == "count":
        return len(found) in claims.counts
    if question.kind == "size":
        return bool(claims.percents) or claims.bands >= {band(f.area_pct) for f in found}
    return bool(claims.present or claims.verdicts) and (not found or bool(claims.places or claims.counts))


def asks_for_a_type(question: Question) -> bool:
    """Whether a question about findings takes a type, or a name, for granted ("how big is the crack?")."""
    return (question.names_type or question.label is not None) and question.kind in ("place", "count", "size")


_REFUSED = re.compile(
    r"\bcan(?:not| not|['’]t) be (?:answered|said|told|known|determined|seen|named)\b"
    r"|\b(?:i|we) (?:cannot|can not|can['’]t|do not|don['’]t|am unable to|are unable to) (?:know|say|tell|answer|see)\b",
    re.IGNORECASE,
)
_TYPELESS = re.compile(r"\bthe (?:type|kind) cannot be named\b", re.IGNORECASE)
_BARE = re.compile(r"(?:yes|no), (?=there\b|the\b|it\b|this\b)", re.IGNORECASE)
"""An answer that a question without a settled sense does not bear, before words that may well be borne."""
STATED = ("type", "history", "unanswerable")
"""Kinds that the grammar has no claims for: the checked statement answers, whatever the model says."""


class Check:
    """Reads a reply as it is made and gives out what may be delivered, unit by unit."""

    def __init__(self, evidence: Evidence, question: Question, statement: str) -> None:
        self._set, self._question, self._statement = ClaimSet(evidence), question, statement
        self._named = question.kind == "type" and any(one.label for one in evidence.named)
        self._only = question.kind in STATED and not self._named
        self._labels = nameable(evidence.labels) if evidence.named else []
        self._rest, self._sentences, self._dropped, self._kept = "", 0, False, list[str]()
        self._stated = self.refused = False
        """`refused`: the model itself said that the question has no answer here, and was believed."""
        self._claims = Claims()
        self.opinions: set[bool] = set()
        """What the model itself said about presence, borne or not."""

    def begin(self) -> list[str]:
        """What can be delivered before the model has said a word."""
        return [self._state()] if self._only else []

    def saw(self, view: float) -> None:
        """Take the model's own view: how likely it takes a defect to be."""
        self._set = ClaimSet(replace(self._set.evidence, view=round(view, 3)))
        if not self._stated:
            self._statement = statement(self._set.evidence, self._question)

    @property
    def view(self) -> float | None:
        """What `saw` was told."""
        return self._set.evidence.view

    def feed(self, piece: str) -> list[str]:
        """Take more of the reply; the units that can be delivered now."""
        *whole, self._rest = re.split(r"(?<=[.!?])\s+|\n+", self._rest + piece)
        return [_ended(unit) for sentence in whole for unit in self._sentence(sentence)]

    def finish(self, *, cut: bool = False) -> list[str]:
        """The reply is over: what remains to be delivered, the checked statement where the reply did not answer.

        `cut`: the reply was ended from outside; a last sentence without its end is not delivered.
        """
        whole = not cut or self._rest.rstrip().endswith((".", "!"))
        units = self._sentence(self._rest) if whole else []
        enough = answers(self._claims, self._question, self._set.evidence)
        if not self._stated and not enough:
            units = [*map(_ended, units), self._state()]
        return units

    @property
    def sentences(self) -> int:
        """How many sentences were read."""
        return self._sentences

    @property
    def grounding(self) -> str:
        """`grounded`, `mended` or `replaced`, once finished."""
        if not self._kept:
            return "replaced"
        return "mended" if self._dropped or self._stated else "grounded"

    @property
    def agrees(self) -> bool:
        """False when the model's own view, or without one its words, took the other side of a decided verdict."""
        decided, sees = self._set.evidence.decided, self._set.evidence.sees
        if sees is not None:
            return decided is None or decided is sees
        return decided is None or (not decided) not in self.opinions

    def _sentence(self, sentence: str) -> list[str]:
        sentence = sentence.strip()
        if not sentence:
            return []
        first = self._sentences == 0
        self._sentences += 1
        believed = not self._only and not self._named and not self._question.sure  # named: the examples bear it
        if first and believed and _REFUSED.search(_TYPELESS.sub("", sentence)):
            self._only = self.refused = self._dropped = True
            self._statement = statement(self._set.evidence, replace(self._question, kind="unanswerable"))
            return [self._state()]
        if first and not self._question.sense and (bare := _BARE.match(sentence)):
            self._dropped = True
            sentence = sentence[bare.end() : bare.end() + 1].upper() + sentence[bare.end() + 1 :]
        kept, claims, whole = self._longest(sentence, first)
        if self._only or not kept or kept in self._kept:
            self._dropped = True
            return [] if self._only or self._stated or kept else [self._state()]
        self._kept.append(kept)
        self._claims |= claims
        kept = self._led(kept, claims)
        if whole:
            return [kept]
        self._dropped = True
        return [kept] if self._stated else [_ended(kept), self._state()]

    def _led(self, said: str, claims: Claims) -> str:
        """A sentence for presence that opens the answer, after the yes or no that says the same; with a view it stands alone."""
        asked, decided = self._question, self._set.evidence.decided
        if len(self._kept) > 1 or not asked.sense or decided is None or claims.answers or claims.views or not claims.present:
            return said
        yes = decided == (asked.sense > 0)
        self._claims |= Claims(answers={yes})
        return f"{'Yes' if yes else 'No'}, {said[0].lower()}{said[1:]}"

    def _state(self) -> str:
        self._stated = True
        lead, _, rest = self._statement.partition(" ")  # "Yes." is not said twice
        return rest if self._claims.answers and lead in ("Yes.", "No.") else self._statement

    def _longest(self, sentence: str, first: bool) -> tuple[str, Claims, bool]:
        """The longest run of clauses from the start that the evidence bears, its claims, and whether it is the whole sentence."""
        parts = clauses(sentence)
        parsed = [read(clause, first=first and i == 0, labels=self._labels) for i, (clause, _) in enumerate(parts)]
        for claims in parsed:
            if claims:
                decisions = claims.verdicts | claims.actions
                self.opinions |= claims.views or claims.present | {v is Verdict.REJECT for v in decisions - {Verdict.REVIEW}}
            if claims and self._question.sense:
                self.opinions |= {said == (self._question.sense > 0) for said in claims.answers}
        for n in range(len(parts), 0, -1):
            union = Claims()
            for claims, (clause, _) in zip(parsed[:n], parts[:n], strict=True):
                if claims is None or says_nothing(claims, clause):
                    break
                union |= claims
            else:
                alone = [claims for claims in parsed[:n] if claims and claims.ids]  # "f1 is right and f2 left" is not "f1 left"
                if all(self._set.bears(claims, self._question.sense) for claims in (union, *alone)) and union:
                    whole = n == len(parts)
                    return (sentence if whole else sentence[: parts[n - 1][1]].rstrip(" ,;:") + "."), union, whole
        return "", Claims(), False


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "!", "?", "。")) else sentence + "."
