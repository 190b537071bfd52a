"""Run every benchmark and print its tables as Markdown (``--write FILE`` also keeps them)."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from datetime import date

import numba
import numpy as np
import torch

from benchmarks import (
    binary,
    engine,
    hardware,
    imperfect,
    kernels,
    meta,
    multicell,
    phase_shifters,
    published,
    surfaces,
    sweep,
    who_wins,
)
from benchmarks.table import Table
from holobeam import __version__

BENCHMARKS: dict[str, Callable[[], list[Table]]] = {
    "munich": hardware.munich_drops,
    "bounds": hardware.bounds,
    "surfaces": surfaces.tables,
    "published": published.tables,
    "phase-shifters": phase_shifters.tables,
    "meta": meta.tables,
    "imperfect": imperfect.tables,
    "who-wins": who_wins.tables,
    "sweep": sweep.tables,
    "kernels": kernels.tables,
    "multicell": multicell.tables,
    "engine": engine.tables,
    "binary": binary.tables,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", help=f"some of: {', '.join(BENCHMARKS)}; all by default"
    )
    parser.add_argument("--write", metavar="FILE", help="also write the output to FILE")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"unknown benchmark {unknown[0]!r}; known: {', '.join(BENCHMARKS)}")
    # As on the command line: small tensors are faster on one thread, kernels use every core.
    torch.set_num_threads(1)
    parts = [_header()]
    print(parts[0], flush=True)
    failed = False
    for name in arguments.names or BENCHMARKS:
        begin = time.perf_counter()
        for table in BENCHMARKS[name]():
            failed |= not table.met
            parts.append(table.markdown())
            print(parts[-1], flush=True)
        parts.append(f"*{name}: {time.perf_counter() - begin:.0f} s*\n")
        print(parts[-1], flush=True)
    if arguments.write:
        with open(arguments.write, "w") as file:
            file.write("\n".join(parts))
    return int(failed)


def _header() -> str:
    return (
        "# Benchmarks\n\n"
        f"Printed by `make bench` on {date.today():%Y-%m-%d}: holobeam {__version__}, torch "
        f"{torch.__version__.split('+')[0]}, numba {numba.__version__}, numpy {np.__version__}, "
        f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, "
        "one torch thread. Times are from a shared machine: trust ratios and "
        "orders of magnitude. `±` is the standard error over channels; *asked* is what the project "
        "set itself to show.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
