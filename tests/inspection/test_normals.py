"""The normals of an enrolment: twins found, other parts let be, odd ones named by rank."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_parts import part, png

from inspection.drawn import drawn
from inspection.image import Limits, decode
from inspection.normals import Normal, checked, distinct, odd, twins


def read(pictures: list[bytes], names: list[str] | None = None) -> list[Normal]:
    return checked(pictures, names, Limits(), lambda *_: None, lambda: None)


def thumbs(pictures: list[bytes]) -> list[np.ndarray]:
    return [normal.thumb for normal in read(pictures)]


@pytest.mark.parametrize("family", range(4))
def test_a_part_taken_or_encoded_twice_is_a_twin_and_no_other_part_is(family: int) -> None:
    rng = np.random.default_rng(family)
    parts = [drawn(family, n)[0] for n in range(20)]
    assert twins(thumbs([png(one) for one in parts])) == []
    one = parts[3].astype(np.float32)
    again = [
        cv2.imencode(".jpg", parts[3][..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 70])[1].tobytes(),
        png(np.clip(one + rng.normal(0, 3, one.shape), 0, 255).astype(np.uint8)),
        png(np.clip(1.01 * one, 0, 255).astype(np.uint8)),
    ]
    for copy in again:
        assert twins(thumbs([*(png(p) for p in parts), copy])) == [(3, 20)]
    shifted = png(np.roll(parts[3], 4, 1))
    assert twins(thumbs([png(parts[3]), shifted])) == []


def test_even_surfaces_are_no_twins() -> None:
    rng = np.random.default_rng(0)
    grey = [png(np.clip(rng.normal(128, 4, (128, 128, 3)), 0, 255).astype(np.uint8)) for _ in range(4)]
    assert twins(thumbs(grey)) == []
    assert twins(thumbs([png(np.full((64, 64, 3), value, np.uint8)) for value in (90, 90, 91)])) == []
    assert twins([]) == twins(thumbs(grey[:1])) == []


def test_twins_are_named_with_what_they_mean(tmp_path: Path) -> None:
    one = decode(part(1)).pixels
    jpeg = cv2.imencode(".jpg", one[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
    normals, (warning,) = distinct(read([part(0), part(1), jpeg], ["a", "b", "c"]))
    assert len(normals) == 3 and warning.startswith("Nearly the same") and "c ≈ b" in warning and "too tight" in warning


def test_one_huge_picture_among_small_ones_is_said() -> None:
    huge = png(cv2.resize(drawn(3, 9)[0], (900, 900)))
    _, (sizes, outsized) = distinct(read([*(part(n) for n in range(4)), huge], [*"abcd", "huge"]))
    assert "2 sizes" in sizes and outsized.endswith("huge (900 × 900).")
    _, (alone,) = distinct(read([part(0), png(cv2.resize(drawn(3, 1)[0], (300, 300)))]))
    assert "2 sizes" in alone


def test_odd_ones_are_named_by_rank_though_they_hide_each_other() -> None:
    rng = np.random.default_rng(0)
    normals = [Normal(f"n{i}", b"", "", "", None, None) for i in range(10_000)]  # type: ignore[arg-type]
    scores = np.exp(0.1 * rng.normal(size=100))
    assert odd(normals, scores) == [] and odd(normals, scores[:3]) == [] and odd(normals, []) == []
    scores[[7, 70, 40]] = [4.0, 5.0, 4.5]
    (warning,) = odd(normals, scores)
    assert "among 100 normals" in warning and "1. n70 (score 5), 2. n40 (score 4.5), 3. n7 (score 4)." in warning
    many = np.exp(0.1 * rng.normal(size=10_000))
    assert odd(normals, many) == []
    many[:30] = 9.0
    assert "and 20 more" in odd(normals, many)[0]
