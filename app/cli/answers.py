"""kensor evaluate-answers."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.output import Json, Refused, columns, show, stages

if TYPE_CHECKING:
    from models.lmm.engines import Engine

ENGINES = {"builtin": "models.lmm.trained:MyriadEngine", "untrained": "models.lmm.engines:PlainEngine"}
"""Name → `module:factory`; the factory takes a progress callback."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("evaluate-answers")(evaluate_answers)


def evaluate_answers(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="In the MVTec AD convention, or holding several such.")],
    engine: Annotated[
        str, typer.Option(help="builtin, untrained, transformers or openai as the settings name them, or module:factory.")
    ] = "builtin",
    shots: Annotated[int | None, typer.Option(min=1, help="Enroll on so many normal pictures; default: all.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Draws of the shots.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="The first draw's.")] = 0,
    limit: Annotated[
        int | None, typer.Option(min=2, help="Test pictures of a folder, half of them defective; default: all.")
    ] = None,
    wordings: Annotated[int, typer.Option(min=1, help="Questions of each topic that has an answer, per picture.")] = 1,
    expert: Annotated[str, typer.Option(help="As in `evaluate`.")] = "patchcore",
    backbone: Annotated[str, typer.Option(help="As in `evaluate`.")] = "auto",
    image_size: Annotated[int | None, typer.Option(help="As in `evaluate`.")] = None,
    ablate: Annotated[
        str | None, typer.Option(help="Left out, comma-separated: map, scalars, picture, references, facts, or the engine's own.")
    ] = None,
    untrained: Annotated[bool, typer.Option(help="Ask the untrained model too, where that is another.")] = True,
    weights: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="The built-in model's trained parts, by `train-lmm`.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Keep raw answers in this JSONL file; what it holds is not asked again.")
    ] = None,
    questions: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Multiple choice in MMAD's form; its paths start at DIR.")
    ] = None,
    as_json: Json = False,
) -> None:
    """What an engine says of real pictures and what is delivered, beside baselines, with intervals. Nothing is recorded."""
    from inspection import answers_evaluation as asking
    from inspection import answers_figures, multiple_choice
    from inspection.ablation import Without
    from inspection.options import EnrolOptions

    if weights is not None and engine != "builtin":
        raise Refused(f"Trained parts are for the engine `builtin`, not for `{engine}`.", "no_trained_parts", engine=engine)
    asked: Engine = _engine(engine, weights)
    left_out = tuple(name.strip() for name in (ablate or "").split(",") if name.strip())
    if left_out:
        asked = Without(asked, left_out)
    options = EnrolOptions(expert, backbone, image_size, seed=seed)
    model = {"name": asked.name, "sha256": asked.sha256}
    with stages() as tell:
        if questions is not None:
            chosen = multiple_choice.answered(questions, folder, asked, options, shots=shots, limit=limit, progress=tell)
            heading = [["type", "questions", "right", "chance"]]
            table = [[name, t["n"], f"{t['accuracy']:.3f}", f"{t['chance']:.3f}"] for name, t in chosen["types"].items()]
            mean = [["mean", "", f"{chosen['accuracy']:.3f}", ""]]
            show({"engine": model, **chosen}, as_json, list(columns([*heading, *table, *mean])))
            return
        plan = asking.Plan(options, shots, seeds, limit, wordings)
        plain = _engine("untrained") if untrained and ENGINES["untrained"] != ENGINES.get(engine, engine) else None
        rows = asking.run(folder, asked, plan, untrained=plain, out=out, progress=tell)
    found = answers_figures.evaluate(rows)
    show({"engine": model, "shots": shots, "seeds": seeds, "ablate": left_out, **found}, as_json, _lines(found))


def _engine(name: str, weights: Path | None = None) -> Engine:
    from app.engines import NEEDS, in_process
    from app.settings import Settings

    if name in NEEDS:
        return in_process(Settings(), name, lambda stage: None)
    module, _, factory = ENGINES.get(name, name).partition(":")
    try:
        make = getattr(importlib.import_module(module), factory)
    except (ImportError, AttributeError, ValueError) as error:
        known = ", ".join((*ENGINES, *NEEDS))
        raise Refused(f"There is no engine `{name}`; there are {known}, and module:factory.", "unknown_engine") from error
    made: Engine = make(lambda stage: None, **({} if weights is None else {"folder": weights}))
    return made


def _lines(found: dict[str, Any]) -> list[str]:
    from inspection.answers_figures import FIGURES

    rows: list[list[Any]] = [["folder", "test", "who", *FIGURES]]
    for one in [*found["folders"], {"folder": "mean", **found["mean"]}]:
        tested = f"{one['test_normal']}+{one['test_defective']}" if "test_normal" in one else ""
        for who, figures in _told(one):
            rows.append([one["folder"], tested, who, *(_cell(figures.get(name)) for name in FIGURES)])
    lines = list(columns(rows))
    for one in found["folders"]:
        other = one["disagreements"]
        share = "" if other["model_right"] is None else f", the model was right in {other['model_right']:.0%}"
        lines.append(f"{one['folder']}: own words against the limit {other['n']} times{share}")
    judged = found["judged"]
    lines.append(f"{judged['n']} delivered answers judged: {len(judged['unborne'])} say what the evidence does not bear")
    lines += [
        f"  {name} against picture and mask: {n['untrue']} of {n['said']} untrue" for name, n in judged["against_masks"].items()
    ]
    return lines


def _told(one: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    told = [(name.replace("_", " "), one[name]) for name in ("own_words", "delivered")]
    for name, figures in one["baselines"].items():
        shown = figures.get("own_words", figures)
        told.append((name.replace("_", " ") + (" (own words)" if shown is not figures else ""), shown))
    return told


def _cell(figure: dict[str, Any] | None) -> str | None:
    if figure is None or figure["value"] is None:
        return None
    return f"{figure['value']:.2f} [{figure['low']:.2f} {figure['high']:.2f}]"
