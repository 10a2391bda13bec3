"""The data card of a cache of episodes: what is in it, where its pictures come from, and digests by which it is known again."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from inspection.episodes import shards
from inspection.evidence import EnrolmentRefused
from inspection.products import Product
from models.catalog.files import file_sha256, replaced


def beside(folder: Path) -> Path:
    """Where the card of a cache stands: beside it, so that the folder holds episodes and nothing else."""
    return folder.absolute().with_name(f"{folder.absolute().name}.card.json")


def begin(folder: Path, catalogue: Sequence[Product], seed: int) -> None:
    """Raise EnrolmentRefused where `folder` holds episodes of another seed or other products; else note these in its card."""
    stamp = {"seed": seed, "products_sha256": _digest(catalogue)}
    if beside(folder).exists():
        known = json.loads(beside(folder).read_bytes())
        other = [name for name, value in stamp.items() if known.get(name) != value]
        if other:
            raise EnrolmentRefused(f"{folder} holds other episodes ({', '.join(other)}): take a new folder.", differs=other)
        return
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder, stamp)


def write(folder: Path, catalogue: Sequence[Product], seed: int) -> dict[str, Any]:
    """Count what `folder` holds and write its card; returns it."""
    counts: dict[str, Counter[str]] = {
        name: Counter() for name in ("source", "kind", "normals", "expert", "verdict", "defect", "split")
    }
    used, whole = set[str](), hashlib.sha256()
    for path in shards(folder):
        one = json.loads(path.read_bytes())
        used.add(one["product"])
        whole.update(f"{path.name} {file_sha256(path)} {file_sha256(path.with_suffix('.safetensors'))}\n".encode())
        expert = one["expert"]
        counts["source"][one["source"]] += 1
        counts["kind"][one["product"].rsplit("/", 1)[0]] += 1
        counts["normals"][str(one["normals"])] += 1
        counts["expert"][f"{expert['expert']} {expert['backbone']} {expert['image_size']} {expert['augment']}"] += 1
        counts["split"]["held out" if one["held_out"] else "training"] += 1
        for sample in one["samples"]:
            truth = sample["truth"]
            counts["verdict"][f"{'defective' if truth['defective'] else 'sound'}: {sample['evidence']['verdict']}"] += 1
            counts["defect"][truth["kind"] or "none"] += 1
    shown = [product for product in catalogue if product.name in used]
    card = {
        "seed": seed,
        "products_sha256": _digest(catalogue),
        "made_by": f"kensor {version('kensor')}",
        "episodes": sum(counts["split"].values()),
        "samples": sum(counts["verdict"].values()),
        "products": {"training": sum(not p.held_out for p in shown), "held out": sum(p.held_out for p in shown)},
        "counts": {name: dict(sorted(found.items())) for name, found in counts.items()},
        "credits": sorted({product.credit for product in shown}),
        "folders": {product.name: {"pictures": product.size, "sha256": product.digest} for product in shown if product.files},
        "episodes_sha256": whole.hexdigest(),
    }
    _write(folder, card)
    return card


def _digest(catalogue: Sequence[Product]) -> str:
    return hashlib.sha256("\n".join(product.digest for product in catalogue).encode()).hexdigest()


def _write(folder: Path, card: dict[str, Any]) -> None:
    with replaced(beside(folder)) as scratch:
        scratch.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
