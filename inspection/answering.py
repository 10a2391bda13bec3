"""Question and evidence in, checked answer out: the expert's evidence decides, the engine only words it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

from inspection.aims import aims
from inspection.claims import band
from inspection.evidence import Answer, Evidence, EvidenceItem, Verdict
from inspection.focus import focused
from inspection.grounding import Check
from inspection.looking import with_pictures
from inspection.phrases import SHA256 as PHRASES_SHA256
from inspection.phrases import percent, statement
from inspection.questions import Question, QuestionRefused, understand
from inspection.sight import sight
from models.lmm.engines import Engine, Wants
from models.lmm.prompt import Prompt

__all__ = [
    "MAX_SENTENCES",
    "MAX_TOKENS",
    "SYSTEM",
    "Listener",
    "QuestionRefused",
    "answer",
    "build_prompt",
    "evidence_items",
    "facts",
]

MAX_TOKENS = 48
MAX_SENTENCES = 3
"""A reply is ended after so many: small models go round in circles."""
MAX_REPLY = 2000
"""Characters after which it is ended too: the check's time grows with their square, and a server may send what it likes."""
Listener = Callable[[str, Any], None]
"""Called with `evidence` (list of items) and `text` (a checked unit); the units joined by a space are the answer."""

SYSTEM = "You report the result of a visual inspection."
"""What the trained model is told; it was trained on these words."""
_LISTED = 3
_SHOWN = 3
"""Earlier findings shown for their likeness."""

_SYSTEM = (
    "You report the result of a visual inspection to a factory inspector. Use only the facts given. "
    "Answer the question in one short sentence with words from the facts. Do not guess types, causes or prices."
)
_PRESENCE = {
    Verdict.PASS: "The part is good. There is no defect.",
    Verdict.REVIEW: "The detector is not sure.",
    Verdict.REJECT: "The part has a defect.",
}
_POLICY = {
    Verdict.PASS: "Release the part.",
    Verdict.REVIEW: "A person should look at the part.",
    Verdict.REJECT: "Set the part aside.",
}


def answer(
    evidence: Evidence, question: str, engine: Engine, *, language: str | None = None, on_event: Listener | None = None
) -> Answer:
    """Answer one question about one inspection. Raises `QuestionRefused`, and whatever the engine raises.

    A question in a language other than English gets the checked statement of that language; the engine is not asked, since the
    check reads English only.
    """
    start, tell = time.perf_counter(), on_event or (lambda kind, value: None)
    asked = understand(question, language, evidence.labels)
    items, prompt = evidence_items(evidence, asked), build_prompt(evidence, asked, engine.wants)
    tell("evidence", list(items))
    nameless = asked.kind == "type" and not any(one.label for one in evidence.named)
    insufficient = nameless or asked.kind == "unanswerable" or (asked.kind == "history" and not evidence.history)
    check = Check(evidence, asked, statement(evidence, asked))
    own, units = "", list[str]()

    def deliver(more: list[str]) -> None:
        for unit in more:
            units.append(unit)
            tell("text", unit)

    deliver(check.begin())
    phrases, cut = asked.language != "en", False
    if not phrases:
        hears: dict[str, Any] = {"view": check.saw} if engine.wants == "sight" else {}
        # closing: a listener that raises stops the generation
        with closing(engine.generate(prompt, max_tokens=MAX_TOKENS, **hears)) as pieces:
            for count, piece in enumerate(pieces, 1):
                piece = piece[: MAX_REPLY - len(own)]
                own += piece
                deliver(check.feed(piece))
                cut = count == MAX_TOKENS or check.sentences >= MAX_SENTENCES or len(own) == MAX_REPLY
                if cut:
                    break
    deliver(check.finish(cut=cut))
    name, sha256 = (f"phrases:{asked.language}", PHRASES_SHA256) if phrases else (engine.name, engine.sha256)
    return Answer(
        answer=" ".join(units),
        own_words=own.strip(),
        kind="unanswerable" if check.refused else asked.kind,
        evidence=(*items, *([] if check.view is None else [EvidenceItem("view", "model", {"defect": check.view})])),
        grounding="insufficient" if insufficient or check.refused else check.grounding,
        agrees_with_detector=check.agrees,
        model={"name": name, "sha256": sha256},
        prompt_sha256=prompt.sha256,
        latency_ms=(time.perf_counter() - start) * 1000,
    )


