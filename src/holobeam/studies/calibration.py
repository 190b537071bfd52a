"""How long a plan will take, from a short trial of every contestant."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from holobeam.errors import HolobeamError
from holobeam.studies.plan import Entry, Plan
from holobeam.studies.work import trial

TRIAL_CHANNELS = 4
"""Channels of a trial: few, so that it is short; a full shard costs less a channel, not more."""


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
        spent are tried on their smallest problem only.
    """
    begin = time.perf_counter()
    found = []
    for label in dict.fromkeys(entry.label for entry in plan.entries):
        mine = sorted((e for e in plan.entries if e.label == label), key=lambda e: e.case.size)
        hurry = time.perf_counter() - begin > budget
        tried = mine[:1] if hurry else [mine[0], mine[len(mine) // 2], mine[-1]]
        trials = _trials(list({entry.case.identity: entry for entry in tried}.values()))
        channels = sum(entry.count for entry in mine)
        found.append(Estimate(label, channels, _expected(mine, trials)))
    return found


def _trials(entries: Sequence[Entry]) -> list[tuple[float, float]]:
    """Size, and seconds a channel, of each entry that can be solved."""
    found: dict[float, float] = {}
    for entry in entries:
        count = min(TRIAL_CHANNELS, entry.count)
        try:
            run = trial(entry.case, count)
            run()
            wall = time.perf_counter()
            run()
        except HolobeamError:
            continue
        seconds = (time.perf_counter() - wall) / count
        found[entry.case.size] = max(seconds, found.get(entry.case.size, 0.0))
    return sorted(found.items())


def _expected(entries: Sequence[Entry], trials: Sequence[tuple[float, float]]) -> float:
    if not trials:
        return float("nan")
    sizes, seconds = np.log(np.asarray(trials, dtype=np.float64)).T
    return float(
        sum(e.count * np.exp(np.interp(np.log(e.case.size), sizes, seconds)) for e in entries)
    )
