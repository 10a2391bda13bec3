"""What an English question is about: a linear classifier on hashed n-grams (Weinberger et al. 2009; Joulin et al. 2016)."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

Floats = NDArray[np.float64]

FILE = Path(__file__).resolve().parent / "weights" / "topics.safetensors"
"""The topics that come with the program, as `kensor train-topics` makes them."""
BUCKETS = 1 << 15
LONGEST_WORD = 24
"""Characters of a word that are looked at."""
_WORDS = re.compile(r"[a-z']+|[?!]|0+")


def _grams(words: Sequence[str]) -> Iterator[Iterator[str]]:
    """One to three words in a row; two to five characters of a word with its ends."""
    yield (" ".join(words[at : at + n]) for n in (1, 2, 3) for at in range(len(words) - n + 1))
    padded = [f"_{word[:LONGEST_WORD]}_" for word in words]
    yield (word[at : at + n] for word in padded for n in (2, 3, 4, 5) for at in range(len(word) - n + 1))


def buckets(text: str) -> dict[int, float]:
    """Bucket → weight; words and characters have a length of 1 each."""
    words = _WORDS.findall(re.sub(r"\d", "0", text.lower()))
    found: dict[int, float] = {}
    for family, grams in enumerate(_grams(words)):
        distinct = dict.fromkeys(grams)
        for gram in distinct:
            bucket = zlib.crc32(gram.encode(), family) % BUCKETS
            found[bucket] = found.get(bucket, 0.0) + len(distinct) ** -0.5
    return found


class Topics:
    """Names and their weights: `[BUCKETS, N]` and a bias `[N]`."""

    def __init__(self, names: Sequence[str], weights: NDArray[np.floating], bias: Floats) -> None:
        self.names, self._weights, self._bias = tuple(names), weights, bias

    def __call__(self, text: str) -> dict[str, float]:
        """Each topic's probability."""
        found = buckets(text)
        logits = self._bias + np.array(list(found.values())) @ self._weights[list(found)].astype(np.float64)
        odds = np.exp(logits - logits.max())
        return dict(zip(self.names, (odds / odds.sum()).tolist(), strict=True))

    @classmethod
    def load(cls, path: Path = FILE) -> Topics:
        """As `save` left it."""
        with safe_open(path, "np") as file:
            return cls(file.metadata()["names"].split(), file.get_tensor("weights"), file.get_tensor("bias"))

    def save(self, path: Path = FILE) -> None:
        """Weights in half precision. The file is there whole or not at all."""
        tensors: dict[str, NDArray[Any]] = {"weights": self._weights.astype(np.float16), "bias": self._bias.astype(np.float64)}
        scratch = path.with_suffix(".part")
        save_file(tensors, scratch, {"names": " ".join(self.names)})
        scratch.replace(path)


def fit(
    texts: Sequence[str],
    names: Sequence[str],
    tell: Callable[[int, int], None] = lambda done, total: None,
    strength: float = 64.0,
    steps: int = 1000,
) -> Topics:
    """Multinomial logistic regression with a Gaussian prior, by L-BFGS; `strength`: the weight of the data against the prior.

    It converges, so that another machine comes to the same weights; `steps` is a bound that is not met.
    """
    from scipy.optimize import minimize
    from scipy.sparse import csr_array
    from scipy.special import log_softmax

    rows = [buckets(text) for text in texts]
    columns, values = [bucket for row in rows for bucket in row], [value for row in rows for value in row.values()]
    x = csr_array((values, columns, np.cumsum([0, *map(len, rows)])), (len(rows), BUCKETS))
    known = sorted(set(names))
    truth = np.array(names)[:, None] == np.array(known)
    done = count()

    def loss(flat: Floats) -> tuple[float, Floats]:
        weights = flat.reshape(BUCKETS + 1, len(known))
        logs = log_softmax(x @ weights[:-1] + weights[-1], 1)
        off = strength * (np.exp(logs) - truth)
        slope = np.concatenate((x.T @ off + weights[:-1], off.sum(0, keepdims=True)))
        return float((weights[:-1] ** 2).sum() / 2 - strength * logs[truth].sum()), slope.ravel()

    found = minimize(
        loss,
        np.zeros((BUCKETS + 1) * len(known)),
        jac=True,
        method="L-BFGS-B",
        callback=lambda _: tell(next(done) + 1, steps),
        options={"maxiter": steps},
    ).x.reshape(-1, len(known))
    tell(steps, steps)
    return Topics(known, found[:-1], found[-1])
