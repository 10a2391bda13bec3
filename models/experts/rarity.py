"""Zero-shot: how rare a patch is within its own picture, for the time before any normal picture exists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from time import perf_counter

import numpy as np

from models.experts.base import Copies, Extractor, FeaturesRefused, Floats, FromFeatures, RawScore, State, checked, numbered
from models.experts.layout import Layout

SHARE = 0.03
"""Of the picture's other patches: the nearest, whose mean distance is a patch's rarity."""
ZERO_SHOT = "zero_shot"
_BLOCK = 1 << 21  # distances held at once


def fit_rarity() -> State:
    """The state: `share` `[1]`. There is nothing to fit: no normal picture says what is rare."""
    return {"share": np.array([SHARE], np.float32)}


def rarity(features: Floats, share: float) -> Floats:
    """Each patch's mean distance to its nearest others, `share` of them and at least one: `[P, D]` → `[P]`.

    After the mutual scoring of unlabelled pictures (Li et al. 2024, MuSc, section 3.2), with one picture in place of many.
    Raises FeaturesRefused for fewer than two patches.
    """
    if len(features) < 2:
        raise FeaturesRefused("a single patch has no others to be rare among")
    nearest = max(1, round(share * (len(features) - 1)))
    about = features - features.mean(0)
    square = np.einsum("pd,pd->p", about, about)
    found = np.empty(len(features), np.float32)
    step = max(1, _BLOCK // len(features))
    for start in range(0, len(features), step):
        part = slice(start, start + step)
        gap = square[part, None] + square - 2 * about[part] @ about.T
        gap[np.arange(len(gap)), start + np.arange(len(gap))] = np.inf  # not among itself
        close = np.partition(gap, nearest - 1, 1)[:, :nearest]
        found[part] = np.sqrt(np.maximum(close, 0)).mean(1)
    return found


def held_out(
    features: Sequence[Floats], state: Mapping[str, np.ndarray], *, layout: Layout, copies: Copies = ()
) -> Iterator[tuple[int, RawScore]]:
    """The number of each normal picture and copy, and its score: held out by nature, as no picture has a part in another's."""
    share = float(state["share"][0])
    for number in range(len(features)):
        for at, one in numbered(features, copies, number):
            yield at, _raw(one, share, layout)


def notes(normals: int) -> tuple[str, ...]:
    """What a person should know of a recipe made with `normals` pictures, as sentences."""
    told = f"the {normals} normal pictures only set its limits" if normals else "no normal picture was looked at"
    note = (
        f"Zero-shot: {told}. It marks what a picture shows only once, and whether that is a defect a person says: every part is "
        f"reviewed (`{ZERO_SHOT}`), none passes. Image AUROC on development pictures: hazelnuts 1.00, screws .95, cashews with "
        "drawn defects .95, cookies .93, drawn parts .98 to 1.00; circuit boards .52, chance. Enroll PatchCore as "
        "soon as there are normal pictures."
    )
    return (note,)


class Rarity(FromFeatures):
    """The line's zero-shot expert: onnxruntime features, rarity within the picture, separable map."""

    kind = "zeroshot"

    def __init__(self, state: Mapping[str, np.ndarray], extractor: Extractor, layout: Layout) -> None:
        """Raises ValueError for a state that holds no share between 0 and 1."""
        self._share = float(state["share"].item())
        if not 0 < self._share <= 1:
            raise ValueError(f"a share of {self._share:g} of the other patches")
        self._state, self._extractor, self._layout = dict(state), extractor, layout
        self.nbytes = extractor.nbytes + 8 * _BLOCK

    def score_features(self, features: Floats, timings: dict[str, float] | None = None) -> list[RawScore]:
        start = perf_counter()
        scores = [_raw(checked(one), self._share, self._layout) for one in features]
        if timings is not None:
            timings |= {"search": (perf_counter() - start) * 1e3, "map": 0.0}
        return scores


def _raw(features: Floats, share: float, layout: Layout) -> RawScore:
    return layout.raw(rarity(features, share), "bilinear", peak=True)._replace(reasons=(ZERO_SHOT,))
