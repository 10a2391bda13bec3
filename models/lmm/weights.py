"""Our own trained parts on disk: `config.json` and safetensors, refused beside other frozen networks than theirs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from models import catalog
from models.backbones import spec
from models.catalog.errors import CatalogError
from models.lmm.config import Config
from models.lmm.language import WEIGHTS

if TYPE_CHECKING:
    import torch

NAME = "myriad"
FORMAT = "kensor-myriad/2"
FOLDER = Path(__file__).resolve().parent.parent / "weights" / "myriad"
"""The trained parts that come with the program."""
VISION = "dinov2_vits14"
_TENSORS = "trained.safetensors"


class AdapterRefused(CatalogError):
    """Trained parts that are absent, damaged, or were trained on other frozen weights."""

    code = "adapter_refused"


class Trained(NamedTuple):
    """Trained parts as read."""

    config: Config
    tensors: dict[str, torch.Tensor]
    """Float32, by name: `myriad.…` and `lora.…`."""
    sha256: str
    """Of the tensor file."""
    card: dict[str, Any]
    """How they came to be: command, seed, data, credits, figures."""


def frozen() -> dict[str, str]:
    """Digests of the frozen networks as the catalogue pins them."""
    entries = catalog.entries()
    return {"vision": entries[spec(VISION).weights].sha256, "language": entries[WEIGHTS].sha256}


def save(folder: Path, config: Config, tensors: dict[str, torch.Tensor], card: dict[str, Any]) -> str:
    """Write the trained parts in float16; the digest of the tensor file. Each file is there whole or not at all."""
    import torch
    from safetensors.torch import save as packed

    folder.mkdir(parents=True, exist_ok=True)
    data = packed({name: value.detach().to("cpu", torch.float16).contiguous() for name, value in tensors.items()})
    digest = hashlib.sha256(data).hexdigest()
    values = {"format": FORMAT, "config": asdict(config), "frozen": frozen(), "sha256": digest, "card": card}
    for name, content in ((_TENSORS, data), ("config.json", json.dumps(values, indent=1, ensure_ascii=False).encode() + b"\n")):
        scratch = folder / f".{name}.part"
        scratch.write_bytes(content)
        scratch.replace(folder / name)
    return digest


def load(folder: Path = FOLDER) -> Trained:
    """Read and verify. Raises AdapterRefused."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load as unpacked

    try:
        values = json.loads((folder / "config.json").read_bytes())
        data = (folder / _TENSORS).read_bytes()
        if values["format"] != FORMAT:
            raise AdapterRefused(f"The trained parts' format is {values['format']!r}; this version reads {FORMAT}.")
        if values["frozen"] != frozen():
            raise AdapterRefused("The trained parts were trained on other weights of the frozen networks: they do not fit these.")
        if hashlib.sha256(data).hexdigest() != values["sha256"]:
            raise AdapterRefused("The trained parts are not the ones that their config.json names.")
        kept = {**values["config"], "trunk": tuple(values["config"]["trunk"])}
        config = Config(**{**kept, "lora_targets": tuple(kept["lora_targets"])})
        tensors = {name: value.to(torch.float32) for name, value in unpacked(data).items()}
    except OSError as error:
        raise AdapterRefused(f"The trained parts cannot be read: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise AdapterRefused(f"The trained parts are damaged: {type(error).__name__}: {error}") from error
    return Trained(config, tensors, values["sha256"], values["card"])
