"""Which findings a question asks about: the first to look at, the largest, those that look like what it names."""

from __future__ import annotations

from inspection.evidence import Evidence, Finding
from inspection.questions import Question


def focused(evidence: Evidence, question: Question) -> tuple[Finding, ...]:
    """The findings asked about, the strongest first: all where the question picks none, none where nothing is called so."""
    found = evidence.findings
    if question.label is not None:
        named = {one.finding for one in evidence.named if one.label == question.label}
        found = tuple(one for one in found if one.id in named)
    if question.focus == "first":
        return found[:1]
    if question.focus and found:
        pick = max if question.focus == "largest" else min
        return (pick(found, key=lambda one: one.area_px),)
    return found
