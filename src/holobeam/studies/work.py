"""Doing one unit of work: draw, build, solve, judge, and put the numbers into a file's content."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from holobeam.errors import UnsupportedError
from holobeam.learned.network import Learned
from holobeam.solvers.base import AnyProblem
from holobeam.solvers.registry import solve
from holobeam.solvers.solution import Solution, Status
from holobeam.studies.cases import AnyCase, AnyUnit, Case, ComputedCase, TimingUnit, Unit
from holobeam.studies.channel_tables import ChannelTable
from holobeam.studies.files import encode_table
from holobeam.studies.idle import BUSY_CORES, Patience, Watch
from holobeam.studies.knowledge import (
    Judged,
    estimated,
    judge_estimates,
    judge_motion,
    prepared,
    track_of,
)
from holobeam.studies.source import Source
from holobeam.studies.train_unit import train_unit
from holobeam.studies.trainings import Training
from holobeam.studies.versions import versions

if TYPE_CHECKING:
    import pyarrow as pa

WINDOW = 0.2
"""Seconds that one repeat of a timing takes at least."""

MOST_SOLVES = 1000
"""Solves that one repeat consists of at most."""


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
    contended
        Whether other work ran beside what was timed.
    beside
        Contents of further files, by path in the folder: weights, and times of their making.
    """

    content: bytes
    channels: int
    seconds: float
    unsupported: str = ""
    contended: bool = False
    beside: Mapping[str, bytes] = field(default_factory=dict)


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


def pose(case: Case, start: int, stop: int, device: str = "cpu") -> AnyProblem:
    """Pose the problem of a case for some of its channels, each as often as it is estimated."""
    source = _drawn(case.channels, start, stop - start, case.seed, device)
    problem = case.problem.problem(source, case.frontend.build(source))
    csi = case.knowledge.csi
    return problem if csi is None else estimated(problem, csi, case.seed, start)


def answer(case: Case, problem: AnyProblem) -> Solution:
    """Solve a problem as a case says."""
    if case.knowledge.design:
        solver = prepared(case.solver, dict(case.options), case.starts, case.knowledge.design)
        return solve(problem, solver, seed=case.seed, history=case.history)
    return solve(
        problem,
        case.solver,
        seed=case.seed,
        starts=case.starts,
        history=case.history,
        **dict(case.options),
    )


def trial(case: AnyCase, count: int) -> Callable[[], object]:
    """What solves the first channels of a case, posed already."""
    if isinstance(case, ComputedCase):
        method, options = case.solver, dict(case.options)
        return lambda: case.computation.compute(method, options, (0, count), case.seed)
    problem = pose(case, 0, count)
    if case.training is not None:
        # The time of a network does not depend on its weights, which may not be there yet.
        untrained = Learned(network=case.training.recipe.network().eval())
        return lambda: solve(problem, untrained, seed=case.seed)
    return lambda: answer(case, problem)


