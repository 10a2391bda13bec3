"""What the trained parts learn from: the truth for their views, and the next token of an answer for their words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from models.lmm.language import Language
from models.lmm.tokenizer import Views


class Truth(NamedTuple):
    """A batch of truths: presence `[B]` (0 or 1), and classes of place, size and amount `[B]` (-100: does not count)."""

    presence: Tensor
    place: Tensor
    size: Tensor
    amount: Tensor


class Branches(NamedTuple):
    """One inspection's prefix and its questions, as token ids."""

    head: list[int]
    context: list[int]
    turns: list[tuple[list[int], list[int]]]
    """Question and answer, each answer with its end."""


def presence_loss(logits: Tensor, presence: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy of the view on presence, all `[N]`, with samples of both sides. Sound and defective parts weigh half each,
    however many there are: a half is the even chance. Within a side they weigh as `weight` says."""
    each = functional.binary_cross_entropy_with_logits(logits, presence, reduction="none")
    sides = [weight * (presence == side) for side in (0, 1)]
    return sum((each @ (side / side.sum()) for side in sides), logits.new_zeros(())) / 2


def views_loss(views: Views, truth: Truth) -> Tensor:
    """Mean cross-entropies of the views on place, size and amount, summed."""
    loss = views.place.new_zeros(())
    for logits, classes in ((views.place, truth.place), (views.size, truth.size), (views.amount, truth.amount)):
        if bool((classes >= 0).any()):
            loss = loss + functional.cross_entropy(logits, classes)
    return loss


def language_loss(language: Language, sights: Tensor, batch: Sequence[Branches]) -> Tensor:
    """Mean next-token loss on the answers alone. `sights` `[B, T, 576]` stand after each head.

    The prefix is computed once and each question is a branch of its own that sees the prefix and itself: a tree, packed in one
    row a picture.
    """
    logits, targets, _ = _answers(language, sights, batch)
    return functional.cross_entropy(logits.float(), targets)


def answers_right(language: Language, sights: Tensor, batch: Sequence[Branches]) -> list[list[bool]]:
    """For each picture and question, whether every token of the answer is the likeliest after the right ones before it."""
    logits, targets, rows = _answers(language, sights, batch)
    hits = (logits.argmax(-1) == targets).tolist()
    found, at = list[list[bool]](), 0
    for one in batch:
        marks = []
        for _, answer in one.turns:
            marks.append(all(hits[at : at + len(answer)]))
            at += len(answer)
        found.append(marks)
    assert at == len(rows)
    return found


def _answers(language: Language, sights: Tensor, batch: Sequence[Branches]) -> tuple[Tensor, Tensor, list[int]]:
    """Logits `[A, V]` and targets `[A]` at the answers' tokens, in the batch's order, and the picture of each."""
    device, soft = sights.device, sights.shape[1]
    rows = [_row(one, soft) for one in batch]
    length = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    positions = torch.zeros(len(rows), length, dtype=torch.long)
    allowed = torch.eye(length, dtype=torch.bool).repeat(len(rows), 1, 1)  # padding sees itself, so that no row is empty
    for number, row in enumerate(rows):
        count = len(row.ids)
        ids[number, :count], positions[number, :count] = torch.tensor(row.ids), torch.tensor(row.positions)
        branch = torch.tensor(row.branch)
        same = (branch[:, None] == branch[None, :]) | (branch[None, :] == 0)
        allowed[number, :count, :count] = same & torch.ones(count, count, dtype=torch.bool).tril()
    embeds = language.model.model.embed_tokens(ids.to(device))
    head = len(batch[0].head)  # the same words in every prompt
    embeds = torch.cat((embeds[:, :head], sights.to(embeds.dtype), embeds[:, head + soft :]), 1)
    mask = torch.zeros(allowed.shape, dtype=embeds.dtype).masked_fill(~allowed, torch.finfo(embeds.dtype).min)[:, None].to(device)
    states = language.model.model(
        inputs_embeds=embeds, attention_mask=mask, position_ids=positions.to(device), use_cache=False
    ).last_hidden_state  # [B, T, 576]
    where = [(number, at) for number, row in enumerate(rows) for at in row.predicts]
    pictures, columns = [number for number, _ in where], [at for _, at in where]
    targets = ids[pictures, [at + 1 for at in columns]].to(device)
    return language.model.lm_head(states[pictures, columns]), targets, pictures


class _Row(NamedTuple):
    ids: list[int]
    positions: list[int]
    branch: list[int]
    """0: the prefix."""
    predicts: list[int]
    """Where the next token is an answer's."""


def _row(one: Branches, soft: int) -> _Row:
    ids = [*one.head, *([0] * soft), *one.context]
    start = len(ids)
    row = _Row(ids, list(range(start)), [0] * start, [])
    for number, (question, answer) in enumerate(one.turns, 1):
        first = len(row.ids)
        row.ids.extend([*question, *answer])
        both = len(question) + len(answer)
        row.positions.extend(range(start, start + both))
        row.branch.extend([number] * both)
        row.predicts.extend(range(first + len(question) - 1, first + both - 1))
    return row
