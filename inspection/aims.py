"""What a model should say of an inspection: what it is trained towards, and drafts of its replies."""

from __future__ import annotations

from dataclasses import replace

from inspection.claims import band
from inspection.evidence import Evidence, Finding, Verdict
from inspection.grounding import asks_for_a_type
from inspection.phrases import percent
from inspection.questions import KINDS, Question

TOLD = 3
"""Findings that an answer tells one by one."""
TYPELESS = "The type cannot be named."
"""Said beside the answer where a question takes a type for granted."""
REFUSALS = {
    "type": f"{TYPELESS[:-1]}: this product has no labelled example.",
    "history": "No earlier inspection of this product is at hand.",
    "unanswerable": "This cannot be answered from the picture and its inspection.",
}
"""What is said where the inspection bears no answer."""
NOT_SURE = "The detector is not sure."
ACTIONS = {
    Verdict.PASS: "Release the part.",
    Verdict.REVIEW: "A person should look at the part.",
    Verdict.REJECT: "Set the part aside.",
}


def aim(topic: str, asked: Question, evidence: Evidence) -> str:
    """What a model should say on a topic: all of it borne by the evidence, and enough with up to `TOLD` findings.

    Asked for presence, it tells its own view (`Evidence.view`) too where the verdict does not say the same. Yes and no are left
    to the check, which knows what they would say.
    """
    said = _answer(topic, evidence)
    return f"{said} {TYPELESS}" if asks_for_a_type(asked) else said


def aims(evidence: Evidence, asked: Question) -> tuple[str, ...]:
    """All that a model should say of an inspection, whatever its view and whatever it takes the question for: first what answers
    the question as understood."""
    topics = sorted(KINDS, key=lambda topic: KINDS[topic][0] != asked.kind)
    views = [replace(evidence, view=view) for view in (None, 1.0, 0.0)]
    return tuple(dict.fromkeys(aim(topic, asked, one) for topic in topics for one in views))


def _answer(topic: str, evidence: Evidence) -> str:
    found = evidence.findings
    if KINDS[topic][0] == "yes_no":
        return _presence(evidence)
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


def _presence(evidence: Evidence) -> str:
    decided, sees = evidence.decided, evidence.sees
    if sees is None or sees is decided:
        if decided is None:
            return NOT_SURE
        at = f" at the {evidence.findings[0].place}" if evidence.findings else ""
        return f"There is a defect{at}." if decided else "The part is good."
    view = f"the model sees {'a' if sees else 'no'} defect."
    told = f"{NOT_SURE[:-1]}; {view}" if decided is None else f"The verdict is {evidence.verdict}, but {view}"
    return f"{told} {_highest(evidence)}" if sees else told


def _counted(found: tuple[Finding, ...]) -> str:
    return "There is no finding" if not found else "There is 1 finding" if len(found) == 1 else f"There are {len(found)} findings"


def _highest(evidence: Evidence) -> str:
    return f"The map is highest at the {evidence.findings[0].place if evidence.findings else evidence.map_stats.peak_place}."


def _places(found: tuple[Finding, ...]) -> str:
    if len(found) == 1:
        return f"The finding f1 is at the {found[0].place}."
    return ", ".join(f"{one.id} is at the {one.place}" for one in found[:TOLD]) + "."


def _size(one: Finding) -> str:
    return f"The finding {one.id} is {band(one.area_pct)}: it covers {percent(one.area_pct)} % of the picture."
