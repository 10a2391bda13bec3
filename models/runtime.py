"""The line's runtime: an exported backbone in onnxruntime, and separable maps. On a processor no torch, never anomalib."""

from __future__ import annotations

import os
from collections.abc import Callable
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


def device() -> str:
    """What backbones run on: `KENSOR_DEVICE`, torch's name of an accelerator; without it the processor, `cpu`."""
    return os.environ.get("KENSOR_DEVICE") or "cpu"


def together() -> int:
    """How many pictures to give a backbone at once: a processor gains nothing from batches."""
    return 1 if device() == "cpu" else 16


def session(graph: str | bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """A graph, by its path or its bytes, ready to run on the processor."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


class Backbone:
    """Preprocessed pictures → patch features: a graph in onnxruntime, bit for bit the same at every batch size.

    In torch where `device()` is another than the processor (models/accelerator.py), the same within 1e-4; int8 stays here.
    """

    def __init__(self, name: str, size: int, threads: int = 1, precision: backbones.Precision = "float32") -> None:
        """Load `name` for `size`×`size` pictures; `threads` also bounds the process's BLAS (one setting for all).

        Raises as `backbones.graph`, catalog.DeviceUnavailable.
        """
        self.name, self.size, self.spec = name, size, backbones.spec(name)
        self.grid = self.spec.grid(size)
        self._run: Callable[[Floats], Floats]
        self._together = 1
        if device() == "cpu" or precision == "int8":
            path = backbones.graph(name, size, precision)
            graph = session(str(path), threads)
            entry = graph.get_inputs()[0].name
            self._run = lambda images: graph.run(None, {entry: images})[0]
            self.nbytes = 2 * path.stat().st_size  # the graph's tensors, and as much again packed and in activations
        else:
            from models.accelerator import Network

            network = Network(name, device())
            self._run, self._together, self.nbytes = network, together(), network.nbytes
        threadpool_limits(threads, user_api="blas")

    def features(self, images: Floats) -> Floats:
        """`[B, 3, size, size]` → `[B, h*w, D]`, patches row by row."""
        step = self._together
        found = [self._run(images[i : i + step]) for i in range(0, len(images), step)]
        return found[0] if len(found) == 1 else np.concatenate(found)


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
