"""Rows of an evaluation of answers to figures with intervals: own words and delivered text, beside what costs nothing to say."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inspection.answers_rows import Row, restored
from inspection.claims import clauses, read
from inspection.evidence import Evidence
from inspection.judge import Heard, hear, objections, size_band
from inspection.phrases import statement
from inspection.questions import understand

FIGURES = (
    "decision", "decided", "place", "count", "size", "abstention", "over_refusal", "contradictions", "mended", "readable",
)  # fmt: skip
DRAWS = 1000
JUDGED = 100
Value = tuple[int, int, str, float]
"""Picture, seed, group, value: a figure is the mean over groups of their means."""
Figure = dict[str, Any]
"""`value`, `low`, `high` (95 %), `n`; `value` is `None` where nothing could be counted."""


class Drawn(NamedTuple):
    """A figure, and the same from as many draws of pictures and seeds; NaN where there was nothing to count."""

    values: NDArray[np.float64]
    n: int
    """Things counted."""


class Folder:
    """The rows of one folder, and a bootstrap over its pictures (sound and defective apart) and seeds that all figures share."""

    def __init__(self, rows: Sequence[Row], draws: int = DRAWS) -> None:
        self.inspections = {_at(row): row for row in rows if row["row"] == "inspection"}
        self.evidence = {at: restored(row["evidence"]) for at, row in self.inspections.items()}
        self.by: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            if row["row"] == "answer" and _at(row) in self.inspections:
                self.by[row["by"]].append(row)
        self._pictures = {name: n for n, name in enumerate(sorted({at[1] for at in self.inspections}))}
        self._seeds = {seed: n for n, seed in enumerate(sorted({at[0] for at in self.inspections}))}
        bad = {at[1]: row["truth"]["defective"] for at, row in self.inspections.items()}
        rng, strata = (
            np.random.default_rng(0),
            [[n for p, n in self._pictures.items() if bad[p] is side] for side in (False, True)],
        )
        self._p = np.ones((draws + 1, len(self._pictures)))
        for stratum in strata:
            if stratum:
                self._p[1:, stratum] = rng.multinomial(len(stratum), np.full(len(stratum), 1 / len(stratum)), draws)
        self._s = np.ones((draws + 1, len(self._seeds)))
        self._s[1:] = rng.multinomial(len(self._seeds), np.full(len(self._seeds), 1 / len(self._seeds)), draws)

    def truth(self, row: Row) -> Row:
        """What is known of the picture of a row."""
        return dict(self.inspections[_at(row)]["truth"])

    def value(self, row: Row, group: str, value: float) -> Value:
        """One counted thing."""
        return self._pictures[row["picture"]], self._seeds[row["seed"]], group, float(value)

    def draws(self, values: Sequence[Value]) -> Drawn:
        """The figure itself, then as often drawn anew."""
        groups: dict[str, list[Value]] = defaultdict(list)
        for value in values:
            groups[value[2]].append(value)
        means = []
        for group in groups.values():
            weights = self._p[:, [v[0] for v in group]] * self._s[:, [v[1] for v in group]]
            with np.errstate(invalid="ignore"):
                means.append(weights @ np.array([v[3] for v in group]) / weights.sum(1))
        return Drawn(np.mean(means, 0) if means else np.full(len(self._p), np.nan), len(values))


def evaluate(rows: Sequence[Row]) -> Row:
    """`folders` (each with `own_words`, `delivered`, `baselines`, `disagreements`), their `mean`, and `judged`."""
    named: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        named[row["folder"]].append(row)
    found = {name: _folder(Folder(own)) for name, own in named.items()}
    return {
        "folders": [{"folder": name, **counts, **_summed(figures)} for name, (counts, figures) in found.items()],
        "mean": _mean([figures for _, figures in found.values()]),
        "judged": judged(rows),
    }


def _folder(f: Folder) -> tuple[Row, Row]:
    truths = {at[1]: row["truth"] for at, row in f.inspections.items()}
    counts = {
        "test_normal": sum(not t["defective"] for t in truths.values()),
        "test_defective": sum(t["defective"] for t in truths.values()),
        "masks": sum(t["place"] is not None for t in truths.values()),
        "seeds": len(f._seeds),
        "disagreements": _disagreements(f),
    }
    untrained = f.by["untrained"]
    figures = {
        **_both(f, f.by["engine"]),
        "baselines": {
            **_plain(f),
            "rule_text": _figures(f, f.by["engine"], lambda row: _rule(f.evidence[_at(row)], row), only=FIGURES[:-2]),
            **({"untrained": _both(f, untrained)} if untrained else {}),
            "foreign_map": _both(f, f.by["foreign"]),
        },
    }
    return counts, figures


def _both(f: Folder, answers: list[Row]) -> Row:
    return {
        "own_words": _figures(f, answers, lambda row: str(row["own_words"]), own=True),
        "delivered": _figures(f, answers, lambda row: str(row["answer"]), only=FIGURES[:-1]),
    }


def _rule(e: Evidence, row: Row) -> str:
    return statement(e, understand(row["text"], "en"))


def _figures(
    f: Folder, answers: list[Row], text: Callable[[Row], str], only: Sequence[str] = FIGURES, *, own: bool = False
) -> Row:
    """`own`: the decision is the side that the words take themselves, not the one that they report."""
    counted: dict[str, list[Value]] = {name: [] for name in only}
    inspections: dict[Any, list[Heard]] = defaultdict(list)

    def count(name: str, row: Row, value: float, group: str = "") -> None:
        if name in counted:
            counted[name].append(f.value(row, group, value))

    for row in answers:
        heard, truth = hear(text(row), row["sense"]), f.truth(row)
        if not row["answerable"]:
            count("abstention", row, heard.refuses)
            continue
        inspections[_at(row)].append(heard)
        said = bool(heard.present or heard.places or heard.counts or heard.bands)
        count("over_refusal", row, heard.refuses and not said)
        count("readable", row, _readable(text(row)))
        if row["grounding"] != "insufficient":
            count("mended", row, row["grounding"] != "grounded")
        if row["topic"] in ("presence", "sound"):
            side = heard.own if own else heard.side
            count("decision", row, 0.5 if side is None else side is truth["defective"], str(truth["defective"]))
            count("decided", row, side is not None)
        elif truth["place"] is not None:
            count(row["topic"], row, _right(row["topic"], heard, truth))
    for at, heards in inspections.items():
        count("contradictions", f.inspections[at], _contradict(heards))
    return {name: f.draws(values) for name, values in counted.items()}


def _right(topic: str, heard: Heard, truth: Row) -> bool:
    if topic == "place":
        return heard.places[:1] == [truth["place"]]
    if topic == "count":
        return bool(heard.counts) and abs(heard.counts[0] - truth["count"]) <= 1
    return heard.bands[:1] == [size_band(truth["area_pct"])]


def _contradict(heards: list[Heard]) -> bool:
    """Whether answers on one inspection take both sides, count differently, or name places or sizes of which none is the same."""
    sides, counts = set[bool]().union(*(h.present for h in heards)), {h.counts[0] for h in heards if h.counts}
    opinions = {h.opinion for h in heards} - {None}
    named = [[set(values) for h in heards if (values := getattr(h, name))] for name in ("places", "bands")]
    return (
        len(sides) > 1
        or len(opinions) > 1
        or len(counts) > 1
        or any(not a & b for sets in named for a, b in combinations(sets, 2))
    )


def _readable(text: str) -> bool:
    """Whether the check's own grammar reads every clause."""
    sentences = [s for s in text.replace("\n", " ").split(". ") if s.strip()]
    parts = [clause for sentence in sentences for clause, _ in clauses(sentence.strip(" .!"))]
    return bool(parts) and all(read(clause, first=n == 0) is not None for n, clause in enumerate(parts))


