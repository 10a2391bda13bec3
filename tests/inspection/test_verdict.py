"""Every row of the verdict's table."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from inspection.evidence import InspectionError, Thresholds, Verdict
from inspection.gate import chroma
from inspection.verdict import ThresholdsRefused, check, decide

LIMITS = Thresholds(review=2.0, reject=3.0)
GATE = ("unexpected_size", "unexpected_channels")


@pytest.mark.parametrize(
    ("raw", "thresholds", "gate", "verdict", "reasons"),
    [
        (0.0, LIMITS, (), "pass", ()),
        (1.999, LIMITS, (), "pass", ()),
        (2.0, LIMITS, (), "review", ("over_review_limit",)),
        (2.999, LIMITS, (), "review", ("over_review_limit",)),
        (3.0, LIMITS, (), "reject", ("over_reject_limit",)),
        (99.0, LIMITS, (), "reject", ("over_reject_limit",)),
        (1.0, LIMITS, GATE, "review", GATE),
        (2.5, LIMITS, GATE, "review", ("over_review_limit", *GATE)),
        (3.5, LIMITS, GATE[:1], "reject", ("over_reject_limit", GATE[0])),
        (3.0, Thresholds(3.0, 3.0), (), "reject", ("over_reject_limit",)),
        (2.9, Thresholds(3.0, 3.0), (), "pass", ()),
        (0.1, Thresholds(None, None), (), "review", ("uncalibrated",)),
        (1e9, Thresholds(None, None), GATE, "review", ("uncalibrated", *GATE)),
    ],
)
def test_the_table(raw: float, thresholds: Thresholds, gate: tuple[str, ...], verdict: str, reasons: tuple[str, ...]) -> None:
    assert decide(raw, thresholds, gate) == (Verdict(verdict), reasons)


@pytest.mark.parametrize(
    ("review", "reject"), [(3, 2), (0, 1), (-1, 1), (None, 1), (1, None), (1, math.inf), (math.nan, 1), (1, math.nan)]
)
def test_limits_that_cannot_decide_are_refused(review: float | None, reject: float | None) -> None:
    with pytest.raises(ThresholdsRefused):
        check(Thresholds(review, reject))
    with pytest.raises(ThresholdsRefused):
        decide(1.0, Thresholds(review, reject))


@pytest.mark.parametrize("raw", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_an_error_never_a_verdict(raw: float) -> None:
    with pytest.raises(InspectionError, match="no verdict"):
        decide(raw, LIMITS)


@pytest.mark.parametrize("shape", [(16, 2_000_000, 3), (2_000_000, 16, 3)])
def test_the_gate_looks_at_long_pictures_as_fast_as_at_others(shape: tuple[int, int, int]) -> None:
    pixels = np.zeros(shape, np.uint8)
    pixels[..., 0] = 10
    start = time.perf_counter()
    assert chroma(pixels) == 10.0
    assert time.perf_counter() - start < 0.5  # 3 s when every pixel of a strip was read
