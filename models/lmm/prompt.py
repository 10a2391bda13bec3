"""What a language engine is given: words, what the built-in model sees, and pictures for models that look for themselves."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

SIDE = 224
"""Pixels of the square pictures in a `Sight`."""
CELLS = 56
"""Cells of the square map in a `Sight`."""


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """One inspection as the built-in model sees it. Arrays alone, so that it travels between processes."""

    part: NDArray[np.uint8]
    """The picture, RGB `[224, 224, 3]`."""
    references: NDArray[np.uint8]
    """Normal pictures of the product, RGB `[R, 224, 224, 3]`; R may be 0."""
    map: NDArray[np.float32]
    """Anomaly map `[56, 56]` over the reject limit: 1 is the limit. Over its own peak where there is no limit."""
    scalars: NDArray[np.float32]
    """`[4]`: logs of raw score over reject limit, over review limit, of map peak over reject limit; 1 with limits, 0 without."""

    def dumped(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {field.name: _dumped(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def loaded(cls, values: dict[str, Any]) -> Self:
        """What `dumped` gave. Raises ValueError, KeyError for anything else."""
        return cls(**{field.name: _loaded(values[field.name]) for field in fields(cls)})

    @property
    def sha256(self) -> str:
        """Digest of shapes and bytes, lower-case hex."""
        return hashlib.sha256(json.dumps(self.dumped(), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture for an engine that takes pictures."""

    label: str
    """What it shows, in plain words: `the part`, `the part with its heatmap`, `a normal part`, `an example of a crack`."""
    data: bytes
    """PNG or JPEG."""

    @property
    def media_type(self) -> str:
        """`image/png` or `image/jpeg`."""
        return "image/png" if self.data.startswith(b"\x89PNG") else "image/jpeg"


@dataclass(frozen=True, slots=True)
class Prompt:
    """What an engine reads. All but `question` is the same for all questions on one inspection: a prefix to cache."""

    system: str
    context: str
    question: str
    sight: Sight | None = None
    pictures: tuple[Picture, ...] = ()
    drafts: tuple[str, ...] = ()
    """Guesses at the reply, the likeliest first: an engine may look at many of their tokens at once. They change nothing that it
    says."""

    def dumped(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "system": self.system,
            "context": self.context,
            "question": self.question,
            "sight": self.sight and self.sight.dumped(),
            "pictures": [[one.label, base64.b64encode(one.data).decode()] for one in self.pictures],
            "drafts": list(self.drafts),
        }

    @classmethod
    def loaded(cls, values: dict[str, Any]) -> Self:
        """What `dumped` gave."""
        sight, pictures = values.get("sight"), values.get("pictures", ())
        return cls(
            values["system"],
            values["context"],
            values["question"],
            sight and Sight.loaded(sight),
            tuple(Picture(label, base64.b64decode(data)) for label, data in pictures),
            tuple(values.get("drafts", ())),
        )

    @property
    def sha256(self) -> str:
        """Digest of the canonical JSON of all parts that are read (no drafts), lower-case hex."""
        read = {name: value for name, value in self.dumped().items() if name != "drafts"}
        return hashlib.sha256(json.dumps(read, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _dumped(array: NDArray[Any]) -> dict[str, Any]:
    plain = np.ascontiguousarray(array)
    return {"shape": list(plain.shape), "type": str(plain.dtype), "data": base64.b64encode(plain.tobytes()).decode()}


def _loaded(values: dict[str, Any]) -> NDArray[Any]:
    if values["type"] not in ("uint8", "float32"):
        raise ValueError(f"no array of {values['type']} in a sight")
    flat = np.frombuffer(base64.b64decode(values["data"]), values["type"])
    return flat.reshape(values["shape"])
