"""The input gate: what it must catch, what it must let be, and how little it may know."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_parts import part, png
from hypothesis import example, given
from hypothesis import strategies as st

from inspection.drawn import DEFECTS, drawn
from inspection.evidence import Thresholds, Verdict
from inspection.gate import Gate, Look, gate, look, typical, widened
from inspection.image import decode
from inspection.inspector import Inspector
from inspection.recipe import Recipe

FAMILIES = range(4)


def seen(pixels: np.ndarray) -> Look:
    return look(decode(png(np.clip(pixels, 0, 255).astype(np.uint8))))


@pytest.fixture(scope="module")
def gates() -> list[Gate]:
    return [gate([seen(drawn(family, n)[0]) for n in range(12)]) for family in FAMILIES]


def test_sound_and_defective_parts_are_let_be(gates: list[Gate]) -> None:
    for family in FAMILIES:
        for n in range(20):
            assert gates[family].reasons(seen(drawn(family, 100 + n)[0])) == ()
        for n, defect in enumerate(DEFECTS):
            assert gates[family].reasons(seen(drawn(family, 200 + n, defect)[0])) == ()


@pytest.mark.parametrize("family", FAMILIES)
def test_blur_and_bad_light_are_caught_by_name(gates: list[Gate], family: int) -> None:
    pixels = drawn(family, 50)[0].astype(np.float32)
    for sigma in (1.0, 2.0, 4.0):
        assert gates[family].reasons(seen(cv2.GaussianBlur(pixels, (0, 0), sigma))) == ("blurred",)
    assert gates[family].reasons(seen(pixels * 0.5)) == ("exposure",)
    assert "exposure" in gates[family].reasons(seen(pixels * 2))
    assert "exposure" in gates[family].reasons(seen(np.full_like(pixels, 2.0)))  # the lens cap


def test_blur_is_told_apart_from_darkness_and_at_any_size(gates: list[Gate]) -> None:
    pixels = drawn(0, 50)[0]
    assert gates[0].reasons(seen(pixels * 0.85)) == ()
    assert gates[0].reasons(seen(cv2.GaussianBlur(pixels, (0, 0), 2) * 0.5)) == ("exposure", "blurred")
    large = [seen(drawn(0, n, size=1024)[0]) for n in range(6)]
    assert gate(large).reasons(seen(drawn(0, 9, size=1024)[0])) == ()
    assert gate(large).reasons(seen(cv2.GaussianBlur(drawn(0, 9, size=1024)[0], (0, 0), 8))) == ("blurred",)


def test_white_where_the_normals_have_none(gates: list[Gate]) -> None:
    pixels = drawn(2, 50)[0].copy()
    pixels[:64] = 255  # a lamp's reflection over a quarter: the mean alone hardly moves
    one = replace(gates[2], brightness_max=255.0, sharpness_min=None)
    assert one.reasons(seen(pixels)) == ("exposure",)


def test_few_normals_make_it_wide_and_two_blind() -> None:
    looks = [seen(drawn(3, n)[0]) for n in range(16)]
    widths = []
    for k in (3, 5, 8, 16):
        found = gate(looks[:k])
        assert found.brightness_min is not None and found.brightness_max is not None
        widths.append(np.log(found.brightness_max / found.brightness_min))
    assert widths[0] > 2 * widths[3] and widths[1] > widths[3]
    blind = gate(looks[:2], [1.0, 1.1])
    assert [name for name, limit in asdict(blind).items() if limit is None] == [
        "brightness_min", "brightness_max", "dark_max", "bright_max", "sharpness_min", "fineness_min", "typical_max",
    ]  # fmt: skip
    assert blind.reasons(seen(np.zeros((256, 256, 3)))) == ("unexpected_channels",)


def test_the_typical_distance_by_hand() -> None:
    patches = np.array([[0, 1, 2], [3, 0, 90]], np.float32)  # 0: outside the region
    assert typical(patches) == 2.5 and typical(np.zeros((2, 2), np.float32)) == 0.0
    looks = [seen(drawn(3, n)[0]) for n in range(3)]
    limit = gate(looks, [1.0, 2.0, 4.0]).typical_max
    step, reach = np.log(2), 22.3271 * np.sqrt(4 / 3)  # t(2, .999), from a table
    assert limit == pytest.approx(np.exp(step + reach * step + 0.2), rel=1e-4)
    known = gate(looks, [1.0] * 9)
    assert known.typical_max == pytest.approx(np.exp(0.2))
    assert known.distance_reasons(np.full((4, 4), 1.2, np.float32)) == ()
    assert known.distance_reasons(np.full((4, 4), 1.3, np.float32)) == ("unlike_every_normal",)
    assert gate(looks).distance_reasons(np.full((4, 4), 1e9, np.float32)) == ()


@given(st.integers(16, 40), st.integers(16, 400), st.booleans(), st.integers(0, 255))
@example(16, 17, False, 252)
def test_every_shape_has_a_look(short: int, long: int, tall: bool, grey: int) -> None:
    height, width = (long, short) if tall else (short, long)
    found = seen(np.full((height, width, 3), grey))
    assert (found.width, found.height) == (width, height) and found.brightness == pytest.approx(grey + 1, rel=1e-4)
    assert found.sharpness > 0 and found.fineness > 0 and (found.dark, found.bright) == (grey <= 3, grey >= 252)
    assert gate([found] * 3, [0.0] * 3).reasons(found) == ()


def test_further_normals_widen_it_as_far_as_they_lie() -> None:
    first, bright = ([seen(drawn(3, n)[0] * light) for n in range(12)] for light in (0.5, 1.0))
    known = gate(first, [1.0] * 12)
    assert known.reasons(bright[0]) == ("exposure",)
    wider = widened(known, bright[:1], [1.5])
    assert all(wider.reasons(one) == () for one in [*first, *bright]) and wider.typical_max == pytest.approx(1.5 * np.exp(0.2))
    assert wider.brightness_min == known.brightness_min and "exposure" in wider.reasons(seen(drawn(3, 1)[0] * 1.9))
    assert widened(known, first[:3]) == replace(known)
    assert widened(gate(first[:2]), first).brightness_max == known.brightness_max


def test_another_product_is_unlike_every_normal_and_stays_rejected(made: tuple[Path, Recipe]) -> None:
    inspector = Inspector.load(made[0])
    assert inspector.inspect(part(60)).reasons == () and inspector.inspect(part(60, "stain")).reasons == ("over_reject_limit",)
    for other in (0, 1, 2):
        found = inspector.inspect(part(60, product=other))
        assert found.verdict is Verdict.REJECT and "unlike_every_normal" in found.reasons
    generous = replace(inspector.recipe.calibration, thresholds=Thresholds(1e6, 1e7))
    passed = Inspector(replace(inspector.recipe, calibration=generous), inspector._expert).inspect(part(60, product=0))
    assert passed.verdict is Verdict.REVIEW and passed.reasons[-1] == "unlike_every_normal" and passed.findings == ()
