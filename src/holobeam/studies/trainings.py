"""Trainings of a study: what is trained, under which name it is kept, and what came of it.

Trainings of all studies of a run share one folder. A training's line of numbers is in ``units/``
and its times in ``timings/``, as those of other units; its weights are in ``weights/``, and while
it runs its checkpoints are in ``courses/``.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from holobeam.errors import FileError, InputError
from holobeam.studies.channel_tables import ChannelTable
from holobeam.studies.files import CorruptFileError, read_table, set_aside, sweep, table_meta
from holobeam.studies.recipe import Recipe, recipe_tables
from holobeam.studies.scenario import FrontendTable, Operation
from holobeam.studies.store import Store
from holobeam.studies.training_table import TrainingTable, merged

FORMAT = 1
"""Part of every key: raised when weights of an older version may not be reused."""


@dataclass(frozen=True)
class Training:
    """A unit of work that trains a network.

    Attributes
    ----------
    name
        What the study calls it; not part of its identity.
    recipe
        All that its weights depend on, the seed included.
    reach
        Share of the reference at which it ends early, or None.
    versions
        Of the packages that made, or will make, the weights.
    """

    name: str
    recipe: Recipe
    reach: float | None
    versions: tuple[tuple[str, str], ...]

    @cached_property
    def identity(self) -> str:
        """Canonical text of all that the weights depend on."""
        said = self.recipe.model_dump(mode="json")
        if self.reach is None:
            # Nobody sits the exam.
            del said["exam"]
        parts = {
            "format": FORMAT,
            "training": said,
            "reach": self.reach,
            "versions": dict(self.versions),
        }
        return json.dumps(parts, sort_keys=True, separators=(",", ":"))

    @cached_property
    def key(self) -> str:
        """Name of its files."""
        return hashlib.blake2b(self.identity.encode(), digest_size=10).hexdigest()

    @property
    def channels(self) -> int:
        """Channels that all its steps take together, at most."""
        return self.recipe.settings.steps * self.recipe.batch


@dataclass(frozen=True)
class TrainingRecord:
    """What a training took, and came to.

    Attributes
    ----------
    name, model
        As the study calls it; its architecture.
    samples
        Different channels that it saw.
    steps, parameters
        Gradient steps, and weights.
    share
        Of the exam's reference at its end, the worst of its problems; NaN where nothing was to be
        reached.
    reached
        Whether that is what was to be reached; False also where nothing was.
    seconds, cpu_seconds
        Of all steps; NaN where the file of times is not there.
    contended
        Whether other work ran beside.
    machine
        What it ran on.
    """

    name: str
    model: str
    samples: int
    steps: int
    parameters: int
    share: float
    reached: bool
    seconds: float
    cpu_seconds: float
    contended: bool
    machine: Mapping[str, Any]

    @property
    def came_through(self) -> bool:
        """Whether it came where it was to come, if anywhere."""
        return self.reached or math.isnan(self.share)


def spent(record: TrainingRecord, quantity: str) -> float:
    """What a training took of a quantity; ``training_seconds`` are of CPU."""
    return {
        "training_samples": float(record.samples),
        "training_steps": float(record.steps),
        "training_seconds": record.cpu_seconds,
        "parameters": float(record.parameters),
    }[quantity]


def make_training(
    name: str,
    table: TrainingTable,
    point: tuple[ChannelTable, FrontendTable, Operation],
    versions: tuple[tuple[str, str], ...],
) -> Training:
    """Put a training's recipe together.

    Parameters
    ----------
    name, table
        From the study file.
    point
        Channels, front-end and operating point that its network is to serve.
    versions
        Of what trains.

    Raises
    ------
    pydantic.ValidationError
        If the tables are no recipe.
    InputError
        If nothing can be trained on at the point.
    """
    tables = recipe_tables(table.recipe)
    if table.lessons == "study":
        tables = merged(tables, _lessons(tables, *point))
    recipe = Recipe.model_validate(merged(tables, table.set))
    return Training(name, recipe, table.reach, versions)


def _lessons(
    tables: dict[str, Any], channels: ChannelTable, frontend: FrontendTable, problem: Operation
) -> dict[str, Any]:
    """Lessons and exam at the point of a study."""
    if problem.snr_db is None:
        wrong = "its problems have no SNR"
        raise InputError('lessons = "study"', wrong, "train on normalised channels")
    snr_db = problem.snr_db
    lesson = {
        "channels": channels.model_dump(exclude_unset=True),
        "frontend": frontend.model_dump(exclude_unset=True),
        "snr_db": (snr_db, snr_db),
        "power_at": problem.power_at,
    }
    exam = {**tables.get("exam", {}), "snr_db": [snr_db]}
    return {"lessons": [lesson], "exam": {**exam, "channels": None, "frontend": None}}


def weights_path(folder: Path, key: str) -> Path:
    """File of the weights of a training."""
    return folder / "weights" / f"{key}.safetensors"


def course_path(folder: Path, key: str) -> Path:
    """Folder of the checkpoints of a training."""
    return folder / "courses" / key


def course_for(folder: Path | None, key: str) -> Path:
    """Folder of checkpoints that this machine can write to: it need not see the results."""
    shared = folder is not None and folder.is_dir()
    base = folder if shared and folder is not None else Path(tempfile.gettempdir()) / "holobeam"
    return course_path(base, key)


def end_course(folder: Path, key: str) -> None:
    """Remove the checkpoints of a training whose weights are there."""
    shutil.rmtree(course_path(folder, key), ignore_errors=True)


def sweep_trainings(folder: Path) -> None:
    """Remove what processes that are gone left half written among weights and checkpoints."""
    sweep(folder / "weights")
    with suppress(FileNotFoundError):
        for course in (folder / "courses").iterdir():
            sweep(course)


def digest_of(content: bytes) -> str:
    """What a training's line of numbers says of its weights."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def finished_trainings(folder: Path, wanted: Collection[str]) -> set[str]:
    """Keys of the trainings whose numbers and weights are there and whole; others are set aside."""
    store = Store(folder)
    whole = set()
    for key in store.finished(wanted):
        try:
            said = table_meta(read_table(store.unit_path(key)))["weights"]
            content = weights_path(folder, key).read_bytes()
        except FileNotFoundError:
            content, said = b"", "missing"
        if digest_of(content) == said:
            whole.add(key)
            continue
        # The numbers go first: without them the training is one that is still to be done.
        set_aside(store.unit_path(key))
        set_aside(weights_path(folder, key))
    return whole


