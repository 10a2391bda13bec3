"""Held-out scores of normal pictures to thresholds with a stated risk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inspection.bounds import Risk, bound, risk, sample
from inspection.evidence import EnrolmentRefused, Thresholds

_RATE_FLOOR = 1e-9  # no number of pictures bears less, and t has no quantile there


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the normals say about the limits. All thresholds `None` (`uncalibrated`) when fewer than three scores exist."""

    thresholds: Thresholds
    finding_limit: float | None
    """Raw units of the map: a region at or over it is a finding."""
    n: int
    m: float | None
    """Mean of the log scores."""
    s: float | None
    """Their standard deviation (k - 1)."""
    false_reject_rate: float
    review_rate: float
    reject_risk: Risk | None
    review_risk: Risk | None
    warnings: tuple[str, ...]
    held_out_scores: tuple[float, ...]
    held_out_peaks: tuple[float, ...]
    """Of the maps, in the same order: what an extension needs beside them."""


def calibrate(
    scores: Sequence[float], map_peaks: Sequence[float], false_reject_rate: float = 0.01, review_rate: float = 0.05
) -> Calibration:
    """Set both thresholds and the finding limit from held-out scores and the peaks of their maps.

    Each is a prediction bound (bounds.py): the next normal picture exceeds it with the stated probability. Raises
    EnrolmentRefused for rates out of order, rates that so few pictures cannot bear, and scores that are not finite.
    """
    check_rates(false_reject_rate, review_rate)
    given, peaks = np.asarray(scores, float), np.asarray(map_peaks, float)
    if len(given) != len(peaks) or not (np.isfinite(given).all() and np.isfinite(peaks).all()):
        raise EnrolmentRefused("The held-out scores are not finite: these pictures cannot be calibrated.")
    k, kept = len(given), (tuple(given.tolist()), tuple(peaks.tolist()))
    if k < 3 or given.max() <= 0 or peaks.max() <= 0:  # two scores are one distance seen from both ends: no spread
        few = "One or two normal pictures give" if k else "No normal picture gives"
        why = f"{few} no held-out spread" if k < 3 else "Every held-out score is zero"
        warning = f"{why}: the recipe is uncalibrated and its verdicts are `review` only. Enroll 8 or more different pictures."
        return Calibration(
            Thresholds(None, None), None, k, None, None, false_reject_rate, review_rate, None, None, (warning,), *kept
        )
    normal, peak = sample(given), sample(peaks)
    reject, review = bound(normal, false_reject_rate), bound(normal, review_rate)
    finding_limit = bound(peak, review_rate)
    if not (math.isfinite(reject) and math.isfinite(finding_limit)):
        raise EnrolmentRefused(
            f"{k} normal pictures cannot bear a false-reject rate of {false_reject_rate:g}: enroll more of them."
        )
    return Calibration(
        Thresholds(min(review, reject), reject),  # two kinds of bound may cross where the rates are nearly equal
        finding_limit,
        k,
        normal.mean,
        normal.spread,
        false_reject_rate,
        review_rate,
        risk(k, false_reject_rate),
        risk(k, review_rate),
        _warnings(k, normal.floored, risk(k, false_reject_rate)),
        *kept,
    )


def check_rates(false_reject_rate: float, review_rate: float) -> None:
    """Raise EnrolmentRefused unless 1e-9 ≤ false_reject_rate ≤ review_rate < 0.5."""
    if not _RATE_FLOOR <= false_reject_rate <= review_rate < 0.5:
        raise EnrolmentRefused(
            f"Rates must hold {_RATE_FLOOR:g} ≤ false_reject_rate ({false_reject_rate:g}) ≤ review_rate ({review_rate:g}) < 0.5.",
            false_reject_rate=false_reject_rate,
            review_rate=review_rate,
        )


def score(raw: float, reject: float | None) -> float | None:
    """Calibrated score raw / (raw + reject): 0.5 at the reject limit, strictly increasing, never 1. `None`: uncalibrated."""
    return None if reject is None else raw / (raw + reject)


def margin(raw: float, reject: float | None) -> float | None:
    """raw / reject - 1: how far over (positive) or under the reject limit, relative to it."""
    return None if reject is None else raw / reject - 1


def _warnings(k: int, floored: bool, reject_risk: Risk) -> tuple[str, ...]:
    notes = []
    span = f"with 90 % confidence the false-reject rate lies between {reject_risk.low:.2%} and {reject_risk.high:.1%}"
    if k < 8:
        notes.append(f"Only {k} normal pictures: the limits are little more than a guess ({span}). Enroll at least 8, better 32.")
    elif k < 32:
        notes.append(f"{k} normal pictures: the limits are usable but wide ({span}). 32 or more make them firm.")
    if floored:
        notes.append("Some held-out scores are zero or all alike (near-identical pictures): the limits may be too tight.")
    return tuple(notes)
