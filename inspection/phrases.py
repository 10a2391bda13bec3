"""The catalogue of checked statements: what may be said of an inspection without a language model, in several languages."""

from __future__ import annotations

import hashlib
import math
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

from inspection.claims import band
from inspection.evidence import Evidence, Finding, Naming, Verdict
from inspection.focus import focused
from inspection.questions import Question

_FILE = Path(__file__).with_name("phrases.toml").read_bytes()
CATALOGUE: dict[str, dict[str, Any]] = tomllib.loads(_FILE.decode())
SHA256 = hashlib.sha256(_FILE).hexdigest()
"""Digest of the catalogue: an answer made of phrases alone names it as its model."""

_LISTED = 5


def statement(evidence: Evidence, question: Question) -> str:
    """The checked statement that answers a question of this kind, in its language. No free text of the record goes in but the
    labels of exemplars, in quotes."""
    return (" " if question.language != "ja" else "").join(_Speaker(evidence, question).sentences())


class _Speaker:
    def __init__(self, evidence: Evidence, question: Question) -> None:
        self.e, self.q = evidence, question
        self._words = CATALOGUE[question.language]

    def say(self, key: str, **values: object) -> str:
        return str(self._words[key]).format(**values)

    def place(self, place: str) -> str:
        return str(self._words.get("places", {}).get(place, place))

    def band(self, area_pct: float) -> str:
        return str(self._words.get("bands", {}).get(band(area_pct), band(area_pct)))

    def sentences(self) -> list[str]:
        verdict, kind = self.say("gated" if self.e.gated else self.e.verdict), self.q.kind
        if kind == "yes_no":
            return [*self._lead(), verdict, *([self._findings()] if self.e.findings else []), *self._view()]
        if kind in ("place", "count", "size"):
            no_defect = [verdict] if self.e.verdict is not Verdict.REJECT else []
            return [*no_defect, *self._chosen(), *self._highest()]
        if kind == "type":
            return [*(self._names() if self.e.labels else [self.say("type")]), verdict, self._findings()]
        if kind == "action":
            listed = ", ".join(f.id for f in self.e.findings)
            return [self.say(f"do_{self.e.verdict}", ids=self.say("ids", ids=listed) if listed else "")]
        if kind == "history":
            return self._history()
        if kind == "unanswerable":
            return [self.say("unanswerable"), verdict]
        return [verdict, self._findings(), *self._highest(), *self._ratio()]

    def _chosen(self) -> list[str]:
        """The findings asked about, and what is known of the type that the question names."""
        label, found = self.q.label, focused(self.e, self.q)
        typed = [self.say("no_label", labels=", ".join(self.e.labels[:_LISTED]))] if self.e.labels else [self.say("type")]
        typed = typed if self.q.names_type and label is None else []
        if not self.e.findings or not (label or self.q.focus):
            return [self._findings(), *typed]
        if not found:
            return [self.say("no_such", label=label), *self._names(), self._findings()]
        ids = {one.id for one in found} if label else set()
        listed = ", ".join(self._entry(one) for one in found[:_LISTED])
        return [*self._names(ids), self.say(self.q.focus or "look", list=listed), *typed]

    def _names(self, ids: set[str] | None = None) -> list[str]:
        """What the named findings (of these) are called."""
        return [self._name(one) for one in self.e.named if ids is None or one.finding in ids]

    def _name(self, one: Naming) -> str:
        if not one.nearest:
            return self.say("labelled", id=one.finding, label=one.label)
        if one.label is None:
            return self.say("unlike", id=one.finding, similarity=f"{one.similarity:.2f}", limit=f"{one.limit:.2f}")
        key = "named_one" if len(one.nearest) == 1 else "named"
        return self.say(key, id=one.finding, label=one.label, votes=one.votes, of=len(one.nearest))

    def _lead(self) -> list[str]:
        if self.q.sense == 0 or self.e.verdict is Verdict.REVIEW:
            return []
        return [self.say("yes" if (self.e.verdict is Verdict.REJECT) == (self.q.sense > 0) else "no")]

    def _view(self) -> list[str]:
        """The model's own view, where the verdict does not say the same."""
        return [] if self.e.sees in (None, self.e.decided) else [self.say("sees" if self.e.sees else "sees_none")]

    def _findings(self) -> str:
        found = self.e.findings
        if not found:
            return self.say("none")
        entries = [self._entry(f) for f in found[:_LISTED]]
        if len(found) > _LISTED:
            entries.append(self.say("more", n=len(found) - _LISTED))
        return self.say("one" if len(found) == 1 else "many", n=len(found), list=", ".join(entries))

    def _entry(self, f: Finding) -> str:
        return self.say("entry", id=f.id, place=self.place(f.place), band=self.band(f.area_pct), pct=percent(f.area_pct))

    def _highest(self) -> list[str]:
        return [] if self.e.findings else [self.say("highest", place=self.place(self.e.map_stats.peak_place))]

    def _ratio(self) -> list[str]:
        reject = self.e.thresholds.reject
        return [self.say("ratio", ratio=f"{self.e.raw_score / reject:.2f}")] if reject else []

    def _history(self) -> list[str]:
        past = self.e.history
        if not past:
            return [self.say("no_history"), self.say("gated" if self.e.gated else self.e.verdict)]
        counts = Counter(str(h["verdict"]) for h in past)
        said = [self.say("history", n=len(past), passed=counts["pass"], review=counts["review"], rejected=counts["reject"])]
        for place in dict.fromkeys(f.place for f in self.e.findings[:_LISTED]):
            there = [h for h in past if place in h.get("places", ())]
            date = str(there[0]["created_at"])[:10] if there else ""
            said.append(self.say("same" if there else "never", n=len(there), place=self.place(place), date=date))
        return [*said, *self._likeness()]

    def _likeness(self) -> list[str]:
        like = self.e.likeness
        if like is None or not like.alike:
            return []
        best, n = like.alike[0], sum(one["similarity"] >= like.limit for one in like.alike)
        figures = {"similarity": f"{best['similarity']:.2f}", "limit": f"{like.limit:.2f}", "date": str(best["created_at"])[:10]}
        told = {"id": like.finding, "compared": like.compared, "n": n, "finding": best["finding"]} | figures
        rest = [self.say("left_out", n=like.left_out)] if like.left_out else []
        return [self.say("alike" if n else "unalike", **told), *rest]


def percent(area_pct: float) -> str:
    """A share of the picture's area as it is said: one decimal, three under a tenth of a per cent, more where those are zeros."""
    if area_pct >= 0.1:
        return f"{area_pct:.1f}"
    return f"{area_pct:.{max(3, math.ceil(-math.log10(area_pct)))}f}" if area_pct > 0 else "0.000"
