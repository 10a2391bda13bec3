"""Real pictures judged and asked about: what the model itself says and what is delivered, as rows that figures are made from."""

from __future__ import annotations

import json
import tempfile
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import cv2
import numpy as np

from inspection.answering import answer
from inspection.answers_rows import AnswersRefused, Row, kept, recorded, truth_of
from inspection.evaluation import FolderRefused, Sample, folders, pictures, samples, with_templates
from inspection.features import Progress
from inspection.options import EnrolOptions
from inspection.witness import as_evidence, witness
from models.lmm.engines import Engine

QUESTIONS = Path(__file__).with_name("evaluation_questions.toml")
UNANSWERABLE = 2
"""Questions without an answer, of each picture."""
FOREIGN = ("presence", "sound", "place")
"""Topics that are asked again with another picture's map."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One question of an evaluation."""

    topic: str
    text: str
    sense: int
    answerable: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked about what."""

    options: EnrolOptions = field(default_factory=EnrolOptions)
    shots: int | None = None
    seeds: int = 1
    limit: int | None = None
    """Pictures of a folder, half of them defective where there are enough; `None`: all."""
    wordings: int = 1
    """Of each topic that has an answer."""


def run(
    directory: Path,
    engine: Engine,
    plan: Plan = Plan(),
    *,
    untrained: Engine | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
) -> list[Row]:
    """Every folder, draw and picture asked about; rows of `row` `inspection` and `answer`.

    Each question goes to `engine` (`by`: `engine`), those of `FOREIGN` to it again with another picture's evidence (`foreign`),
    and each to `untrained` where that is another model. With `out`, a JSONL file, each row is kept as it is made, and rows that
    it holds are not made again. Raises FolderRefused, NotAnImage, EnrolmentRefused, AnswersRefused (a file of other settings) and
    what engines raise.
    """
    engines = {"engine": engine, "foreign": engine}
    if untrained is not None and (untrained.name, untrained.sha256) != (engine.name, engine.sha256):
        engines["untrained"] = untrained
    found, tell = folders(directory), progress or (lambda *_: None)
    names = [f.relative_to(directory).as_posix() if f != directory else f.name for f in found]
    settings = {
        "row": "settings",
        "format": 4,
        "folders": names,
        "engine": [engine.name, engine.sha256],
        **json.loads(json.dumps(asdict(plan))),
        "questions": crc32(QUESTIONS.read_bytes()),
    }
    found_rows = kept(out)
    if found_rows and found_rows[0] != settings:
        raise AnswersRefused(f"{out} holds answers of other settings; name another file, or repeat those settings.")
    rows = found_rows[1:]
    done = {_key(row) for row in rows}
    with tempfile.TemporaryFile("w") if out is None else out.open("a", encoding="utf-8") as file:

        def keep(row: Row) -> None:
            rows.append(row)
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()

        if not found_rows:
            file.write(json.dumps(settings) + "\n")
        for folder, name in zip(found, names, strict=True):
            for seed in range(plan.options.seed, plan.options.seed + plan.seeds):
                _one_draw(folder, {"folder": name, "seed": seed}, plan, engines, done, keep, tell)
    return rows


def drawn_questions(seed: int, picture: str, wordings: int = 1) -> list[Asked]:
    """The questions of one picture: `wordings` of each topic with an answer, then two of different topics without one."""
    topics = tomllib.loads(QUESTIONS.read_text(encoding="utf-8"))["topic"]
    rng = np.random.default_rng([seed, crc32(picture.encode())])

    def some(topic: Row, count: int) -> list[Asked]:
        chosen = rng.permutation(topic["wordings"])[:count].tolist()
        return [Asked(topic["name"], text, topic.get("sense", 0), topic.get("answerable", True)) for text in chosen]

    with_answer = [topic for topic in topics if topic.get("answerable", True)]
    without = [topic for topic in topics if not topic.get("answerable", True)]
    at = rng.choice(len(without), UNANSWERABLE, replace=False)
    return [q for topic in with_answer for q in some(topic, wordings)] + [q for i in at for q in some(without[i], 1)]


def _one_draw(
    folder: Path,
    base: Row,
    plan: Plan,
    engines: dict[str, Engine],
    done: set[Any],
    keep: Callable[[Row], None],
    tell: Progress,
) -> None:
    seed = base["seed"]
    options = replace(plan.options, seed=seed)
    normals, tests = pictures(folder / "train/good"), samples(folder)
    templates, tests = with_templates(folder, tests) if options.expert == "reference" else ([], tests)
    wanted = plan.shots or len(normals)
    if not tests or not 0 < wanted <= len(normals):
        raise FolderRefused(f"{folder} has {len(normals)} normal and {len(tests)} test pictures; {wanted} normals are asked for.")
    tests = _limited(tests, plan.limit, plan.options.seed)
    names = [f"{one.path.parent.name}/{one.path.name}" for one in tests]
    asked = [drawn_questions(seed, name, plan.wordings) for name in names]
    todo = {
        name: [
            (by, q)
            for by in engines
            for q in questions
            if (by != "foreign" or q.topic in FOREIGN) and (*base.values(), name, by, q.text) not in done
        ]
        for name, questions in zip(names, asked, strict=True)
    }
    stage = f"{base['folder']}, draw {seed}"
    tell(stage, 0, len(tests))
    if not any(todo.values()):
        tell(stage, len(tests), len(tests))
        return
    chosen = np.sort(np.random.default_rng(seed).choice(len(normals), wanted, replace=False))
    expert = witness([*templates, *(normals[i] for i in chosen)], options)
    seen = [as_evidence(expert.inspector.inspect(_encoded(one)), references=expert.references) for one in tests]
    order = np.random.default_rng([seed, 1]).permutation(len(tests))
    other = {int(a): int(b) for a, b in zip(order, np.roll(order, 1), strict=True)}
    for n, (name, one) in enumerate(zip(names, tests, strict=True)):
        if (*base.values(), name) not in done:
            keep({"row": "inspection", **base, "picture": name, "evidence": recorded(seen[n]), "truth": truth_of(one)})
        shown = one.pixels() if todo[name] else None
        for by, question in todo[name]:
            given = other[n] if by == "foreign" else n
            evidence = replace(seen[given], image=shown)
            said = answer(evidence, question.text, engines[by], language="en")
            told = {part: getattr(said, part) for part in ("kind", "own_words", "answer", "grounding", "latency_ms", "model")}
            view = next((one.value["defect"] for one in said.evidence if one.kind == "view"), None)
            about = {"picture": name, "by": by, "evidence_of": names[given]}
            keep({"row": "answer", **base, **about, **asdict(question), **told, "view": view})
        tell(stage, n + 1, len(tests))


def _limited(tests: list[Sample], limit: int | None, seed: int) -> list[Sample]:
    """At most `limit`, drawn by seed, half of them defective where there are enough of both."""
    if limit is None or limit >= len(tests):
        return tests
    rng = np.random.default_rng(seed)
    good, bad = (
        [one for one in rng.permutation(np.arange(len(tests))) if tests[one].defective is side] for side in (False, True)
    )
    taken = min(len(bad), max(limit - limit // 2, limit - len(good)))
    return [tests[i] for i in sorted([*bad[:taken], *good[: limit - taken]])]


def _encoded(one: Sample) -> bytes:
    if not one.pair:
        return one.path.read_bytes()
    return bytes(cv2.imencode(".png", cv2.cvtColor(one.pixels(), cv2.COLOR_RGB2BGR))[1].tobytes())


def _key(row: Row) -> tuple[Any, ...]:
    inspection = (row["folder"], row["seed"], row["picture"])
    return inspection if row["row"] == "inspection" else (*inspection, row["by"], row["text"])
