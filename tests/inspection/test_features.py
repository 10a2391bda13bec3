"""Features in a file: read back as they were made, in bounded memory, and refused where the disk is too small."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from inspection import features as module
from inspection.evidence import Cancelled, EnrolmentRefused
from inspection.features import Altered, features_file
from inspection.image import Pixels
from models import backbones
from models.experts import View, extractor

VIEW = View.square("efficientnet_lite0", 64)


def drawn(count: int) -> list[Pixels]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (70, 80, 3), dtype=np.uint8) for _ in range(count)]


def quiet(*_: object) -> None:
    pass


def test_features_come_back_as_they_were_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESIDENT", 1)  # the pages are given back after every picture
    pictures, told = drawn(5), []
    with features_file(
        iter(pictures), 5, "patchcore", VIEW, tmp_path, lambda *step: told.append(step), lambda: None, stage="s"
    ) as found:
        assert found.shape == (5, 64, 152) and len(found) == 5
        session = extractor("patchcore", VIEW)
        for pixels, one in zip(pictures, found, strict=True):
            batch = backbones.preprocess(pixels, session.spec, VIEW.size)[None]  # type: ignore[attr-defined]
            np.testing.assert_array_equal(one, session.features(batch)[0])
        some = found.of([4, 1])
        np.testing.assert_array_equal(some[0], found[4])
        np.testing.assert_array_equal(some[1:][0], found[1])
        assert [original for original, _ in Altered([3, 2], some)] == [3, 2]
        np.testing.assert_array_equal(Altered([3, 2], some)[1][1], found[1])
    assert told == [("s", n, 5) for n in range(1, 6)] and list(tmp_path.iterdir()) == []


def test_no_pictures_make_no_file(tmp_path: Path) -> None:
    with features_file(iter(()), 0, "patchcore", VIEW, tmp_path, quiet, lambda: None) as found:
        assert list(found) == []


def test_a_disk_that_is_too_small_is_said_at_the_first_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**6))
    told: list[object] = []
    with (
        pytest.raises(EnrolmentRefused, match=r"1,000 pictures take 0\.0 GB .* has 0\.0 GB left") as refused,
        features_file(iter(drawn(2)), 1000, "patchcore", VIEW, tmp_path, lambda *step: told.append(step), lambda: None),
    ):
        pass
    assert refused.value.details == {"needed": 1000 * 64 * 152 * 4, "free": 10**6} and told == []
    assert list(tmp_path.iterdir()) == []


def test_a_cancel_between_two_pictures_leaves_nothing(tmp_path: Path) -> None:
    seen: list[int] = []

    def pictures() -> Iterator[Pixels]:
        for pixels in drawn(3):
            seen.append(1)
            yield pixels

    def stop() -> None:
        if len(seen) == 2:
            raise Cancelled("stop")

    with pytest.raises(Cancelled), features_file(pictures(), 3, "patchcore", VIEW, tmp_path, quiet, stop):
        pass
    assert list(tmp_path.iterdir()) == []