def build_prompt(evidence: Evidence, question: Question, wants: Wants = "words") -> Prompt:
    """What an engine gets: the evidence in plain words, with pictures where it looks for itself, or facts and a sight.

    No free text of the record (serial, lot, station) goes in.
    """
    if wants == "sight":
        return Prompt(SYSTEM, facts(evidence), question.text, sight(evidence), drafts=aims(evidence, question))
    e, n = evidence, len(evidence.findings)
    lines = [
        f"The verdict is {e.verdict}.",
        "The picture is not like those that the product was enrolled on." if e.gated else _PRESENCE[e.verdict],
        "There is one finding." if n == 1 else f"There are {n or 'no'} findings.",
    ]
    for f in e.findings[:5]:
        lines.append(f"The finding {f.id} is at the {f.place}.")
        lines.append(f"The finding {f.id} is {band(f.area_pct)}: it covers {percent(f.area_pct)} % of the picture.")
    lines += [f"The finding {one.finding} looks like {one.label}." for one in e.named if one.label]
    for name, limit in (("review", e.thresholds.review), ("reject", e.thresholds.reject)):
        if limit is not None:
            lines.append(f"The score is {'over' if e.raw_score >= limit else 'under'} the {name} limit.")
    prompt = Prompt(_SYSTEM, "\n".join(["Facts:", *lines, _POLICY[e.verdict]]), question.text)
    return with_pictures(prompt, e) if wants == "pictures" else prompt


def facts(evidence: Evidence) -> str:
    """The recorded result as the trained model reads it: verdict, score, and the strongest findings."""
    e, n = evidence, len(evidence.findings)
    ratio = f"score {e.raw_score / e.thresholds.reject:.2f} of the limit" if e.thresholds.reject else "no limit"
    if not n:
        return f"verdict {e.verdict}, {ratio}, no finding, map highest at the {e.map_stats.peak_place}"
    head = f"verdict {e.verdict}, {ratio}, {n} finding{'s' if n > 1 else ''}"
    return "\n".join([head, *(f"{f.id} {f.place}, {percent(f.area_pct)} %, {band(f.area_pct)}" for f in e.findings[:_LISTED])])


def evidence_items(evidence: Evidence, question: Question) -> tuple[EvidenceItem, ...]:
    """What every answer on this inspection rests on; earlier inspections only where they were asked for."""
    e, m, t = evidence, evidence.map_stats, evidence.thresholds
    picks = bool(question.focus or question.label)
    asked = {f.id for f in focused(e, question)} if picks else set()
    names = {one.finding: {"named": one.label, "similarity": one.similarity, "limit": one.limit} for one in e.named}
    found = [
        EvidenceItem(
            "finding",
            f.id,
            {"place": f.place, "bbox": list(f.bbox), "area_pct": f.area_pct, "size": band(f.area_pct), "peak": f.peak}
            | ({"asked": f.id in asked} if picks else {})
            | names.get(f.id, {}),
        )
        for f in sorted(e.findings, key=lambda f: f.id not in asked)
    ]
    examples = [
        EvidenceItem("exemplar", near.ref, {"finding": one.finding, "label": near.label, "similarity": near.similarity})
        for one in e.named
        for near in one.nearest
    ]
    stats = {"max": m.max, "mean": m.mean, "peak_xy": list(m.peak_xy), "peak_place": m.peak_place}
    reference = {
        "sha256": e.recipe_sha256,
        "verdict": str(e.verdict),
        "reasons": list(e.reasons),
        "raw_score": e.raw_score,
        "score": e.score,
        "thresholds": {"review": t.review, "reject": t.reject},
    }
    past = e.history if question.kind == "history" else ()
    alike = e.likeness.alike[:_SHOWN] if e.likeness is not None and question.kind == "history" else ()
    return (
        *found,
        *examples,
        EvidenceItem("map_stat", "map", stats),
        EvidenceItem("reference", f"recipe:{e.recipe_number}", reference),
        *(EvidenceItem("history", str(h["id"]), {k: v for k, v in h.items() if k != "id"}) for h in past),
        *(
            EvidenceItem("history", str(h["id"]), {k: v for k, v in h.items() if k != "id"} | {"like": e.findings[0].id})
            for h in alike
        ),
    )
