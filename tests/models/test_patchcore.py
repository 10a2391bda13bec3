"""PatchCore's coreset, its bounded fit and its leave-one-out, on drawn features."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.experts import FeaturesRefused, FitCancelled, View, coreset, fit, held_out, load_expert, patchcore, without_own
from models.experts.coreset import farthest_first
from models.experts.patchcore import fit_patchcore

Features = list[np.ndarray]


def drawn(pictures: int, seed: int = 0, patches: int = 49, width: int = 37) -> Features:
    """Patches about a few centres, as real ones are."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(12, width)) * 3
    return [
        (centres[rng.integers(12, size=patches)] + rng.normal(size=(patches, width))).astype(np.float32) for _ in range(pictures)
    ]


def plain_farthest_first(points: np.ndarray, rows: int, first: int) -> tuple[list[int], list[float]]:
    picks, radii = [first], []
    nearest = np.linalg.norm(points - points[first], axis=1)
    for _ in range(rows - 1):
        picks.append(int(nearest.argmax()))
        radii.append(float(nearest.max()))
        nearest = np.minimum(nearest, np.linalg.norm(points - points[picks[-1]], axis=1))
    return picks, [*radii, float(nearest.max())]


POOLS = st.sampled_from([1, 5, 40, coreset.POOL])


def chosen(points: np.ndarray, rows: int, seed: int, pool: int) -> tuple[np.ndarray, float]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(coreset, "POOL", pool)
        return farthest_first(points, rows, seed=seed)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 300), rows=st.integers(1, 80), width=st.integers(4, 70), pool=POOLS)
def test_coreset_is_the_plain_greedy_one(seed: int, count: int, rows: int, width: int, pool: int) -> None:
    points = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    picks, radius = chosen(points, rows, seed, pool)
    expected, radii = plain_farthest_first(points.astype(np.float64), min(rows, count), int(picks[0]))
    assert picks.tolist() == expected
    assert radius == pytest.approx(radii[-1], rel=1e-5)
    assert radii == sorted(radii, reverse=True)  # the radius never increases


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), offset=st.sampled_from([0.0, 1e3]), width=st.sampled_from([2, 15, 16, 17, 40]), pool=POOLS)
def test_each_row_is_the_farthest_also_among_clusters_doubles_and_outliers(
    seed: int, offset: float, width: int, pool: int
) -> None:
    """Where the sketch's rounding is largest beside the distances; equal distances may be decided either way."""
    rng = np.random.default_rng(seed)
    points = np.repeat(rng.normal(size=(30, width)), 4, axis=0) + rng.normal(size=(120, width)) * rng.choice([0, 1e-3], (120, 1))
    points[:3] *= 1e3
    points = (points + offset).astype(np.float32)
    for rows in (5, 50, 120):
        picks, radius = chosen(points, rows, seed, pool)
        nearest = np.linalg.norm(points.astype(np.float64) - points[picks[0]], axis=1)
        for pick in picks[1:]:
            assert nearest[pick] >= nearest.max() * (1 - 1e-6) > 0
            nearest = np.minimum(nearest, np.linalg.norm(points.astype(np.float64) - points[pick], axis=1))
        assert radius == pytest.approx(nearest.max(), rel=1e-6)
        assert (chosen(points, rows, seed, pool)[0] == picks).all()
    assert len(picks) == len(np.unique(points, axis=0))  # and the rest are doubles


