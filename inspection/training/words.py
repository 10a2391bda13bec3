"""The second stage: the language model learns to read the views and the facts aloud (LoRA on frozen weights)."""

from __future__ import annotations

import contextlib
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from inspection.aims import aim
from inspection.answering import SYSTEM, facts
from inspection.dialogues import Turn, dialogue
from inspection.episodes import evidence_of
from inspection.evidence import Finding, Verdict
from inspection.questions import understand
from inspection.training.samples import Samples
from models.lmm.config import PLACES, SIZES, Placement

if TYPE_CHECKING:
    from models.lmm.language import Language
    from models.lmm.learning import Branches
    from models.lmm.tokenizer import Views

PLACEMENTS: dict[Placement, float] = {"both": 0.65, "language": 0.2, "queries": 0.15}
"""How often each placement of the map is drawn (Myriad, section 3.4): the model learns to live without either."""
UNTOLD = 0.3
"""Share of samples without facts in words: the answer is in the sight alone."""
_SEEN = ("yes_no", "place", "size", "unanswerable")
_MIDDLES = {"tiny": 0.05, "small": 0.5, "medium": 2.5, "large": 12.0}


class Told(NamedTuple):
    """One sample as the language model meets it."""

    context: str
    turns: list[Turn]


def told(
    record: dict[str, Any],
    presence: bool,
    place: str,
    size: str,
    amount: int,
    untold: bool,
    turns: int,
    rng: np.random.Generator,
    held_out: bool = False,
) -> Told:
    """Facts and dialogue of a sample. The view on presence is the model's own; the rest is what the record bears.

    Untold: no facts in words, so place, size and amount are the views' own, without names and per cent.
    """
    evidence = replace(evidence_of(record), view=float(presence))
    if not untold:
        return Told(facts(evidence), dialogue(evidence, rng, turns, held_out=held_out))
    blind = replace(
        evidence,
        verdict=Verdict.REJECT if presence else Verdict.PASS,
        reasons=(),
        findings=(_finding(1, place, size),) if presence else (),
        map_stats=replace(evidence.map_stats, peak_place=place),
    )
    several = replace(blind, findings=tuple(_finding(n, place, size) for n in range(1, max(amount, 1) + 1)) if presence else ())
    found = list[Turn]()
    while len(found) < turns:
        for turn in dialogue(blind, rng, turns, held_out=held_out):
            if turn.kind == "count":
                found.append(replace(turn, answer=aim("count", understand(turn.question, "en"), several)))
            elif turn.kind in _SEEN:
                found.append(replace(turn, answer=_unnamed(turn.answer)))
    return Told("", found[:turns])


def _finding(number: int, place: str, size: str) -> Finding:
    return Finding(f"f{number}", (0, 0, 1, 1), (), 1, _MIDDLES[size], (0.0, 0.0), 1.0, (0, 0), place)


def _unnamed(said: str) -> str:
    """An answer without what cannot be seen: ids and exact per cent."""
    return re.sub(r": it covers [\d.]+ % of the picture", "", said).replace("The finding f1 ", "The finding ")


class Reader:
    """Makes batches of packed prompts, in wordings to learn or in those held out."""

    def __init__(self, language: Language, samples: Samples, turns: int, facts_in_words: bool, held_out: bool = False) -> None:
        self.language, self.samples, self.turns, self._held_out = language, samples, turns, held_out
        self._untold = UNTOLD if facts_in_words else 1.0

    def branches(self, rows: Sequence[int], views: Views, rng: np.random.Generator) -> tuple[list[Branches], list[list[Turn]]]:
        """The rows' prompts, their answers by the views that the same forward pass gave."""
        from models.lmm.learning import Branches

        presence, places = (views.presence > 0).tolist(), views.place.argmax(-1).tolist()
        sizes, counts = views.size.argmax(-1).tolist(), views.amount.argmax(-1).tolist()
        found, turns = [], []
        for at, row in enumerate(rows):
            record = self.samples.records[row]
            one = told(
                record,
                presence[at],
                PLACES[places[at]],
                SIZES[sizes[at]],
                counts[at],
                bool(rng.random() < self._untold),
                self.turns,
                rng,
                self._held_out,
            )
            pieces = [self.language.pieces(SYSTEM, one.context, turn.question) for turn in one.turns]
            answers = [[*self.language.ids(turn.answer), self.language.end] for turn in one.turns]
            questions = [(piece.question, answer) for piece, answer in zip(pieces, answers, strict=True)]
            found.append(Branches(pieces[0].head, pieces[0].context, questions))
            turns.append(one.turns)
        return found, turns


def placement(rng: np.random.Generator) -> Placement:
    """Where the map enters in this step."""
    return list(PLACEMENTS)[int(rng.choice(len(PLACEMENTS), p=list(PLACEMENTS.values())))]


def rate_at(step: int, steps: int, warm: int = 30) -> float:
    """A cosine after a short rise, of 1."""
    if step < warm:
        return (step + 1) / warm
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(steps - warm, 1)))


def half(device: str) -> contextlib.AbstractContextManager[Any]:
    """bfloat16 where the machine computes in it (a third of the time on such CPUs); a CPU without it stays in float32."""
    import torch

    if device == "cpu" and not torch.cpu._is_avx512_bf16_supported():
        return contextlib.nullcontext()
    return torch.autocast(device, torch.bfloat16)


def judge_words(model: Any, reader: Reader, count: int, seed: int, device: str = "cpu") -> dict[str, float]:
    """Share of answers that come out word for word, by kind and over all, each token given the right ones before it."""
    import torch

    from models.lmm.learning import answers_right

    model.eval()
    rng = np.random.default_rng([seed, 3])
    rows = rng.choice(len(reader.samples), min(count, len(reader.samples)), replace=False)
    right: dict[str, list[bool]] = defaultdict(list)
    for first in range(0, len(rows), 4):
        some = rows[first : first + 4].tolist()
        with torch.inference_mode(), half(device):
            views, sights = model(reader.samples.seen(some, device))
            batch, turns = reader.branches(some, views, rng)
            for row, marks in zip(turns, answers_right(reader.language, sights, batch), strict=True):
                for turn, mark in zip(row, marks, strict=True):
                    right[turn.kind].append(mark)
    model.train()
    everything = [mark for marks in right.values() for mark in marks]
    return {"all": float(np.mean(everything)), **{kind: float(np.mean(marks)) for kind, marks in sorted(right.items())}}
