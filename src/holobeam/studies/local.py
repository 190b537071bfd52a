"""Units of work on processes of this machine: started afresh, pinned, replaced when they die."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holobeam.errors import FileError, HolobeamError
from holobeam.studies.cases import AnyUnit, Case, TimingUnit
from holobeam.studies.claims import Claims
from holobeam.studies.files import FullDiskError, sweep, write_atomically
from holobeam.studies.store import Store
from holobeam.studies.trainings import Training, end_course, is_finished

if TYPE_CHECKING:
    from holobeam.studies.idle import Patience

LIVES = 3
"""Workers that may die on a unit before it is given up."""

_SERVE = "from holobeam.studies.local import serve; serve()"


@dataclass(frozen=True)
class Job:
    """A unit of work and the folder that its file goes into.

    Attributes
    ----------
    again
        Whether it is done although its file is there: a time that was measured under contention.
    trainings
        Folder of the weights that it needs; of a training, its own folder.
    """

    unit: AnyUnit
    folder: str
    again: bool = False
    trainings: str = ""

    @property
    def needs(self) -> str:
        """Key of the training that it needs the weights of, or an empty text."""
        case = None if isinstance(self.unit, Training) else self.unit.case
        training = case.training if isinstance(case, Case) else None
        return "" if training is None else training.key

    @property
    def who(self) -> str:
        """For messages: the solver, or the training."""
        unit = self.unit
        return f"training {unit.name}" if isinstance(unit, Training) else unit.case.solver

    @property
    def path(self) -> Path:
        """The file."""
        store = Store(Path(self.folder))
        timing = isinstance(self.unit, TimingUnit)
        return store.timing_path(self.unit.key) if timing else store.unit_path(self.unit.key)

    @property
    def finished(self) -> bool:
        """Whether its result is there."""
        if self.again:
            return False
        if isinstance(self.unit, TimingUnit):
            return self.path.exists()
        if isinstance(self.unit, Training):
            return is_finished(Path(self.folder), self.unit.key)
        return Store(Path(self.folder)).has(self.unit.key)


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes
    ----------
    kind
        ``done``; ``found``: another process had done it; ``busy``: another process works on it;
        ``failed``; ``full``: no room on the disk; ``unwritable``: the folder can't be written.
    channels, seconds
        Work done.
    message
        Why it failed, or why its solver can't serve.
    contended
        Whether a time was measured beside other work.
    """

    job: Job
    kind: str
    channels: int = 0
    seconds: float = 0.0
    message: str = ""
    contended: bool = False

    @property
    def fatal(self) -> bool:
        """Whether the other jobs of the run can't succeed either."""
        return self.kind in {"full", "unwritable"}


Report = Callable[[Outcome], Iterable[Job] | None]
"""Is told of each outcome; returns the jobs that can be done because of it."""


def perform(
    job: Job, claims: dict[str, Claims], device: str = "cpu", patience: Patience | None = None
) -> Outcome:
    """Do a job in this process, unless another process works on it."""
    key = job.unit.key
    try:
        if job.folder not in claims:
            claims[job.folder] = Claims(Path(job.folder))
        mine = claims[job.folder]
        if not mine.take(key):
            return Outcome(job, "busy")
    except (FileError, OSError) as error:
        return refused(job, error)
    try:
        return Outcome(job, "found") if job.finished else _do(job, device, patience)
    except HolobeamError as error:
        return Outcome(job, "failed", message=str(error))
    except (Exception, SystemExit) as error:
        # Whatever a third party's solver raises: its unit fails, the others go on.
        return Outcome(job, "failed", message=f"{type(error).__name__}: {error}")
    finally:
        mine.release(key)


def _do(job: Job, device: str, patience: Patience | None) -> Outcome:
    from holobeam.studies.work import make

    trainings = Path(job.trainings) if job.trainings else None
    made = make(job.unit, device, patience, trainings)
    done = Outcome(job, "done", made.channels, made.seconds, made.unsupported, made.contended)
    # A time that was contended again is no better than the one that is there.
    return done if job.again and made.contended else write(job, made.content, done, made.beside)


def write(
    job: Job, content: bytes, done: Outcome, beside: Mapping[str, bytes] | None = None
) -> Outcome:
    """Write a job's file, those beside it first; ``done``, or why it could not be written."""
    try:
        for name, more in (beside or {}).items():
            write_atomically(Path(job.folder) / name, more)
        write_atomically(job.path, content)
    except FileError as error:
        return refused(job, error)
    if isinstance(job.unit, Training):
        end_course(Path(job.folder), job.unit.key)
    return done


def refused(job: Job, error: FileError | OSError) -> Outcome:
    """What came of a job whose folder can't be used."""
    kind = "full" if isinstance(error, FullDiskError) else "unwritable"
    return Outcome(job, kind, message=error.wrong if isinstance(error, FileError) else str(error))


def run_here(jobs: Sequence[Job], report: Report, device: str = "cpu") -> None:
    """Do jobs one after the other in this process, on one thread; stops when the disk is full."""
    from holobeam.studies.work import pinned

    claims: dict[str, Claims] = {}
    try:
        with pinned():
            queue = deque(jobs)
            while queue:
                outcome = perform(queue.popleft(), claims, device)
                queue.extend(report(outcome) or ())
                if outcome.fatal:
                    break
    finally:
        for claim in claims.values():
            claim.close()


