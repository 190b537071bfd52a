"""Doing a unit of work that trains: from its last checkpoint on, to the same bits."""

from __future__ import annotations

import math
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holobeam.errors import FileError, InputError
from holobeam.learned.checkpoints import Weights, encode_weights, read_state
from holobeam.learned.network import Network
from holobeam.learned.training import averaged, has_reached, train
from holobeam.learned.validation import Score, Validation
from holobeam.studies.files import encode_table
from holobeam.studies.idle import BUSY_CORES, Watch
from holobeam.studies.trainings import Training, course_for, digest_of

if TYPE_CHECKING:
    import pyarrow as pa

TRIAL_STEPS = 3
"""Steps that the time of a training is guessed from, behind one that warms up."""


def train_unit(
    training: Training, device: str, folder: Path | None, about: dict[str, Any]
) -> tuple[bytes, dict[str, bytes]]:
    """Train, or go on where a killed process left off.

    Parameters
    ----------
    training
        What.
    device
        Where tensors live.
    folder
        Of trainings; if this machine does not see it, checkpoints are kept with its temporary
        files.
    about
        Versions, and the machine that times are of.

    Returns
    -------
    tuple
        Content of the unit's file, and of the files beside it, by path in the folder.
    """
    recipe = training.recipe
    course = _usable(course_for(folder, training.key))
    network = recipe.network().to(device)
    exam = None if training.reach is None else recipe.validation(device)
    watch = Watch()
    average = train(
        network,
        recipe.curriculum(device),
        recipe.settings,
        course,
        validation=exam,
        reach=training.reach,
    )
    busy = watch.others()
    found = read_state(course)
    assert found is not None, "a run ends with a checkpoint"
    state = found[1]
    scores = () if exam is None else exam.score(averaged(network, average))
    samples = state["step"] * recipe.batch
    samples = min(samples, recipe.samples or samples)
    said = {"training": training.identity, "steps": state["step"], "samples": samples}
    weights = encode_weights(Weights(recipe.model, recipe.options, average, said))
    table = _row(training, network, state, samples, scores)
    meta = {
        "case": training.identity,
        "versions": about["versions"],
        "device": device,
        "weights": digest_of(weights),
    }
    beside = {
        f"weights/{training.key}.safetensors": weights,
        f"timings/{training.key}.parquet": _times(state, busy, {**about, "device": device}),
    }
    if folder is None or not folder.is_dir():
        shutil.rmtree(course, ignore_errors=True)
    return encode_table(table, meta), beside


def _usable(course: Path) -> Path:
    """Folder of checkpoints; one that is damaged is moved out of the way, and all begins anew."""
    try:
        read_state(course)
    except FileError:
        shutil.rmtree(course.with_suffix(".corrupt"), ignore_errors=True)
        course.replace(course.with_suffix(".corrupt"))
    return course


def _row(
    training: Training,
    network: Network,
    state: dict[str, Any],
    samples: int,
    scores: tuple[Score, ...],
) -> pa.Table:
    import pyarrow as pa

    row = {
        "model": training.recipe.model,
        "samples": samples,
        "steps": state["step"],
        "parameters": sum(p.numel() for p in network.parameters()),
        "share": min((score.share for score in scores), default=math.nan),
        "reached": has_reached(scores, training.reach),
    }
    return pa.Table.from_pylist([row])


def _times(state: dict[str, Any], busy: float, about: dict[str, Any]) -> bytes:
    import pyarrow as pa

    row = {
        "seconds": state["seconds"],
        "cpu_seconds": state["cpu_seconds"],
        "others_busy": busy,
    }
    return encode_table(pa.Table.from_pylist([row]), {**about, "contended": busy > BUSY_CORES})


def expected_seconds(training: Training) -> float:
    """CPU time of a training from a few of its steps; the reference of its exam included.

    Raises
    ------
    HolobeamError
        If it can't be trained.
    """
    import tempfile

    recipe = training.recipe
    settings = recipe.settings
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        # A set of samples need not be drawn for it.
        fresh = recipe.model_copy(update={"samples": None})
        train(
            recipe.network(),
            fresh.curriculum(),
            settings,
            Path(folder),
            watch=lambda moment: seconds.append(moment.cpu_seconds),
            until=1 + TRIAL_STEPS,
        )
    steps = len(seconds) - 1
    if steps < 1:
        raise InputError("steps", "a training of one step", "take more")
    whole = settings.steps * (seconds[-1] - seconds[0]) / steps
    if training.reach is None:
        return whole
    few = recipe.exam.model_copy(update={"count": min(4, recipe.exam.count)})
    begin = time.process_time()
    exam: Validation = recipe.model_copy(update={"exam": few}).validation()
    solved = time.process_time() - begin
    begin = time.process_time()
    exam.score(recipe.network().eval())
    scored = time.process_time() - begin
    times = settings.steps // settings.validate_every + 1
    return whole + (solved + times * scored) * recipe.exam.count / few.count
