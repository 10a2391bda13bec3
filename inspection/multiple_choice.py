"""Multiple choice in MMAD's form (arXiv 2410.09453): each question answered by the likelihood of its options under the engine."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from inspection.answering import build_prompt
from inspection.answers_rows import AnswersRefused
from inspection.evaluation import pictures
from inspection.features import Progress
from inspection.options import EnrolOptions
from inspection.questions import Question
from inspection.witness import witness
from models.lmm.engines import Chooser, Engine

MAX_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Choice:
    """One question with its options, in order of their letters."""

    text: str
    options: dict[str, str]
    answer: str
    kind: str


@dataclass(frozen=True, slots=True)
class Shown:
    """One picture and what is asked about it."""

    image: Path
    normals: tuple[Path, ...]
    """Pictures of sound parts that the file names: similar ones first, then others."""
    questions: tuple[Choice, ...]


def read(file: Path, root: Path) -> list[Shown]:
    """The file's pictures and questions, paths taken from `root`.

    Raises AnswersRefused, naming entry and question: not JSON, not of this form, an answer that is no option, a path that
    leaves `root` or leads nowhere.
    """
    if file.stat().st_size > MAX_BYTES:
        raise AnswersRefused(f"{file} has over {MAX_BYTES >> 20} MiB: no file of questions.")
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise AnswersRefused(f"{file} is not JSON: {error}.") from error
    if not isinstance(entries, dict) or not entries:
        raise AnswersRefused(f"{file} must hold a JSON object: picture path → questions.")
    return [_shown(name, entry, root.resolve()) for name, entry in entries.items()]


def answered(
    file: Path,
    root: Path,
    engine: Engine,
    options: EnrolOptions = EnrolOptions(),
    *,
    shots: int | None = None,
    limit: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """`types` (each `n`, `accuracy`, `chance`), their mean `accuracy`, and `answers`, every question with the letter chosen.

    The expert is enrolled on `shots` normals (default 4), drawn by seed from the folder in which a picture's first named normal
    lies. Raises as `read`, and what enrolment, decoding and the engine raise.
    """
    if not isinstance(engine, Chooser):
        raise AnswersRefused(f"The engine {engine.name} gives no likelihood of options.")
    shown, tell = read(file, root), progress or (lambda *_: None)
    if limit is not None and limit < len(shown):
        chosen = np.random.default_rng(options.seed).choice(len(shown), limit, replace=False)
        shown = [shown[i] for i in sorted(chosen)]
    folders: dict[Path, list[Shown]] = defaultdict(list)
    for one in shown:
        folders[one.normals[0].parent].append(one)
    answers: list[dict[str, Any]] = []
    done = 0
    for folder, ones in folders.items():
        normals = pictures(folder)
        wanted = min(shots or 4, len(normals))
        drawn = np.sort(np.random.default_rng(options.seed).choice(len(normals), wanted, replace=False))
        expert = witness([normals[i] for i in drawn], options)
        for one in ones:
            evidence = expert.says(one.image.read_bytes())
            for question in one.questions:
                prompt = build_prompt(evidence, Question(question.text, "description", "en", 0, False))
                likely = engine.likelihood(prompt, list(question.options.values()))
                said = list(question.options)[int(np.argmax(likely))]
                told = {"image": one.image.relative_to(root.resolve()).as_posix(), "type": question.kind, "said": said}
                answers.append({**told, "right": said == question.answer, "options": len(question.options)})
            done += 1
            tell("multiple choice", done, len(shown))
    types: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for answer in answers:
        types[answer["type"]].append(answer)
    table = {
        name: {"n": len(own), "accuracy": fmean(a["right"] for a in own), "chance": fmean(1 / a["options"] for a in own)}
        for name, own in sorted(types.items())
    }
    return {"types": table, "accuracy": fmean(one["accuracy"] for one in table.values()), "answers": answers}


def _shown(name: str, entry: Any, root: Path) -> Shown:
    if not isinstance(entry, dict) or not isinstance(entry.get("conversation"), list) or not entry["conversation"]:
        raise AnswersRefused(f"{name}: an entry needs a `conversation`, a list of questions.", entry=name)
    listed = [entry.get(part, []) for part in ("similar_templates", "random_templates")]
    if not all(isinstance(part, list) for part in listed) or not any(listed):
        raise AnswersRefused(f"{name}: `similar_templates` or `random_templates` must name normal pictures.", entry=name)
    questions = [_choice(name, n, question) for n, question in enumerate(entry["conversation"], 1)]
    image, *normals = (_inside(root, path, name) for path in (name, *listed[0], *listed[1]))
    return Shown(image, tuple(normals), tuple(questions))


def _choice(name: str, number: int, question: Any) -> Choice:
    where = f"{name}, question {number}"
    if not isinstance(question, dict):
        raise AnswersRefused(f"{where}: a question is a JSON object.", entry=name)
    text, options, answer = (question.get(key, "") for key in ("Question", "Options", "Answer"))
    kind = question.get("type", "other")
    texts = [text, answer, kind, *(options.values() if isinstance(options, dict) else ())]
    if not all(isinstance(value, str) and value.strip() for value in texts):
        raise AnswersRefused(f"{where}: `Question`, `Answer`, `type` and each option must be text.", entry=name)
    if not isinstance(options, dict) or len(options) < 2:
        raise AnswersRefused(f"{where}: `Options` must hold at least two, letter → text.", entry=name)
    if answer not in options:
        raise AnswersRefused(f"{where}: the answer {answer!r} is none of its options.", entry=name)
    return Choice(str(text).strip(), options, str(answer), str(kind))


def _inside(root: Path, path: Any, name: str) -> Path:
    if not isinstance(path, str) or "\0" in path:
        raise AnswersRefused(f"{name}: a path must be text.", entry=name)
    found = (root / path).resolve()
    if not found.is_relative_to(root):
        raise AnswersRefused(f"{name}: {path} leaves the folder.", entry=name)
    if not found.is_file():
        raise AnswersRefused(f"{name}: there is no picture {path}.", entry=name)
    return found
