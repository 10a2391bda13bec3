"""Backbones through torch, as on a GPU: here on torch's processor, whose name `cpu:0` is not the line's `cpu`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_parts import part

from inspection.enrolment import enroll
from inspection.features import features_file
from inspection.inspector import Inspector
from inspection.options import EnrolOptions
from models import backbones
from models.accelerator import Network, reason
from models.catalog import DeviceUnavailable
from models.experts import View, extractor
from models.experts.tiles import prepared
from models.runtime import Backbone, together

SIDE = 112
WHICH = ((30,), (31, "missing"))


@pytest.fixture
def torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KENSOR_DEVICE", "cpu:0")


def noise(count: int, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 3, side, side)).astype(np.float32)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "dinov2_vits14"])
def test_features_are_those_of_the_graph(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    line = Backbone(name, SIDE)
    monkeypatch.setenv("KENSOR_DEVICE", "cpu:0")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # restored afterwards
    torchs = Backbone(name, SIDE)
    assert torch.backends.cudnn.enabled and not torch.backends.cudnn.allow_tf32
    batch = noise(together() + 3)
    ours, theirs = line.features(batch), torchs.features(batch)
    assert theirs.shape == ours.shape == (19, line.grid[0] * line.grid[1], line.spec.width) and theirs.dtype == np.float32
    assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(ours).max()
    assert torchs.nbytes > 1_000_000


@pytest.mark.parametrize(
    "options", [EnrolOptions(image_size=SIDE, coreset=200), EnrolOptions(backbone="fused", image_size=64, coreset=200)]
)
def test_a_recipe_made_on_one_is_served_on_the_other(
    options: EnrolOptions, normals: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KENSOR_DEVICE", "cpu:0")
    enroll(normals[:6], tmp_path / "r", product="cap", options=options)
    there = [Inspector.load(tmp_path / "r").inspect(part(*which)) for which in WHICH]
    monkeypatch.delenv("KENSOR_DEVICE")
    here = [Inspector.load(tmp_path / "r").inspect(part(*which)) for which in WHICH]  # golden scores hold here too
    for one, other in zip(there, here, strict=True):
        assert one.raw_score == pytest.approx(other.raw_score, rel=1e-3) and one.verdict == other.verdict


@pytest.mark.usefixtures("torchs")
def test_pictures_and_tiles_go_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    run = Network.__call__
    monkeypatch.setattr(Network, "__call__", lambda self, images: (seen.append(len(images)), run(self, images))[1])
    pictures = np.random.default_rng(1).integers(0, 255, (18, 70, 70, 3), dtype=np.uint8)
    view, told = View.square("efficientnet_lite0", 64), []
    with features_file(iter(pictures), 18, "patchcore", view, tmp_path, lambda *step: told.append(step), lambda: None) as file:
        assert seen == [16, 2] and told == [("features", 16, 18), ("features", 18, 18)]
        alone = extractor("patchcore", view).features(prepared(pictures[17], view))[0]
        assert np.abs(file[17] - alone).max() <= 1e-4 * np.abs(alone).max()
    seen.clear()
    tiled = View("efficientnet_lite0", (256, 256), 64)
    extractor("patchcore", tiled).features(np.zeros((1, 256, 256, 3), np.uint8))
    assert len(seen) > 1 and max(seen) == 16


def test_int8_stays_on_the_processor(torchs: None) -> None:
    spec = backbones.spec("dinov2_vits14")
    image = backbones.preprocess(np.zeros((SIDE, SIDE, 3), np.uint8), spec, SIDE)[None]
    there = Backbone(spec.name, SIDE, precision="int8").features(image)
    assert there.shape == (1, 64, 384) and np.abs(there - Backbone(spec.name, SIDE).features(image)).max() > 1e-3


def test_a_device_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KENSOR_DEVICE", "cuda:97")
    assert reason("cuda:97") and not reason("cpu:0")
    with pytest.raises(DeviceUnavailable, match=r"KENSOR_DEVICE is cuda:97, which cannot be used: .*Unset it") as refused:
        Backbone("efficientnet_lite0", SIDE)
    assert refused.value.details == {"device": "cuda:97"} and "\n" not in str(refused.value)
