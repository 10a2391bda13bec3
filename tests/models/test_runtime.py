"""The line's runtime against plain definitions of the same things."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

from models import backbones
from models.runtime import Backbone, anomaly_map, blur

seeds = st.integers(0, 2**32 - 1)


def _dense_blur(image: np.ndarray) -> np.ndarray:
    """Anomalib's definition: one 33×33 kernel, borders reflected without repeating the edge."""
    taps = np.exp(-(np.arange(-16, 17) ** 2) / (2 * 4.0**2))
    kernel = np.outer(taps, taps) / taps.sum() ** 2
    padded = np.pad(image.astype(np.float64), 16, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (33, 33))
    return np.einsum("hwij,ij->hw", windows, kernel)


@settings(max_examples=10, deadline=None)
@given(seed=seeds, height=st.integers(17, 50), width=st.integers(17, 50))
def test_blur_equals_the_dense_convolution(seed: int, height: int, width: int) -> None:
    image = np.random.default_rng(seed).uniform(0, 10, (height, width)).astype(np.float32)
    np.testing.assert_allclose(blur(image), _dense_blur(image), rtol=1e-5)


@pytest.mark.parametrize("upsampling", ["nearest", "bilinear"])
@pytest.mark.parametrize(("grid", "size"), [(28, 224), (16, 224), (10, 75)])
def test_map_equals_upsampling_then_dense_blur(upsampling: str, grid: int, size: int) -> None:
    patches = np.random.default_rng(grid).uniform(0, 10, (grid, grid)).astype(np.float32)
    if upsampling == "nearest":
        source = np.arange(size) * grid // size
        large = patches[source][:, source]
    else:
        large = cv2.resize(patches, (size, size), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(anomaly_map(patches, size, upsampling), _dense_blur(large), rtol=2e-5)  # type: ignore[arg-type]


@settings(max_examples=20, deadline=None)
@given(level=st.floats(0.125, 1e4, width=32), grid=st.integers(2, 30), size=st.integers(17, 300))
def test_a_constant_stays_constant(level: float, grid: int, size: int) -> None:
    flat = np.full((grid, grid), level, np.float32)
    for upsampling in ("nearest", "bilinear"):
        np.testing.assert_allclose(anomaly_map(flat, size, upsampling), level, rtol=1e-5)
    np.testing.assert_allclose(blur(np.full((size, size), level, np.float32)), level, rtol=1e-5)


def test_features_do_not_depend_on_the_batch() -> None:
    backbone = Backbone("efficientnet_lite0", 224)
    pictures = np.stack([backbones.preprocess(p, backbone.spec, 224) for p in (data.astronaut(), data.coffee(), data.chelsea())])
    features = backbone.features(pictures)
    assert features.shape == (3, 28 * 28, backbone.spec.width) and features.dtype == np.float32
    assert backbone.grid == (28, 28) and backbone.nbytes > 2**20
    for one, alone in zip(pictures, features, strict=True):
        assert (backbone.features(one[None])[0] == alone).all()


def test_the_line_imports_neither_torch_nor_anomalib() -> None:
    line = "from models.experts import patchcore, padim; import models.runtime, sys; "
    heavy = "print([m for m in ('torch', 'anomalib', 'timm', 'transformers', 'numba', 'scipy.stats') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", line + heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
