"""An engine that is not given everything: what an answer owes to the map, the picture, the normal ones, the facts in words."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from inspection.answers_rows import AnswersRefused
from models.lmm.engines import Engine
from models.lmm.prompt import Prompt

ABLATIONS = ("map", "scalars", "picture", "references", "facts")
"""What can be left out of any prompt; an engine may offer more (`ablations`, taken by its `ablate`)."""


class Without:
    """An engine that is not given everything. Raises AnswersRefused for a name that neither prompts nor the engine know."""

    def __init__(self, engine: Engine, left_out: Sequence[str]) -> None:
        own = [name for name in left_out if name not in ABLATIONS]
        offered = tuple(getattr(engine, "ablations", ()))
        if unknown := sorted(set(own) - set(offered)):
            known = ", ".join((*ABLATIONS, *offered))
            raise AnswersRefused(f"{', '.join(unknown)} cannot be left out; there are {known}.")
        if own:
            engine.ablate(own)  # type: ignore[attr-defined]
        self.wants = engine.wants
        self._engine, self._left_out = engine, set(left_out)
        self.name, self.sha256 = f"{engine.name} without {', '.join(sorted(left_out))}", engine.sha256

    def generate(self, prompt: Prompt, *, max_tokens: int = 64, **more: Any) -> Generator[str, None, None]:
        """As the engine, with what is left out empty."""
        yield from self._engine.generate(self._cut(prompt), max_tokens=max_tokens, **more)

    def _cut(self, prompt: Prompt) -> Prompt:
        out, sight = self._left_out, prompt.sight
        if sight is None and out - {"facts"}:
            raise AnswersRefused("This engine's prompts hold words alone: only the facts can be left out.")
        if sight is not None:
            blank: dict[str, tuple[str, Any]] = {
                "map": ("map", np.zeros_like(sight.map)),
                "scalars": ("scalars", np.zeros_like(sight.scalars)),
                "picture": ("part", np.full_like(sight.part, 128)),
                "references": ("references", sight.references[:0]),
            }
            sight = replace(sight, **dict(blank[name] for name in out if name in blank))
        return replace(prompt, sight=sight, context="" if "facts" in out else prompt.context)
