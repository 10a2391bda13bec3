"""PaDiM (Defard et al. 2020): one Gaussian per patch position; the score is the peak of the Mahalanobis map."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from math import isqrt
from time import perf_counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.backbones import BackboneSpec
from models.experts.base import (
    TEMPLATE,
    Cancelled,
    Copies,
    Extractor,
    FeaturesRefused,
    FitCancelled,
    Floats,
    FromFeatures,
    Progress,
    RawScore,
    State,
    checked,
    numbered,
)
from models.experts.layout import Layout
from models.experts.registered import POSE, laid_back

Doubles = NDArray[np.float64]

DIMS = 100
BATCH = 16
FLOOR = 0.1  # ridge beside the shrinkage: share of the mean variance over all positions
TINY = 1e-12
BUDGET_MIB = 2048
"""Of a fit: 640 px at a stride of 8 take 1,953, and all usual sizes less; more would leave a machine of 4 GiB nothing."""


def check_size(spec: BackboneSpec, size: int) -> None:
    """Raise ValueError for a picture size whose fit, 4 × 8·P·d² bytes, passes `BUDGET_MIB`."""
    most = spec.stride * isqrt((BUDGET_MIB << 20) // (32 * min(DIMS, spec.width) ** 2))
    if size > most:
        raise ValueError(
            f"a PaDiM fit on {spec.name} at {size} pixels a side takes more than {BUDGET_MIB / 1024:g} GiB of memory: "
            f"take an image size of at most {most}"
        )


class _Moments(NamedTuple):
    """Per position, over `pictures`: mean `[P, d]` and scatter Σ(x − mean)(x − mean)ᵀ `[P, d, d]`."""

    pictures: int
    mean: Doubles
    scatter: Doubles


def fit_padim(
    features: Iterable[Floats],
    *,
    dims: int = DIMS,
    seed: int = 0,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
    template: np.ndarray | None = None,
) -> State:
    """Pictures' patch features `[P, D]`, read once → `mean` `[P, d]`, `precision` `[P, d, d]` (float32), `index` `[d]`.

    `index`: d random dimensions by `seed` (section III-B). The covariance is shrunk to a multiple of the identity by the
    oracle-approximating rule (Chen et al. 2010), so that two pictures are enough, and never thinner than `FLOOR` of the
    mean variance. Memory: some 4 × 8·P·d² bytes at its height, whatever the number of pictures. `progress(pictures, 0)`:
    the total is not known. `template`: features `[P, D + POSE]` of pictures laid on it (registered.py); kept beside the arrays.
    Raises FeaturesRefused (fewer than two pictures), FitCancelled.
    """
    index: NDArray[np.int64] | None = None

    def chosen() -> Iterator[Floats]:
        nonlocal index
        first = None
        for number, one in enumerate(features):
            if cancelled is not None and cancelled():
                raise FitCancelled("the fit was cancelled")
            one = checked(one, first)
            if index is None or first is None:
                first = one
                width = one.shape[1] - (POSE if template is not None else 0)
                index = np.sort(np.random.default_rng(seed).choice(width, min(dims, width), replace=False))
            if progress is not None:
                progress(number + 1, 0)
            yield one[:, index]

    moments = _moments(chosen())
    if index is None or moments is None or moments.pictures < 2:
        raise FeaturesRefused("PaDiM needs at least two normal pictures: one has no covariance")
    n, mean, scatter = moments
    trace = np.einsum("pii->p", scatter)
    share, ridge = _shrinkage(n, trace, np.einsum("pij,pij->p", scatter, scatter), scatter.shape[-1])
    scatter *= share[:, None, None]
    diagonal = np.arange(scatter.shape[-1])
    scatter[:, diagonal, diagonal] += ridge[:, None]
    precision = np.linalg.inv(scatter)
    return {
        "mean": mean.astype(np.float32),
        "precision": ((precision + precision.transpose(0, 2, 1)) / 2).astype(np.float32),
        "index": index.astype(np.int32),
        **({} if template is None else {TEMPLATE: template}),
    }


def _moments(features: Iterable[np.ndarray]) -> _Moments | None:
    """One pass, in float64, about the first picture, so that large means cancel nothing."""
    stream = iter(features)
    first = next(stream, None)
    if first is None:
        return None
    shift = first.astype(np.float64)
    total, outer = np.zeros_like(shift), np.zeros((*shift.shape, shift.shape[1]))
    count = 1  # the first is zero about itself
    while batch := list(islice(stream, BATCH)):
        x = np.stack(batch) - shift
        total += x.sum(0)
        outer += x.transpose(1, 2, 0) @ x.transpose(1, 0, 2)
        count += len(batch)
    offset = total / count
    outer -= count * offset[:, :, None] * offset[:, None, :]
    return _Moments(count, shift + offset, outer)


def _shrinkage(n: int, trace: Doubles, squares: Doubles, d: int) -> tuple[Doubles, Doubles]:
    """Covariance = share·scatter + ridge·I, from tr(scatter) and tr(scatter²) per position (last axis)."""
    spread = (n + 1 - 2 / d) * (squares - trace**2 / d)
    wanted = (1 - 2 / d) * squares + trace**2
    rho = np.where(spread > wanted, wanted / np.maximum(spread, TINY), 1.0)
    variance = trace / (d * (n - 1))
    ridge = rho * variance + FLOOR * variance.mean(-1, keepdims=True) + TINY
    return (1 - rho) / (n - 1), ridge


def held_out(
    features: Sequence[Floats],
    state: Mapping[str, np.ndarray],
    *,
    layout: Layout,
    copies: Copies = (),
    cancelled: Cancelled | None = None,
) -> Iterator[tuple[int, RawScore]]:
    """The number of each normal picture and copy, and its score against the Gaussians of the others, as if fitted without it.

    Exact, shrinkage included, without a refit: one eigendecomposition per position, then a rank-one downdate per picture.
    Nothing for fewer than three: of two, the other alone has no covariance, and the two distances would be one and the same.
    Raises FitCancelled.
    """
    index = state["index"]

    def chosen() -> Iterator[Floats]:
        for one in features:
            if cancelled is not None and cancelled():
                raise FitCancelled("the held-out scores were cancelled")
            yield checked(one)[:, index]

    moments = _moments(chosen())
    if moments is None or moments.pictures < 3:
        return
    n, mean, scatter = moments
    values, vectors = np.linalg.eigh(scatter)
    values = np.maximum(values, 0)
    d = values.shape[1]
    grow = n / (n - 1)
    trace, squares = values.sum(1), (values**2).sum(1)
    for number in range(n):
        taken, inverse, out = None, np.empty(0), np.empty(0)
        for at, one in numbered(features, copies, number):
            y = np.matmul((one[:, index] - mean)[:, None, :], vectors)[:, 0]  # the deviation, in the eigenbasis
            if taken is None:
                taken = y
                norm = (y**2).sum(1)
                fourth = squares - 2 * grow * (values * y**2).sum(1) + grow**2 * norm**2
                share, ridge = _shrinkage(n - 1, np.maximum(trace - grow * norm, 0), np.maximum(fourth, 0), d)
                inverse = 1 / (share[:, None] * values + ridge[:, None])
                out = share * grow / np.maximum(1 - share * grow * (inverse * y**2).sum(1), TINY)
            y = y + taken / (n - 1)  # about the mean of the others
            form = (inverse * y**2).sum(1) + out * (inverse * y * taken).sum(1) ** 2  # Sherman–Morrison
            raw = layout.raw(np.sqrt(form).astype(np.float32), "bilinear", peak=True)
            yield at, raw if TEMPLATE not in state else laid_back(raw, one, layout.view.rule)


class Padim(FromFeatures):
    """The line's PaDiM: onnxruntime features, Mahalanobis distances, separable map."""

    kind = "padim"

    def __init__(self, state: Mapping[str, np.ndarray], extractor: Extractor, layout: Layout) -> None:
        self._state = {name: np.ascontiguousarray(array) for name, array in state.items()}
        self._extractor, self._layout = extractor, layout
        self.nbytes = sum(array.nbytes for array in self._state.values()) + extractor.nbytes

    def score_features(self, features: Floats, timings: dict[str, float] | None = None) -> list[RawScore]:
        start = perf_counter()
        found = [self._distances(one) for one in features]
        searched = perf_counter()
        scores = [self._layout.raw(distances, "bilinear", peak=True) for distances in found]
        if TEMPLATE in self._state:
            scores = [laid_back(raw, one, self._layout.view.rule) for raw, one in zip(scores, features, strict=True)]
        if timings is not None:
            timings |= {"search": (searched - start) * 1e3, "map": (perf_counter() - searched) * 1e3}
        return scores

    def _distances(self, features: Floats) -> Floats:
        """Equation 2 at every position, `[P]`."""
        delta = features[:, self._state["index"]] - self._state["mean"]
        square = np.matmul(delta[:, None, :], self._state["precision"])[:, 0]
        square *= delta
        distances: Floats = np.sqrt(np.maximum(square.sum(1), 0))
        return distances
