"""PaDiM's Gaussians against numpy's own, and its leave-one-out against refits."""

from __future__ import annotations

import numpy as np
import pytest

from models import backbones
from models.experts import FeaturesRefused, FitCancelled, View, check_view, fit, held_out
from models.experts.padim import BUDGET_MIB, FLOOR, fit_padim
from models.runtime import anomaly_map


def drawn(pictures: int, seed: int = 0, patches: int = 16, width: int = 20) -> list[np.ndarray]:
    """Correlated features far from zero, another Gaussian at each position."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(patches, width, width)) / 3
    mean = rng.normal(size=(patches, width)) * 50
    return [(mean + np.einsum("pij,pj->pi", mix, rng.normal(size=(patches, width)))).astype(np.float32) for _ in range(pictures)]


def distances(state: dict[str, np.ndarray], one: np.ndarray) -> np.ndarray:
    delta = one[:, state["index"]].astype(np.float64) - state["mean"]
    return np.sqrt(np.einsum("pi,pij,pj->p", delta, state["precision"].astype(np.float64), delta))


@pytest.mark.parametrize("pictures", [5, 100])
def test_mean_and_shrunk_covariance_are_as_defined(pictures: int) -> None:
    features = drawn(pictures)
    state = fit_padim(iter(features), dims=12, seed=5)
    assert state["index"].tolist() == sorted(set(state["index"].tolist())) and len(state["index"]) == 12
    x = np.stack(features)[:, :, state["index"]].astype(np.float64)
    np.testing.assert_allclose(state["mean"], x.mean(0), rtol=1e-6)
    covariances = [np.cov(x[:, p], rowvar=False) for p in range(16)]
    floor = FLOOR * np.mean([np.trace(covariance) / 12 for covariance in covariances])
    for covariance, precision in zip(covariances, state["precision"], strict=True):
        s = covariance * (pictures - 1) / pictures  # Chen et al. 2010, equation 23
        square, trace = np.trace(s @ s), np.trace(s)
        rho = ((1 - 2 / 12) * square + trace**2) / ((pictures + 1 - 2 / 12) * (square - trace**2 / 12))
        rho = min(1.0, rho)
        expected = np.linalg.inv((1 - rho) * covariance + (rho * np.trace(covariance) / 12 + floor) * np.eye(12))
        np.testing.assert_allclose(precision, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("pictures", [2, 3, 10, 40])
def test_precision_is_positive_definite_however_few_pictures(pictures: int) -> None:
    features = drawn(pictures, width=150)
    state = fit_padim(features, dims=100)
    assert state["precision"].dtype == np.float32 and np.isfinite(state["precision"]).all()
    assert (np.linalg.eigvalsh(state["precision"].astype(np.float64)) > 0).all()
    assert (state["precision"] == state["precision"].transpose(0, 2, 1)).all()


def test_two_pictures_tell_a_displaced_patch_from_a_third_picture() -> None:
    *features, third = drawn(3, width=150)
    state = fit_padim(features, dims=100)
    spoilt = third.copy()
    spoilt[5] += 9 * np.std(third - features[0])
    usual, seen = distances(state, third), distances(state, spoilt)
    assert np.isfinite(seen).all() and seen.argmax() == 5 and seen[5] > 2 * usual.max()


def test_same_seed_same_dimensions() -> None:
    features = drawn(5)
    first, again, other = (fit("padim", features, dims=8, seed=seed) for seed in (1, 1, 2))
    assert all((first[name] == again[name]).all() for name in first)
    assert (first["index"] != other["index"]).any()


@pytest.mark.parametrize("pictures", [3, 9, 30])
def test_leave_one_out_equals_a_refit_without_the_picture(pictures: int) -> None:
    features = drawn(pictures)
    state = fit("padim", features, dims=10)
    scores = [raw for _, raw in held_out("padim", features, state, view=View.square("efficientnet_lite0", 32))]
    assert len(scores) == pictures
    for number, raw in enumerate(scores[:9]):
        refit = fit("padim", [one for i, one in enumerate(features) if i != number], dims=10)
        expected = distances(refit, features[number])
        np.testing.assert_allclose(raw.patches.ravel(), expected, rtol=1e-4)
        assert raw.score == pytest.approx(anomaly_map(expected.reshape(4, 4).astype(np.float32), 32, "bilinear").max(), rel=1e-4)


def test_two_pictures_leave_nothing_to_hold_out() -> None:
    """Either's distance to the other is the same number: a spread of zero that would set a limit over nothing."""
    features = drawn(2)
    state = fit("padim", features, dims=8)
    assert list(held_out("padim", features, state, view=View.square("efficientnet_lite0", 32))) == []
    assert len(list(held_out("padim", drawn(3), fit("padim", drawn(3), dims=8), view=View.square("efficientnet_lite0", 32)))) == 3


def test_identical_pictures_are_at_distance_zero_and_others_are_not() -> None:
    one = drawn(1)[0]
    state = fit("padim", [one] * 5)
    assert np.isfinite(state["precision"]).all()
    assert [raw.score for _, raw in held_out("padim", [one] * 5, state, view=View.square("efficientnet_lite0", 32))] == [0.0] * 5
    assert np.isfinite(distances(state, one + 1)).all() and (distances(state, one + 1) > 0).all()


def test_one_picture_has_no_covariance() -> None:
    with pytest.raises(FeaturesRefused, match="two normal pictures"):
        fit("padim", drawn(1))


def test_a_copy_is_scored_as_its_original_by_a_refit_without_it() -> None:
    features = drawn(6)
    state = fit("padim", features, dims=10)
    copies = [(4, features[4] + 0.5), (1, features[2]), (4, features[4])]
    scored = dict(held_out("padim", features, state, view=View.square("efficientnet_lite0", 32), copies=copies))
    assert sorted(scored) == list(range(9)) and scored[8].score == pytest.approx(scored[4].score)
    for at, (original, copy) in enumerate(copies, 6):
        refit = fit("padim", [one for i, one in enumerate(features) if i != original], dims=10)
        np.testing.assert_allclose(scored[at].patches.ravel(), distances(refit, copy), rtol=1e-4)


@pytest.mark.parametrize("looks", [1, 4])
def test_the_pass_before_the_held_out_scores_can_be_cancelled(looks: int) -> None:
    features, left = drawn(6), iter(range(looks))
    state = fit("padim", features, dims=8)
    view = View.square("efficientnet_lite0", 32)
    with pytest.raises(FitCancelled):
        next(held_out("padim", features, state, view=view, cancelled=lambda: next(left, None) is None))
    assert next(left, None) is None


@pytest.mark.parametrize(("backbone", "most"), [("efficientnet_lite0", 648), ("dinov2_vits14", 1134)])
def test_a_size_whose_fit_would_not_find_the_memory_is_refused_naming_the_largest(backbone: str, most: int) -> None:
    spec = backbones.spec(backbone)
    rows, columns = spec.grid(most)
    assert 32 * rows * columns * 100**2 <= BUDGET_MIB << 20 < 32 * (rows + 1) * (columns + 1) * 100**2
    for size in (448, most):
        check_view("padim", View.square(backbone, size))
    with pytest.raises(ValueError, match=f"2 GiB of memory: take an image size of at most {most}"):
        check_view("padim", View.square(backbone, most + spec.stride))
    check_view("patchcore", View.square(backbone, most + spec.stride))
