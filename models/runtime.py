"""The line's runtime: an exported backbone in onnxruntime, and separable maps. No torch, no anomalib."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from models import backbones

Floats = NDArray[np.float32]

SIGMA = 4.0  # anomalib's blur of both experts' maps


def session(graph: str | bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """A graph, by its path or its bytes, ready to run on the processor."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


class Backbone:
    """A backbone's graph in onnxruntime: preprocessed pictures → patch features, bit for bit the same at every batch size."""

    def __init__(self, name: str, size: int, threads: int = 1, precision: backbones.Precision = "float32") -> None:
        """Load the graph of `name` for `size`×`size` pictures; `threads` also bounds the process's BLAS (one setting for all).

        Raises as `backbones.graph`.
        """
        path = backbones.graph(name, size, precision)
        self.name, self.size, self.spec = name, size, backbones.spec(name)
        self._session = session(str(path), threads)
        self._input = self._session.get_inputs()[0].name
        self.grid = self.spec.grid(size)
        self.nbytes = 2 * path.stat().st_size  # the graph's tensors, and as much again packed and in activations
        threadpool_limits(threads, user_api="blas")

    def features(self, images: Floats) -> Floats:
        """`[B, 3, size, size]` → `[B, h*w, D]`, patches row by row. One picture a run: a CPU gains nothing from batches."""
        features: Floats = np.concatenate(
            [self._session.run(None, {self._input: images[i : i + 1]})[0] for i in range(len(images))]
        )
        return features


def blur(image: Floats, sigma: float = SIGMA) -> Floats:
    """Gaussian blur of `[H, W]`, reflected at the borders: anomalib's GaussianBlur2d (2·int(4σ+½)+1 taps) as two passes."""
    kernel = cv2.getGaussianKernel(2 * int(4 * sigma + 0.5) + 1, sigma, cv2.CV_64F)
    blurred = cv2.sepFilter2D(np.ascontiguousarray(image), cv2.CV_32F, kernel, kernel, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(blurred, np.float32)


Upsampling = Literal["nearest", "bilinear"]


@lru_cache(maxsize=32)
def _operator(grid: int, size: int, upsampling: Upsampling, sigma: float) -> Floats:
    """The `[size, grid]` matrix that upsamples and blurs one axis: both steps are linear and separable."""
    scale = np.float32(grid) / np.float32(size)  # torch computes source positions in float32
    target = np.arange(size, dtype=np.float32)
    matrix = np.zeros((size, grid), np.float64)
    if upsampling == "nearest":
        matrix[np.arange(size), np.minimum((target * scale).astype(int), grid - 1)] = 1
    else:
        position = np.maximum((target + np.float32(0.5)) * scale - np.float32(0.5), 0)
        low = np.minimum(position.astype(int), grid - 1)
        part = position - low
        np.add.at(matrix, (np.arange(size), low), 1 - part)
        np.add.at(matrix, (np.arange(size), np.minimum(low + 1, grid - 1)), part)
    taps = cv2.getGaussianKernel(2 * int(4 * sigma + 0.5) + 1, sigma, cv2.CV_64F).ravel()
    reach = len(taps) // 2
    padded = np.pad(matrix, ((reach, reach), (0, 0)), mode="reflect")
    return np.array([taps @ padded[i : i + len(taps)] for i in range(size)], np.float32)


def anomaly_map(patches: Floats, size: int | tuple[int, int], upsampling: Upsampling, sigma: float = SIGMA) -> Floats:
    """Patch distances `[h, w]` → anomaly map of `size` (a side, or rows and columns): upsampled and blurred in two products.

    Equal to anomalib's interpolate and dense 33×33 convolution. Blur reflects at the borders: a side must be over 4 `sigma`.
    """
    target = (size, size) if isinstance(size, int) else size
    rows, columns = (_operator(side, to, upsampling, sigma) for side, to in zip(patches.shape, target, strict=True))
    return np.asarray(rows @ patches @ columns.T, np.float32)