def _plain(f: Folder) -> Row:
    """What says the same of every picture, the expert's own figures, and those of the other picture's map."""
    no, centre, expert, most, foreign = ({name: list[Value]() for name in FIGURES} for _ in range(5))
    masked = [row["truth"] for row in f.inspections.values() if row["truth"]["place"] is not None]
    usual = Counter(t["count"] for t in masked).most_common(1)
    usual_size = Counter(size_band(t["area_pct"]) for t in masked).most_common(1)
    shown = {_at(row): f.evidence.get((row["seed"], row["evidence_of"])) for row in f.by["foreign"]}
    given = {at: e for at, e in shown.items() if e is not None}  # a file that was cut holds some pictures alone
    for at, row in f.inspections.items():
        e, truth = f.evidence[at], row["truth"]
        no["decision"].append(f.value(row, str(truth["defective"]), not truth["defective"]))
        if (side := threshold_side(e)) is not None:
            expert["decision"].append(f.value(row, str(truth["defective"]), side is truth["defective"]))
        if at in given and (side := threshold_side(given[at])) is not None:
            foreign["decision"].append(f.value(row, str(truth["defective"]), side is truth["defective"]))
        if truth["place"] is None:
            continue
        if at in given:
            foreign["place"].append(f.value(row, "", truth["place"] == given[at].map_stats.peak_place))
        band = size_band(truth["area_pct"])
        centre["place"].append(f.value(row, "", truth["place"] == "centre"))
        expert["place"].append(f.value(row, "", truth["place"] == e.map_stats.peak_place))
        expert["count"].append(f.value(row, "", abs(len(e.findings) - truth["count"]) <= 1))
        expert["size"].append(f.value(row, "", bool(e.findings) and size_band(e.findings[0].area_pct) == band))
        most["count"].append(f.value(row, "", abs(usual[0][0] - truth["count"]) <= 1))
        most["size"].append(f.value(row, "", usual_size[0][0] == band))
    named = {"always_no": no, "always_centre": centre, "majority": most, "expert": expert, "foreign_expert": foreign}
    return {name: {figure: f.draws(values) for figure, values in own.items() if values} for name, own in named.items()}


