"""Painted defects: exact masks, on the part, the same for the same seed, for any picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspection.defects import KINDS, LEVELS, SIZES, doctor
from inspection.drawn import drawn
from inspection.part import part

DISC, WEAVE, PLATE, CAP = range(4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("product", [DISC, WEAVE])
def test_a_defect_changes_what_its_mask_says_and_nothing_else(kind: str, product: int) -> None:
    picture = drawn(product, 0)[0]
    before = picture.copy()
    for seed in range(3):
        spoilt, mask = doctor(picture, kind, np.random.default_rng(seed))
        step = np.abs(spoilt.astype(int) - picture).max(-1)
        assert (picture == before).all()
        assert not step[~mask].any()
        assert (step[mask] >= LEVELS).mean() > 0.5  # the rest are gaps closed
        again = doctor(picture, kind, np.random.default_rng(seed))
        assert (again[0] == spoilt).all() and (again[1] == mask).all()
    assert (doctor(picture, kind, np.random.default_rng(99))[0] != spoilt).any()


@settings(max_examples=25, deadline=None)
@given(
    st.integers(64, 200),
    st.integers(64, 200),
    st.sampled_from(KINDS),
    st.integers(0, 2**32),
    st.sampled_from(["flat", "noise", "ramp"]),
)
def test_any_picture_takes_any_defect(height: int, width: int, kind: str, seed: int, surface: str) -> None:
    rng = np.random.default_rng(seed)
    picture = np.full((height, width, 3), int(rng.integers(256)), np.uint8)
    if surface == "noise":
        picture = rng.integers(0, 256, (height, width, 3), np.uint8)
    if surface == "ramp":
        picture[:] = np.linspace(0, 255, width).astype(np.uint8)[:, None]
    spoilt, mask = doctor(picture, kind, rng)
    assert spoilt.shape == picture.shape and spoilt.dtype == np.uint8 and mask.any()
    assert (spoilt[~mask] == picture[~mask]).all()
    if surface != "noise":
        assert (spoilt[..., :1] == spoilt).all(), "a grey camera sees no colours"


def test_defects_lie_on_the_part_and_in_the_region_asked_for() -> None:
    picture = drawn(CAP, 0)[0]
    body = part(picture)
    region = np.zeros(body.shape, bool)
    region[100:140, 60:110] = True
    near = np.zeros_like(region)
    near[96:144, 56:114] = True
    for seed, kind in enumerate(
        ("scratch", "crack", "stain", "hole", "dent", "missing", "colour", "misprint", "cutpaste", "noise")
    ):
        mask = doctor(picture, kind, np.random.default_rng(seed))[1]
        assert (mask & body).sum() > 0.95 * mask.sum()
        within = doctor(picture, kind, np.random.default_rng(seed), region)[1]
        assert within.any() and not (within & ~near).any()
    nowhere = np.zeros_like(region)
    assert doctor(picture, "spot", np.random.default_rng(0), nowhere)[1].any()


def test_sizes_follow_the_part_and_run_from_small_to_large() -> None:
    picture = np.full((256, 256, 3), 120, np.uint8)
    areas = [np.sqrt(doctor(picture, "hole", np.random.default_rng(seed))[1].sum() / np.pi) / 256 for seed in range(60)]
    low, high = SIZES["hole"]
    assert np.quantile(areas, 0.1) < 1.6 * low and np.quantile(areas, 0.9) > 0.6 * high
    twice = np.sqrt(doctor(np.full((512, 512, 3), 120, np.uint8), "hole", np.random.default_rng(3))[1].sum() / np.pi) / 512
    assert twice == pytest.approx(areas[3], rel=0.15)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="there are scratch, crack"):
        doctor(drawn(DISC, 0)[0], "rust", np.random.default_rng(0))


@pytest.mark.parametrize("product", [DISC, PLATE, CAP])
def test_the_part_is_told_from_an_even_ground(product: int) -> None:
    picture = drawn(product, 1)[0]
    found = part(picture)
    middle = np.hypot(*(np.mgrid[0:256, 0:256] - 127.5)) < 100
    assert found[middle].all() and 0.5 < found.mean() < 0.85 and not found[0].any() and not found[:, -1].any()


def test_in_doubt_the_whole_picture_is_the_part() -> None:
    tracks = np.full((200, 200, 3), 255, np.uint8)
    tracks[40:60, 20:180] = tracks[40:160, 20:40] = 0  # an L: half of its convex outline is ground
    for picture in (drawn(WEAVE, 0)[0], np.zeros((64, 64, 3), np.uint8), tracks):
        assert part(picture).all()
