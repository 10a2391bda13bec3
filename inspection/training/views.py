"""The first stage: the views (present? where? how big? how many?) learn the truth, on top of what the expert says."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from inspection.metrics import auroc
from inspection.training.samples import Samples, TrainingRefused

if TYPE_CHECKING:
    from models.lmm.myriad import Myriad

Progress = Callable[[str, int, int], None]
DECAY = 1e-4
"""Of the squared weights of the view on presence."""
_AT_ONCE = 1024


def fit_presence(model: Myriad, samples: Samples, device: str = "cpu") -> None:
    """Fit the view on presence by L-BFGS until it converges; sound parts weigh as much as defective ones, and within a side each
    by `Samples.weight`. Raises TrainingRefused without samples of both sides.

    A hundred weights on ten numbers a sample: stopped early, or drawn by batches, they are worse on real parts
    (docs/experiments.md).
    """
    import torch

    from models.lmm.learning import presence_loss
    from models.lmm.tokenizer import presence_facts
    from models.lmm.trunk import channels

    if not 0 < float(samples.truth.presence.sum()) < len(samples):
        raise TrainingRefused("The episodes hold no sound or no defective parts: presence cannot be learned.")
    tokenizer, truth = model.tokenizer, samples.truth.presence.to(device)
    pieces = [slice(first, first + _AT_ONCE) for first in range(0, len(samples), _AT_ONCE)]
    numbers = torch.cat([presence_facts(channels(samples.map[at])[:, 0], samples.scalars[at]) for at in pieces]).to(device)
    weight = torch.tensor(samples.weight, dtype=torch.float32, device=device)
    head = list(tokenizer.presence.parameters())
    optimiser = torch.optim.LBFGS(
        [*head, tokenizer.expert], max_iter=500, history_size=20, tolerance_change=1e-9, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        found = presence_loss(tokenizer.present(numbers), truth, weight)
        found = found + DECAY * sum((value.square().sum() for value in head), found.new_zeros(()))
        found.backward()  # type: ignore[no-untyped-call]
        return found

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    optimiser.zero_grad()


def train_views(
    model: Myriad, samples: Samples, *, steps: int, batch: int, rate: float, seed: int, tell: Progress, device: str = "cpu"
) -> None:
    """AdamW with a cosine rate over `steps` batches drawn by `seed`; every product counts alike, however many samples it has."""
    import torch

    from models.lmm.learning import views_loss

    rng, weight = np.random.default_rng([seed, 1]), samples.weight
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.1)
    model.train()
    for step in range(steps):
        rows = rng.choice(len(samples), batch, p=weight)
        views, _ = model(samples.seen(rows, device), placement=("language", "both")[step % 2])
        loss = views_loss(views, samples.truths(rows, device))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        tell("views", step + 1, steps)


def judge_views(model: Myriad, samples: Samples, device: str = "cpu") -> dict[str, Any]:
    """Of the views on these samples, beside the expert's own: AUROC, balanced accuracy, right place, size and count."""
    import torch

    model.eval()
    columns: list[list[Any]] = [[], [], [], []]
    with torch.inference_mode():
        for first in range(0, len(samples), 64):
            views, _ = model(samples.seen(range(first, min(first + 64, len(samples))), device))
            for column, logits in zip(columns, views, strict=True):
                column.append(logits.cpu())
    presence, place, size, count = (torch.cat(column).numpy() for column in columns)
    defective = samples.truth.presence.numpy() > 0
    reject = np.array([record["evidence"]["verdict"] == "reject" for record in samples.records])
    peaks = [record["evidence"]["map"]["peak_place"] for record in samples.records]
    placed = [n for n, record in enumerate(samples.records) if record["truth"]["place"]]
    true_place, true_size, true_count = (values.numpy() for values in samples.truth[1:])
    from models.lmm.config import PLACES

    return {
        "samples": len(samples),
        "auroc": auroc(presence, defective),
        "auroc_expert": auroc(samples.scalars[:, 0].numpy(), defective),
        "decision": balanced(presence > 0, defective),
        "decision_expert": balanced(reject, defective),
        "place": float(np.mean(place.argmax(1)[placed] == true_place[placed])),
        "place_expert": float(np.mean([PLACES.index(peaks[n]) == true_place[n] for n in placed])),
        "size": float(np.mean(size.argmax(1)[defective] == true_size[defective])),
        "count": float(np.mean(np.abs(count.argmax(1) - true_count)[defective] <= 1)),
    }


def balanced(said: np.ndarray, defective: np.ndarray) -> float:
    """Mean of the shares of defective and of sound parts that are called so."""
    return float((said[defective].mean() + (~said[~defective]).mean()) / 2)
