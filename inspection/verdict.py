"""A raw score, two limits and the gate's reasons to one verdict. Pure: no picture, no clock, no state."""

from __future__ import annotations

import math
from collections.abc import Sequence

from inspection.evidence import InspectionError, Thresholds, Verdict


class ThresholdsRefused(InspectionError):
    """Limits that cannot decide: not finite, not positive, or review over reject."""

    code = "thresholds_refused"


def decide(raw: float, thresholds: Thresholds, gate_reasons: Sequence[str] = ()) -> tuple[Verdict, tuple[str, ...]]:
    """`raw >= reject` rejects, `review <= raw < reject` asks a person, less passes unless the gate has a reason.

    A gate reason turns a pass into a review, never into a reject, and never hides a reject. A limit that is `None` is not
    known: without both, `uncalibrated`. Raises ThresholdsRefused and, for a raw score that is not finite, InspectionError.
    """
    if not math.isfinite(raw):
        raise InspectionError(f"The raw score is {raw}: no verdict.")
    check(thresholds)
    review, reject = thresholds.review, thresholds.reject
    gate = tuple(gate_reasons)
    if review is None or reject is None:
        return Verdict.REVIEW, ("uncalibrated", *gate)
    if raw >= reject:
        return Verdict.REJECT, ("over_reject_limit", *gate)
    if raw >= review:
        return Verdict.REVIEW, ("over_review_limit", *gate)
    return (Verdict.REVIEW, gate) if gate else (Verdict.PASS, ())


def check(thresholds: Thresholds) -> None:
    """Raise ThresholdsRefused unless 0 < review ≤ reject, both finite; both `None` is allowed."""
    review, reject = thresholds.review, thresholds.reject
    if review is None and reject is None:
        return
    if review is None or reject is None:
        raise ThresholdsRefused("Give both limits, or neither.", review=review, reject=reject)
    if not (math.isfinite(reject) and 0 < review <= reject):
        raise ThresholdsRefused(f"Limits must hold 0 < review ({review:g}) ≤ reject ({reject:g}).", review=review, reject=reject)