def is_finished(folder: Path, key: str) -> bool:
    """Whether a training's files are there, without a look into them."""
    return Store(folder).unit_path(key).exists() and weights_path(folder, key).exists()


def read_trainings(
    folder: Path, trainings: Collection[Training]
) -> Iterator[tuple[str, TrainingRecord]]:
    """Read what came of trainings, by key; those that are not finished are left out.

    Raises
    ------
    FileError
        If a file is damaged.
    """
    store = Store(folder)
    for training in trainings:
        path = store.unit_path(training.key)
        if not path.exists():
            continue
        try:
            row = read_table(path).to_pylist()[0]
        except CorruptFileError as error:
            raise FileError(
                "results", error.wrong, "run the study again: it mends itself"
            ) from error
        yield training.key, TrainingRecord(name=training.name, **row, **_times(store, training.key))


def _times(store: Store, key: str) -> dict[str, Any]:
    try:
        table = read_table(store.timing_path(key))
        meta, row = table_meta(table), table.to_pylist()[0]
    except (FileNotFoundError, CorruptFileError, IndexError):
        nothing: dict[str, Any] = {"seconds": math.nan, "cpu_seconds": math.nan}
        return {**nothing, "contended": False, "machine": {}}
    return {
        "seconds": row["seconds"],
        "cpu_seconds": row["cpu_seconds"],
        "contended": bool(meta["contended"]),
        "machine": meta["machine"],
    }
