"""Ten conversations drawn by a seed, nothing picked: what the built-in model says of ten parts, and what is delivered."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from inspection.answering import answer
from inspection.answers_evaluation import Asked, drawn_questions
from inspection.defects import KINDS, doctor
from inspection.drawn import DEFECTS, FAMILIES, drawn
from inspection.evaluation import pictures, samples
from inspection.evidence import Evidence
from inspection.heatmap import overlay_png
from inspection.image import Pixels, decode
from inspection.options import EnrolOptions
from inspection.phrases import percent
from inspection.witness import witness
from models.lmm.engines import Engine
from models.lmm.trained import MyriadEngine

SHOTS, QUESTIONS = 16, 5
_SIDE, _ACROSS = 256, 5


@dataclass(frozen=True, slots=True)
class Part:
    """A part to talk about."""

    title: str
    pixels: Pixels
    normals: Sequence[Pixels]


def parts(cashews: Path, boards: Path, seed: int) -> Iterator[Part]:
    """Four drawn ones, three cashews (two with painted defects), three boards (two with real ones)."""
    rng = np.random.default_rng(seed)
    for product, family in enumerate(FAMILIES, 8):
        defect = str(rng.choice(DEFECTS)) if rng.random() < 0.75 else None
        normals = [drawn(product, n)[0] for n in range(SHOTS)]
        yield Part(f"A drawn {family}, {defect or 'sound'}", drawn(product, int(rng.integers(100, 1000)), defect)[0], normals)
    files = rng.permutation(np.array(pictures(cashews / "train/good"), object)).tolist()
    nuts = [decode(path.read_bytes()).pixels for path in files[: SHOTS + 3]]
    yield Part("A cashew, sound", nuts[SHOTS], nuts[:SHOTS])
    for at in (1, 2):
        kind = str(rng.choice(KINDS))
        yield Part(f"A cashew, {kind} painted in", doctor(nuts[SHOTS + at], kind, rng)[0], nuts[:SHOTS])
    files = rng.permutation(np.array(pictures(boards / "train/good"), object)).tolist()
    normals = [decode(path.read_bytes()).pixels for path in files[:SHOTS]]
    found, wrong = samples(boards), "(a memory bank is the wrong expert for it)"
    for title, defective in (("sound", False), ("real defects", True), ("real defects", True)):
        some = [one for one in found if one.defective is defective]
        yield Part(f"A circuit board, {title} {wrong}", some[int(rng.integers(len(some)))].pixels(), normals)


def judged(part: Part) -> tuple[Evidence, float]:
    """What a PatchCore of its normals finds, and the heatmap's scale."""
    expert = witness([_png(pixels) for pixels in part.normals], EnrolOptions(backbone="efficientnet_lite0"))
    return expert.says(_png(part.pixels)), expert.inspector.recipe.heatmap_max


def told(number: int, part: Part, e: Evidence, engine: Engine, questions: Sequence[Asked]) -> Iterator[str]:
    """The lines of one conversation."""
    found = ", ".join(f"{f.id} at the {f.place}, {percent(f.area_pct)} %" for f in e.findings) or "no finding"
    yield f"## {number}. {part.title}\n"
    yield f"Verdict {e.verdict}, raw {e.raw_score:.1f}, reject limit {e.thresholds.reject or 0:.1f}; {found}.\n"
    yield "| question | the model's own words | delivered |\n|---|---|---|"
    for question in questions:
        said = answer(e, question.text, engine, language="en")
        delivered = said.answer if said.grounding == "grounded" else f"*{said.grounding}*: {said.answer}"
        yield f"| {question.text} | {said.own_words} | {'as said' if said.answer == said.own_words else delivered} |"
    yield ""


def run(cashews: Path, boards: Path, picture: Path, seed: int) -> Iterator[str]:
    """All ten, line by line; the picture of the parts, each over its heatmap, goes to `picture`."""
    engine, tiles = MyriadEngine(), list[Any]()
    for number, part in enumerate(parts(cashews, boards, seed), 1):
        e, scale = judged(part)
        rng = np.random.default_rng([seed, number])
        asked = drawn_questions(seed, str(number))
        yield from told(number, part, e, engine, [asked[i] for i in np.sort(rng.choice(len(asked), QUESTIONS, replace=False))])
        tiles.append(_tile(number, part.pixels, e, scale))
    rows = [np.hstack(tiles[at : at + _ACROSS]) for at in range(0, len(tiles), _ACROSS)]
    cv2.imwrite(str(picture), np.vstack(rows), [cv2.IMWRITE_WEBP_QUALITY, 70])


def _tile(number: int, pixels: Pixels, e: Evidence, scale: float) -> Any:
    assert e.map is not None
    overlay: Any = cv2.imdecode(np.frombuffer(overlay_png(pixels, e.map, e.findings, scale), np.uint8), cv2.IMREAD_COLOR)
    plain: Any = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    both = [cv2.resize(one, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA) for one in (plain, overlay)]
    cv2.putText(both[0], str(number), (8, 28), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (255, 255, 255), 4, cv2.LINE_AA)
    cv2.putText(both[0], str(number), (8, 28), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (0, 0, 0), 2, cv2.LINE_AA)
    return np.vstack(both)


def _png(pixels: Pixels) -> bytes:
    return bytes(cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cashews", type=Path, help="VisA's cashews in the MVTec AD convention")
    parser.add_argument("boards", type=Path, help="DeepPCB's boards likewise")
    parser.add_argument("--picture", type=Path, default=Path("docs/pictures/conversations.webp"))
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    for line in run(asked.cashews, asked.boards, asked.picture, asked.seed):
        sys.stdout.write(line + "\n")
