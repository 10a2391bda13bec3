"""A whole training: views, then words, with checkpoints on the way and a card at the end."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from inspection.dialogues import FOLLOW_UPS, FOLLOWED, LEARNED, SHARES
from inspection.training import checkpoints, samples
from inspection.training.samples import Samples
from inspection.training.views import Progress, fit_presence, judge_views, train_views
from inspection.training.words import Reader, half, judge_words, placement, rate_at
from models.lmm.config import Config

if TYPE_CHECKING:
    from models.lmm.myriad import Myriad


VIEWS = 0.1
"""Weight of the views' loss beside that of the words: they are not to be forgotten."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long, how much at once, how fast."""

    seed: int = 0
    view_steps: int = 400
    view_batch: int = 64
    view_rate: float = 1e-3
    word_steps: int = 1800
    pictures: int = 3
    """Of a step in the second stage."""
    turns: int = 8
    """Questions on each."""
    word_rate: float = 5e-4
    facts: bool = True
    """`False`: no findings in words, for the ablation."""
    every: int = 50
    """Steps between two checkpoints."""


def train(
    episodes: Path,
    folder: Path,
    config: Config = Config(),
    schedule: Schedule = Schedule(),
    *,
    tell: Progress = lambda *_: None,
    device: str = "cpu",
    threads: int = 1,
    log: Path | None = None,
    card: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Train on the episodes' products that are not held out, judge on those that are, and write the weights to `folder`.

    Goes on from `folder/checkpoint.safetensors` where one of the same settings stands. Returns the card.
    Raises TrainingRefused, the catalogue's errors.
    """
    import torch

    from models.lmm import weights
    from models.lmm.language import Language
    from models.lmm.lora import adapt
    from models.lmm.myriad import Myriad

    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("medium")
    torch.manual_seed(schedule.seed)
    folder.mkdir(parents=True, exist_ok=True)
    start, s = perf_counter(), schedule
    tell("load", 0, 2)
    learned, unseen = samples.load(episodes, held_out=False), samples.load(episodes, held_out=True)
    tell("load", 2, 2)
    language = Language()
    language.model.to(device)
    model = Myriad(config, language.words()).to(device)
    lora = adapt(language.model.model, config.lora_targets, config.lora_rank, config.lora_alpha).to(device)
    parameters: dict[str, torch.Tensor] = {
        **{f"myriad.{name}": value for name, value in model.named_parameters()},
        **{f"lora.{name}": value for name, value in lora.named_parameters() if value.requires_grad},
    }
    optimiser = torch.optim.AdamW(parameters.values(), lr=s.word_rate, weight_decay=0.01)
    taught = json.dumps([learned.records, LEARNED, FOLLOW_UPS, SHARES, FOLLOWED], sort_keys=True)
    told = hashlib.sha256(taught.encode()).hexdigest()
    settings = {"config": asdict(config), "schedule": asdict(schedule), "samples": len(learned), "sha256": told}
    settings = json.loads(json.dumps(settings))
    checkpoint = folder / "checkpoint.safetensors"
    state = checkpoints.load(checkpoint, settings, parameters, optimiser)

    def note(**values: Any) -> None:
        if log is not None:
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"seconds": round(perf_counter() - start, 1), **values}) + "\n")

    if state is None:
        fit_presence(model, learned, device)
        train_views(
            model, learned, steps=s.view_steps, batch=s.view_batch, rate=s.view_rate, seed=s.seed, tell=tell, device=device
        )
        judged = {"learned": judge_views(model, learned, device), "held_out": judge_views(model, unseen, device)}
        state = {"settings": settings, "step": 0, "views": judged, "seconds": perf_counter() - start}
        note(stage="views", **judged)
        checkpoints.save(checkpoint, parameters, optimiser, state)
    spent = float(state["seconds"])
    start_words = perf_counter()
    reader, heard = Reader(language, learned, s.turns, s.facts), Reader(language, unseen, s.turns, s.facts)
    unheard = Reader(language, unseen, s.turns, s.facts, held_out=True)
    model.train()
    for step in range(state["step"], s.word_steps):
        loss = _step(step, s, model, reader, learned, optimiser, device)
        tell("words", step + 1, s.word_steps)
        if (step + 1) % s.every == 0 or step + 1 == s.word_steps:
            now = spent + perf_counter() - start_words
            checkpoints.save(checkpoint, parameters, optimiser, {**state, "step": step + 1, "seconds": now})
            right = judge_words(model, unheard, 24, s.seed, device)
            note(stage="words", step=step + 1, loss=round(loss, 4), right=right)
    written = {
        **(card or {}),
        "settings": settings,
        "views": {**state["views"], "after_words": judge_views(model, unseen, device)},
        "words": judge_words(model, heard, 160, s.seed + 1, device),
        "unheard": judge_words(model, unheard, 160, s.seed + 1, device),
        "products": len({record["product"] for record in learned.records}),
        "held_out_products": len({record["product"] for record in unseen.records}),
        "seconds": round(spent + perf_counter() - start_words),
        "machine": f"{platform.machine()}, threads: {threads}" if device == "cpu" else torch.cuda.get_device_name(),
        "torch": torch.__version__,
    }
    weights.save(folder, config, parameters, written)
    note(stage="done", **{key: written[key] for key in ("views", "words", "unheard", "seconds")})
    return written


def _step(step: int, s: Schedule, model: Myriad, reader: Reader, learned: Samples, optimiser: Any, device: str) -> float:
    """One step of the second stage; the loss on the words. What it draws follows from its number, also after a cut."""
    import torch

    from models.lmm.learning import language_loss, views_loss

    rng = np.random.default_rng([s.seed, 2, step])
    torch.manual_seed(1_000_003 * s.seed + step)
    rows = rng.choice(len(learned), s.pictures, replace=False).tolist()
    entered = placement(rng) if model.config.placement == "both" else None
    views, sights = model(learned.seen(rows, device), entered)
    batch, _ = reader.branches(rows, views, rng)
    with half(device):
        words = language_loss(reader.language, sights, batch)
    loss = words + VIEWS * views_loss(views, learned.truths(rows, device))
    for group in optimiser.param_groups:
        group["lr"] = s.word_rate * rate_at(step, s.word_steps)
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_([value for group in optimiser.param_groups for value in group["params"]], 1.0)
    optimiser.step()
    return float(words.detach())
