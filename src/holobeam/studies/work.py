"""Doing one unit of work: draw, build, solve, judge, and put the numbers into a file's content."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import torch

from holobeam.errors import UnsupportedError
from holobeam.problems.downlink import Downlink
from holobeam.solvers.registry import solve
from holobeam.solvers.solution import Solution
from holobeam.studies.channel_tables import ChannelTable
from holobeam.studies.plan import Case, TimingUnit, Unit
from holobeam.studies.source import Source
from holobeam.studies.store import encode_table

if TYPE_CHECKING:
    import pyarrow as pa

BUSY_LOAD = 0.35
"""Share of a core that others may use while times are measured, before they count as contended."""

PACKAGES = ("holobeam", "torch", "numba", "numpy")


@dataclass(frozen=True)
class Made:
    """What came of a unit.

    Attributes
    ----------
    content
        Of its file.
    channels
        Channels solved.
    seconds
        That it took.
    unsupported
        Why the solver can't serve, or an empty text.
    """

    content: bytes
    channels: int
    seconds: float
    unsupported: str = ""


def set_up_worker(threads: int = 1) -> None:
    """Pin the threads of this process, so that numbers and times don't depend on its neighbours."""
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)


@lru_cache(maxsize=2)
def _drawn(channels: ChannelTable, start: int, count: int, seed: int, device: str) -> Source:
    """Channels of a shard: its solvers run one after the other and meet the same."""
    source = channels.source(count, seed, start)
    if device == "cpu":
        return source
    return Source(
        source.h.to(device),
        source.array,
        source.physical,
        source.description,
        source.relative_frequency,
    )


def pose(case: Case, start: int, stop: int, device: str = "cpu") -> Downlink:
    """Pose the problem of a case for some of its channels."""
    source = _drawn(case.channels, start, stop - start, case.seed, device)
    return case.problem.problem(source, case.frontend.build(source))


def answer(case: Case, problem: Downlink) -> Solution:
    """Solve a problem as a case says."""
    return solve(
        problem,
        case.solver,
        seed=case.seed,
        starts=case.starts,
        history=case.history,
        **dict(case.options),
    )


def make(unit: Unit | TimingUnit, device: str = "cpu") -> Made:
    """Do one unit of either kind.

    Raises
    ------
    HolobeamError
        If the unit can't be posed or solved.
    """
    return run_unit(unit, device) if isinstance(unit, Unit) else run_timing(unit, device)


def run_unit(unit: Unit, device: str = "cpu") -> Made:
    """Solve the channels of a unit as one batch."""
    begin = time.perf_counter()
    meta = {
        "case": unit.case.identity,
        "start": unit.start,
        "stop": unit.stop,
        "versions": versions(),
        "device": device,
    }
    try:
        solution = answer(unit.case, pose(unit.case, unit.start, unit.stop, device))
    except UnsupportedError as error:
        content = encode_table(_nothing(), {**meta, "unsupported": str(error)})
        return Made(content, 0, time.perf_counter() - begin, str(error))
    content = encode_table(_rows(unit, solution), meta)
    return Made(content, unit.stop - unit.start, time.perf_counter() - begin)


def _rows(unit: Unit, solution: Solution) -> pa.Table:
    import numpy as np
    import pyarrow as pa

    def plain(tensor: torch.Tensor) -> Any:
        return np.ascontiguousarray(tensor.detach().cpu().numpy())

    def lists(values: Any) -> pa.ListArray:
        edges = np.arange(values.shape[0] + 1, dtype=np.int32) * values.shape[1]
        return pa.ListArray.from_arrays(pa.array(edges), pa.array(values.reshape(-1)))

    rates = plain(solution.rates.double())
    columns: dict[str, Any] = {
        "channel": np.arange(unit.start, unit.stop, dtype=np.int32),
        "rates": lists(rates),
        "sum_rate": rates.sum(axis=1),
        "status": plain(solution.status).astype(np.int8),
        "iterations": plain(solution.iterations).astype(np.int32),
        "violation": plain(solution.violation.double()),
        "dc_power": plain(solution.dc_power.double()),
    }
    if solution.history is not None:
        columns["history"] = lists(plain(solution.history.double()))
    return pa.table(columns)


def _nothing() -> pa.Table:
    import pyarrow as pa

    return pa.table({"channel": pa.array([], pa.int32()), "sum_rate": pa.array([], pa.float64())})


def run_timing(unit: TimingUnit, device: str = "cpu") -> Made:
    """Measure the solve time of a case, with a warm-up that is not counted.

    Channels are drawn and the problem is posed before the clock runs. How busy the machine was with
    other work is measured too: such rows are marked as contended.
    """
    import pyarrow as pa

    begin = time.perf_counter()
    meta = {
        "case": unit.case.identity,
        "batch": unit.batch,
        "versions": versions(),
        "machine": machine(),
        "device": device,
        "threads": torch.get_num_threads(),
    }
    try:
        problem = pose(unit.case, 0, unit.batch, device)
        answer(unit.case, problem)
    except UnsupportedError as error:
        empty = pa.table({"seconds": pa.array([], pa.float64())})
        content = encode_table(empty, {**meta, "unsupported": str(error)})
        return Made(content, 0, time.perf_counter() - begin, str(error))
    rows: dict[str, list[Any]] = {"seconds": [], "cpu_seconds": [], "others_busy": []}
    for _ in range(unit.repeats):
        others, wall, cpu = _busy_seconds(), time.perf_counter(), time.process_time()
        answer(unit.case, problem)
        if device != "cpu":
            torch.cuda.synchronize()
        spent, used = time.perf_counter() - wall, time.process_time() - cpu
        rows["seconds"].append(spent)
        rows["cpu_seconds"].append(used)
        rows["others_busy"].append(max(0.0, _busy_seconds() - others - used) / spent)
    content = encode_table(pa.table(rows), meta)
    return Made(content, unit.repeats * unit.batch, time.perf_counter() - begin)


def _busy_seconds() -> float:
    """Seconds that all cores together have worked since the machine started; 0 where unknown."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            ticks = [int(part) for part in file.readline().split()[1:9]]
    except (OSError, ValueError):
        return 0.0
    idle = ticks[3] + ticks[4]
    return (sum(ticks) - idle) / os.sysconf("SC_CLK_TCK")


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """What times were measured on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            lines = [line for line in file if line.startswith("model name")]
    except OSError:
        lines = []
    return lines[0].split(":", 1)[1].strip() if lines else platform.processor()
