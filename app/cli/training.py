"""kensor train-lmm, train-topics."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from app.cli.output import Json, Refused, columns, show, stages


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train-lmm")(train_lmm)
    app.command("train-topics")(train_topics)


def train_lmm(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Weights, card, log and checkpoint; a run that was cut goes on.")],
    episodes: Annotated[Path | None, typer.Option(file_okay=False, help="Episodes to train on; default: DIR-episodes.")] = None,
    count: Annotated[int, typer.Option(min=2, help="Episodes; those that are missing are made first.")] = 1000,
    normals: Annotated[
        list[Path] | None,
        typer.Option(exists=True, file_okay=False, help="A folder of sound parts' pictures to train on; may be repeated."),
    ] = None,
    view_steps: Annotated[int, typer.Option(min=1, help="Of the first stage.")] = 400,
    word_steps: Annotated[int, typer.Option(min=1, help="Of the second.")] = 1800,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    placement: Annotated[str, typer.Option(help="Where the map enters: both, language, queries or none.")] = "both",
    vision: Annotated[bool, typer.Option(help="The picture's features.")] = True,
    facts: Annotated[bool, typer.Option(help="Findings in words.")] = True,
    device: Annotated[str, typer.Option(help="cpu, or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads; more than one pays on idle cores alone.")] = 1,
    as_json: Json = False,
) -> None:
    """Train the multimodal model's own parts, on products that are drawn, cut from photographs, or given as folders."""
    import torch

    from inspection import datacard
    from inspection.episodes import generate
    from inspection.products import products
    from inspection.training.run import Schedule, train
    from models.lmm.config import Config, placed

    try:
        config = Config(placement=placed(placement), vision=vision)
    except ValueError as error:
        raise Refused(str(error), "unknown_placement") from error
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # before hours go into episodes
        raise Refused(f"There is no device {device!r} here: {str(error).splitlines()[0]}", "unknown_device") from error
    kept = episodes or folder.with_name(f"{folder.name}-episodes")
    catalogue = products(normals or ())
    datacard.begin(kept, catalogue, seed)
    with stages() as tell:
        generate(kept, catalogue, seed, range(count), tell)
        card = {"command": shlex.join(["kensor", *sys.argv[1:]]), "data": datacard.write(kept, catalogue, seed)}
        schedule = Schedule(seed=seed, view_steps=view_steps, word_steps=word_steps, facts=facts)
        made = train(
            kept, folder, config, schedule, tell=tell, device=device, threads=threads, log=folder / "log.jsonl", card=card
        )
    views, words, unheard = made["views"]["after_words"], made["words"]["all"], made["unheard"]["all"]
    table = [["on held-out products", "the model", "the expert"]]
    table += [[name, f"{views[name]:.3f}", f"{views[f'{name}_expert']:.3f}"] for name in ("decision", "auroc", "place")]
    lines = [
        *columns(table),
        f"answers word for word: {words:.0%}; to wordings held out: {unheard:.0%}",
        f"{folder}: {made['seconds']} s",
    ]
    show({"folder": str(folder), **made}, as_json, lines)


def train_topics(as_json: Json = False) -> None:
    """Learn what questions are about from the wordings that the program carries, and judge it by those of other writers."""
    from inspection.questions import topics
    from inspection.training.topics import judged, learned
    from models.topics import FILE

    with stages() as tell:
        learned(tell).save()
    topics.cache_clear()
    found = judged()
    table = [["topic", "questions", "right", "refused"]]
    table += [[name, str(one.questions), f"{one.right:.0%}", f"{one.refused:.0%}"] for name, one in found.items()]
    document = {"file": str(FILE), "topics": {name: one._asdict() for name, one in found.items()}}
    show(document, as_json, [*columns(table), str(FILE)])
