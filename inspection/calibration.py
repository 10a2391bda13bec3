"""Held-out scores of normal pictures to thresholds with a stated risk: the log-normal prediction bound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inspection.evidence import EnrolmentRefused, Thresholds

_SPREAD_FLOOR = 1e-3  # log units: scores closer together than 0.1 % say nothing about the next picture
_SCORE_FLOOR = 1e-3  # of the median: a duplicate's zero has no logarithm
_NOTHING = 1e-12  # where every score is zero
_RATE_FLOOR = 1e-9  # no number of pictures bears less, and t has no quantile there
_CONFIDENCE = 0.9


@dataclass(frozen=True, slots=True)
class Risk:
    """The share of normal pictures over a threshold: asked for, and where it really lies with 90 % confidence."""

    target: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the normals say about the limits. All thresholds `None` (`uncalibrated`) when fewer than two scores exist."""

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


def calibrate(
    scores: Sequence[float], map_peaks: Sequence[float], false_reject_rate: float = 0.01, review_rate: float = 0.05
) -> Calibration:
    """Set both thresholds and the finding limit from held-out scores and the peaks of their maps.

    The bound is exp(m + s·t(k-1, 1-a)·√(1+1/k)): the next normal picture exceeds it with probability a when log scores
    are normal. Raises EnrolmentRefused for rates out of order and scores that are not finite.
    """
    check_rates(false_reject_rate, review_rate)
    given, peaks = np.asarray(scores, float), np.asarray(map_peaks, float)
    if len(given) != len(peaks) or not (np.isfinite(given).all() and np.isfinite(peaks).all()):
        raise EnrolmentRefused("The held-out scores are not finite: these pictures cannot be calibrated.")
    k, kept = len(given), tuple(float(x) for x in given)
    if k < 2 or given.max() <= 0 or peaks.max() <= 0:
        why = "One normal picture gives no held-out score" if k < 2 else "Every held-out score is zero"
        warning = f"{why}: the recipe is uncalibrated and its verdicts are `review` only. Enroll 8 or more different pictures."
        return Calibration(
            Thresholds(None, None), None, k, None, None, false_reject_rate, review_rate, None, None, (warning,), kept
        )
    m, s, floored = log_moments(given)
    peak_m, peak_s, _ = log_moments(peaks)
    try:
        reject, review = (math.exp(m + s * factor(k, a)) for a in (false_reject_rate, review_rate))
        finding_limit = math.exp(peak_m + peak_s * factor(k, review_rate))
    except OverflowError as error:
        message = f"{k} normal pictures cannot bear a false-reject rate of {false_reject_rate:g}: enroll more of them."
        raise EnrolmentRefused(message) from error
    return Calibration(
        Thresholds(review, reject),
        finding_limit,
        k,
        m,
        s,
        false_reject_rate,
        review_rate,
        risk(k, false_reject_rate),
        risk(k, review_rate),
        _warnings(k, floored, risk(k, false_reject_rate)),
        kept,
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


def log_moments(values: NDArray[np.float64]) -> tuple[float, float, bool]:
    """Mean and standard deviation (k - 1) of the logarithms, and whether a floor was needed (zeros, no spread)."""
    floor = _SCORE_FLOOR * float(np.median(values[values > 0])) if (values > 0).any() else _NOTHING
    logs = np.log(np.maximum(values, floor))
    spread = float(logs.std(ddof=1))
    return float(logs.mean()), max(spread, _SPREAD_FLOOR), bool((values < floor).any()) or spread < _SPREAD_FLOOR


def factor(k: int, rate: float) -> float:
    """t(k-1, 1-rate)·√(1+1/k): how many standard deviations the bound lies over the mean."""
    from scipy.special import stdtrit

    return -float(stdtrit(k - 1, rate)) * math.sqrt(1 + 1 / k)  # the lower tail: 1 - rate rounds


def risk(k: int, rate: float) -> Risk:
    """Where the realised rate lies with 90 % confidence, exactly, when log scores are normal and independent.

    The realised rate is 1 - Φ((m + s·g - μ)/σ) with g = factor(k, rate). It is ≤ q with probability
    E[Φ(√k·(S·g - z(1-q)))], S² = χ²(k-1)/(k-1): the tolerance factor's noncentral t, integrated over S's quantiles.
    """
    from scipy.optimize import brentq
    from scipy.special import gammaincinv, ndtr

    levels = (np.arange(4096) + 0.5) / 4096
    spread = np.sqrt(2 / (k - 1) * gammaincinv((k - 1) / 2, levels)) * factor(k, rate)

    def quantile(probability: float) -> float:
        z = brentq(lambda z: float(ndtr(math.sqrt(k) * (spread - z)).mean()) - probability, -10.0, float(spread[-1]) + 10)
        return float(ndtr(-z))

    return Risk(rate, quantile((1 - _CONFIDENCE) / 2), quantile((1 + _CONFIDENCE) / 2))


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
