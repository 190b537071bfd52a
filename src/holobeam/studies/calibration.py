"""How long a plan will take, from a short trial of every contestant."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from holobeam.errors import HolobeamError
from holobeam.studies.plan import Entry, Plan
from holobeam.studies.train_unit import expected_seconds
from holobeam.studies.work import pinned, trial

TRIAL_CHANNELS = (4, 20)
"""Channels of a trial and, where that is short, of another: a shard costs less a channel."""

SHORT = 0.5
"""Seconds of a first trial up to which there is a second."""


@dataclass(frozen=True)
class Estimate:
    """Expected compute time of one contestant over all its points.

    Attributes
    ----------
    label
        Who.
    channels
        Channel results.
    seconds
        On one worker; NaN where no trial succeeded.
    """

    label: str
    channels: int
    seconds: float


def calibrate(plan: Plan, budget: float = 20.0) -> list[Estimate]:
    """Try every contestant on a few channels of its smallest, middle and largest problem.

    Parameters
    ----------
    plan
        What is to be run.
    budget
        Seconds that the trials may take in all, about; contestants that are left when they are
        spent are tried on their middle problem only.
    """
    begin = time.process_time()
    found = _training_estimates(plan)
    for label in dict.fromkeys(entry.label for entry in plan.entries):
        # What several points share is done once.
        alike = {e.case.identity: e for e in plan.entries if e.label == label}
        mine = sorted(alike.values(), key=lambda entry: entry.case.size)
        hurry = time.process_time() - begin > budget
        middle = mine[len(mine) // 2]
        tried = [middle] if hurry else [mine[0], middle, mine[-1]]
        with pinned():
            trials = _trials(tried)
            # Not every contestant serves every point.
            trials = trials or _trials(mine[:1])
        channels = sum(entry.count for entry in mine)
        found.append(Estimate(label, channels, _expected(mine, trials)))
    return found


def _training_estimates(plan: Plan) -> list[Estimate]:
    """One for each name of a training; an upper bound where it may end early."""
    channels: dict[str, int] = {}
    seconds: dict[str, float] = {}
    alike: dict[str, float] = {}
    for training in plan.trainings:
        # Seeds, samples and SNRs change nothing about the time of a step.
        recipe = training.recipe
        shape = f"{recipe.model}:{recipe.options}:{recipe.batch}:{recipe.settings}"
        shape += f":{recipe.lessons[0].channels}"
        try:
            if shape not in alike:
                alike[shape] = expected_seconds(training)
        except HolobeamError:
            alike[shape] = float("nan")
        label = f"training {training.name}"
        channels[label] = channels.get(label, 0) + training.channels
        seconds[label] = seconds.get(label, 0.0) + alike[shape]
    return [Estimate(label, channels[label], seconds[label]) for label in seconds]


def _trials(entries: Sequence[Entry]) -> list[tuple[float, float]]:
    """Size, and seconds a channel, of each entry that can be solved."""
    found: dict[float, float] = {}
    for entry in entries:
        try:
            seconds = _a_channel(entry)
        except HolobeamError:
            continue
        found[entry.case.size] = max(seconds, found.get(entry.case.size, 0.0))
    return sorted(found.items())


def _a_channel(entry: Entry) -> float:
    """Seconds that a channel takes in a full shard."""
    shard = min(entry.shard, entry.count)
    few, more = (min(count, shard) for count in TRIAL_CHANNELS)
    first = _trial_seconds(entry, few)
    if first > SHORT or more == few:
        return first / few
    # What a call costs whatever its batch is shared by all of the shard.
    slope = max((_trial_seconds(entry, more) - first) / (more - few), 0.0)
    return max(first + slope * (shard - few), 1e-9) / shard


def _trial_seconds(entry: Entry, count: int) -> float:
    """CPU seconds, whatever else the machine is at; the first call compiles and is not counted."""
    run = trial(entry.case, count)
    run()
    begin = time.process_time()
    run()
    return time.process_time() - begin


def _expected(entries: Sequence[Entry], trials: Sequence[tuple[float, float]]) -> float:
    if not trials:
        return float("nan")
    sizes, seconds = np.log(np.asarray(trials, dtype=np.float64)).T
    return float(
        sum(e.count * np.exp(np.interp(np.log(e.case.size), sizes, seconds)) for e in entries)
    )
