"""Running studies: what is finished is kept, what is missing is done, times are measured last."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from holobeam import __version__
from holobeam.errors import FileError, InputError, check_count
from holobeam.studies.claims import Claims
from holobeam.studies.errands import Errand, Waiting, missing_of
from holobeam.studies.files import FullDiskError
from holobeam.studies.idle import BUSY_CORES, others_busy
from holobeam.studies.local import Job, Outcome, Report, run_here, run_local
from holobeam.studies.store import Store, compact
from holobeam.studies.trainings import Training, sweep_trainings

__all__ = ["Errand", "Progress", "Summary", "local_runner", "run_studies"]

BUSY_WAIT = 0.5
"""Seconds between looks at units that another process is at."""

PATIENCE = {False: 120.0, True: 2.0}
"""Seconds that a timing pass waits in all for an idle machine: full runs, quick runs."""

COMPACT_ABOVE = 4096
"""Single files in a folder above which they are packed: as a run begins, goes on, and ends."""

Runner = Callable[[Sequence[Job], Report], None]
"""Does jobs somewhere and reports each outcome."""


@dataclass(frozen=True)
class Progress:
    """How far a run is: units and channel results finished, and those that there are in all."""

    units: int
    all_units: int
    channels: int
    all_channels: int
    seconds: float
    stage: str = "rates"


@dataclass
class Summary:
    """What a run did.

    Attributes
    ----------
    reused, done
        Units found finished (or finished meanwhile by another run), and units finished now.
    failed
        One line for each unit that could not be done.
    unsupported
        One line for each contestant that can't serve a point.
    contended
        Times measured while other work ran; the next run on an idle machine replaces them.
    seconds
        Wall-clock time.
    """

    reused: int = 0
    done: int = 0
    failed: list[str] = field(default_factory=list)
    unsupported: list[str] = field(default_factory=list)
    contended: int = 0
    seconds: float = 0.0


def local_runner(workers: int | None = None, device: str = "cpu") -> Runner:
    """Runner on processes of this machine.

    Parameters
    ----------
    workers
        Processes; as many as we may use cores by default, 0 runs everything in this process.
    device
        Where tensors live, ``cpu`` or ``cuda``.
    """
    count = _cores() if workers is None else check_count("workers", workers, 0)
    if count == 0:
        return lambda jobs, report: run_here(jobs, report, device)
    return lambda jobs, report: run_local(jobs, report, count, device)


def _cores() -> int:
    """Cores that this process may use: on a batch queue often fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_studies(
    errands: Sequence[Errand],
    runner: Runner,
    *,
    part: tuple[int, int] = (0, 1),
    timings: bool = True,
    device: str = "cpu",
    progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """Finish what is not finished of some studies.

    Parameters
    ----------
    errands
        Plans with their folders.
    runner
        Where units are done.
    part
        ``(i, n)``: only every n-th unit from the i-th on, for batch queues.
    timings
        Whether solve times are measured afterwards, one at a time in a process of their own.
    device
        Where the timed solves run.
    progress
        Called after each unit.

    Raises
    ------
    FullDiskError
        If the disk is full. What is finished is safe.
    FileError
        If a folder can't be written.
    """
    begin = time.perf_counter()
    summary = Summary()
    _check_part(part)
    _open(errands)
    _pack(errand.folder for errand in errands)
    jobs, waiting, summary.reused = missing_of(errands, part)
    everything = [*jobs, *waiting.jobs]
    meter = _Meter("rates", len(everything), everything, progress)
    _finish(jobs, runner, summary, meter, waiting)
    if timings:
        _measure(errands, summary, device, progress)
    _pack(errand.folder for errand in errands)
    summary.seconds = time.perf_counter() - begin
    return summary


def _check_part(part: tuple[int, int]) -> None:
    index, of = part
    if not 0 <= index < of:
        raise InputError("shard", f"got {index}/{of}", "write i/n with 0 <= i < n")


def _open(errands: Sequence[Errand]) -> None:
    for errand in errands:
        store = Store(errand.folder)
        store.prepare()
        plan = errand.plan
        more: dict[str, Any] = {}
        if plan.trainings:
            Store(errand.trained).prepare()
            sweep_trainings(errand.trained)
            # Relative: the results may be looked at from elsewhere, or moved as a whole.
            more["trainings"] = os.path.relpath(errand.trained, errand.folder)
            more["versions"] = dict(plan.versions)
        store.write_manifest(
            {
                "source": errand.source,
                "study": plan.study.model_dump(mode="json", exclude_unset=True),
                "quick": plan.quick,
                "left_out": list(plan.left_out),
                "skipped": plan.skipped,
                "holobeam": __version__,
                **more,
            }
        )


def _pack(folders: Iterable[Path]) -> None:
    """Keep folders small enough to be listed, copied and backed up."""
    for folder in folders:
        store = Store(folder)
        if store.loose() > COMPACT_ABOVE:
            compact(store)


class _Meter:
    """Counts outcomes and tells them on."""

    def __init__(
        self,
        stage: str,
        units: int,
        jobs: Sequence[Job],
        tell: Callable[[Progress], None] | None,
    ) -> None:
        self._stage, self._all, self._tell = stage, units, tell
        self._all_channels = sum(channels_of(job) for job in jobs)
        self._units = self._channels = 0
        self._begin = time.perf_counter()
        self._say()

    def count(self, outcome: Outcome) -> None:
        """Count one finished job."""
        self._units += 1
        self._channels += channels_of(outcome.job)
        self._say()

    def _say(self) -> None:
        if self._tell is not None:
            spent = time.perf_counter() - self._begin
            self._tell(
                Progress(
                    self._units,
                    self._all,
                    self._channels,
                    self._all_channels,
                    spent,
                    self._stage,
                )
            )


def channels_of(job: Job) -> int:
    """Channels that a job solves, or trains on."""
    unit: Any = job.unit
    if isinstance(unit, Training):
        return unit.channels
    return int(unit.stop - unit.start) if hasattr(unit, "stop") else int(unit.batch * unit.repeats)


def _finish(
    jobs: list[Job], runner: Runner, summary: Summary, meter: _Meter, waiting: Waiting
) -> None:
    """Run jobs; those that another process is at are looked at again until they are there."""
    left = jobs
    while left:
        busy: list[Job] = []
        fatal: list[Outcome] = []

        def report(
            outcome: Outcome, busy: list[Job] = busy, fatal: list[Outcome] = fatal
        ) -> list[Job]:
            if outcome.kind == "busy":
                busy.append(outcome.job)
                return []
            if outcome.fatal:
                fatal.append(outcome)
                return []
            for ended in (outcome, *waiting.hopeless(outcome)):
                _book(ended, summary)
                meter.count(ended)
            if outcome.kind == "done" and summary.done % COMPACT_ABOVE == 0:
                _pack([Path(outcome.job.folder)])
            return waiting.ready(outcome)

        runner(left, report)
        if fatal:
            raise _unwritten(fatal[0])
        left = _freed(busy, report)


def _unwritten(outcome: Outcome) -> FileError:
    if outcome.kind == "full":
        right = "make room and run the same command again: nothing that is finished is lost"
        return FullDiskError("results", outcome.message, right)
    return FileError("results", outcome.message, "choose another folder, or mend this one")


def _freed(busy: Sequence[Job], report: Report) -> list[Job]:
    """Wait for units that other processes are at; those that they left undone.

    Workers are not started for this: looking is cheap, and the other process may take hours.
    """
    left = list(busy)
    while left:
        time.sleep(BUSY_WAIT)
        freed: list[Job] = []
        still: list[Job] = []
        for job in left:
            if not _free(job):
                still.append(job)
            elif job.finished:
                freed += report(Outcome(job, "found")) or ()
            else:
                freed.append(job)
        if freed:
            # The others that are still busy are met again there.
            return freed + still
        left = still
    return []


def _free(job: Job) -> bool:
    claims = Claims(Path(job.folder))
    try:
        return claims.take(job.unit.key)
    finally:
        claims.close()


def _book(outcome: Outcome, summary: Summary) -> None:
    study = "/".join(Path(outcome.job.folder).parts[-2:])
    if outcome.kind == "failed":
        summary.failed.append(f"{study}: {outcome.job.who}: {outcome.message}")
        return
    if outcome.kind == "found":
        summary.reused += 1
        return
    summary.done += 1
    summary.contended += outcome.contended
    line = f"{study}: {outcome.message}"
    if outcome.message and line not in summary.unsupported:
        summary.unsupported.append(line)


def _measure(
    errands: Sequence[Errand],
    summary: Summary,
    device: str,
    progress: Callable[[Progress], None] | None,
) -> None:
    """Time what is to be timed: one solve at a time, nothing else of ours on this machine."""
    quick = all(errand.plan.quick for errand in errands)
    with _alone():
        jobs = [job for errand in errands for job in _untimed(errand, summary)]
        if not jobs:
            return
        meter = _Meter("times", len(jobs), jobs, progress)

        def runner(left: Sequence[Job], report: Report) -> None:
            run_local(left, report, 1, device, patience=PATIENCE[quick])

        _finish(jobs, runner, summary, meter, Waiting())


def _untimed(errand: Errand, summary: Summary) -> list[Job]:
    """What is to be timed: what never was, and, now that it is idle, what was under contention."""
    units = {unit.key: unit for _, _, unit in errand.plan.timings}
    if not units:
        return []
    known = Store(errand.folder).finished_timings()
    folder, trained = str(errand.folder), str(errand.trained)
    jobs = [Job(unit, folder, False, trained) for key, unit in units.items() if key not in known]
    contended = [unit for key, unit in units.items() if known.get(key)]
    if contended and others_busy() <= BUSY_CORES:
        jobs += [Job(unit, folder, True, trained) for unit in contended]
    else:
        summary.contended += len(contended)
    return jobs


@contextmanager
def _alone() -> Iterator[None]:
    """Wait until no other run on this machine measures times."""
    path = Path(tempfile.gettempdir()) / f"holobeam-timing-{os.getuid()}.lock"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
