"""The command that makes the Munich demonstration."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from holobeam.cli.terminal import Seed, check_writable, out, stages


def demo(
    folder: Annotated[Path, typer.Option("--out", "-o", help="Folder of the report.")] = Path(
        "out/demo"
    ),
    drops: Annotated[int, typer.Option(help="Drops of four users, at most 64.")] = 64,
    seed: Seed = 0,
) -> None:
    """Run the Munich demonstration and write its report: four front-ends over a real city."""
    check_writable(folder / "index.html")
    from holobeam.demo import run_demo

    with stages() as stage:
        page = run_demo(
            folder,
            seed=seed,
            drops=drops,
            progress=stage,
            command=" ".join(["holobeam", *sys.argv[1:]]),
        )
    out.print(f"report: {page}", highlight=False, soft_wrap=True)
