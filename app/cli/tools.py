"""kensor evaluate | data drawn, elpv, episodes | bench | demo."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.output import Json, Refused, bar, columns, download_bar, show, stages, stderr


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(evaluate)
    data = typer.Typer(no_args_is_help=True, help="Pictures to try and to report on, as MVTec folders.")
    data.command("drawn")(drawn)
    data.command("elpv")(elpv)
    data.command("episodes")(episodes)
    app.add_typer(data, name="data")
    bench = typer.Typer(no_args_is_help=True, help="Benchmarks on this machine.")
    bench.command("http")(bench_http)
    bench.command("experts")(bench_experts)
    bench.command("large")(bench_large)
    bench.command("many")(bench_many)
    bench.command("accuracy")(bench_accuracy)
    bench.command("promises")(bench_promises)
    bench.command("naming")(bench_naming)
    bench.command("ask")(bench_ask)
    app.add_typer(bench, name="bench")
    app.command()(demo)


def evaluate(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="In the MVTec AD convention, or holding several such.")],
    expert: Annotated[str, typer.Option(help="patchcore, padim, reference or zeroshot.")] = "patchcore",
    backbone: Annotated[str, typer.Option(help="auto, fused (both), efficientnet_lite0 (fast) or dinov2_vits14.")] = "auto",
    image_size: Annotated[int | None, typer.Option(help="Side of the network's square input, pixels.")] = None,
    coreset: Annotated[float | None, typer.Option(help="Rows of the memory bank; up to 1: a share of all patches.")] = None,
    tile: Annotated[
        int | None, typer.Option(help="Side of overlapping tiles, pixels of the picture: for large pictures.")
    ] = None,
    score_rule: Annotated[str, typer.Option(help="As in `enroll`.")] = "auto",
    precision: Annotated[str, typer.Option(help="As in `enroll`.")] = "float32",
    shots: Annotated[int | None, typer.Option(min=1, help="Enroll on so many normal pictures; default: all.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Draws of the shots; the figures are their means.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="The first draw's.")] = 0,
    false_reject_rate: Annotated[float, typer.Option(help="As in `enroll`.")] = 0.01,
    review_rate: Annotated[float, typer.Option(help="As in `enroll`.")] = 0.05,
    as_json: Json = False,
) -> None:
    """Accuracy and time per folder and on average; features are computed once per picture. Nothing is recorded."""
    from inspection import evaluation
    from inspection.options import EnrolOptions

    options = EnrolOptions(
        expert,
        backbone,
        image_size,
        coreset,
        false_reject_rate,
        review_rate,
        seed,
        tile,
        score_rule,  # type: ignore[arg-type]
        precision=precision,  # type: ignore[arg-type]
    )
    with stages() as tell:
        rows = evaluation.evaluate(folder, options, shots=shots, seeds=seeds, progress=tell)
    mean = evaluation.mean(rows)
    heading = ["folder", "normals", "test", *evaluation.FIGURES]
    cells: list[list[Any]] = [
        [
            r["folder"],
            r["normals"],
            f"{r['test_normal']}+{r['test_defective']}",
            *(_figure(r[name]) for name in evaluation.FIGURES),
        ]
        for r in rows
    ]
    cells.append(["mean", "", "", *(_figure(mean[name]) for name in evaluation.FIGURES)])
    show({"folders": rows, "mean": mean}, as_json, list(columns([heading, *cells])))


def _figure(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}" if value < 10 else f"{value:.0f}"


def drawn(
    folder: Annotated[Path, typer.Argument(metavar="DIR")],
    seed: Annotated[int, typer.Option(min=0, help="Which product; there are four families.")] = 3,
    normal: Annotated[int, typer.Option(min=1, help="Normal pictures in train/good.")] = 40,
    each: Annotated[int, typer.Option(min=1, help="Test pictures, sound and of each defect.")] = 5,
    as_json: Json = False,
) -> None:
    """Write drawn parts with defects and their masks to DIR: free of any licence."""
    from inspection.drawn import write

    counts = write(folder, seed, normal, each)
    show({"folder": str(folder), "pictures": counts}, as_json, [f"{folder / part}: {n}" for part, n in counts.items()])


def elpv(folder: Annotated[Path, typer.Argument(metavar="DIR")], as_json: Json = False) -> None:
    """Write the ELPV solar cells as MVTec folders DIR/mono and DIR/poly (test: label 1.0 against sound cells not in train)."""
    from app import elpv as cells

    stderr().print(cells.LICENCE)
    with download_bar() as progress:
        counts = cells.export(folder, progress)
    lines = [f"{folder / kind}: " + ", ".join(f"{n} {part}" for part, n in parts.items()) for kind, parts in counts.items()]
    show({"folder": str(folder), "licence": cells.PACKAGE.licence, "pictures": counts}, as_json, lines)


def episodes(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where episodes are kept: those that are there stay.")],
    count: Annotated[int, typer.Option(min=1, help="Episodes in all.")] = 600,
    normals: Annotated[
        list[Path] | None,
        typer.Option(exists=True, file_okay=False, help="A folder of sound parts' pictures to train on; may be repeated."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that share the work.")] = 1,
    job: Annotated[int, typer.Option(min=0, help="Which of them this is, from 0.")] = 0,
    as_json: Json = False,
) -> None:
    """What the language model is trained on: products, few-shot experts, and what they say of sound and painted parts."""
    from inspection import datacard
    from inspection.episodes import generate
    from inspection.products import products

    if job >= jobs:
        raise Refused(f"There is no job {job} of {jobs}: they are counted from 0.")
    catalogue = products(normals or ())
    datacard.begin(folder, catalogue, seed)
    with bar() as progress:
        task = progress.add_task("episodes")
        refused = generate(
            folder, catalogue, seed, range(job, count, jobs),
            lambda _, done, total: progress.update(task, completed=done, total=total),
        )  # fmt: skip
    card = datacard.write(folder, catalogue, seed)
    lines = [f"{folder}: {card['episodes']} episodes of {sum(card['products'].values())} products"]
    show(card | {"refused": refused}, as_json, [*lines, *(f"episode {number}: {why}" for number, why in refused.items())])


def bench_http(
    clients: Annotated[int, typer.Option(min=1, help="At the same time.")] = 16,
    seconds: Annotated[float, typer.Option(min=1, help="Of measured load, after as many of warm-up.")] = 60.0,
    questions: Annotated[bool, typer.Option(help="Also verdicts beside a question being answered.")] = True,
) -> None:
    """The service over HTTP beside its own bare scorer, in one run; prints one JSON document."""
    from benchmarks.http import run

    show(run(clients, seconds, seconds, questions), True)


def bench_ask(
    inspections: Annotated[int, typer.Option(min=2, help="Four questions on each.")] = 8,
) -> None:
    """The built-in model cold, warm and beside verdicts, and transformers' own `generate`; prints one JSON document."""
    from benchmarks.ask import run

    show(run(inspections), True)


