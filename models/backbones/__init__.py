"""Frozen networks that turn a picture into a grid of patch features: one preprocessing, a torch module, an exported graph."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from models import catalog
from models.catalog import files, packages

if TYPE_CHECKING:
    import torch

GRAPHS = 2
"""Raised when the exported graph changes its meaning, so that old ones are made again."""
Precision = Literal["float32", "int8"]
PRECISIONS: tuple[Precision, ...] = ("float32", "int8")
FUSED = "fused"
"""Stands where a backbone's name does for two that look at a picture together (models/experts/fused.py)."""


@dataclass(frozen=True)
class BackboneSpec:
    """What must be known of a backbone without loading it."""

    name: str
    weights: str
    """Its name in the catalogue."""
    architecture: str
    """timm's name of the network the weights fit."""
    layers: tuple[str, ...]
    width: int
    """Length D of a patch feature."""
    stride: int
    """Pixels from one patch to the next."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    l2_normalised: bool
    image_size: int
    """Default side of the square input."""

    def grid(self, size: int) -> tuple[int, int]:
        """Rows and columns of patches for a picture of `size`. Raises ValueError where the network cannot take that size."""
        if size < 4 * self.stride or (self.l2_normalised and size % self.stride):
            way = f"a multiple of {self.stride}, at least" if self.l2_normalised else "at least"
            raise ValueError(f"{self.name} takes picture sizes of {way} {4 * self.stride}, not {size}")
        side = -(-size // self.stride)
        return side, side


_HALF = (0.5, 0.5, 0.5)
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CATALOGUED = {
    "efficientnet_lite0": BackboneSpec(
        name="efficientnet_lite0",
        weights="efficientnet_lite0",
        architecture="tf_efficientnet_lite0",
        layers=("blocks.2", "blocks.4"),
        width=40 + 112,
        stride=8,
        mean=_HALF,
        std=_HALF,
        l2_normalised=False,
        image_size=224,
    ),
    "dinov2_vits14": BackboneSpec(
        name="dinov2_vits14",
        weights="dinov2_vits14",
        architecture="vit_small_patch14_dinov2",
        layers=("blocks.8",),  # the saliency fine-tuning flattened the later ones
        width=384,
        stride=14,
        mean=_IMAGENET[0],
        std=_IMAGENET[1],
        l2_normalised=True,
        image_size=224,
    ),
}


def members(name: str) -> tuple[str, ...]:
    """The backbones that look together under that name; most stand for themselves alone."""
    return tuple(_CATALOGUED) if name == FUSED else (name,)


def spec(name: str) -> BackboneSpec:
    """The backbone of that name: a catalogued one, or timm's `resnet18`, `timm:resnet18`, `timm:resnet18:layer1+layer2`.

    timm's are asked of timm once and then remembered, so that a recipe on them is served without torch. Raises UnknownWeight.
    """
    if name in _CATALOGUED:
        return _CATALOGUED[name]
    if name == FUSED:
        raise catalog.UnknownWeight(f"{name!r} is no backbone but several: {' and '.join(members(name))}.", name=name)
    if not re.fullmatch(r"(timm:)?[a-z]\w*(\.\w+)?(:[\w.]+(\+[\w.]+)*)?", name):
        raise catalog.UnknownWeight(
            f"{name!r} is no backbone's name; write {', '.join(_CATALOGUED)} or timm:resnet18.", name=name
        )
    known = catalog.home() / "backbones" / f"{name.removeprefix('timm:').replace(':', '-')}-{GRAPHS}.json"
    with contextlib.suppress(OSError, ValueError, TypeError):
        said: dict[str, Any] = json.loads(known.read_text())
        values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in said.items()}
        return BackboneSpec(**values)
    from models.backbones import networks

    architecture, _, layers = name.removeprefix("timm:").partition(":")
    found = networks.describe(architecture, tuple(layers.split("+")) if layers else ("layer2", "layer3"))
    with contextlib.suppress(OSError):
        known.parent.mkdir(parents=True, exist_ok=True)
        with files.replaced(known) as path:
            path.write_text(json.dumps(asdict(found)))
    return found


def pull(name: str, progress: catalog.Progress | None = None) -> Path:
    """Put a backbone's weights on the shelf and export its graph at the default size. Raises as `catalog.pull`."""
    catalog.pull(spec(name).weights, progress)
    return graph(name, spec(name).image_size)


