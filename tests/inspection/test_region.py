"""Regions: masks and polygons read, refused, kept; what lies outside changes neither score nor verdict."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_parts import part, png
from hypothesis import given
from hypothesis import strategies as st

from inspection import region
from inspection.enrolment import enroll
from inspection.evidence import EnrolmentRefused, ImageTooLarge, ImageUnusable, NotAnImage, Verdict
from inspection.heatmap import heatmap_png, overlay_png
from inspection.image import Limits, decode
from inspection.inspector import Inspector
from inspection.options import EnrolOptions
from inspection.recipe import region as region_of


def test_a_mask_is_light_where_to_look() -> None:
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:, 30:] = (0, 130, 0)
    picture[:, 20:30] = 120
    mask = region.from_picture(png(picture))
    assert mask.shape == (40, 60) and (mask[:, 30:] == 255).all() and not mask[:, :30].any()
    np.testing.assert_array_equal(region.from_picture(region.png(mask)), mask)
    said = region.described(mask)
    assert (said["width"], said["height"], said["share"]) == (60, 40, 0.5)
    with pytest.raises(ImageUnusable, match="empty"):
        region.from_picture(png(np.zeros((40, 60, 3), np.uint8)))
    with pytest.raises(NotAnImage):
        region.from_picture(b"text")
    with pytest.raises(ImageTooLarge):
        region.from_picture(png(picture), Limits(max_pixels=2000))


@given(x=st.integers(0, 30), y=st.integers(0, 20), wide=st.integers(1, 20), high=st.integers(1, 15))
def test_a_rectangle_holds_the_pixels_between_its_corners(x: int, y: int, wide: int, high: int) -> None:
    corners = [(x, y), (x + wide, y), (x + wide, y + high), (x, y + high)]
    inside = np.zeros((40, 60), bool)
    inside[y : y + high + 1, x : x + wide + 1] = True
    np.testing.assert_array_equal(region.from_polygons([corners], [], 60, 40) > 0, inside)
    np.testing.assert_array_equal(region.from_polygons([], [corners], 60, 40) > 0, ~inside)


def test_polygons_that_leave_nothing_or_are_too_large_are_refused() -> None:
    everything = [(-5.0, -5.0), (100.0, -5.0), (100.0, 100.0), (-5.0, 100.0)]
    with pytest.raises(ImageUnusable, match="empty"):
        region.from_polygons([], [everything], 60, 40)
    with pytest.raises(ImageTooLarge, match="100,000,000"):
        region.from_polygons([], [], 50_000, 50_000)


@pytest.fixture(scope="module")
def halved(normals: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe that looks at the left half of the parts alone."""
    folder = tmp_path_factory.mktemp("regional") / "r"
    side = decode(normals[0]).width
    mask = region.from_polygons([], [[(side / 2, 0), (side, 0), (side, side), (side / 2, side)]], side, side)
    options = EnrolOptions(backbone="efficientnet_lite0", image_size=128, coreset=400)
    made = enroll(normals, folder, product="half", options=options, region=mask)
    assert made.options["region"] == region.described(mask)
    return folder


def spoilt(data: bytes, left: bool) -> bytes:
    pixels = decode(data).pixels.copy()
    side = pixels.shape[1]
    cv2.circle(pixels, (round(side * (0.3 if left else 0.8)), side // 2), side // 12, (255, 0, 255), -1)
    return png(pixels)


def test_what_lies_outside_changes_nothing_and_what_lies_inside_does(halved: Path) -> None:
    inspector = Inspector.load(halved)
    sound = part(300)
    clean, outside, inside = (inspector.inspect(one) for one in (sound, spoilt(sound, False), spoilt(sound, True)))
    assert inside.verdict is Verdict.REJECT and inside.raw_score > 1.5 * clean.raw_score
    assert all(finding.bbox[0] + finding.bbox[2] <= inside.width / 2 + 2 for finding in inside.findings)
    assert outside.verdict is clean.verdict and outside.raw_score == pytest.approx(clean.raw_score, rel=1e-5)
    for outcome in (clean, outside, inside):
        assert not outcome.map[:, 65:].any() and outcome.map[:, :60].min() > 0


def test_people_see_what_was_not_looked_at(halved: Path) -> None:
    inside = region_of(halved)
    assert inside is not None and inside.shape == (128, 128)
    outcome = Inspector.load(halved).inspect(part(301))
    picture = np.full((256, 256, 3), 200, np.uint8)
    shown = decode(overlay_png(picture, outcome.map, (), 1e9, region=inside)).pixels
    assert (shown[9:-9, 9:120] == 200).all() and (shown[:, 136:] == 66).all() and (shown[:, 120:136] == 255).any()
    heat = decode(heatmap_png(outcome.map, 1e9, (256, 256), inside)).pixels
    assert (heat[:, 120:136] == 255).any() and (heat[:, 200] < 20).all()


def test_the_whole_picture_has_no_region(made: tuple[Path, object]) -> None:
    assert region_of(made[0]) is None


def test_a_mask_of_another_size_is_refused_with_both(normals: list[bytes], tmp_path: Path) -> None:
    side = decode(normals[0]).width
    with pytest.raises(EnrolmentRefused, match=rf"mask is 70 × 50 pixels; the pictures are {side} × {side}"):
        enroll(normals[:3], tmp_path / "r", product="x", region=np.full((50, 70), 255, np.uint8))
    speck = np.zeros((side, side), np.uint8)
    speck[0, 0] = 255
    with pytest.raises(EnrolmentRefused, match="no patch"):
        enroll(normals[:3], tmp_path / "r", product="x", region=speck)
    assert list(tmp_path.iterdir()) == []