def run_local(
    jobs: Sequence[Job],
    report: Report,
    workers: int,
    device: str = "cpu",
    *,
    threads: int = 1,
    patience: float = 0.0,
) -> None:
    """Do jobs on processes of their own, each with its own share of threads.

    A worker that dies is replaced and its job done again, up to :data:`LIVES` times; when this
    process dies its workers finish what they are at and end.

    Parameters
    ----------
    jobs
        What to do, in order.
    report
        Called in this process with every outcome; what it returns is done as well.
    workers
        Processes.
    device
        Where tensors live.
    threads
        Of each worker.
    patience
        Seconds that each worker may wait in all for an idle machine when it measures times.
    """
    pool = _Pool(workers, (device, threads, patience))
    queue = deque(jobs)
    deaths: dict[str, int] = {}
    stopped = False
    try:
        while queue or pool.working:
            pool.feed(queue)
            for outcome in pool.collect():
                if outcome.kind != "died":
                    stopped = stopped or outcome.fatal
                    queue.extend(report(outcome) or ())
                elif may_retry(outcome.job, deaths):
                    queue.appendleft(outcome.job)
                else:
                    queue.extend(report(given_up(outcome.job)) or ())
            if stopped:
                queue.clear()
    finally:
        pool.close()


def may_retry(job: Job, deaths: dict[str, int], lives: int = LIVES) -> bool:
    """Count a worker's death on a job; False when it was the last that is allowed."""
    deaths[job.unit.key] = deaths.get(job.unit.key, 0) + 1
    return deaths[job.unit.key] < lives


def given_up(job: Job, lives: int = LIVES, why: str = "is there enough memory?") -> Outcome:
    """Outcome of a job that too many workers died on."""
    return Outcome(job, "failed", message=f"its worker died {lives} times; {why}")


class _Worker:
    """One process, the line to it, and the job that it is at.

    A fresh interpreter rather than a fork of this one (threads of torch and CUDA don't survive
    forks), and not by ``multiprocessing``, which would run the caller's main module again. Out of
    our process group: Ctrl-C reaches this process alone, which decides what becomes of the others.
    """

    def __init__(self, how: tuple[str, int, float]) -> None:
        device, threads, patience = how
        self.job: Job | None = None
        self.line, far = Pipe()
        # Threads are read when the libraries start; modules are found where we find them.
        path = os.pathsep.join(part or os.getcwd() for part in sys.path)
        surroundings = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": path}
        said = (str(far.fileno()), device, str(threads), str(patience))
        with far:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", _SERVE, *said],
                env=surroundings,
                pass_fds=(far.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=2,  # what a solver prints must not end up in our own output
                process_group=0,
            )

    def end(self) -> None:
        """End it: at once if it is at a job, and sweep out what it was writing."""
        self.line.close()
        if self.job is not None:
            self.process.kill()
        try:
            self.process.wait(timeout=10.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.job is not None:
            with suppress(OSError):
                sweep(self.job.path.parent)


class _Pool:
    """Workers, some of them at a job."""

    def __init__(self, size: int, how: tuple[str, int, float]) -> None:
        self._how = how
        self._workers: list[_Worker] = []
        self._size = size

    @property
    def working(self) -> bool:
        """Whether any worker is at a job."""
        return any(worker.job is not None for worker in self._workers)

    def feed(self, queue: deque[Job]) -> None:
        """Give every idle worker a job, starting workers as needed."""
        while queue and len(self._workers) < self._size:
            self._workers.append(_Worker(self._how))
            self._give(self._workers[-1], queue)
        for worker in self._workers:
            if queue and worker.job is None:
                self._give(worker, queue)

    @staticmethod
    def _give(worker: _Worker, queue: deque[Job]) -> None:
        worker.job = queue.popleft()
        # If it died while idle, the end of its line is found at the next look, and its job redone.
        with suppress(OSError):
            worker.line.send(worker.job)

    def collect(self) -> list[Outcome]:
        """Wait until something ends, and say what; workers that died are removed."""
        busy = {worker.line: worker for worker in self._workers if worker.job is not None}
        ended = []
        for line in wait(list(busy)):
            worker = busy[line]  # type: ignore[index]
            job = worker.job
            assert job is not None
            outcome = _answer(worker, job)
            if outcome.kind == "died":
                self._workers.remove(worker)
                worker.end()
            worker.job = None
            ended.append(outcome)
        return ended

    def close(self) -> None:
        """End all workers; one that is at a job is killed, what it was writing is not there."""
        for worker in self._workers:
            if worker.job is not None:
                worker.process.kill()
            worker.line.close()
        for worker in self._workers:
            worker.end()
        self._workers.clear()


def _answer(worker: _Worker, job: Job) -> Outcome:
    """What a worker said: the end of its line is its death."""
    try:
        outcome: Outcome = worker.line.recv()
    except (EOFError, OSError):
        return Outcome(job, "died")
    return outcome


def serve() -> None:
    """Work until the line is cut: that is how a worker learns that its driver is gone."""
    descriptor, device, threads, patience = sys.argv[1:]
    os.set_inheritable(int(descriptor), False)
    line: Connection[Any, Any] = Connection(int(descriptor))
    from holobeam.studies.idle import Patience
    from holobeam.studies.work import set_up_worker

    set_up_worker(int(threads))
    left = Patience(float(patience))
    claims: dict[str, Claims] = {}
    while True:
        try:
            job = line.recv()
            line.send(perform(job, claims, device, left))
        except (EOFError, OSError):
            return