def test_coreset_beside_standing_rows_is_the_rest_of_the_whole_one() -> None:
    points = np.concatenate(drawn(6))
    picks, _ = farthest_first(points, 40, seed=1)
    standing = np.linalg.norm(points[:, None] - points[picks[:10]], axis=2).min(1)
    rest, radius = farthest_first(points, 30, seed=5, standing=standing)
    assert rest.tolist() == picks[10:].tolist()
    enough = float(np.linalg.norm(points[rest[20]] - points[picks[:30]], axis=1).min()) * (1 + 1e-5)  # processors round apart
    fewer, reached = farthest_first(points, 30, seed=5, standing=standing, enough=enough)
    assert rest[: len(fewer)].tolist() == fewer.tolist() and len(fewer) == 20
    assert radius < reached <= enough
    none, reached = farthest_first(points, 30, seed=5, standing=standing, enough=1e3)
    assert len(none) == 0 and reached == standing.max()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_coreset_of_a_permutation_covers_as_well(seed: int) -> None:
    """Another order is another first row, and no more: farthest-first is within twice the best radius from any start."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(200, 9)).astype(np.float32)
    radii = []
    for order in (np.arange(200), rng.permutation(200)):
        picks, radius = farthest_first(points[order], 20, seed=seed)
        assert len(set(picks.tolist())) == 20
        chosen = points[order][picks]
        assert np.linalg.norm(points[:, None] - chosen, axis=2).min(1).max() == pytest.approx(radius, rel=1e-5)
        radii.append(radius)
    assert max(radii) <= 2 * min(radii)


def test_fit_is_deterministic_and_keeps_every_patch_that_fits() -> None:
    features = drawn(6)
    bank, source = fit_patchcore(iter(features), rows=100, seed=3)
    again, _ = fit_patchcore(features, rows=100, seed=3)
    other, _ = fit_patchcore(features, rows=100, seed=4)
    assert (bank == again).all() and not (bank == other).all()
    assert bank.shape == (100, 37) and bank.dtype == np.float32 and source.dtype == np.int32
    for row, picture in zip(bank, source, strict=True):
        assert (features[picture] == row).all(1).any()
    everything, _ = fit_patchcore(features, rows=10_000, seed=3)
    assert (everything == np.concatenate(features)).all()


def test_fit_in_chunks_covers_within_the_sum_of_both_radii() -> None:
    features = drawn(120, patches=300, width=64)
    points = np.concatenate(features)

    def radius(bank: np.ndarray) -> float:
        squares = (points**2).sum(1)[:, None] + (bank**2).sum(1) - 2 * points @ bank.T
        return float(np.sqrt(np.maximum(squares, 0).min(1).max()))

    whole, _ = fit_patchcore(features, rows=200, seed=0)
    chunked, source = fit_patchcore(features, rows=200, seed=0, budget_mib=1)  # 4,096 patches held, 36,000 offered
    assert chunked.shape == whole.shape
    assert set(source.tolist()) <= set(range(120)) and len(set(source.tolist())) > 20
    for row, picture in zip(chunked, source, strict=True):
        assert (features[picture] == row).all(1).any()
    assert radius(chunked) <= 1.5 * radius(whole)


def test_progress_rises_to_the_bank_and_cancel_stops() -> None:
    seen: list[tuple[int, int]] = []
    fit_patchcore(drawn(6), rows=200, seed=0, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (200, 200) and seen == sorted(seen)
    with pytest.raises(FitCancelled):
        fit_patchcore(drawn(6), rows=200, seed=0, cancelled=lambda: len(seen) > 0)
    calls = iter([False] * 7 + [True] * 99)  # six pictures and one look before the first rows are chosen
    with pytest.raises(FitCancelled):
        fit_patchcore(drawn(6), rows=200, seed=0, cancelled=lambda: next(calls))


def test_held_out_with_every_patch_kept_is_the_bank_of_the_others() -> None:
    features = drawn(5)
    state = fit("patchcore", features, rows=10_000)
    scored = dict(held_out("patchcore", features, state, view=View.square("efficientnet_lite0", 56)))
    assert sorted(scored) == list(range(5))
    for number, raw in scored.items():
        others = np.concatenate([one for i, one in enumerate(features) if i != number]).astype(np.float64)
        expected = np.linalg.norm(features[number][:, None] - others, axis=2).min(1)
        np.testing.assert_allclose(raw.patches.ravel(), expected, rtol=1e-5)
        assert raw.score == pytest.approx(expected.max(), rel=1e-6)
        assert raw.map.shape == (56, 56) and raw.patches.shape == (7, 7)


@pytest.mark.parametrize("pictures", [5, 23, 61])
def test_held_out_of_a_coreset_is_a_refit_without_the_fold(pictures: int) -> None:
    """Every picture once, and no patch nearer than to the nearest of all the others' patches."""
    features = drawn(pictures)
    features[2] += 50  # far from all others: with its own rows it would be near
    state = fit("patchcore", features, rows=60)
    scored = dict(held_out("patchcore", features, state, view=View.square("efficientnet_lite0", 56)))
    assert sorted(scored) == list(range(pictures))
    for number, raw in scored.items():
        others = np.concatenate([one for i, one in enumerate(features) if i != number])
        floor = np.linalg.norm(features[number][:, None] - others, axis=2).min(1)
        assert (raw.patches.ravel() >= floor * (1 - 1e-5)).all()
    assert scored[2].score > 200
    again = dict(held_out("patchcore", features, state, view=View.square("efficientnet_lite0", 56)))
    assert [again[i].score for i in range(pictures)] == [scored[i].score for i in range(pictures)]


