"""Do the parts still score as the normals did? A recipe's held-out scores against the stream of inspections. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspection.bounds import Risk
from inspection.evidence import Thresholds

LEAST_NORMALS = 8
"""Fewer held-out scores have ranks too coarse to compare with."""
LEAST_PARTS = 30
_SLACK = 0.045  # of the mean rank: what defects that pass may add, a fifth of all parts at two standard deviations
_REFERENCE = 1.5  # standard errors of the normals' own mean rank
_LIMIT = 9.0  # with both, about one false alarm in 10,000 sound parts; tests/inspection/test_drift.py holds it
_FLAGGED_LIMIT = 15.0  # 30 flagged parts more than others
_CONFIDENCE = 0.9
_SURE = 0.999  # rates are looked at again after each part


class State(StrEnum):
    """What can be said of the stream."""

    STEADY = "steady"
    DRIFTING = "drifting"
    TOO_FEW = "too_few"


@dataclass(frozen=True, slots=True)
class Promise:
    """What a recipe's calibration promises."""

    thresholds: Thresholds
    review: Risk | None
    reject: Risk | None
    held_out_scores: tuple[float, ...]
    spread: float | None
    """Standard deviation of their logarithms."""

    @classmethod
    def of(cls, card: Mapping[str, Any]) -> Promise:
        """From the `calibration` of a recipe.json."""
        review, reject = (card[name] and Risk(**card[name]) for name in ("review_risk", "reject_risk"))
        return cls(Thresholds(**card["thresholds"]), review, reject, tuple(card["held_out_scores"]), card["s"])


@dataclass(frozen=True, slots=True)
class Rate:
    """How many sound parts lie at or over a limit: promised, and seen."""

    promised: Risk
    parts: int
    """Parts of the window that nobody confirmed defective."""
    confirmed: int
    """Of them at or over the limit, and confirmed good by a person."""
    open: int
    """Of them at or over the limit, and judged by nobody yet."""
    low: float
    """Clopper-Pearson (1934) bounds, 90 % together: as if every open part were defective … as if every one were good."""
    high: float


@dataclass(frozen=True, slots=True)
class Drift:
    """The stream held against the promise."""

    state: State
    signals: tuple[str, ...]
    """`scores_shifted`, `most_flagged`, `rate_exceeded`: why it is `drifting`."""
    since: int | None
    """Index of the part from which on scores moved; `None` unless they did."""
    parts: int
    compared: int
    """Parts under the review limit that nobody confirmed defective: whose ranks are compared."""
    shift: float | None
    """How far the lower quartile of parts not confirmed defective moved, in standard deviations of the normals' log scores;
    from `since` on, else over the window. Defects lie over it and hardly touch it."""
    least_shift: float | None
    """A steady shift smaller than about this is never told from the normals' own uncertainty."""
    review: Rate | None
    reject: Rate | None
    advice: str


def drift(promise: Promise, scores: Sequence[float], decisions: Sequence[bool | None]) -> Drift:
    """Compare the stream, oldest first, with the held-out scores of the recipe.

    `scores`: raw ones by this recipe. `decisions`: a person's newest word, `True` good, `False` defective, `None` nobody looked.
    Three signals, each robust to a minority of defects: a capped one-sided CUSUM (Page 1954) of the ranks among the held-out
    scores of parts under the review limit (a defect over it says nothing, one that passes adds at most half a rank, and
    `_SLACK` bears a tenth of such); more parts at or over the review limit than under it, beyond chance; and more confirmed
    good parts over a limit than its risk's interval allows. Ranks need no law of the scores; the same number of normals gives
    the same rate of false alarms. Autocorrelated scores (a still line) give more.
    """
    limits, k, n = promise.thresholds, len(promise.held_out_scores), len(scores)
    if limits.review is None or limits.reject is None or promise.review is None or promise.reject is None or k < LEAST_NORMALS:
        advice = f"The recipe holds {k} held-out scores; {LEAST_NORMALS} are needed: enroll it on more normal pictures."
        return Drift(State.TOO_FEW, (), None, n, 0, None, None, None, None, advice)
    seen, bad = np.asarray(scores, float), np.array([word is False for word in decisions], bool)
    good = np.array([word is True for word in decisions], bool)
    under = seen < limits.review
    ranked, flagged = under & ~bad, ~under & ~good & ~bad
    reference = np.sort([score for score in promise.held_out_scores if score < limits.review])
    slack = _slack(len(reference))
    steps = np.where(ranked, ranks(reference, seen) - 0.5 - slack, 0.0)
    shifted, moved_at = _cusum(steps, _LIMIT)
    mostly, flagged_at = _cusum(np.where(flagged, 0.5, np.where(bad, 0.0, -0.5)), _FLAGGED_LIMIT)
    review = _rate(promise.review, seen >= limits.review, good, bad)
    reject = _rate(promise.reject, seen >= limits.reject, good, bad)
    exceeded = any(_clopper_pearson(r.confirmed, r.parts, _SURE)[0] > r.promised.high for r in (review, reject))
    found = {"scores_shifted": shifted, "most_flagged": mostly, "rate_exceeded": exceeded}
    signals = tuple(name for name, on in found.items() if on)
    starts = [at for on, at in ((shifted, moved_at), (mostly, flagged_at)) if on]
    since, compared = min(starts, default=None), int(ranked.sum())
    state = State.DRIFTING if signals else State.STEADY if compared >= LEAST_PARTS else State.TOO_FEW
    moved = _moved(promise, seen[since or 0 :][~bad[since or 0 :]])
    advice = _advice(state, signals, compared)
    return Drift(state, signals, since, n, compared, moved, _least_shift(slack), review, reject, advice)


