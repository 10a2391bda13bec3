"""A memory bank ready for nearest search: exact, or by lists with the distances that decide verified."""

from __future__ import annotations

import base64
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import runtime

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]

BLOCK = 1 << 19  # similarities held at once by a search: 2 MiB, which the processor's cache holds until they are read
ROWS = 2048  # of the table in one product: more would leave the processor's cache
EXACT_ROWS = 5000
"""Up to here the whole bank is looked through: lists would gain little."""
PROBED = 6
"""One list in so many is looked into for each query."""
_SAMPLE = 64  # rows a list that k-means is run on
_ROUNDS = 8
_VERIFIED = 8  # queries looked for in the whole bank at once

# onnx.helper's model of Gemm(x [Q, D], y [M, D], transB=1): importing onnx costs a service 12 MiB
_GEMM = base64.b64decode(
    "CAg6aAoeCgF4CgF5EgF6IgRHZW1tKg0KBnRyYW5zQhgBoAECEgFwWhUKAXgSEAoOCAESCgoDEgFxCgMSAWRa"
    "FQoBeRIQCg4IARIKCgMSAW0KAxIBZGIVCgF6EhAKDggBEgoKAxIBcQoDEgFtQgQKABAR"
)


@lru_cache
def _product(threads: int) -> Any:
    return runtime.session(_GEMM, threads)


class Bank:
    """A memory bank `[M, D]` ready for search.

    Nearest is argmax(x·y − |y|²/2), one matrix product: onnxruntime's, whose kernels know more processors than NumPy's.
    Features lie far from zero beside their differences, so both sides are taken about the bank's mean first, and the winner's
    distance from the difference itself: nothing cancels. A bank of more than `EXACT_ROWS` is also sorted into k-means lists
    (the inverted file of Jégou et al. 2011, without their codes), the same at each load. To be used by one thread at a time.
    """

    def __init__(self, rows: Floats, threads: int = 1) -> None:
        if not len(rows):
            raise ValueError("an empty memory bank has no nearest row")
        self._product = _product(threads)
        self._centre = rows.mean(0)
        self._order = np.arange(len(rows))
        self._places: Floats | None = None
        about = rows - self._centre
        if len(rows) > EXACT_ROWS:
            places = _k_means(about, round(len(rows) ** 0.5), threads)
            _, owner = Bank(places, threads).nearest(about)
            self._order = np.argsort(owner, kind="stable")
            self._bounds = np.searchsorted(owner[self._order], np.arange(len(places) + 1))
            self._places, about = _table(places), about[self._order]
        self._table = _table(about)
        self.nbytes = self._table.nbytes + 4 * BLOCK

    def nearest(self, queries: Floats) -> tuple[Floats, Numbers]:
        """Each query's Euclidean distance to its nearest row and that row's number, `[Q]` each; NaN for a NaN query."""
        asked, best, index = self._asked(queries)
        for start in range(0, len(self._table), ROWS):
            self._try(start, min(start + ROWS, len(self._table)), None, asked, best, index)
        return self._distances(asked, index)

    def search(self, queries: Floats, sure: int = 1) -> Floats:
        """Each query's distance to its nearest row `[Q]`, of which the `sure` largest are exact; NaN for a NaN query.

        In a bank of at most `EXACT_ROWS` all are exact. In a larger one a query looks into the lists nearest to it, and what
        it finds there is an upper bound. From the largest bound down the whole bank is looked through, until the `sure`
        largest found so are no smaller than any bound left.
        """
        if self._places is None:
            return self.nearest(queries)[0]
        asked, best, index = self._asked(queries)
        lists = len(self._places)
        probes = -(-lists // PROBED)
        (likeness,) = self._product.run(None, {"x": asked, "y": self._places})
        probed = np.argpartition(likeness, -probes, 1)[:, -probes:].ravel()
        visits = np.argsort(probed.astype(np.uint16), kind="stable")  # 16 bits are sorted by counting
        ends = np.searchsorted(probed[visits], np.arange(lists + 1))
        for n in range(lists):
            self._try(self._bounds[n], self._bounds[n + 1], visits[ends[n] : ends[n + 1]] // probes, asked, best, index)
        distances, _ = self._distances(asked, index)
        falling = np.argsort(-distances)[: len(distances) - np.isnan(distances).sum()]
        done, sure = 0, min(sure, len(falling))
        while done < len(falling):
            if done >= sure and np.sort(distances[falling[:done]])[-sure] >= distances[falling[done]]:
                break
            some = falling[done : max(sure, done + _VERIFIED)]
            distances[some], _ = self.nearest(queries[some])
            done += len(some)
        return distances

    def _asked(self, queries: Floats) -> tuple[Floats, Floats, Numbers]:
        """The queries about the centre `[Q, D + 1]`, and nothing found yet."""
        asked = np.ones((len(queries), self._table.shape[1]), np.float32)
        np.subtract(queries, self._centre, out=asked[:, :-1])
        return asked, np.full(len(queries), -np.inf, np.float32), np.zeros(len(queries), np.int64)

    def _try(self, start: int, stop: int, who: Numbers | None, asked: Floats, best: Floats, index: Numbers) -> None:
        """Let the table's rows from `start` to `stop` try for the queries `who` (`None`: all); `BLOCK` similarities at once."""
        count, step = len(asked) if who is None else len(who), max(1, BLOCK // max(1, stop - start))
        for q in range(0, count if stop > start else 0, step):
            some = slice(q, q + step) if who is None else who[q : q + step]
            (similarity,) = self._product.run(None, {"x": asked[some], "y": self._table[start:stop]})
            winner = similarity.argmax(1)
            found = similarity[np.arange(len(winner)), winner]
            better = found > best[some]
            best[some] = np.where(better, found, best[some])
            index[some] = np.where(better, winner + start, index[some])

    def _distances(self, asked: Floats, index: Numbers) -> tuple[Floats, Numbers]:
        difference = (asked - self._table.take(index, 0))[:, :-1]
        return np.sqrt(np.einsum("qd,qd->q", difference, difference)), self._order[index]


def _table(points: Floats) -> Floats:
    """Points `[M, D]` and −|y|²/2 `[M, D + 1]`."""
    return np.concatenate([points, np.einsum("md,md->m", points, points)[:, None] / -2], 1)


def _k_means(points: Floats, places: int, threads: int) -> Floats:
    """Lloyd's centres `[places, D]` of a sample of the points, drawn by a fixed seed."""
    rng = np.random.default_rng(0)
    sample = points[np.sort(rng.choice(len(points), min(len(points), _SAMPLE * places), replace=False))]
    centres = sample[np.sort(rng.choice(len(sample), places, replace=False))]
    for _ in range(_ROUNDS):
        _, owner = Bank(centres, threads).nearest(sample)
        order = np.argsort(owner, kind="stable")
        held, starts, counts = np.unique(owner[order], return_index=True, return_counts=True)
        centres[held] = np.add.reduceat(sample[order], starts) / counts[:, None]
    return centres