@contextmanager
def pinned(threads: int = 1) -> Iterator[None]:
    """Pin the threads of this process for a while."""
    before = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
    set_up_worker(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        if before[1] is None:
            os.environ.pop("OMP_NUM_THREADS", None)
        else:
            os.environ["OMP_NUM_THREADS"] = before[1]


def make(
    unit: AnyUnit,
    device: str = "cpu",
    patience: Patience | None = None,
    trainings: Path | None = None,
) -> Made:
    """Do one unit of any kind; timings wait for an idle machine while patience lasts.

    Parameters
    ----------
    unit
        What to do.
    device
        Where tensors live.
    patience
        What is left to spend on waiting for an idle machine.
    trainings
        Folder that weights and checkpoints of trainings are in.

    Raises
    ------
    HolobeamError
        If the unit can't be posed or solved.
    """
    if isinstance(unit, Training):
        return run_training(unit, device, trainings)
    if isinstance(unit, Unit):
        return run_unit(unit, device, trainings)
    return run_timing(unit, device, patience, trainings)


def run_training(training: Training, device: str = "cpu", trainings: Path | None = None) -> Made:
    """Train a network, or go on from its last checkpoint."""
    begin = time.perf_counter()
    about = {"versions": versions(), "machine": machine(), "threads": torch.get_num_threads()}
    content, beside = train_unit(training, device, trainings, about)
    return Made(content, training.channels, time.perf_counter() - begin, beside=beside)


def run_unit(unit: Unit, device: str = "cpu", trainings: Path | None = None) -> Made:
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
        table = _table(unit, device, trainings)
    except UnsupportedError as error:
        content = encode_table(_nothing(), {**meta, "unsupported": str(error)})
        return Made(content, 0, time.perf_counter() - begin, str(error))
    content = encode_table(table, meta)
    return Made(content, unit.stop - unit.start, time.perf_counter() - begin)


def _table(unit: Unit, device: str, trainings: Path | None) -> pa.Table:
    if isinstance(unit.case, ComputedCase):
        return _computed_rows(unit, unit.case)
    case = unit.case.located(trainings)
    return _rows(unit, judge(unit, case, pose(case, unit.start, unit.stop, device)))


def judge(unit: Unit, case: Case, problem: AnyProblem) -> Solution | Judged:
    """Solve a problem; average over estimates and slots where there are any."""
    known = case.knowledge
    if known.motion is not None:
        count = unit.stop - unit.start
        track = track_of(case.channels, known.motion, count, case.seed, unit.start)
        solver = prepared(case.solver, dict(case.options), case.starts, ())
        return judge_motion(known, problem, solver, track, case.seed)
    solution = answer(case, problem)
    return solution if known.csi is None else judge_estimates(solution, known.csi, case.seed)


def _lists(values: Any) -> pa.ListArray:
    """One list a row."""
    import numpy as np
    import pyarrow as pa

    edges = np.arange(values.shape[0] + 1, dtype=np.int32) * values.shape[1]
    return pa.ListArray.from_arrays(pa.array(edges), pa.array(values.reshape(-1)))


def _computed_rows(unit: Unit, case: ComputedCase) -> pa.Table:
    """Computed numbers, in the columns of solutions: each stands where the sum rate stands."""
    import numpy as np
    import pyarrow as pa

    span = (unit.start, unit.stop)
    made = case.computation.compute(case.solver, dict(case.options), span, case.seed)
    count = len(made.value)
    ended = np.where(made.finished, int(Status.CONVERGED), int(Status.MAX_ITERATIONS))
    columns: dict[str, Any] = {
        "channel": np.arange(unit.start, unit.stop, dtype=np.int32),
        "rates": _lists(made.value[:, None]),
        "sum_rate": made.value,
        "status": ended.astype(np.int8),
        "iterations": np.zeros(count, dtype=np.int32),
        "violation": np.zeros(count),
        "dc_power": np.zeros(count),
    }
    return pa.table(columns)


def _rows(unit: Unit, solution: Solution | Judged) -> pa.Table:
    import numpy as np
    import pyarrow as pa

    def plain(tensor: torch.Tensor) -> Any:
        return np.ascontiguousarray(tensor.detach().cpu().numpy())

    rates = plain(solution.rates.double())
    columns: dict[str, Any] = {
        "channel": np.arange(unit.start, unit.stop, dtype=np.int32),
        "rates": _lists(rates),
        "sum_rate": rates.sum(axis=1),
        "status": plain(solution.status).astype(np.int8),
        "iterations": plain(solution.iterations).astype(np.int32),
        "violation": plain(solution.violation.double()),
        "dc_power": plain(solution.dc_power.double()),
    }
    if isinstance(solution, Judged):
        columns |= {name: plain(value) for name, value in solution.extra.items()}
    elif solution.history is not None:
        columns["history"] = _lists(plain(solution.history.double()))
    return pa.table(columns)


def _nothing() -> pa.Table:
    import pyarrow as pa

    return pa.table({"channel": pa.array([], pa.int32()), "sum_rate": pa.array([], pa.float64())})


def run_timing(
    unit: TimingUnit,
    device: str = "cpu",
    patience: Patience | None = None,
    trainings: Path | None = None,
) -> Made:
    """Measure the solve time of a case, with a warm-up that is not counted.

    Channels are drawn and the problem is posed before the clock runs. It runs while the machine is
    idle: a repeat beside which others worked is done again while ``patience`` lasts, and the least
    disturbed repeats are kept, whatever their time. Solves of milliseconds are repeated back to
    back for :data:`WINDOW`, and their mean is one repeat: the system's clock of others' work ticks
    in hundredths of a second.

    Parameters
    ----------
    unit
        What to time.
    device
        Where tensors live.
    patience
        What is left to spend on waiting for an idle machine and on more repeats; none by default.
    trainings
        Folder that the weights of trainings are in.
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
        case = unit.case.located(trainings)
        problem = pose(case, 0, unit.batch, device)
        answer(case, problem)
        unit = replace(unit, case=case)
        short = _solve_seconds(unit, problem, device, 1)
    except UnsupportedError as error:
        empty = pa.table({"seconds": pa.array([], pa.float64())})
        content = encode_table(empty, {**meta, "unsupported": str(error), "contended": False})
        return Made(content, 0, time.perf_counter() - begin, str(error))
    solves = min(MOST_SOLVES, max(1, round(WINDOW / short)))
    rows = _quiet_rows(unit, problem, device, solves, patience or Patience())
    contended = rows[len(rows) // 2]["others_busy"] > BUSY_CORES
    content = encode_table(
        pa.Table.from_pylist(rows), {**meta, "solves": solves, "contended": contended}
    )
    seconds = time.perf_counter() - begin
    return Made(content, unit.repeats * unit.batch, seconds, contended=contended)


def _quiet_rows(
    unit: TimingUnit, problem: AnyProblem, device: str, solves: int, patience: Patience
) -> list[dict[str, float]]:
    """Repeats of a measurement, the least disturbed ones first."""
    patience.wait_until_idle()
    rows: list[dict[str, float]] = []
    quiet = 0
    while len(rows) < unit.repeats or (quiet < unit.repeats and patience.left > 0):
        watch, cpu = Watch(), time.process_time()
        seconds = _solve_seconds(unit, problem, device, solves)
        used = (time.process_time() - cpu) / solves
        rows.append({"seconds": seconds, "cpu_seconds": used, "others_busy": watch.others()})
        if rows[-1]["others_busy"] <= BUSY_CORES:
            quiet += 1
            continue
        patience.spend(seconds * solves)
        if patience.left > 0:
            patience.wait_until_idle()
    return sorted(rows, key=lambda row: row["others_busy"])[: unit.repeats]


def _solve_seconds(unit: TimingUnit, problem: AnyProblem, device: str, solves: int) -> float:
    """Mean time of a solve."""
    if device != "cpu":
        torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(solves):
        answer(unit.case, problem)
    if device != "cpu":
        torch.cuda.synchronize()
    return (time.perf_counter() - begin) / solves


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
