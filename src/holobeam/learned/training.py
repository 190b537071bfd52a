"""The training loop: maximise the mean utility of what the layers design."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from holobeam.errors import InputError
from holobeam.learned.checkpoints import read_state, write_state
from holobeam.learned.curriculum import Curriculum, derived_generator
from holobeam.learned.network import Network
from holobeam.learned.settings import Moment, Settings
from holobeam.learned.validation import Score, Validation
from holobeam.problems.downlink import Downlink

Watch = Callable[[Moment], None]


@dataclass
class _Course:
    """What changes while training: weights, their running mean, Adam's averages, the clock."""

    network: Network
    average: dict[str, Tensor]
    optimizer: torch.optim.Adam
    step: int = 0
    skipped: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0


def train(
    network: Network,
    curriculum: Curriculum,
    settings: Settings,
    folder: Path,
    *,
    validation: Validation | None = None,
    watch: Watch | None = None,
    until: int | None = None,
    reach: float | None = None,
) -> dict[str, Tensor]:
    """Train a network, or go on where a folder's last checkpoint stands.

    Parameters
    ----------
    network
        What to train, in place.
    curriculum
        Where problems come from.
    settings
        How.
    folder
        Of checkpoints; a run that was killed goes on from its last one, to the same bits on a CPU.
    validation
        What the running mean of the weights is scored on.
    watch
        Called after every step.
    until
        Step to stop at, before the schedule's end.
    reach
        Share of the reference that every validation problem must reach to stop before the end.

    Returns
    -------
    dict
        The running mean of the weights.

    Raises
    ------
    InputError
        If the folder holds the checkpoint of another run.
    """
    workers, rank = _workers()
    course = _begin(network, settings, folder, workers)
    share = curriculum.batch // workers
    if share * workers != curriculum.batch:
        wrong = f"{curriculum.batch} channels for {workers} workers"
        raise InputError("batch", wrong, "take a multiple of the number of workers")
    last = settings.steps if until is None else min(until, settings.steps)
    network.train()
    scores = () if reach is None else _scores_at_resume(course, validation, settings, last)
    while course.step < last and not has_reached(scores, reach):
        began, began_cpu = time.perf_counter(), time.process_time()
        problem = curriculum.problem(course.step, rank * share, share)
        start = _start(course, problem, settings, curriculum, rank * share)
        utility = _learn(course, problem, start, settings, workers)
        course.step += 1
        scores = ()
        if validation and (course.step % settings.validate_every == 0 or course.step == last):
            scores = validation.score(averaged(network, course.average))
        done = course.step == last or has_reached(scores, reach)
        course.seconds += time.perf_counter() - began
        course.cpu_seconds += time.process_time() - began_cpu
        if rank == 0 and (course.step % settings.checkpoint_every == 0 or done):
            _keep(course, settings, folder)
        if watch is not None and rank == 0:
            watch(_moment(course, settings, utility, scores))
    return course.average


def has_reached(scores: tuple[Score, ...], reach: float | None) -> bool:
    """Whether every score is that share of its reference; never without scores or a share."""
    return reach is not None and bool(scores) and min(s.share for s in scores) >= reach


def _scores_at_resume(
    course: _Course, validation: Validation | None, settings: Settings, last: int
) -> tuple[Score, ...]:
    """Scores of a checkpoint that was validated: it may have been the end of its run."""
    validated = course.step % settings.validate_every == 0 or course.step == last
    if validation is None or course.step == 0 or not validated:
        return ()
    return validation.score(averaged(course.network, course.average))


def _moment(
    course: _Course, settings: Settings, utility: float, scores: tuple[Score, ...]
) -> Moment:
    return Moment(
        course.step,
        settings.steps,
        utility,
        course.skipped,
        course.seconds,
        course.cpu_seconds,
        scores,
    )


def averaged(network: Network, average: dict[str, Tensor]) -> Network:
    """Copy of a network with the running mean as its weights."""
    copy = deepcopy(network)
    copy.load_state_dict(average)
    return copy.eval()


def _start(
    course: _Course, problem: Downlink, settings: Settings, curriculum: Curriculum, first: int
) -> Tensor | None:
    """Controls that a worker's part of the batch begins at; the same however it is shared out."""
    shape = (curriculum.batch, *problem.shapes["control"][1:])
    generator = derived_generator(curriculum.seed, -2_000_000_011 - course.step)
    start = course.network.training_start(shape, settings.random_starts, generator)
    return None if start is None else start[first : first + problem.batch].to(problem.h)


