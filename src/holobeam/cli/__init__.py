"""The command line."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import torch
import typer

from holobeam import __version__
from holobeam.cli import bench, demo, design, report, run, train
from holobeam.cli.terminal import err, out
from holobeam.errors import HolobeamError

app = typer.Typer(
    name="holobeam",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Design and compare hybrid and holographic MIMO beamformers.\n\n"
    "Exit codes: 0 done; 2 something about the input is wrong (one line on stderr says what); "
    "1 anything else.",
)


def main() -> None:
    """Run the command line; errors that holobeam raises become one line and exit code 2."""
    if "OMP_NUM_THREADS" not in os.environ:
        # Most tensors here are small: threads that wait for each other cost more than they give.
        # The compiled kernels spread channels over the cores on their own.
        torch.set_num_threads(1)
    try:
        app()
    except HolobeamError as error:
        err.print(f"[bold red]error:[/] {type(error).__name__}: ", end="")
        err.print(str(error), markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)


def _version(wanted: bool) -> None:
    if wanted:
        out.print(f"holobeam {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it and end.")
    ] = False,
) -> None:
    """Hold what stands before a command."""


app.command("list")(design.list_)
app.command()(design.solve)
app.command()(design.compare)
app.command()(demo.demo)
app.command()(run.run)
app.command()(run.compact)
app.command()(train.train)
app.command()(report.report)
app.add_typer(bench.app, name="bench")
