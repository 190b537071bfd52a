"""Units of work on the processes of this machine: spawned, pinned, replaced when they die."""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from holobeam.errors import HolobeamError
from holobeam.studies.plan import TimingUnit, Unit
from holobeam.studies.store import Claims, FullDiskError, Store, write_atomically

LIVES = 3
"""Workers that may die on a unit before it is given up."""


@dataclass(frozen=True)
class Job:
    """A unit of work and the folder that its file goes into."""

    unit: Unit | TimingUnit
    folder: str

    @property
    def path(self) -> Path:
        """The file."""
        store = Store(Path(self.folder))
        timing = isinstance(self.unit, TimingUnit)
        return store.timing_path(self.unit.key) if timing else store.unit_path(self.unit.key)


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes
    ----------
    kind
        ``done``; ``busy``: another process works on it; ``failed``; ``full``: no room on the disk.
    channels, seconds
        Work done.
    message
        Why it failed, or why its solver can't serve.
    """

    job: Job
    kind: str
    channels: int = 0
    seconds: float = 0.0
    message: str = ""


Report = Callable[[Outcome], None]


def perform(job: Job, claims: dict[str, Claims], device: str = "cpu") -> Outcome:
    """Do a job in this process, unless another process works on it."""
    from holobeam.studies.work import make

    key = job.unit.key
    if job.folder not in claims:
        claims[job.folder] = Claims(Path(job.folder))
    mine = claims[job.folder]
    if not mine.take(key):
        return Outcome(job, "busy")
    try:
        if job.path.exists():
            return Outcome(job, "done")
        made = make(job.unit, device)
        write_atomically(job.path, made.content)
        return Outcome(job, "done", made.channels, made.seconds, made.unsupported)
    except FullDiskError as error:
        return Outcome(job, "full", message=error.wrong)
    except HolobeamError as error:
        return Outcome(job, "failed", message=str(error))
    except Exception as error:
        # Whatever a third party's solver raises: its unit fails, the others go on.
        return Outcome(job, "failed", message=f"{type(error).__name__}: {error}")
    finally:
        mine.release(key)


def run_here(jobs: Sequence[Job], report: Report, device: str = "cpu") -> None:
    """Do jobs one after the other in this process; stops when the disk is full."""
    claims: dict[str, Claims] = {}
    try:
        for job in jobs:
            outcome = perform(job, claims, device)
            report(outcome)
            if outcome.kind == "full":
                break
    finally:
        for claim in claims.values():
            claim.close()


def run_local(
    jobs: Sequence[Job], report: Report, workers: int, device: str = "cpu", threads: int = 1
) -> None:
    """Do jobs on spawned processes, each with its own share of threads.

    A worker that dies is replaced and its job done again, up to :data:`LIVES` times; when this
    process dies its workers finish what they are at and end.

    Parameters
    ----------
    jobs
        What to do, in order.
    report
        Called in this process with every outcome.
    workers
        Processes.
    device
        Where tensors live.
    threads
        Of each worker.
    """
    pool = _Pool(min(workers, len(jobs)), device, threads)
    queue = deque(jobs)
    deaths: dict[str, int] = {}
    try:
        while queue or pool.working:
            pool.feed(queue)
            for outcome in pool.collect():
                if outcome.kind == "died" and _may_retry(outcome.job, deaths):
                    queue.appendleft(outcome.job)
                    continue
                if outcome.kind == "full":
                    queue.clear()
                report(_given_up(outcome.job) if outcome.kind == "died" else outcome)
    finally:
        pool.close()


def _may_retry(job: Job, deaths: dict[str, int]) -> bool:
    """Count a worker's death on a job; False when it was the last that is allowed."""
    deaths[job.unit.key] = deaths.get(job.unit.key, 0) + 1
    return deaths[job.unit.key] < LIVES


def _given_up(job: Job) -> Outcome:
    text = f"its worker died {LIVES} times; is there enough memory?"
    return Outcome(job, "failed", message=text)


class _Worker:
    """One spawned process, the line to it, and the job that it is at."""

    def __init__(self, device: str, threads: int) -> None:
        context = mp.get_context("spawn")
        self.line, far = context.Pipe()
        self.job: Job | None = None
        before = os.environ.get("OMP_NUM_THREADS")
        # Read when the libraries of the new process start, so it must be there before.
        os.environ["OMP_NUM_THREADS"] = str(threads)
        try:
            self.process = context.Process(
                target=_serve, args=(far, device, threads), daemon=True, name="holobeam-worker"
            )
            self.process.start()
        finally:
            if before is None:
                del os.environ["OMP_NUM_THREADS"]
            else:
                os.environ["OMP_NUM_THREADS"] = before
        far.close()


class _Pool:
    """Workers, some of them at a job."""

    def __init__(self, size: int, device: str, threads: int) -> None:
        self._how = (device, threads)
        self._workers = [_Worker(*self._how) for _ in range(size)]

    @property
    def working(self) -> bool:
        """Whether any worker is at a job."""
        return any(worker.job is not None for worker in self._workers)

    def feed(self, queue: deque[Job]) -> None:
        """Give every idle worker a job."""
        for place, worker in enumerate(self._workers):
            if worker.job is not None or not queue:
                continue
            job = queue.popleft()
            try:
                worker.line.send(job)
            except (BrokenPipeError, ConnectionError):
                # It died while idle: nobody's job is lost.
                self._replace(place).line.send(job)
            self._workers[place].job = job

    def collect(self) -> list[Outcome]:
        """Wait until something ends, and say what."""
        busy = [worker for worker in self._workers if worker.job is not None]
        wait([item for w in busy for item in (w.line, w.process.sentinel)])
        ended = []
        for worker in busy:
            job = worker.job
            assert job is not None
            outcome = _answer(worker, job)
            if outcome is None:
                continue
            worker.job = None
            ended.append(outcome)
            if outcome.kind == "died":
                self._replace(self._workers.index(worker))
        return ended

    def _replace(self, place: int) -> _Worker:
        old = self._workers[place]
        old.line.close()
        old.process.join(timeout=1.0)
        self._workers[place] = _Worker(*self._how)
        return self._workers[place]

    def close(self) -> None:
        """End all workers; one that is at a job is killed, what it was writing is not there."""
        for worker in self._workers:
            if worker.job is None:
                worker.line.close()
            else:
                worker.process.kill()
        for worker in self._workers:
            worker.process.join(timeout=5.0)
            if worker.process.is_alive():
                worker.process.kill()


def _answer(worker: _Worker, job: Job) -> Outcome | None:
    """What a worker said, or that it died, or None if it still works."""
    try:
        if worker.line.poll():
            outcome: Outcome = worker.line.recv()
            return outcome
    except (EOFError, ConnectionError):
        return Outcome(job, "died")
    return None if worker.process.is_alive() else Outcome(job, "died")


def _serve(line: Connection[Any, Any], device: str, threads: int) -> None:
    """Work until the line is cut: that is how a worker learns that its driver is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from holobeam.studies.work import set_up_worker

    set_up_worker(threads)
    claims: dict[str, Claims] = {}
    while True:
        try:
            job = line.recv()
            line.send(perform(job, claims, device))
        except (EOFError, ConnectionError, BrokenPipeError):
            return
