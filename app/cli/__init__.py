"""`kensor`: the service from the command line, through the same services as HTTP and logged alike."""

from __future__ import annotations

import sys

import typer

from app.cli import answers, inspections, jobs, keys, processes, products, recipes, tools, training, weights
from app.cli.output import refuse

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def first() -> None:
    """Industrial visual inspection: normal pictures in, calibrated verdicts, anomaly maps and answered questions out."""
    if "--help" not in sys.argv:
        from app.settings import Settings

        Settings().export()


for part in (processes, products, recipes, inspections, jobs, weights, keys, tools, answers, training):
    part.register(app)


def main() -> None:
    """Run one command. Exit 0: done; 1: refused, with one line on stderr; 2: wrong usage."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # the edge: what the service would answer in its envelope, said in one line
        sys.exit(refuse(error))
