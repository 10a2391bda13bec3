"""Views: tiles as one large picture, regions, score rules."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage import data

from models import backbones
from models.experts import View, extractor, fit, held_out, load_expert
from models.experts.base import FeaturesRefused
from models.experts.layout import Layout
from models.experts.tiles import owned, prepared, starts
from models.experts.view import cells_of

LITE = "efficientnet_lite0"


@given(tiles=st.integers(4, 20), more=st.integers(0, 90), stride=st.sampled_from([8, 14]))
def test_tiles_cover_an_axis_once_and_overlap(tiles: int, more: int, stride: int) -> None:
    tile, side = tiles * stride, (tiles + more) * stride
    begin = starts(side, tile, stride)
    assert begin[0] == 0 and begin[-1] == side - tile
    assert all(0 < b - a <= 0.75 * tile + stride for a, b in pairwise(begin))
    parts = owned(side, tile, stride)
    assert [low for _, low, _ in parts] + [side // stride] == [0] + [high for _, _, high in parts]
    assert all(at <= low * stride and high * stride <= at + tile for at, low, high in parts)


def test_tiles_see_what_one_large_input_sees_away_from_their_borders() -> None:
    picture = np.asarray(data.brick())[:448, :448]  # type: ignore[no-untyped-call]
    spec, rgb = backbones.spec(LITE), np.repeat(picture[..., None], 3, 2)
    batch = backbones.preprocess(rgb, spec, (448, 448))[None]
    whole = extractor("patchcore", View.square(LITE, 448)).features(batch)[0].reshape(56, 56, -1)
    tiled = extractor("patchcore", View(LITE, (448, 448), 224)).features(batch)[0].reshape(56, 56, -1)
    away = np.linalg.norm(whole - tiled, axis=-1) / np.linalg.norm(whole, axis=-1)
    assert np.median(away) < 0.05 and away.max() < 0.6
    same = extractor("patchcore", View(LITE, (224, 224), 224)).features(batch[..., :224, :224])
    np.testing.assert_array_equal(same, extractor("patchcore", View.square(LITE, 224)).features(batch[..., :224, :224]))


def test_a_rectangle_in_tiles_scores_its_own_map() -> None:
    view = View(LITE, (224, 448), 224)
    rng = np.random.default_rng(0)
    batch = rng.normal(0, 1, (3, 3, 224, 448)).astype(np.float32)
    features = extractor("patchcore", view).features(batch)
    assert features.shape == (3, 28 * 56, 152)
    state = fit("patchcore", list(features[:2]), rows=200)
    (raw,) = load_expert("patchcore", state, view).score(batch[2:])
    assert raw.map.shape == (224, 448) and raw.patches.shape == (28, 56)
    assert raw.score == raw.patches.max()
    for views in (View(LITE, (224, 230), 224), View(LITE, (200, 448), 224), View(LITE, (224, 448))):
        with pytest.raises(ValueError, match=r"tiles|square"):
            load_expert("patchcore", state, views)
    with pytest.raises(ValueError, match="line's runtime"):
        load_expert("patchcore", state, view, runtime="torch")


def test_a_large_view_keeps_a_bounded_map() -> None:
    layout = Layout(View(LITE, (4000, 5000), 224))
    raw = layout.raw(np.full(500 * 625, 2.0, np.float32), "nearest")
    assert raw.map.shape == (1638, 2048)
    np.testing.assert_allclose(raw.map, 2, rtol=1e-5)


@pytest.mark.parametrize("kind", ["patchcore", "padim"])
def test_what_lies_outside_the_region_changes_nothing(kind: str) -> None:
    view = View.square(LITE, 64)
    region = np.zeros((64, 64), np.uint8)
    region[:, :32] = 255
    assert cells_of(view, region).sum() == 32
    rng = np.random.default_rng(1)
    batch = rng.normal(0, 1, (6, 3, 64, 64)).astype(np.float32)
    features = extractor(kind, view, region).features(batch)
    state = fit(kind, list(features[:5]), rows=50, region=region)
    expert = load_expert(kind, state, view)
    assert features.shape[1] == 32
    (raw,) = expert.score(batch[5:])
    assert not raw.map[:, 32:].any() and raw.map[:, :32].min() > 0 and not raw.patches[:, 4:].any()
    assert sorted(n for n, _ in held_out(kind, list(features[:5]), state, view=view)) == list(range(5))
    with pytest.raises(ValueError, match="no patch"):
        load_expert(kind, {**state, "region": np.zeros((64, 64), np.uint8)}, view)
    with pytest.raises(ValueError, match="for a map of"):
        load_expert(kind, {**state, "region": region[:, :40]}, view)


@given(distances=st.lists(st.floats(0, 1e6, width=32), min_size=1, max_size=40))
def test_the_top_rule_is_the_mean_of_the_largest_hundredth(distances: list[float]) -> None:
    values = np.resize(np.array(distances, np.float32), 1024)
    layout = Layout(View(LITE, (256, 256), rule="top"))
    assert layout.top == 10
    assert layout.raw(values, "nearest").score == pytest.approx(float(np.sort(values)[-10:].mean()), rel=1e-5)
    assert Layout(View(LITE, (256, 256))).raw(values, "nearest").score == max(distances)


def test_distances_that_do_not_fit_are_refused() -> None:
    layout = Layout(View(LITE, (64, 64)))
    with pytest.raises(FeaturesRefused, match="not finite"):
        layout.raw(np.full(64, np.nan, np.float32), "nearest")
    with pytest.raises(FeaturesRefused, match="63 patches"):
        layout.raw(np.ones(63, np.float32), "nearest")


def test_tiles_take_bytes_and_see_the_same() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    view = View(LITE, (128, 160), 64)
    region = np.zeros((128, 160), np.uint8)
    region[:, 40:] = 255
    for inside in (None, region):
        session = extractor("patchcore", view, inside)
        floats = backbones.preprocess(picture, backbones.spec(LITE), view.size)[None]
        assert prepared(picture, view).dtype == np.uint8
        bytewise, whole = session.features(prepared(picture, view)), session.features(floats)
        assert np.linalg.norm(bytewise - whole) <= (0 if inside is None else 0.02) * np.linalg.norm(whole)  # grey is in bytes
