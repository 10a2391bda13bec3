"""Backbones that look together: each with its own bank, one score, one map; nothing of a picture in what judges it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspection.drawn import drawn
from models import backbones, catalog
from models.experts import FeaturesRefused, View, extractor, fit, held_out, load_expert, patchcore, without_own
from models.experts.base import Floats, State
from models.experts.fused import BANKS, SOURCES, USUAL, Fusion, lead, per_patch, unit
from models.experts.tiles import prepared

VIEW = View.square("fused", 64)
COUNT = 6


@pytest.fixture(scope="module")
def features() -> list[Floats]:
    source = extractor("patchcore", VIEW)
    return [source.features(prepared(drawn(3, n)[0], VIEW))[0] for n in range(COUNT)]


@pytest.fixture(scope="module")
def state(features: list[Floats]) -> State:
    return fit("patchcore", features, rows=200, view=VIEW)


def test_each_backbone_sees_the_picture_as_it_would_alone(features: list[Floats]) -> None:
    fusion, picture = Fusion(VIEW), drawn(3, 0)[0]
    assert [(half.backbone, half.input) for half in VIEW.halves] == [("efficientnet_lite0", 64), ("dinov2_vits14", 224)]
    shown = prepared(picture, VIEW)
    assert shown.dtype == np.uint8 and shown.shape == (1, 224, 224, 3)
    for number, half in enumerate(VIEW.halves):
        own = extractor("patchcore", half).features(prepared(shown[0], half))[0]
        assert np.array_equal(fusion.part(features[0], number), own)
    assert np.array_equal(lead(VIEW, features[0]), fusion.part(features[0], 0))
    assert per_patch(VIEW, features[0].shape) == (64, 152 + 384) and per_patch(VIEW.halves[0], (64, 152)) == (64, 152)
    with pytest.raises(FeaturesRefused):
        fusion.part(features[0][:, 1:], 0)


def test_the_score_and_the_map_are_sums_in_units(features: list[Floats], state: State) -> None:
    fusion, asked = Fusion(VIEW), extractor("patchcore", VIEW).features(prepared(drawn(3, 9, "stain")[0], VIEW))
    raw = load_expert("patchcore", state, VIEW).score_features(asked)[0]
    alone = []
    for number, half in enumerate(fusion.views):
        own = {"memory_bank": state[BANKS[number]], "source": state[SOURCES[number]]}
        alone.append(load_expert("patchcore", own, half).score_features(fusion.part(asked[0], number)[None])[0])
    first, second = state["units"]
    assert raw.score == pytest.approx(alone[0].score / first + alone[1].score / second, rel=1e-5)
    assert raw.patches.shape == (8, 8) and raw.map.shape == (64, 64)
    assert raw.patches == pytest.approx(alone[0].patches / first + alone[1].patches[1::2, 1::2] / second, rel=1e-4)
    assert raw.score > 1.3 * load_expert("patchcore", state, VIEW).score_features(features[0][None])[0].score


def test_a_picture_has_no_part_in_what_judges_it(features: list[Floats], state: State) -> None:
    seen = dict(held_out("patchcore", features, state, view=VIEW, copies=[(2, features[2])]))
    assert sorted(seen) == list(range(COUNT + 1)) and seen[COUNT].score == pytest.approx(seen[2].score, rel=1e-5)
    fusion, expected = Fusion(VIEW), dict.fromkeys(range(COUNT), 0.0)
    for number, (half, one) in enumerate(zip(fusion.views, state["units"], strict=True)):
        own = [fusion.part(each, number) for each in features]
        arrays = {"memory_bank": state[BANKS[number]], "source": state[SOURCES[number]]}
        for at, raw in held_out("patchcore", own, arrays, view=half):
            expected[at] += raw.score / one
    assert {at: raw.score for at, raw in seen.items() if at < COUNT} == pytest.approx(expected, rel=1e-5)
    assert dict(held_out("patchcore", features[:1], fit("patchcore", features[:1], view=VIEW), view=VIEW)) == {}


def test_turned_copies_join_both_banks_and_leave_with_their_original(features: list[Floats]) -> None:
    made = fit("patchcore", features[:3], rows=10_000, turned=[(1, features[5])], view=VIEW)
    for bank, source, (patches, _) in zip(BANKS, SOURCES, Fusion(VIEW).shapes, strict=True):
        assert len(made[bank]) == 4 * patches and (made[source] == 1).sum() == 2 * patches
    seen = dict(held_out("patchcore", features[:3], made, view=VIEW, copies=[(1, features[5])], turned=[(1, features[5])]))
    assert seen[3].score > 0


@given(st.lists(st.floats(0.5, 5), min_size=2, max_size=6), st.floats(0.1, 100))
def test_a_unit_grows_with_the_features_and_with_their_spread(places: list[float], scale: float) -> None:
    pictures = [np.array([[10 * n, place]], np.float32) for n, place in enumerate(places)]
    bank, source = np.concatenate(pictures), np.arange(len(pictures), dtype=np.int32)

    def of(times: float) -> float:
        return unit([one * np.float32(times) for one in pictures], bank * np.float32(times), source, _largest)

    assert of(scale) == pytest.approx(scale * of(1), rel=1e-3) and np.isfinite(of(1)) and of(1) > 0


def test_one_picture_gives_a_unit_and_so_does_a_blank_one() -> None:
    own = np.array([[0, 0], [3, 4]], np.float32)
    assert unit([own], own, np.zeros(2, np.int32), _largest) == pytest.approx(USUAL * 2.5)
    blank = np.zeros((2, 2), np.float32)
    assert 0 < unit([blank, blank], np.concatenate([blank, blank]), np.array([0, 0, 1, 1], np.int32), _largest) < 1e-3


def _largest(distances: Floats) -> float:
    return float(distances.max())


def test_nothing_outside_a_region_has_a_say() -> None:
    region = np.zeros((64, 64), np.uint8)
    region[16:40, 8:56] = 1
    source = extractor("patchcore", VIEW, region)
    pictures = [drawn(3, n)[0] for n in range(4)]
    inside = [source.features(prepared(one, VIEW))[0] for one in pictures]
    expert = load_expert("patchcore", fit("patchcore", inside[:3], rows=200, view=VIEW, region=region), VIEW, source=source)
    spoilt = pictures[3].copy()
    spoilt[:40] = 255  # rows 0 … 9 of 64
    one, other = (expert.score(prepared(picture, VIEW))[0] for picture in (pictures[3], spoilt))
    assert one.score == other.score and np.array_equal(one.map, other.map)
    assert (one.map[region == 0] == 0).all() and one.map.max() > 0
    assert per_patch(VIEW, inside[0].shape, region)[0] == Fusion(VIEW, region).keeps[0].sum() == 18


@pytest.mark.parametrize("view", [View("fused", (64, 64), 64), VIEW])
def test_what_cannot_look_together_is_refused(view: View, features: list[Floats], state: State) -> None:
    if view.tile:
        with pytest.raises(ValueError, match="whole pictures"):
            load_expert("patchcore", state, view)
        return
    with pytest.raises(ValueError, match="name one backbone"):
        load_expert("padim", state, view)
    with pytest.raises(ValueError, match="runtime alone"):
        load_expert("patchcore", state, view, runtime="torch")
    with pytest.raises(catalog.UnknownWeight, match=r"efficientnet_lite0 and dinov2_vits14"):
        backbones.spec("fused")
    damaged: list[dict[str, Any]] = [
        {"units": np.array([1.0, np.nan])},
        {"units": np.ones(3)},
        {"second_bank": state["memory_bank"]},
        {"second_bank": state["second_bank"].astype(np.float64)},
        {"second_source": state["second_source"][1:]},
    ]
    for change in damaged:
        with pytest.raises(ValueError, match=r"units|fused's features|float64 as second_bank"):
            load_expert("patchcore", {**state, **change}, view)
    with pytest.raises(FeaturesRefused, match=r"not finite|NaN"):
        load_expert("patchcore", state, view).score_features(np.full_like(features[0][None], np.nan))
    with pytest.raises(FeaturesRefused):
        fit("patchcore", [], view=VIEW)


def test_a_picture_beyond_those_held_out_is_scored_by_both_banks_without_its_own_rows(
    features: list[Floats], state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patchcore, "HELD", COUNT - 2)
    fusion, found = Fusion(VIEW), list(without_own(features, state, view=VIEW))
    assert len(found) == 2
    for number, score in enumerate(found, COUNT - 2):
        expected = 0.0
        for half, (bank, source) in enumerate(zip(BANKS, SOURCES, strict=True)):
            rows = state[bank][state[source] != number]
            gaps = np.linalg.norm(fusion.part(features[number], half)[:, None] - rows, axis=2).min(1)
            expected += gaps.max() / state["units"][half]
        assert score == pytest.approx(expected, rel=1e-4)


def test_int8_is_for_the_transformer_alone() -> None:
    halves = View("fused", (64, 64), precision="int8", rule="top").halves
    assert [half.precision for half in halves] == ["float32", "int8"] and [half.rule for half in halves] == ["top", "max"]
    assert patchcore.sure(Fusion(VIEW).layout) == 3
