"""The line's runtime against anomalib's own models: the same pictures through both."""

from __future__ import annotations

import numpy as np
import pytest
from skimage import data

from models import backbones
from models.experts import FeaturesRefused, View, fit, held_out, load_expert
from models.runtime import Backbone

SIZE = 224


def crops(spec: backbones.BackboneSpec) -> np.ndarray:
    """Twelve windows of one photograph, preprocessed: alike, but no two the same."""
    wall = np.repeat(data.brick()[:, :, None], 3, 2)
    windows = [wall[y : y + 300, x : x + 300] for y in (0, 70, 140, 210) for x in (0, 90, 180)]
    return np.stack([backbones.preprocess(np.ascontiguousarray(window), spec, SIZE) for window in windows])


@pytest.mark.filterwarnings("ignore")  # anomalib's imports
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["efficientnet_lite0", "dinov2_vits14"])
def test_both_runtimes_score_alike(name: str) -> None:
    backbone = Backbone(name, SIZE)
    pictures = crops(backbone.spec)
    normal, unseen = list(backbone.features(pictures[:8])), pictures[8:].copy()
    unseen[0, :, 60:90, 100:140] = 1.5  # a patch no brick has
    for kind in ("patchcore", "padim"):
        state = fit(kind, normal, rows=1000)
        line = load_expert(kind, state, View.square(name, SIZE))
        torch = load_expert(kind, state, View.square(name, SIZE), runtime="torch")
        spent: dict[str, float] = {}
        ours, theirs = line.score(unseen, spent), torch.score(unseen)
        assert set(spent) == {"features", "search", "map"} and min(spent.values()) > 0
        for mine, oracle in zip(ours, theirs, strict=True):
            assert mine.score == pytest.approx(oracle.score, rel=1e-4)
            assert np.abs(mine.map - oracle.map).max() <= 1e-4 * oracle.map.max()
            assert mine.map.shape == oracle.map.shape == (SIZE, SIZE) and mine.map.dtype == np.float32
            assert mine.patches.shape == oracle.patches.shape == backbone.grid
        assert ours[0].score > max(raw.score for raw in ours[1:])
        # from the same features, without either backbone
        features = backbone.features(unseen)
        for mine, oracle in zip(line.score_features(features), torch.score_features(features), strict=True):
            assert mine.score == pytest.approx(oracle.score, rel=1e-5)
            assert np.abs(mine.map - oracle.map).max() <= 1e-5 * oracle.map.max()
        assert {n: a.tobytes() for n, a in line.state().items()} == {n: a.tobytes() for n, a in state.items()}
        assert line.nbytes > sum(array.nbytes for array in state.values())
        scored = dict(held_out(kind, normal, state, view=View.square(name, SIZE)))
        assert sorted(scored) == list(range(8)) and scored[0].map.shape == (SIZE, SIZE)
        for expert in (line, torch):
            with pytest.raises(FeaturesRefused, match="not finite"):
                expert.score(np.full_like(unseen[:1], np.nan))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(600)
def test_our_features_are_anomalibs_own_embedding() -> None:
    """Its extractor, pooling and concatenation with the same weights, hub never asked."""
    import torch
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    backbone = Backbone("efficientnet_lite0", SIZE)
    model = PatchcoreModel(backbone=backbone.spec.architecture, layers=list(backbone.spec.layers), pre_trained=False).train()
    ours = backbones.build("efficientnet_lite0")
    model.feature_extractor.feature_extractor.load_state_dict(ours.network.state_dict())  # type: ignore[union-attr, operator]
    pictures = crops(backbone.spec)[:2]
    embedding = model(torch.from_numpy(pictures)).numpy()  # in training mode it gives the embedding back
    line = backbone.features(pictures).reshape(embedding.shape)
    assert np.abs(line - embedding).max() <= 1e-5 * np.abs(embedding).max()
