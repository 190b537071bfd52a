"""Units of work on a Ray cluster: many machines, retried when one is lost.

Nodes send back the content of files and the driver writes them: nothing is shared between machines
but the code. The driver claims a unit before it is sent out, so that runs beside this one (local or
on a cluster) leave it alone.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for_writes
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from holobeam.errors import (
    FileError,
    HolobeamError,
    InputError,
    MissingDependencyError,
    check_count,
)
from holobeam.studies.cases import AnyUnit
from holobeam.studies.claims import Claims
from holobeam.studies.engine import Runner
from holobeam.studies.files import write_atomically
from holobeam.studies.local import (
    LIVES,
    Job,
    Outcome,
    Report,
    given_up,
    may_retry,
    refused,
    write,
)
from holobeam.studies.trainings import weights_path

NODE_LIVES = 10
"""Machines that may be lost under a unit before it is given up: it is rarely the unit's fault."""

WRITERS = 8
"""Threads that write files: waiting for the disk to flush can be shared, and so can its cost."""

BACKLOG = 8 * WRITERS
"""Files waiting to be written above which nothing more is sent out."""

PER_SLOT = 2
"""Tasks in flight for each one that the cluster can run: the next is there when one ends."""

CONNECT = 10.0
"""Seconds that a cluster has to answer."""

LOOK = 10.0
"""Seconds between looks at how large the cluster is."""


def ray_runner(
    address: str | None = None,
    device: str = "cpu",
    *,
    threads: int = 1,
    memory: float | None = None,
    in_flight: int | None = None,
) -> Runner:
    """Runner on a Ray cluster; holobeam must be installed on its machines.

    Parameters
    ----------
    address
        Of the cluster, e.g. ``auto`` or ``ray://head:10001``; None starts one on this machine
        unless this process is connected already.
    device
        ``cpu`` or ``cuda``: a task of ``cuda`` takes a whole GPU.
    threads
        Cores of each task.
    memory
        Bytes that a task is promised; None leaves it to Ray.
    in_flight
        Tasks sent out at a time; None follows the size of the cluster.

    Raises
    ------
    MissingDependencyError
        If Ray is not installed.
    """
    ray = _import_ray()
    check_count("threads", threads)
    if in_flight is not None:
        check_count("in_flight", in_flight)
    gpus = 1 if device == "cuda" else 0
    # Ray's own retries are off: it would not tell a lost machine from a unit that kills workers.
    options: dict[str, Any] = {"num_cpus": threads, "num_gpus": gpus, "max_retries": 0}
    if memory is not None:
        options["memory"] = memory

    def run(jobs: Sequence[Job], report: Report) -> None:
        with _connected(ray, address):
            make = ray.remote(**options)(_make)
            slots = _Slots(ray, threads, gpus, in_flight)
            parcels = _Parcels(ray)

            def send(job: Job) -> Any:
                return make.remote(job.unit, device, threads, job.trainings, parcels.of(job))

            flight = _Flight(ray, send, slots, report)
            try:
                flight.run(deque(jobs))
            finally:
                flight.close()

    return run


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray is to leave the thread settings and the accelerators of zero-GPU tasks alone.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise MissingDependencyError(
            "the ray engine needs the package ray; install it with pip install 'holobeam[ray]'"
        ) from None
    return ray


@contextmanager
def _connected(ray: Any, address: str | None) -> Iterator[None]:
    """Connect to the cluster, or use the connection that there is."""
    if ray.is_initialized():
        yield
        return
    _check_reachable(address)
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level="ERROR",
            include_dashboard=None if address else False,
        )
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise _no_cluster(address, str(error)) from None
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str | None) -> None:
    """Look whether anybody listens: Ray itself tries for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT):
            pass
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, str(error)) from None


def _no_cluster(address: str | None, why: str) -> InputError:
    line = (why.strip().splitlines() or ["no reason given"])[0][:120]
    wrong = f"no Ray cluster answers at {address!r} ({line})"
    return InputError("address", wrong, "start one with `ray start --head`")


Answer = tuple[str, bytes, int, float, str, Mapping[str, bytes]]
"""Of a node: kind of outcome, content of the file, channels, seconds, message, further files."""

Parcel = tuple[str, bytes]
"""Key of a training, and the content of its weights."""


def _make(
    unit: AnyUnit, device: str, threads: int, trainings: str = "", parcel: Parcel | None = None
) -> Answer:
    """Do a unit on a node, with the weights that it needs."""
    from holobeam.studies.work import make, set_up_worker

    set_up_worker(threads)
    try:
        folder = Path(trainings) if trainings else None
        folder = folder if parcel is None else _unpacked(parcel)
        made = make(unit, device, trainings=folder)
    except HolobeamError as error:
        return "failed", b"", 0, 0.0, str(error), {}
    except (Exception, SystemExit) as error:
        # Whatever a third party's solver raises; retrying would raise it again.
        return "failed", b"", 0, 0.0, f"{type(error).__name__}: {error}", {}
    return "done", made.content, made.channels, made.seconds, made.unsupported, made.beside


def _unpacked(parcel: Parcel) -> Path:
    """Folder of this node that holds the weights: it need not see the driver's files."""
    key, content = parcel
    folder = Path(tempfile.gettempdir()) / f"holobeam-weights-{os.getuid()}"
    path = weights_path(folder, key)
    if not path.exists() or path.read_bytes() != content:
        write_atomically(path, content)
    return folder


