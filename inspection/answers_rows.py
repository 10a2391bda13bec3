"""What an evaluation of answers keeps: evidence, truth and answers as JSON lines, read back whole even after a cut."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from inspection.evaluation import Sample
from inspection.evidence import Evidence, Finding, InspectionError, MapStats, Thresholds, Verdict
from inspection.findings import place_of
from inspection.image import decode

Row = dict[str, Any]
_NEAR, _SPECK = 0.01, 0.0002  # of the side, of the area: an annotator's fragments are one defect, single pixels none


class AnswersRefused(InspectionError):
    """Answers that cannot be asked for: an unknown ablation, or a file of rows made with other settings."""

    code = "answers_refused"


def recorded(e: Evidence) -> Row:
    """Evidence as plain JSON, without pictures and outlines."""
    row = asdict(replace(e, image=None, map=None, references=(), findings=tuple(replace(f, polygon=()) for f in e.findings)))
    return dict(json.loads(json.dumps(row)))


def restored(row: Row) -> Evidence:
    """What `recorded` kept."""
    parts: dict[str, Any] = {
        "verdict": Verdict(row["verdict"]),
        "thresholds": Thresholds(**row["thresholds"]),
        "findings": tuple(Finding(**_tuples(one)) for one in row["findings"]),
        "map_stats": MapStats(**_tuples(row["map_stats"])),
    }
    return Evidence(**{**_tuples(row), **parts})


def _tuples(row: Row) -> Row:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}


def truth_of(one: Sample) -> Row:
    """What is known of a picture: `defective`; of its mask `place` (the cell that holds most of it), `area_pct`, `count`."""
    truth: Row = {"defective": one.defective, "place": None, "area_pct": None, "count": None}
    mask = decode(one.mask.read_bytes()).pixels[..., 0] > 0 if one.mask else None
    if mask is None or not mask.any():
        return truth
    height, width = mask.shape
    rows, columns = (
        ((np.flatnonzero(mask) // step % side + 0.5) * 3 // side).astype(int) for step, side in ((width, height), (1, width))
    )
    row, column = divmod(int(np.bincount(3 * rows + columns, minlength=9).argmax()), 3)
    place = place_of((column + 0.5) * width / 3, (row + 0.5) * height / 3, width, height)
    reach = max(1, round(_NEAR * max(mask.shape)))
    joined = cv2.dilate(mask.astype(np.uint8), np.ones((2 * reach + 1,) * 2, np.uint8))
    _, labels = cv2.connectedComponents(joined, connectivity=8)
    parts = np.bincount(labels[mask])[1:]
    count = max(1, int((parts >= _SPECK * mask.size).sum()))
    return {**truth, "place": place, "area_pct": float(100 * mask.mean()), "count": count}


def kept(out: Path | None) -> list[Row]:
    """The rows of a file that may not exist yet. Raises AnswersRefused for one of another kind."""
    return list(_lines(out)) if out is not None and out.exists() else []


def _lines(out: Path) -> Iterator[Row]:
    """The rows of a file; a last line that was cut short is taken off it."""
    whole = 0
    with out.open("rb") as file:
        for line in file:
            try:
                row = json.loads(line) if line.endswith(b"\n") else None
            except ValueError as error:
                raise AnswersRefused(f"{out} is no file of answers: {error}.") from error
            if row is None:
                break
            whole += len(line)
            yield row
    if whole < out.stat().st_size:
        with out.open("r+b") as file:
            file.truncate(whole)
