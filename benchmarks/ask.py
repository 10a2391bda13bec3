"""The built-in model's speed, cold and warm, beside transformers' own `generate` on the same prompt, and beside verdicts."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from app.language import LanguageProcess
from benchmarks.http import jpeg
from inspection.answering import build_prompt
from inspection.drawn import write
from inspection.evidence import Evidence
from inspection.inspector import Inspector
from inspection.options import EnrolOptions
from inspection.questions import understand
from inspection.witness import witness
from models.lmm.prompt import Prompt

QUESTIONS = ("Is there a defect?", "Where is the defect?", "How big is the defect?", "Describe what you see.")
CLIENTS = 8


def run(inspections: int = 8) -> dict[str, Any]:
    """Seconds to the first piece of text and to the last, tokens a second: medians over `inspections` with four questions each.

    With drafts (`Prompt.drafts`) tokens come many at once, so their rate is over the whole answer, from the question on; without
    them, and of transformers' `generate`, it is that after the first token.
    """
    with tempfile.TemporaryDirectory() as near:
        folder = Path(near)
        write(folder / "parts", 3, 12, 1)
        options = EnrolOptions("patchcore", "efficientnet_lite0")
        expert = witness(sorted((folder / "parts/train/good").iterdir()), options)
        seen = [expert.says(jpeg(number, "scratch" if number % 2 else None)) for number in range(inspections + 1)]
        process = LanguageProcess()
        try:
            start = time.perf_counter()
            first = _asked(process, _prompt(seen[-1], QUESTIONS[0]))[0]
            cold = time.perf_counter() - start
            alone = _warm(process, seen[:-1])
            undrafted = _warm(process, seen[:-1], drafts=False)
            with _verdicts(expert.inspector):
                beside = _warm(process, seen[:-1])
        finally:
            process.close()
    return {
        "cold_s": round(cold, 2),
        "first_text_of_it_s": round(first, 2),
        "alone": alone,
        "alone_without_drafts": undrafted,
        f"beside_{CLIENTS}_clients": beside,
        "generate": plain(seen[0]),
        "inspections": inspections,
    }


def plain(evidence: Evidence) -> dict[str, Any]:
    """The same language model under transformers' `generate`, on a prompt of words: nothing kept between questions."""
    from models.lmm.engines import PlainEngine

    engine = PlainEngine()
    import torch

    ids = torch.tensor([engine.tokens(build_prompt(evidence, understand(QUESTIONS[0])))])
    firsts, rates = [], []
    for _ in range(5):
        times = []
        for count in (1, 24):
            start = time.perf_counter()
            made = engine._model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, min_new_tokens=count, do_sample=False
            )
            times.append(time.perf_counter() - start)
        firsts.append(times[0])
        rates.append((made.shape[1] - ids.shape[1] - 1) / (times[1] - times[0]))
    return {"prompt_tokens": ids.shape[1], "first_s": round(median(firsts), 3), "tokens_per_s": round(median(rates), 1)}


def _prompt(evidence: Evidence, question: str) -> Prompt:
    return build_prompt(evidence, understand(question), "sight")


def _asked(process: LanguageProcess, prompt: Prompt) -> list[float]:
    """Seconds to each piece of the answer."""
    start, at = time.perf_counter(), list[float]()
    for _ in process.generate(prompt, max_tokens=48):
        at.append(time.perf_counter() - start)
    return at


def _warm(process: LanguageProcess, seen: list[Evidence], drafts: bool = True) -> dict[str, float]:
    new, follow, whole, rates = [], [], [], []
    for evidence in seen:
        for number, question in enumerate(QUESTIONS):
            prompt = _prompt(evidence, question)
            at = _asked(process, prompt if drafts else replace(prompt, drafts=()))
            (follow if number else new).append(at[0])
            whole.append(at[-1])
            if len(at) > 4:
                rates.append(len(at) / at[-1] if drafts else (len(at) - 1) / (at[-1] - at[0]))
    return {
        "first_s": round(median(new), 3),
        "follow_up_first_s": round(median(follow), 3),
        "answer_s": round(median(whole), 3),
        "tokens_per_s": round(median(rates), 1),
    }


@contextmanager
def _verdicts(inspector: Inspector) -> Iterator[None]:
    """Clients that have a picture judged one after the other, as a line does."""
    over, data = threading.Event(), jpeg(1)

    def client() -> None:
        while not over.is_set():
            inspector.inspect(data)

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
