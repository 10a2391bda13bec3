"""The built-in engine: the language model with the trained parts, which see the picture and the map (Myriad)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models import backbones
from models.lmm import weights
from models.lmm.config import Placement
from models.lmm.engines import PlainEngine, Wants
from models.lmm.prompt import SIDE, Prompt, Sight


class MyriadEngine(PlainEngine):
    """As its parent, with the sight in place of words. A prompt without a sight is read as words alone.

    Raises the catalogue's `WeightsMissing`, `AdapterRefused` for trained parts that do not fit the frozen networks.
    """

    name = weights.NAME
    ablations = ("tokenizer", "instructor", "vision")
    """What can be left out, to measure what it is worth."""
    wants: Wants = "sight"

    def __init__(self, progress: Callable[[str], None] | None = None, folder: Path | str = weights.FOLDER) -> None:
        trained = weights.load(Path(folder))
        super().__init__(progress)
        import torch

        from models.lmm.lora import adapt, merge
        from models.lmm.myriad import Myriad
        from models.runtime import Backbone

        (progress or (lambda stage: None))("sight")
        torch.set_float32_matmul_precision("medium")  # as trained, and half the time of a prefill on CPUs with bfloat16
        self.sha256 = hashlib.sha256(f"{self.sha256} {trained.sha256}".encode()).hexdigest()
        self.config, self.card = trained.config, trained.card
        lora = adapt(self._model.model, self.config.lora_targets, self.config.lora_rank, self.config.lora_alpha)
        self._myriad = Myriad(self.config, self._language.words()).eval()
        try:
            self._myriad.load_state_dict(_of("myriad.", trained.tensors))
            missing = lora.load_state_dict(_of("lora.", trained.tensors), strict=False).missing_keys
        except RuntimeError as error:  # torch's, for other names or shapes
            raise weights.AdapterRefused(f"The trained parts do not fit their own config.json: {error}") from error
        if any(not name.endswith("frozen.weight") for name in missing):
            raise weights.AdapterRefused("The trained parts lack some of the language model's adapters.")
        merge(self._model.model, self.config.lora_targets)
        self._vision = Backbone(weights.VISION, SIDE)
        self._features: dict[str, Any] = {}
        self._left_out: frozenset[str] = frozenset()
        self._sight, self._soft = "", torch.zeros(0, self.config.language_width)

    def ablate(self, left_out: Sequence[str]) -> None:
        """Answer without some of `ablations` from now on."""
        self._left_out, self._sight, self._soft, self.view = frozenset(left_out), "", self._soft[:0], None

    def tokens(self, prompt: Prompt) -> list[int]:
        """Token ids; the sight's tokens are numbers below zero."""
        pieces = self._language.pieces(prompt.system, prompt.context, prompt.question)
        self._see(prompt.sight)
        return [*pieces.head, *(-1 - n for n in range(len(self._soft))), *pieces.context, *pieces.question]

    def _embedded(self, ids: list[int]) -> Any:
        torch = self._torch
        words = self._language.embedded([max(token, 0) for token in ids])
        own = [at for at, token in enumerate(ids) if token < 0]
        if own:
            words[own] = self._soft[[-1 - ids[at] for at in own]]
        return torch.as_tensor(words)[None]

    def _see(self, sight: Sight | None) -> None:
        """The sight's tokens; another sight than before forgets the cache."""
        key = "" if sight is None else sight.sha256
        if key == self._sight:
            return
        self._cache, self._cached = None, []
        self._sight, self._soft, self.view = "", self._soft[:0], None  # nothing of the last one, should this one fail
        if sight is None:
            return
        torch = self._torch
        from models.lmm.adapter import difference
        from models.lmm.myriad import Seen

        own = torch.from_numpy(self._patches(sight.part))
        normal = [torch.from_numpy(self._patches(picture)) for picture in sight.references]
        flat = torch.stack(normal) if normal else torch.zeros(0, *own.shape)
        anomaly_map = torch.from_numpy(np.array(sight.map))
        with torch.inference_mode():
            moved = difference(own, flat, anomaly_map)
            if "vision" in self._left_out:
                moved = torch.zeros_like(moved)
            seen = Seen(moved[None], anomaly_map[None], torch.from_numpy(np.array(sight.scalars))[None])
            views, tokens = self._myriad(seen, self._placement)
            self._soft, self.view = tokens[0].clone(), float(views.presence.sigmoid())
            self._sight = key

    @property
    def _placement(self) -> Placement:
        """Where the map enters: as trained, but for what is left out."""
        trained = self.config.placement
        told = trained in ("language", "both") and "tokenizer" not in self._left_out
        asked = trained in ("queries", "both") and "instructor" not in self._left_out
        return "both" if told and asked else "language" if told else "queries" if asked else "none"

    def _patches(self, picture: np.ndarray) -> np.ndarray:
        """Patch features `[256, 384]`; a few pictures' are kept, since normal ones come again and again."""
        key = hashlib.sha256(picture.tobytes()).hexdigest()
        if key not in self._features:
            if len(self._features) >= 32:
                self._features.pop(next(iter(self._features)))
            image = backbones.normalised(np.asarray(picture), self._vision.spec)
            self._features[key] = self._vision.features(image[None])[0]
        found: np.ndarray = self._features[key]
        return found


def _of(prefix: str, tensors: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