def threshold_side(e: Evidence) -> bool | None:
    """What the reject limit alone says; `None` without one."""
    return None if e.thresholds.reject is None else e.raw_score >= e.thresholds.reject


def _disagreements(f: Folder) -> Row:
    """Own words against the reject limit where both take a side and differ: how many, and the share where the model is right."""
    right = []
    for row in f.by["engine"]:
        limit = threshold_side(f.evidence[_at(row)])
        side = hear(row["own_words"], row["sense"]).own if row["topic"] in ("presence", "sound") else None
        if None not in (limit, side) and limit is not side:
            right.append(side is f.truth(row)["defective"])
    return {"n": len(right), "model_right": float(np.mean(right)) if right else None}


def judged(rows: Sequence[Row], count: int = JUDGED) -> Row:
    """Delivered answers by seed, read by the second grammar: `unborne` by the evidence (each listed), and untrue by the mask."""
    inspections = {(row["folder"], *_at(row)): row for row in rows if row["row"] == "inspection"}
    answers = [row for row in rows if row["row"] == "answer" and row["by"] == "engine"]
    picked = [answers[i] for i in np.random.default_rng(0).permutation(len(answers))[:count]]
    unborne, untrue, claimed = [], Counter[str](), Counter[str]()
    for row in picked:
        inspection = inspections[row["folder"], *_at(row)]
        e, truth = replace(restored(inspection["evidence"]), view=row["view"]), inspection["truth"]
        if bad := objections(row["answer"], e, row["sense"]):
            unborne.append({"folder": row["folder"], "picture": row["picture"], "question": row["text"], "objections": bad})
        for name, right in _held_against(truth, hear(row["answer"], row["sense"])).items():
            claimed[name] += 1
            untrue[name] += not right
    shares = {name: {"said": n, "untrue": untrue[name]} for name, n in sorted(claimed.items())}
    return {"n": len(picked), "unborne": unborne, "against_masks": shares}


def _held_against(truth: Row, heard: Heard) -> dict[str, bool]:
    """For each thing said, whether picture and mask bear it; nothing of what they cannot tell."""
    said = {} if heard.side is None else {"presence": heard.side is truth["defective"]}
    if heard.opinion is not None:
        said["view"] = heard.opinion is truth["defective"]
    if truth["place"] is None:
        return said
    named = (("place", heard.places), ("count", heard.counts), ("size", heard.bands))
    return said | {topic: _right(topic, heard, truth) for topic, values in named if values}


def _at(row: Row) -> tuple[int, str]:
    return row["seed"], row["picture"]


def _summed(figures: Row) -> Row:
    return {name: _summed(v) if isinstance(v, dict) else _figure(v) for name, v in figures.items()}


def _figure(drawn: Drawn) -> Figure:
    own, others = float(drawn.values[0]), drawn.values[1:][np.isfinite(drawn.values[1:])]
    if not np.isfinite(own) or not len(others):
        return {"value": None, "low": None, "high": None, "n": drawn.n}
    low, high = np.percentile(others, [2.5, 97.5])
    return {"value": own, "low": float(low), "high": float(high), "n": drawn.n}


def _mean(found: Sequence[Row]) -> Row:
    """The mean over the folders that have a figure, and its interval from theirs, drawn independently."""
    mean: Row = {}
    for name in dict.fromkeys(name for figures in found for name in figures):
        each = [figures[name] for figures in found if name in figures]
        if isinstance(each[0], dict):
            mean[name] = _mean(each)
            continue
        known = [one for one in each if np.isfinite(one.values[0])]
        columns = [np.random.default_rng(n).permuted(one.values[1:]) for n, one in enumerate(known)]
        drawn = [[np.mean([one.values[0] for one in known])], np.mean(columns, 0)] if known else [[np.nan]]
        mean[name] = _figure(Drawn(np.concatenate(drawn), sum(one.n for one in known)))
    return mean
