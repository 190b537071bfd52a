"""Latency of learned beamformers at one channel and at many: the walk in torch and its twin."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

import holobeam as hb
from benchmarks.table import Table
from holobeam.learned import compiled, zoo
from holobeam.learned.network import Network

BATCHES = (1, 1024)
REPEATS = {1: 101, 1024: 9}
ASKED = {
    "fnn": {1: 0.5, 1024: 0.02},
    "mb-dnn": {1: 2.0, 1024: 0.1},
    "unrolled-mmse": {1: 3.0, 1024: 0.1},
}
"""Milliseconds a channel asked of one CPU thread at 25 elements, three users and chains."""


def tables(full: bool = False) -> list[Table]:
    del full  # seconds either way
    return [latencies()]


def latencies(networks: dict[str, Network] | None = None) -> Table:
    """Latency of networks by name; by default of every architecture that has weights.

    One thread; runs of torch and of the compiled twin interleaved; the clock of the thread, which
    leaves out what a busy machine gives to others.
    """
    table = Table(
        "Latency of learned beamformers, one thread",
        ("model", "channels", "what", "torch, ms a channel", "compiled, ms a channel", "ratio",
         "asked, ms", "verdict"),
        "Surface of 25 elements, three users and chains, single precision. Best (median) of "
        f"{REPEATS[1]} and {REPEATS[1024]} interleaved repeats, by the clock of the thread. "
        "`solver` is `solver(problem)` by name, checks included (unrolled-mmse: two passes); "
        "`network` is one pass.",
    )  # fmt: skip
    for name, network in (weighted() if networks is None else networks).items():
        for batch in BATCHES:
            _compare(table, name, network, problem(batch))
    return table


def weighted() -> dict[str, Network]:
    """Networks whose weights ship with the package and that see this surface."""
    names = [name for name in zoo.ARCHITECTURES if name in zoo.shipped()]
    networks = {name: zoo.learned(name).network for name in names}
    return {name: made for name, made in networks.items() if made.refusal(problem(1)) is None}


def problem(batch: int, dtype: torch.dtype = torch.complex64) -> hb.Downlink:
    """Channels of independent entries on the surface of the benchmark, which all models serve."""
    generator = torch.Generator().manual_seed(0)
    h = torch.randn((batch, 1, 3, 25), generator=generator, dtype=torch.complex128)
    frontend = hb.frontends.rhs(hb.channels.surface_benchmark().feed)
    return hb.Downlink(h.to(dtype), frontend, snr_db=10.0)


def _compare(table: Table, name: str, network: Network, at: hb.Downlink) -> None:
    own = network.matching(at)
    # By name a solver may make several passes: that is what users wait for.
    solver = replace(hb.solver(name), network=network)
    runs: dict[str, Callable[[], Any]] = {"solver": lambda: solver(at), "network": lambda: own(at)}
    for what, run in runs.items():
        with torch.no_grad():
            times = interleaved({"torch": _in_torch(run), "compiled": run}, REPEATS[at.batch])
        slow, fast = ([1e3 * t / at.batch for t in times[key]] for key in ("torch", "compiled"))
        cells = (name, at.batch, what, _cell(slow), _cell(fast), f"{slow[0] / fast[0]:.1f}")
        if what == "solver" and name in ASKED:
            table.check(fast[0] <= ASKED[name][at.batch], *cells, ASKED[name][at.batch])
        else:
            table.add(*cells, "", "")


def interleaved(runs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Sorted seconds of some runs, which take turns."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times: dict[str, list[float]] = {key: [] for key in runs}
    with _one_thread():
        for repeat in range(repeats + 1):
            for key, run in runs.items():
                begin = time.thread_time()
                run()
                if repeat:  # the first warms up
                    times[key].append(time.thread_time() - begin)
    torch.set_num_threads(threads)
    return {key: sorted(values) for key, values in times.items()}


def _cell(times: list[float]) -> str:
    return f"{times[0]:.3f} ({times[len(times) // 2]:.3f})"


def _in_torch(run: Callable[[], Any]) -> Callable[[], Any]:
    """The same run while nothing is served by the compiled twin."""

    def walked() -> Any:
        serves = compiled.serves
        compiled.serves = lambda *_: False
        try:
            return run()
        finally:
            compiled.serves = serves

    return walked


@contextmanager
def _one_thread() -> Iterator[None]:
    import os

    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


if __name__ == "__main__":
    print(latencies().markdown())
