"""Prediction bounds: the score that the next normal picture exceeds with a stated probability, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TAIL_FROM = 16
"""Scores from which on the bound comes from their upper tail alone; fewer say too little of it."""
_TAIL_SHARE = 0.25
_SPREAD_FLOOR = 1e-3  # log units: scores closer together than 0.1 % say nothing about the next picture
_SCORE_FLOOR = 1e-3  # of the median: a duplicate's zero has no logarithm
_NOTHING = 1e-12  # where every score is zero
_CONFIDENCE = 0.9


@dataclass(frozen=True, slots=True)
class Risk:
    """The share of normal pictures over a threshold: asked for, and where it really lies with 90 % confidence."""

    target: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Sample:
    """The logarithms of some scores, ascending."""

    logs: NDArray[np.float64]
    floored: bool
    """Some score was zero, or all were alike, and a floor stood in."""

    @property
    def mean(self) -> float:
        """Mean of the log scores."""
        return float(self.logs.mean())

    @property
    def spread(self) -> float:
        """Their standard deviation (k - 1), at least 0.1 %."""
        return max(float(self.logs.std(ddof=1)), _SPREAD_FLOOR)


def sample(values: NDArray[np.float64]) -> Sample:
    """Scores ≥ 0 to their logarithms; at least two."""
    floor = _SCORE_FLOOR * float(np.median(values[values > 0])) if (values > 0).any() else _NOTHING
    logs = np.sort(np.log(np.maximum(values, floor)))
    return Sample(logs, bool((values < floor).any()) or float(logs.std(ddof=1)) < _SPREAD_FLOOR)


def bound(scores: Sample, rate: float) -> float:
    """The score that the next normal picture exceeds with probability `rate`.

    From 16 scores on: the largest quarter. Their logarithms' excesses over the next smaller one, u, are taken as exponential
    with mean β, as the upper tail of scores is in extreme value theory (Hill 1975): u + nβ·((p/a)^(1/n) - 1), p = (n+1)/(k+1).
    Fewer scores, or a rate inside the bulk: the log-normal bound m + s·t(k-1, 1-a)·√(1+1/k). Both hold exactly, on average
    over samples, where their assumption does. `inf` where the numbers end.
    """
    k, n = len(scores.logs), tail(len(scores.logs), rate)
    if n is None:
        log_bound = scores.mean + scores.spread * factor(k, rate)
    else:
        u = float(scores.logs[-n - 1])
        beta = max(float((scores.logs[-n:] - u).mean()), _SPREAD_FLOOR)
        log_bound = u + n * beta * _reach(k, n, rate)
    return math.exp(log_bound) if log_bound < 700 else math.inf


def tail(k: int, rate: float) -> int | None:
    """How many of `k` scores the tail bound rests on; `None`: the log-normal bound is used."""
    n = round(_TAIL_SHARE * k)
    return n if k >= TAIL_FROM and rate < (n + 1) / (k + 1) else None


def factor(k: int, rate: float) -> float:
    """t(k-1, 1-rate)·√(1+1/k): how many standard deviations the log-normal bound lies over the mean."""
    from scipy.special import stdtrit

    return -float(stdtrit(k - 1, rate)) * math.sqrt(1 + 1 / k)  # the lower tail: 1 - rate rounds


def risk(k: int, rate: float) -> Risk:
    """Where the realised rate of `bound` lies with 90 % confidence over samples of `k`, exactly where its assumption holds."""
    n = tail(k, rate)
    low, high = _risk_log_normal(k, rate) if n is None else _risk_tail(k, n, rate)
    return Risk(rate, low, high)


def _reach(k: int, n: int, rate: float) -> float:
    return float(((n + 1) / (k + 1) / rate) ** (1 / n) - 1)


def _risk_tail(k: int, n: int, rate: float) -> tuple[float, float]:
    """The realised rate is P·exp(-S·reach): P ~ Beta(n+1, k-n), the share over u, and S ~ Gamma(n), independent (Rényi 1953)."""
    from scipy.special import betaincinv, gammaincinv

    levels = (np.arange(512) + 0.5) / 512
    share, sums = betaincinv(n + 1, k - n, levels), gammaincinv(n, levels)
    rates = share[:, None] * np.exp(-sums * _reach(k, n, rate))
    low, high = np.quantile(rates, ((1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2))
    return float(low), float(high)


def _risk_log_normal(k: int, rate: float) -> tuple[float, float]:
    """The realised rate is 1 - Φ((m + s·g - μ)/σ) with g = factor(k, rate). It is ≤ q with probability
    E[Φ(√k·(S·g - z(1-q)))], S² = χ²(k-1)/(k-1): the tolerance factor's noncentral t, integrated over S's quantiles."""
    from scipy.optimize import brentq
    from scipy.special import gammaincinv, ndtr

    levels = (np.arange(4096) + 0.5) / 4096
    spread = np.sqrt(2 / (k - 1) * gammaincinv((k - 1) / 2, levels)) * factor(k, rate)

    def quantile(probability: float) -> float:
        z = brentq(lambda z: float(ndtr(math.sqrt(k) * (spread - z)).mean()) - probability, -10.0, float(spread[-1]) + 10)
        return float(ndtr(-z))

    return quantile((1 - _CONFIDENCE) / 2), quantile((1 + _CONFIDENCE) / 2)
