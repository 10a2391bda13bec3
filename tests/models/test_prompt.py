"""A prompt comes out of its JSON as it went in."""

from __future__ import annotations

import json

import numpy as np
import pytest

from models.lmm.prompt import CELLS, SIDE, Picture, Prompt, Sight


def sight(seed: int, references: int = 2) -> Sight:
    rng = np.random.default_rng(seed)
    return Sight(
        part=rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8),
        references=rng.integers(0, 256, (references, SIDE, SIDE, 3), np.uint8),
        map=rng.random((CELLS, CELLS), np.float32),
        scalars=rng.random(4, np.float32),
    )


@pytest.mark.parametrize("references", [0, 2])
def test_a_prompt_survives_the_pipe(references: int) -> None:
    picture = Picture("the part", b"\x89PNG...")
    given = Prompt("system", "context", "Где дефект?", sight(0, references), (picture,), ("At the top.", "Nowhere."))
    back = Prompt.loaded(json.loads(json.dumps(given.dumped())))
    assert back.sha256 == given.sha256
    assert back.drafts == given.drafts and back.pictures == (picture,) and picture.media_type == "image/png"
    assert back.sight is not None and back.sight.part.dtype == np.uint8 and back.sight.references.shape[0] == references
    assert np.array_equal(back.sight.map, sight(0, references).map)


def test_each_part_of_a_prompt_is_in_its_digest() -> None:
    plain = Prompt("system", "context", "question")
    others = [
        Prompt("system", "context", "question", sight(0)),
        Prompt("system", "context", "question", sight(1)),
        Prompt("system", "context", "question", None, (Picture("a", b"b"),)),
        Prompt("system", "context", "other"),
    ]
    assert len({one.sha256 for one in (plain, *others)}) == 5
    assert Prompt("system", "context", "question", drafts=("a guess",)).sha256 == plain.sha256  # it is not read


def test_other_types_of_array_are_refused() -> None:
    values = sight(0).dumped()
    values["map"]["type"] = "object"
    with pytest.raises(ValueError, match="no array of object"):
        Sight.loaded(values)