def _learn(
    course: _Course, problem: Downlink, start: Tensor | None, settings: Settings, workers: int
) -> float:
    """One gradient step; returns the mean utility after the last layer."""
    network = course.network
    utilities = network(problem, start).utilities
    course.optimizer.zero_grad(set_to_none=True)
    weighted = utilities[-1] + settings.layer_weight * sum(utilities[:-1])
    if settings.relative:
        weighted = weighted / utilities[-1].detach().clamp(min=1e-3)
    (-weighted.mean()).backward()
    parameters = [p for p in network.parameters() if p.grad is not None]
    _share_gradients(parameters, workers)
    norm = torch.nn.utils.clip_grad_norm_(parameters, settings.clip)
    if bool(torch.isfinite(norm)):
        for group in course.optimizer.param_groups:
            group["lr"] = settings.rate(course.step)
        course.optimizer.step()
    else:
        course.skipped += 1
    decay = min(settings.averaging, (course.step + 1) / (course.step + 10))
    with torch.no_grad():
        for name, value in network.state_dict().items():
            course.average[name].lerp_(value, 1.0 - decay)
    return float(utilities[-1].detach().mean())


def _begin(network: Network, settings: Settings, folder: Path, workers: int) -> _Course:
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    average = {name: value.detach().clone() for name, value in network.state_dict().items()}
    course = _Course(network, average, optimizer)
    found = read_state(folder)
    if found is None:
        if workers > 1:
            for value in network.state_dict().values():
                torch.distributed.broadcast(value, 0)
        return course
    tensors, state = found
    if state["settings"] != asdict(settings):
        wrong = f"{folder} holds the checkpoint of a run with other settings"
        raise InputError("folder", wrong, "give another folder, or the settings of that run")
    _restore(course, tensors, folder)
    course.step, course.skipped = state["step"], state["skipped"]
    course.seconds, course.cpu_seconds = state["seconds"], state["cpu_seconds"]
    return course


def _restore(course: _Course, tensors: dict[str, Tensor], folder: Path) -> None:
    names = [name for name, _ in course.network.named_parameters()]
    try:
        weights = {name: tensors[f"weights.{name}"] for name in course.network.state_dict()}
        course.network.load_state_dict(weights)
        for name in course.average:
            course.average[name].copy_(tensors[f"average.{name}"])
        for name, parameter in zip(names, course.network.parameters(), strict=True):
            course.optimizer.state[parameter] = {
                "step": tensors[f"count.{name}"],
                "exp_avg": tensors[f"mean.{name}"].to(parameter.device),
                "exp_avg_sq": tensors[f"square.{name}"].to(parameter.device),
            }
    except (KeyError, RuntimeError):
        wrong = f"{folder} holds the checkpoint of another network"
        raise InputError("folder", wrong, "give another folder, or that network") from None


def _keep(course: _Course, settings: Settings, folder: Path) -> None:
    tensors = {f"weights.{k}": v for k, v in course.network.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in course.average.items()}
    for name, parameter in course.network.named_parameters():
        kept = course.optimizer.state.get(parameter) or {
            "step": torch.zeros(()),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
        tensors[f"count.{name}"] = kept["step"]
        tensors[f"mean.{name}"] = kept["exp_avg"]
        tensors[f"square.{name}"] = kept["exp_avg_sq"]
    state = {
        "step": course.step,
        "skipped": course.skipped,
        "seconds": course.seconds,
        "cpu_seconds": course.cpu_seconds,
        "settings": asdict(settings),
    }
    write_state(folder, tensors, state)


def _workers() -> tuple[int, int]:
    """How many processes train together (``torchrun``), and which of them this one is."""
    workers = int(os.environ.get("WORLD_SIZE", "1"))
    if workers == 1:
        return 1, 0
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return workers, torch.distributed.get_rank()


def _share_gradients(parameters: list[torch.nn.Parameter], workers: int) -> None:
    if workers == 1:
        return
    for parameter in parameters:
        assert parameter.grad is not None
        torch.distributed.all_reduce(parameter.grad)
        parameter.grad /= workers