def test_held_out_scores_are_those_of_unseen_pictures() -> None:
    """A shared background keeps a row or two in the coreset: to take one out with its lender would tear a hole."""
    pictures = drawn(60, patches=100)
    for one in pictures:
        one[:40] = 40 + one[:40] / 100
    seen, unseen = pictures[:30], pictures[30:]
    state = fit("patchcore", seen, rows=200)
    scores = [raw.score for _, raw in held_out("patchcore", seen, state, view=View.square("efficientnet_lite0", 80))]
    fresh = [np.linalg.norm(one[:, None] - state["memory_bank"], axis=2).min(1).max() for one in unseen]
    assert np.mean(scores) == pytest.approx(np.mean(fresh), rel=0.05)
    assert np.std(scores) == pytest.approx(np.std(fresh), rel=0.5)


def test_held_out_is_cancelled() -> None:
    features = drawn(8)
    state = fit("patchcore", features, rows=60)
    with pytest.raises(FitCancelled):
        list(held_out("patchcore", features, state, view=View.square("efficientnet_lite0", 56), cancelled=lambda: True))


def test_a_patch_that_stands_in_several_pictures_belongs_to_all() -> None:
    """A flat background, or the same file twice: its row must not leave the bank with one of its owners."""
    features = drawn(4)
    for one in features:
        one[:10] = 7.0
    features.append(features[0].copy())
    state = fit("patchcore", features, rows=150)
    scores = held_out("patchcore", features, state, view=View.square("efficientnet_lite0", 56))
    assert all((raw.patches.ravel()[:10] == 0).all() for _, raw in scores)


def test_identical_pictures_are_at_distance_zero() -> None:
    features = [drawn(1)[0]] * 8
    state = fit("patchcore", features, rows=100)
    assert len(state["memory_bank"]) == 49  # no more rows than different patches
    assert [raw.score for _, raw in held_out("patchcore", features, state, view=View.square("efficientnet_lite0", 56))] == [
        0.0
    ] * 8


def test_one_picture_fits_and_has_nothing_to_leave_out() -> None:
    features = drawn(1)
    state = fit("patchcore", features, rows=20)
    assert state["memory_bank"].shape == (20, 37)
    assert list(held_out("patchcore", features, state, view=View.square("efficientnet_lite0", 56))) == []
    both = list(held_out("patchcore", features * 2, state, view=View.square("efficientnet_lite0", 56)))
    assert len(both) == 2 and all(np.isfinite(raw.score) for _, raw in both)


@pytest.mark.parametrize("kind", ["patchcore", "padim"])
def test_bad_features_are_refused(kind: str) -> None:
    bad = drawn(3)
    bad[1][5, 5] = np.nan
    with pytest.raises(FeaturesRefused, match="NaN"):
        fit(kind, bad)
    with pytest.raises(FeaturesRefused, match="beside"):
        fit(kind, [*drawn(2), drawn(1, patches=48)[0]])
    with pytest.raises(FeaturesRefused):
        fit(kind, [])
    with pytest.raises(FeaturesRefused, match="patches"):
        fit(kind, [np.zeros((0, 4), np.float32)])
    with pytest.raises(FitCancelled):
        fit(kind, drawn(3), cancelled=lambda: True)


