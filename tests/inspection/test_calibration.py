"""The limits hold what they promise, by simulation, and say so when they cannot."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspection.bounds import TAIL_FROM, bound, factor, risk, sample, tail
from inspection.calibration import calibrate, margin, score
from inspection.evidence import EnrolmentRefused


def test_the_bound_by_hand() -> None:
    scores = [1.0, 2.0, 4.0, 8.0, 16.0]
    card = calibrate(scores, [2 * s for s in scores], 0.01, 0.05)
    m, s = 2 * math.log(2), math.log(2) * math.sqrt(2.5)
    assert (card.m, card.s, card.n) == (pytest.approx(m), pytest.approx(s), 5)
    root = math.sqrt(1 + 1 / 5)
    assert card.thresholds.reject == pytest.approx(math.exp(m + s * 3.746947 * root))  # t(4, .99), from a table
    assert card.thresholds.review == pytest.approx(math.exp(m + s * 2.131847 * root))  # t(4, .95)
    assert card.finding_limit == pytest.approx(2 * card.thresholds.review)
    assert (card.held_out_scores, card.held_out_peaks) == (tuple(scores), tuple(2 * s for s in scores))


def test_the_tail_bound_by_hand() -> None:
    logs = np.arange(19) / 10  # a quarter of 19 is 5: excesses .1 to .5 over 1.3, their mean .3; the share over it 6/20
    values = np.exp(np.random.default_rng(0).permutation(logs))
    card = calibrate(values, 3 * values, 0.01, 0.05)
    assert card.thresholds.reject == pytest.approx(math.exp(1.3 + 1.5 * ((0.3 / 0.01) ** 0.2 - 1)))
    assert card.thresholds.review == pytest.approx(math.exp(1.3 + 1.5 * ((0.3 / 0.05) ** 0.2 - 1)))
    assert card.finding_limit == pytest.approx(3 * card.thresholds.review)
    assert (card.m, card.s, card.n) == (pytest.approx(0.9), pytest.approx(np.std(logs, ddof=1)), 19)


def test_which_bound_is_used() -> None:
    assert [tail(k, 0.01) for k in (2, 8, TAIL_FROM - 1, TAIL_FROM, 32, 100)] == [None, None, None, 4, 8, 25]
    assert tail(100, 26 / 101 - 1e-6) == 25 and tail(100, 26 / 101) is None  # the rate lies inside the bulk


@pytest.mark.parametrize(
    ("k", "draw"), [(3, "normal"), (8, "normal"), (16, "exponential"), (32, "exponential"), (128, "exponential")]
)
def test_realised_rates_and_their_interval_by_simulation(k: int, draw: str) -> None:
    """Where the assumption holds, the stated rate is realised on average, and the interval covers nine samples of ten."""
    from scipy.special import ndtr

    rng = np.random.default_rng(k)
    logs = rng.normal(1.0, 0.3, (4000, k)) if draw == "normal" else 1.0 + rng.exponential(0.3, (4000, k))
    for rate in (0.01, 0.05):
        limits = np.log([bound(sample(np.exp(row)), rate) for row in logs])
        realised = ndtr(-(limits - 1.0) / 0.3) if draw == "normal" else np.exp(-(limits - 1.0) / 0.3)
        assert realised.mean() == pytest.approx(rate, rel=0.1)
        stated = risk(k, rate)
        assert (realised < stated.low).mean() == pytest.approx(0.05, abs=0.015)
        assert (realised > stated.high).mean() == pytest.approx(0.05, abs=0.015)
        assert stated.low < rate and stated.target == rate


@pytest.mark.parametrize("k", [16, 64, 256])
def test_the_tail_bound_errs_to_the_careful_side_for_normal_logarithms(k: int) -> None:
    rng = np.random.default_rng(k)
    fresh = np.exp(rng.normal(size=20_000))
    over = [(fresh > bound(sample(np.exp(rng.normal(size=k))), 0.01)).mean() for _ in range(300)]
    assert 0.002 < np.mean(over) < 0.011


def test_the_smallest_rates_are_borne_or_refused() -> None:
    few = np.exp(np.random.default_rng(0).normal(1, 0.1, 12))
    card, log_limit = calibrate(few, few, 1e-9), factor(12, 1e-9)
    assert card.thresholds.reject == pytest.approx(math.exp(card.m + card.s * log_limit))
    assert factor(400, 1e-9) == pytest.approx(6.1472, abs=1e-3)  # t(399, 1 - 1e-9)·√(1+1/400)
    assert 0 <= card.reject_risk.low <= card.reject_risk.high < 1e-6
    with pytest.raises(EnrolmentRefused, match="enroll more"):
        calibrate([1.0, 2.0, 9.0], [1.0, 2.0, 9.0], 1e-9)
    for rate in (1e-17, 1e-300):  # 1 - rate is 1: the limit would be infinite
        with pytest.raises(EnrolmentRefused, match="Rates"):
            calibrate(few, few, rate)


def test_moments_of_nothing_but_zeros() -> None:
    nothing = sample(np.zeros(3))
    assert math.isfinite(nothing.mean) and nothing.spread > 0 and nothing.floored


def test_more_pictures_narrow_the_interval() -> None:
    widths = [risk(k, 0.01).high - risk(k, 0.01).low for k in (8, 32, 128, 512)]
    assert widths == sorted(widths, reverse=True) and widths[-1] < 0.02


def test_review_lies_under_reject_and_both_rise_as_rates_fall() -> None:
    scores = list(np.exp(np.random.default_rng(0).normal(size=12)))
    strict, loose = calibrate(scores, scores, 0.02, 0.1), calibrate(scores, scores, 0.001, 0.1)
    assert strict.thresholds.review < strict.thresholds.reject < loose.thresholds.reject
    assert strict.thresholds.review == loose.thresholds.review
    same = calibrate(scores, scores, 0.05, 0.05).thresholds
    assert same.review == same.reject


@pytest.mark.parametrize(("reject", "review"), [(0.05, 0.01), (0, 0.05), (0.01, 0.5), (-0.1, 0.1), (float("nan"), 0.1)])
def test_rates_out_of_order_are_refused(reject: float, review: float) -> None:
    with pytest.raises(EnrolmentRefused, match="Rates"):
        calibrate([1.0, 2.0], [1.0, 2.0], reject, review)


def test_too_few_pictures_are_warned_of_by_degree() -> None:
    values = list(np.linspace(1, 2, 40))
    strong, mild, none = (calibrate(values[:k], values[:k]).warnings for k in (7, 31, 32))
    assert "guess" in strong[0] and "wide" in mild[0] and none == ()


@pytest.mark.parametrize("scores", [[], [3.0], [3.0, 3.1], [0.0, 0.0, 0.0]])
def test_without_a_held_out_score_the_recipe_is_uncalibrated(scores: list[float]) -> None:
    card = calibrate(scores, scores)
    assert card.thresholds.reject is card.thresholds.review is card.finding_limit is card.reject_risk is None
    assert "uncalibrated" in card.warnings[0]


def test_zeros_and_equal_scores_have_a_floor() -> None:
    alike = calibrate([2.0] * 40, [2.0] * 40)
    assert 2.0 < alike.thresholds.review < alike.thresholds.reject < 2.02 and "alike" in alike.warnings[0]
    copies = calibrate([0.0, 2.0, 2.1, 1.9], [0.0, 2.0, 2.1, 1.9])
    assert math.isfinite(copies.thresholds.reject) and any("zero" in w for w in copies.warnings)


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(EnrolmentRefused, match="finite"):
        calibrate([1.0, 2.0, float("nan")], [1.0, 2.0, 1.0])
    with pytest.raises(EnrolmentRefused, match="cannot bear"):
        calibrate([1e-3, 1.0, 1e3], [1e-3, 1.0, 1e3], 1e-9, 0.01)


@given(st.floats(1e-6, 1e6), st.floats(0, 1e6), st.floats(0, 1e6))
def test_the_calibrated_score_is_half_at_the_limit_and_rises(reject: float, one: float, other: float) -> None:
    assert score(reject, reject) == 0.5 and margin(reject, reject) == 0
    low, high = sorted((one, other))
    assert 0 <= score(low, reject) <= score(high, reject) <= 1
    if high - low > 1e-6 * max(high, reject) and high < 1e3 * reject:  # floats nearer to each other round alike
        assert score(low, reject) < score(high, reject) < 1
        assert margin(low, reject) < margin(high, reject)
    assert (score(one, reject) >= 0.5) == (one >= reject) == (margin(one, reject) >= 0) or abs(one / reject - 1) < 1e-12


def test_uncalibrated_has_neither_score_nor_margin() -> None:
    assert score(3.0, None) is None and margin(3.0, None) is None
    assert score(3.0, 1.0) == 0.75 and margin(3.0, 1.0) == 2.0
