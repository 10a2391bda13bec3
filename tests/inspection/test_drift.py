"""Drift: what is promised about false alarms and delay, by simulation; and that defects, reviews and few parts do not mislead."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from inspection.calibration import calibrate
from inspection.drift import Drift, Promise, State, drift, ranks


def promise(held_out: np.ndarray) -> Promise:
    return Promise.of(asdict(calibrate(held_out, held_out)))


def recipe(rng: np.random.Generator, k: int = 100) -> Promise:
    return promise(np.exp(0.1 * rng.normal(size=k)))


def parts(rng: np.random.Generator, n: int, shift: float = 0.0, defects: float = 0.0, at: float = 3.0) -> np.ndarray:
    """Raw scores of `n` parts: sound ones moved by `shift` standard deviations, a share defective `at` so many over."""
    place = np.where(rng.random(n) < defects, at, shift)
    return np.exp(0.1 * (rng.normal(size=n) + place))


def judged(card: Promise, scores: np.ndarray, decisions: list[bool | None] | None = None) -> Drift:
    return drift(card, scores.tolist(), [None] * len(scores) if decisions is None else decisions)


def alarms(card: Promise, scores: np.ndarray, every: int = 50) -> int:
    """How often looking again and again at the growing stream turns to `drifting`."""
    states = [judged(card, scores[:n]).state is State.DRIFTING for n in range(every, len(scores) + 1, every)]
    return int(np.sum(np.diff([False, *states]) > 0))


@pytest.mark.parametrize(("k", "defects", "most"), [(16, 0.0, 0.2), (100, 0.2, 0.3), (300, 0.0, 0.2)])
def test_false_alarms_per_thousand_parts_though_looked_at_every_50(k: int, defects: float, most: float) -> None:
    rng = np.random.default_rng(k)
    found = [alarms(recipe(rng, k), parts(rng, 1000, defects=defects)) for _ in range(40)]
    assert sum(found) / 40 <= most


@pytest.mark.parametrize(("k", "shift", "within"), [(300, 0.5, 400), (100, 1.0, 200), (32, 1.5, 200)])
def test_a_shift_is_seen_within_so_many_parts(k: int, shift: float, within: int) -> None:
    rng = np.random.default_rng(k)
    seen = [judged(recipe(rng, k), np.append(parts(rng, 300), parts(rng, within, shift))) for _ in range(30)]
    late = [one for one in seen if one.state is State.DRIFTING]
    assert len(late) >= 0.9 * len(seen) and "scores_shifted" in late[0].signals
    assert np.median([one.since or 0 for one in late]) == pytest.approx(300, abs=40)
    assert np.median([one.shift or 0 for one in late]) == pytest.approx(shift, abs=0.25)


def test_too_few_normals_or_parts_are_said() -> None:
    rng = np.random.default_rng(0)
    few, enough = recipe(rng, 7), recipe(rng, 8)
    assert judged(few, parts(rng, 500)).state is State.TOO_FEW and "more normal" in judged(few, parts(rng, 500)).advice
    assert judged(promise(np.array([1.0, 2.0])), parts(rng, 500)).review is None
    assert judged(enough, parts(rng, 29)).state is State.TOO_FEW
    assert judged(enough, parts(rng, 200)).state is State.STEADY
    nothing = judged(enough, np.array([]))
    assert (nothing.state, nothing.parts, nothing.shift, nothing.since) == (State.TOO_FEW, 0, None, None)


def test_a_shift_too_large_to_leave_parts_under_the_limit_is_seen() -> None:
    rng = np.random.default_rng(1)
    found = judged(recipe(rng), np.append(parts(rng, 200), parts(rng, 100, 6.0)))
    assert (found.state, found.since) == (State.DRIFTING, 200) and "most_flagged" in found.signals


def test_confirmed_defects_do_not_count() -> None:
    rng = np.random.default_rng(2)
    card, scores = recipe(rng), np.append(parts(rng, 100), parts(rng, 100, 1.2))
    said: list[bool | None] = [None] * 100 + [False] * 100
    assert judged(card, scores).state is State.DRIFTING
    found = judged(card, scores, said)
    assert found.state is State.STEADY and found.review is not None and found.review.parts == 100
    assert judged(card, parts(rng, 100, 6.0), [False] * 100).state is State.TOO_FEW


def test_it_recovers_when_the_line_does() -> None:
    rng = np.random.default_rng(3)
    card, moved = recipe(rng), parts(rng, 1000, 1.5)
    assert judged(card, moved).state is State.DRIFTING
    assert judged(card, np.append(moved, parts(rng, 400))).state is State.STEADY


def test_rates_stand_between_what_was_confirmed_and_what_is_open() -> None:
    rng = np.random.default_rng(4)
    card = recipe(rng)
    over, under = card.thresholds.review or 0, 0.9
    scores = np.array([over] * 10 + [under] * 90)
    found = judged(card, scores, [True] * 4 + [False] * 2 + [None] * 94)
    rate = found.review
    assert rate is not None and (rate.parts, rate.confirmed, rate.open) == (98, 4, 4)
    assert rate.low == pytest.approx(beta.ppf(0.05, 4, 95)) and rate.high == pytest.approx(beta.ppf(0.95, 9, 90))
    assert rate.promised == card.review and found.reject is not None and found.reject.low == 0.0
    broken = judged(card, np.array([over] * 40 + [under] * 100), [True] * 140)
    assert broken.signals == ("rate_exceeded",) and broken.since is None and "confirmed good" in broken.advice


def test_the_direction_is_up_only() -> None:
    rng = np.random.default_rng(5)
    found = judged(recipe(rng), parts(rng, 500, -1.0))
    assert found.state is State.STEADY and found.shift == pytest.approx(-1.0, abs=0.3)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.01, 1.0, 300.0]), st.sampled_from([0.5, 1.0, 3.0]))
def test_units_and_power_laws_change_nothing(seed: int, scale: float, power: float) -> None:
    rng = np.random.default_rng(seed)
    held_out, stream = np.exp(0.1 * rng.normal(size=20)), parts(rng, 120, 0.8)
    one, other = (judged(promise(h), s) for h, s in ((held_out, stream), (scale * held_out**power, scale * stream**power)))
    assert (one.state, one.signals, one.since, one.compared) == (other.state, other.signals, other.since, other.compared)
    assert one.shift == pytest.approx(other.shift)


def test_ranks_by_hand() -> None:
    given_ = np.array([0.0, 1.0, 1.5, 9.0])
    assert ranks(np.array([1.0, 1.0, 2.0]), given_) == pytest.approx([0.125, 0.375, 0.625, 0.875])