def test_a_state_of_another_backbone_is_refused() -> None:
    for kind in ("patchcore", "padim"):
        with pytest.raises(ValueError, match="efficientnet_lite0"):
            load_expert(kind, fit(kind, drawn(3)), View.square("efficientnet_lite0", 224))
    with pytest.raises(ValueError, match="unknown expert"):
        load_expert("nearest", {}, View.square("efficientnet_lite0", 224))


@pytest.mark.parametrize("rows", [60, 10_000])
def test_copies_are_scored_by_the_bank_that_never_saw_their_original(rows: int) -> None:
    features = drawn(12)
    state = fit("patchcore", features, rows=rows)
    copies = [(n, features[n]) for n in (7, 0, 7)] + [(3, features[5])]
    view = View.square("efficientnet_lite0", 56)
    alone, scored = dict(held_out("patchcore", features, state, view=view)), {}
    for number, raw in held_out("patchcore", features, state, view=view, copies=copies):
        assert number not in scored
        scored[number] = raw.score
    assert sorted(scored) == list(range(16))
    assert [scored[n] for n in range(12)] == [alone[n].score for n in range(12)]
    assert [scored[n] for n in (12, 13, 14)] == [scored[n] for n in (7, 0, 7)] and scored[7] > 0
    if rows > 100:
        assert scored[15] == 0, "picture 5 is in the bank that never saw picture 3"


def test_of_many_pictures_the_first_are_held_out_in_few_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patchcore, "HELD", 60)
    features, seen = drawn(400, patches=49), []
    state = fit("patchcore", features, rows=40)
    view = View.square("efficientnet_lite0", 56)
    scored = held_out("patchcore", features, state, view=view, progress=lambda done, total: seen.append((done, total)))
    raws = dict(scored)
    assert sorted(raws) == list(range(60))  # in one fold: 340 of 400 stay
    assert seen[-1] == (40, 40) and seen == sorted(seen)
    others, _ = fit_patchcore(features[60:], rows=40)
    expected = np.linalg.norm(features[7][:, None] - others, axis=2).min(1).max()
    assert raws[7].score == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("rows", [1, 60, 6000])
def test_pictures_beyond_those_held_out_are_scored_without_their_own_rows(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patchcore, "HELD", 110)
    features = drawn(125, patches=49)
    features[120][5] += 9
    state, view = fit("patchcore", features, rows=rows), View.square("efficientnet_lite0", 56)
    scores = list(without_own(features, state, view=view))
    assert len(scores) == 15
    for number in (110, 120, 124):
        others = state["memory_bank"][state["source"] != number]
        others = others if len(others) else state["memory_bank"]
        expected = np.linalg.norm(features[number][:, None] - others, axis=2).min(1).max()
        assert scores[number - 110] == pytest.approx(expected, rel=1e-4)
    assert np.argmax(scores) == 10
    assert list(without_own(features[:110], state, view=view)) == []
    with pytest.raises(FitCancelled):
        list(without_own(features, state, view=view, cancelled=lambda: True))


def test_progress_rises_through_all_chunks_and_folds() -> None:
    seen: list[tuple[int, int]] = []
    features = drawn(120, patches=300, width=64)
    fit_patchcore(features, rows=200, budget_mib=1, progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen) and seen[-1] == (9 * 200, 9 * 200)
    assert len({done for done, _ in seen}) > 20


def test_a_picture_of_many_patches_is_searched_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    features = drawn(5)
    state, view = fit("patchcore", features[:4], rows=30), View.square("efficientnet_lite0", 56)
    bank = {"memory_bank": np.resize(state["memory_bank"], (30, 152)), "source": np.resize(state["source"], 30)}
    expert = load_expert("patchcore", bank, view)
    asked = np.random.default_rng(0).normal(0, 1, (1, 49, 152)).astype(np.float32)
    (whole,) = expert.score_features(asked)
    monkeypatch.setattr(patchcore, "SEARCHED", 10)
    (parts,) = expert.score_features(asked)
    np.testing.assert_allclose(parts.patches, whole.patches, rtol=1e-6)