class _Parcels:
    """Weights that units need, each put into the cluster's memory once."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._known: dict[str, Any] = {}

    def of(self, job: Job) -> Any:
        """Reference to a parcel, or None."""
        key = job.needs
        if not key:
            return None
        if key not in self._known:
            content = weights_path(Path(job.trainings), key).read_bytes()
            self._known[key] = self._ray.put((key, content))
        return self._known[key]


class _Slots:
    """How many tasks to have in flight; follows a cluster that grows and shrinks."""

    def __init__(self, ray: Any, threads: int, gpus: int, most: int | None) -> None:
        self._ray, self._threads, self._gpus, self._most = ray, threads, gpus, most
        self._looked, self._count = -LOOK, 1
        if gpus and not ray.cluster_resources().get("GPU"):
            text = "no machine of the cluster has a GPU (yet): units wait until one joins"
            warnings.warn(text, RuntimeWarning, stacklevel=2)

    @property
    def count(self) -> int:
        """Tasks to have in flight now."""
        if self._most is not None:
            return self._most
        if time.monotonic() - self._looked > LOOK:
            there = self._ray.cluster_resources()
            slots = there.get("GPU", 0.0) if self._gpus else there.get("CPU", 0.0) / self._threads
            self._looked, self._count = time.monotonic(), PER_SLOT * max(1, int(slots))
        return self._count


class _Flight:
    """Jobs that are out on the cluster, and those whose files are being written."""

    def __init__(self, ray: Any, send: Any, slots: _Slots, report: Report) -> None:
        self._ray, self._send, self._slots, self._report = ray, send, slots, report
        self._flying: dict[Any, Job] = {}
        self._writing: dict[Future[Outcome], Job] = {}
        self._writers = ThreadPoolExecutor(WRITERS, "holobeam-writer")
        self._claims: dict[str, Claims] = {}
        self._deaths: dict[str, int] = {}
        self._losses: dict[str, int] = {}
        self._stopped = False
        self._queue: deque[Job] = deque()

    def run(self, queue: deque[Job]) -> None:
        """Send jobs out and bring their results in until none is left."""
        self._queue = queue
        while (queue and not self._stopped) or self._flying or self._writing:
            while queue and not self._stopped and self._room:
                self._launch(queue.popleft())
            for ref in self._landed():
                again = self._land(ref)
                if again is not None:
                    queue.appendleft(again)
            self._book_writes(block=not self._flying)
            if self._stopped:
                self._recall()

    @property
    def _room(self) -> bool:
        """Whether to send more out: neither the cluster nor the disk is behind."""
        return len(self._flying) < self._slots.count and len(self._writing) < BACKLOG

    def close(self) -> None:
        """Recall what is out, and give all claims back."""
        self._recall()
        self._writers.shutdown(wait=True, cancel_futures=True)
        for claim in self._claims.values():
            claim.close()

    def _launch(self, job: Job) -> None:
        key = job.unit.key
        try:
            if job.folder not in self._claims:
                self._claims[job.folder] = Claims(Path(job.folder))
            if not self._claims[job.folder].take(key):
                self._queue.extend(self._report(Outcome(job, "busy")) or ())
                return
        except (FileError, OSError) as error:
            self._end(refused(job, error))
            return
        if job.finished:
            self._end(Outcome(job, "found"))
            return
        self._flying[self._send(job)] = job

    def _landed(self) -> list[Any]:
        """Tasks that have ended: waits for one, briefly if files are being written too."""
        if not self._flying:
            return []
        out = list(self._flying)
        first, _ = self._ray.wait(out, num_returns=1, timeout=0.05 if self._writing else 1.0)
        if not first:
            return []
        ended, _ = self._ray.wait(out, num_returns=len(out), timeout=0)
        return list(ended)

    def _land(self, ref: Any) -> Job | None:
        """Take a result in; the job again if its worker or machine was lost."""
        job = self._flying.pop(ref)
        try:
            kind, content, channels, seconds, message, beside = self._ray.get(ref)
        except self._ray.exceptions.RayTaskError as error:
            # Not from a solver: the task itself could not be set up there.
            line = str(error).strip().splitlines()[-1]
            text = f"a node can't run it ({line}); is holobeam {_version()} installed there?"
            self._end(Outcome(job, "failed", message=text))
            return None
        except self._ray.exceptions.RayError as error:
            return self._lost(job, error)
        done = Outcome(job, kind, channels, seconds, message)
        if kind == "done":
            self._writing[self._writers.submit(write, job, content, done, beside)] = job
        else:
            self._end(done)
        return None

    def _lost(self, job: Job, error: Exception) -> Job | None:
        """Count a loss against the unit that it hit; the job if it may be tried again."""
        errors = self._ray.exceptions
        died = isinstance(error, errors.WorkerCrashedError | errors.OutOfMemoryError)
        counts, lives = (self._deaths, LIVES) if died else (self._losses, NODE_LIVES)
        if may_retry(job, counts, lives):
            # Claimed again when it is sent out again.
            self._claims[job.folder].release(job.unit.key)
            return job
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        why = f"the last time: {line[:200]}"
        self._end(given_up(job, lives, why))
        return None

    def _book_writes(self, block: bool) -> None:
        if not self._writing:
            return
        timeout = 1.0 if block else 0.0
        ended, _ = wait_for_writes(self._writing, timeout, return_when="FIRST_COMPLETED")
        for future in ended:
            del self._writing[future]
            self._end(future.result())

    def _end(self, outcome: Outcome) -> None:
        claims = self._claims.get(outcome.job.folder)
        if claims is not None:
            claims.release(outcome.job.unit.key)
        self._stopped = self._stopped or outcome.fatal
        self._queue.extend(self._report(outcome) or ())

    def _recall(self) -> None:
        for ref in self._flying:
            with suppress(Exception):
                self._ray.cancel(ref, force=True)
        self._flying.clear()


def _version() -> str:
    from holobeam import __version__

    return __version__