def bench_large(
    product: Annotated[int, typer.Option(min=0, help="Which drawn plate.")] = 11,
    normals: Annotated[int, typer.Option(min=1, help="Sound parts enrolled.")] = 8,
    each: Annotated[int, typer.Option(min=1, help="Sound and defective parts judged.")] = 20,
) -> None:
    """Defects of 12 pixels in pictures of 5,000 × 4,000, in tiles and whole; memory and time; prints one JSON document."""
    from benchmarks.large import run

    show(run(product, normals, each), True)


def bench_many(
    folder: Annotated[Path, typer.Argument(metavar="DIR", file_okay=False, help="Where pictures are written.")],
    count: Annotated[int, typer.Option(min=2, help="Normal pictures.")] = 10_000,
) -> None:
    """Time, memory and stages of an enrolment of thousands of drawn pictures of 512 × 512; prints one JSON document."""
    from benchmarks.many import run

    folder.mkdir(parents=True, exist_ok=True)
    show(run(count, folder), True)


def bench_accuracy(
    folders: Annotated[list[Path], typer.Argument(exists=True, help="In the MVTec AD convention, or holding several such.")],
    seeds: Annotated[int, typer.Option(min=1, help="Draws of 1, 4 and 16 normals.")] = 3,
    jobs: Annotated[int, typer.Option(min=0, help="Folders at a time; 0: as many as cores.")] = 0,
    as_renamed: Annotated[
        bool, typer.Option("--renamed", help="Only whether `auto` takes the same after pictures are renamed and shuffled.")
    ] = False,
) -> None:
    """Every expert and backbone, and what `auto` takes, with 1, 4, 16 and all normals: a JSON line each."""
    from benchmarks.accuracy import run, run_renamed

    with stages() as tell:
        _lines(run_renamed(folders, jobs, tell) if as_renamed else run(folders, seeds, jobs, tell))