def preprocess(image: NDArray[np.uint8], spec: BackboneSpec, size: int | tuple[int, int]) -> NDArray[np.float32]:
    """Resize an RGB picture `[H, W, 3]` to a square, or to rows and columns, and normalise it for the backbone → `[3, h, w]`.

    An axis that shrinks is averaged over area, one that grows is interpolated. Every runtime starts from this.
    """
    return normalised(resized(image, size), spec)


def resized(image: NDArray[np.uint8], size: int | tuple[int, int]) -> NDArray[np.uint8]:
    """The first half of `preprocess`: `[H, W, 3]` → `[h, w, 3]`, in bytes; the picture itself where it has that size."""
    height, width = image.shape[:2]
    rows, columns = (size, size) if isinstance(size, int) else size
    smaller = (min(width, columns), min(height, rows))
    if smaller != (width, height):
        image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    if smaller != (columns, rows):
        image = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    return image


def normalised(image: NDArray[np.uint8], spec: BackboneSpec) -> NDArray[np.float32]:
    """The second half: `[h, w, 3]` → `[3, h, w]`."""
    planes = np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32)
    std = np.array(spec.std, np.float32)[:, None, None]
    planes /= 255 * std
    planes -= np.array(spec.mean, np.float32)[:, None, None] / std
    return planes


def build(name: str) -> torch.nn.Module:
    """The backbone in torch: pictures `[B, 3, H, W]`, preprocessed → patch features `[B, D, h, w]`; frozen, in eval mode.

    A CNN's layers are averaged over 3×3 neighbours, brought to the first layer's grid and joined (PatchCore, section 3.1).
    A ViT gives one block's tokens, scaled to length 1. Raises catalog.WeightsMissing, catalog.DigestMismatch.
    """
    from models.backbones import networks

    known = spec(name)
    return networks.features(known, catalog.locate(known.weights) / catalog.TENSORS)


def graph(name: str, size: int, precision: Precision = "float32") -> Path:
    """The backbone as an ONNX file for pictures of one size, any batch: `[B, 3, size, size]` → `[B, h*w, D]`, float32.

    With `int8` a ViT's products with its weights are of whole numbers: twice as fast, and other features, so a recipe keeps
    to one precision. Numbers are scaled by the whole batch there: features are the same only one picture at a time.
    Made once, in a process of its own so that the caller never imports torch; made again when the file was changed.
    Raises as `build`, ValueError for a size or precision the backbone cannot take, and catalog.PullFailed.
    """
    known = spec(name)
    known.grid(size)
    if precision == "int8" and not known.l2_normalised:
        raise ValueError(f"int8 is for transformers (dinov2_vits14), which {name} is not; take float32")
    folder = catalog.locate(known.weights)
    made_of = [GRAPHS, asdict(known), catalog.entries()[known.weights].sha256]
    kind = "" if precision == "float32" else f"-{precision}"
    key = hashlib.sha256(json.dumps([*made_of, *([precision] if kind else [])]).encode()).hexdigest()[:12]
    path = catalog.home() / "graphs" / f"{folder.name}-{size}{kind}-{key}.onnx"
    if not _intact(path):
        source = ["graph", name, str(size)] if precision == "float32" else [precision, str(graph(name, size))]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):
                if not _intact(path):
                    for stale in path.parent.glob(f".{path.name}-*"):
                        stale.unlink(missing_ok=True)  # of a killed export: the lock is ours
                    with files.replaced(path) as scratch:
                        packages.convert([*source, str(scratch)], what=f"export {name} at {size} px")
                    files.trust(path.with_suffix(".json"), {path.name: files.file_sha256(path)})
        except OSError as error:
            raise catalog.PullFailed(
                f"The graph of {name} could not be written to {path.parent}: {error.strerror or error}."
            ) from error
    return path


def _intact(path: Path) -> bool:
    """Whether the graph is the one that was exported: by size and time, and by digest where those changed."""
    marker = path.with_suffix(".json")
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        digest = json.loads(marker.read_text())[path.name][0]
        if files.trusted(marker, {path.name: digest}):
            return True
        if files.file_sha256(path) == digest:
            with contextlib.suppress(OSError):
                files.trust(marker, {path.name: digest})
            return True
    return False
