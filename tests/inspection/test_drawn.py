"""Drawn parts: the same each time, varied between parts, and masks that are exactly what was changed."""

from __future__ import annotations

import numpy as np
import pytest

from inspection.drawn import DEFECTS, FAMILIES, drawn, spoil


@pytest.mark.parametrize("product", range(4))
def test_parts_are_deterministic_and_varied(product: int) -> None:
    one, none = drawn(product, 0, size=96)
    assert none is None and one.shape == (96, 96, 3) and one.dtype == np.uint8
    np.testing.assert_array_equal(one, drawn(product, 0, size=96)[0])
    assert 0 < np.abs(one.astype(int) - drawn(product, 1, size=96)[0]).mean() < 25
    assert np.abs(one.astype(int) - drawn(product + len(FAMILIES), 0, size=96)[0]).mean() > 1


@pytest.mark.parametrize("defect", DEFECTS)
def test_the_mask_is_what_changed(defect: str) -> None:
    sound, _ = drawn(2, 5, size=128)
    spoilt, mask = drawn(2, 5, defect, size=128)
    assert mask is not None and mask.shape == (128, 128) and 0.0005 < mask.mean() < 0.1
    change = np.abs(spoilt.astype(int) - sound).max(2)
    import cv2

    near = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    assert change[~near].mean() < 2 and change[mask].mean() > 8


def test_an_unknown_defect_is_an_error() -> None:
    with pytest.raises(ValueError, match="no defect"):
        spoil(np.zeros((32, 32, 3)), "rust", np.random.default_rng(0))
