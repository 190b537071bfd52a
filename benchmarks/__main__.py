"""Run benchmarks and print their tables as Markdown, each as soon as it is measured."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path

import numba
import numpy as np
import torch

from benchmarks import (
    binary,
    blind,
    cnn,
    engine,
    hardware,
    imperfect,
    kernels,
    learned,
    learned_latency,
    learned_table,
    meta,
    multicell,
    phase_shifters,
    published,
    row_step,
    sionna_rzf,
    surfaces,
    sweep,
    unfolded,
    who_wins,
)
from benchmarks.table import Table
from holobeam import __version__

BENCHMARKS: dict[str, Callable[[bool], Iterable[Table]]] = {
    "munich": hardware.munich_drops,
    "bounds": hardware.bounds,
    "surfaces": surfaces.tables,
    "published": published.tables,
    "phase-shifters": phase_shifters.tables,
    "sionna": sionna_rzf.tables,
    "unfolded": unfolded.tables,
    "meta": meta.tables,
    "cnn": cnn.tables,
    "learned": learned.tables,
    "learned-table": learned_table.tables,
    "imperfect": imperfect.tables,
    "who-wins": who_wins.tables,
    "sweep": sweep.tables,
    "kernels": kernels.tables,
    "multicell": multicell.tables,
    "engine": engine.tables,
    "row-step": row_step.tables,
    "binary": binary.tables,
    "blind": blind.tables,
    "latency": learned_latency.tables,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"some of: {', '.join(BENCHMARKS)}; all by default",
    )
    parser.add_argument("--write", metavar="FILE", help="also write the output to FILE as it goes")
    parser.add_argument(
        "--full",
        action="store_true",
        help="a million results, sphere decoding at 36 and 40 signs, SCIP, 2048 channels, all "
        "powers and sizes: hours",
    )
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"unknown benchmark {unknown[0]!r}; known: {', '.join(BENCHMARKS)}")
    # As on the command line: small tensors are faster on one thread, kernels use every core.
    torch.set_num_threads(1)
    say = _printer(arguments.write)
    say(_header(arguments.full))
    failed = False
    for name in arguments.names or BENCHMARKS:
        begin = time.perf_counter()
        for table in BENCHMARKS[name](arguments.full):
            failed |= not table.met
            say(table.markdown())
        say(f"*{name}: {time.perf_counter() - begin:.0f} s*\n")
    return int(failed)


def _printer(path: str | None) -> Callable[[str], None]:
    """Print to the terminal and, where given, to a file that a killed run leaves readable."""
    if path is not None:
        Path(path).write_text("")

    def say(text: str) -> None:
        print(text, flush=True)
        if path is not None:
            with open(path, "a") as file:
                file.write(text + "\n")

    return say


def _header(full: bool) -> str:
    words = "make bench BENCH=--full" if full else "make bench"
    return (
        "# Benchmarks\n\n"
        f"Printed by `{words}` on {date.today():%Y-%m-%d}: holobeam {__version__}, torch "
        f"{torch.__version__.split('+')[0]}, numba {numba.__version__}, numpy {np.__version__}, "
        f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, "
        "one torch thread. Times are from a shared machine: trust ratios and "
        "orders of magnitude. `±` is the standard error over channels; *asked* is what the project "
        "set itself to show.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