def bench_promises(
    folder: Annotated[Path, typer.Argument(exists=True, help="In the MVTec AD convention, or holding several such.")],
    backbone: Annotated[str, typer.Option(help="As in `enroll`, without `auto`.")] = "efficientnet_lite0",
    image_size: Annotated[int | None, typer.Option(help="As in `enroll`.")] = None,
    score_rule: Annotated[str, typer.Option(help="As in `enroll`.")] = "auto",
    draws: Annotated[int, typer.Option(min=1, help="Draws of each number of normals.")] = 10,
) -> None:
    """The share of fresh sound parts over both limits, with 16, 32, 64 and 128 normals: a JSON line each."""
    from benchmarks.promises import run
    from inspection.options import EnrolOptions

    options = EnrolOptions(backbone=backbone, image_size=image_size, score_rule=score_rule)  # type: ignore[arg-type]
    _lines(run(folder, options, draws))


def bench_naming(
    folders: Annotated[list[Path], typer.Argument(exists=True, help="In the MVTec AD convention, or holding several such.")],
    shots: Annotated[int, typer.Option(min=3, help="Normals of the expert.")] = 16,
    seeds: Annotated[int, typer.Option(min=1, help="Draws of the labelled examples.")] = 20,
    paint: Annotated[bool, typer.Option("--paint", help="Defects painted into the good pictures, and into drawn parts.")] = False,
) -> None:
    """Defects named by 1, 2 and 4 labelled ones of each type, beside nearest colour and the most common: a JSON line each."""
    from benchmarks.naming import run

    _lines(run(folders, shots, seeds, paint))


def _lines(rows: Iterable[dict[str, Any]]) -> None:
    for row in rows:
        typer.echo(json.dumps(row))


def bench_experts(
    folder: Annotated[Path | None, typer.Option(exists=True, file_okay=False, help="Pictures to time; default: its own.")] = None,
    repeats: Annotated[int, typer.Option(min=3, help="Timings of each.")] = 30,
    compared: Annotated[int, typer.Option(min=1, help="Raw scores held against anomalib's, at the first setting.")] = 500,
    as_json: Annotated[bool, typer.Option("--json", help="As always: it prints nothing else.")] = True,
) -> None:
    """Bytes to verdict, and the coreset, beside anomalib's own: same weights, bank, pictures and threads; one JSON document."""
    from benchmarks.experts import run

    show(list(run(repeats, folder, compared)), as_json)


def demo(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="Your own pictures: train/good, test/good, test/DEFECT.")
    ] = None,
    test: Annotated[Path | None, typer.Option(help="Pictures to inspect; DIR then holds the normal ones.")] = None,
    parts: Annotated[str, typer.Option(help="Without DIR: `elpv` (solar cells) or `drawn` (needs no licence).")] = "elpv",
    out: Annotated[Path, typer.Option(help="Where summary.json, report.html and the server's log go.")] = Path("out/demo"),
    normal: Annotated[int, typer.Option(min=1, help="Normal pictures to enroll on, at most.")] = 100,
    each: Annotated[int, typer.Option(min=1, help="Sound and defective pictures to inspect, of each at most.")] = 20,
    seed: Annotated[int, typer.Option(help="Draws the pictures.")] = 0,
    as_json: Json = False,
) -> None:
    """Enroll, serve, inspect over HTTP, ask, review and report, all by itself."""
    import json
    import time
    from dataclasses import replace

    from app import demo as show_all
    from app.cli.weights import fetch
    from app.demo_parts import drawn_parts, own_folder, solar_cells
    from app.elpv import LICENCE
    from models import catalog

    if parts not in ("elpv", "drawn"):
        raise Refused(f"There are no demo parts named `{parts}`; there are elpv and drawn.", "unknown_parts")
    console = stderr()
    with download_bar() as progress:
        if folder is not None:
            chosen = own_folder(folder, test, seed, normal, each)
        elif parts == "drawn":
            chosen = drawn_parts(seed, normal, each)
        else:
            console.print(LICENCE)
            chosen = solar_cells(seed, normal, each, progress)
        started = time.perf_counter()
        fetch(catalog.entries(), progress)
        downloads = chosen.download_seconds + time.perf_counter() - started
    if chosen.notice != LICENCE:
        console.print(chosen.notice)
    summary = show_all.run(replace(chosen, download_seconds=downloads), out, console)
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
        return
    from rich.console import Console

    Console(highlight=False).print(
        show_all.table(summary), f"\nSee {out / 'report.html'}; figures in {out / 'summary.json'}.", sep=""
    )