def ranks(reference: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mid-ranks in (0, 1) of scores among sorted reference scores: uniform over len + 1 values where both are of one law."""
    low, high = np.searchsorted(reference, scores, "left"), np.searchsorted(reference, scores, "right")
    return np.asarray(((low + high) / 2 + 0.5) / (len(reference) + 1), float)


def _slack(k: int) -> float:
    return _SLACK + _REFERENCE / math.sqrt(12 * k)


def _least_shift(slack: float) -> float:
    """√2·Φ⁻¹(½ + 1.2·slack): the shift of a normal law whose mean rank lies so high; 1.2 for the top twentieth left out."""
    from scipy.special import ndtri

    return math.sqrt(2) * float(ndtri(min(0.5 + 1.2 * slack, 0.999)))


def _cusum(steps: NDArray[np.float64], limit: float) -> tuple[bool, int]:
    """Whether the sum is over the limit now, and where it last left zero. Capped at twice the limit, so that it can recover."""
    total, start = 0.0, 0
    for number, step in enumerate(steps.tolist()):
        if total <= 0.0:
            start = number
        total = min(max(total + step, 0.0), 2 * limit)
    return total > limit, start


def _rate(promised: Risk, over: NDArray[np.bool_], good: NDArray[np.bool_], bad: NDArray[np.bool_]) -> Rate:
    parts, confirmed, unseen = int((~bad).sum()), int((over & good).sum()), int((over & ~good & ~bad).sum())
    low, high = _clopper_pearson(confirmed, parts)[0], _clopper_pearson(confirmed + unseen, parts)[1]
    return Rate(promised, parts, confirmed, unseen, low, high)


def _clopper_pearson(count: int, of: int, confidence: float = _CONFIDENCE) -> tuple[float, float]:
    from scipy.special import betaincinv

    tail = (1 - confidence) / 2
    low = float(betaincinv(count, of - count + 1, tail)) if count else 0.0
    return low, float(betaincinv(count + 1, of - count, 1 - tail)) if count < of else 1.0


def _moved(promise: Promise, scores: NDArray[np.float64]) -> float | None:
    if not len(scores) or not promise.spread:
        return None
    tiny = np.finfo(float).tiny
    now, then = (float(np.quantile(np.log(np.maximum(x, tiny)), 0.25)) for x in (scores, promise.held_out_scores))
    return (now - then) / promise.spread


def _advice(state: State, signals: tuple[str, ...], compared: int) -> str:
    if state is State.TOO_FEW:
        return f"{compared} parts can be compared; {LEAST_PARTS} are needed."
    if state is State.STEADY:
        return "The parts score as the normals did."
    what = {
        "scores_shifted": "Parts under the review limit score higher than the normals did.",
        "most_flagged": "Most parts lie over the review limit.",
        "rate_exceeded": "More parts that a person confirmed good lie over a limit than was promised.",
    }
    way_out = "Look at recent parts. Where they are good, set light, focus and position right, or add recent good parts"
    return " ".join([*(what[signal] for signal in signals), f"{way_out} to the normal pictures, enroll and promote."])
