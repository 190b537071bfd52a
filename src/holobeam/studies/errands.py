"""What a run is to do, what of it is missing, and what waits for a training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from holobeam.studies.local import Job, Outcome
from holobeam.studies.plan import Plan
from holobeam.studies.store import Store
from holobeam.studies.trainings import Training, finished_trainings


@dataclass(frozen=True)
class Errand:
    """A plan, the folder that its results go into, and the text of the study file.

    Attributes
    ----------
    trainings
        Folder of what is trained, shared with other studies; one within the results by default.
    """

    plan: Plan
    folder: Path
    source: str = ""
    trainings: Path | None = None

    @property
    def trained(self) -> Path:
        """Folder of trainings: shared by the studies of a run, or within the results."""
        return self.folder / "trainings" if self.trainings is None else self.trainings


class Waiting:
    """Jobs by the training that they wait for.

    Parameters
    ----------
    jobs
        Each needs the weights of a training that is not finished.
    """

    def __init__(self, jobs: Iterable[Job] = ()) -> None:
        self._jobs: dict[tuple[str, str], list[Job]] = {}
        for job in jobs:
            self._jobs.setdefault((job.trainings, job.needs), []).append(job)

    def __len__(self) -> int:
        return sum(map(len, self._jobs.values()))

    @property
    def jobs(self) -> list[Job]:
        """All that wait."""
        return [job for jobs in self._jobs.values() for job in jobs]

    def ready(self, outcome: Outcome) -> list[Job]:
        """Jobs that can begin because of an outcome; they wait no longer."""
        if outcome.kind not in {"done", "found"}:
            return []
        return self._of(outcome)

    def hopeless(self, outcome: Outcome) -> list[Outcome]:
        """Outcomes of jobs whose training failed."""
        if outcome.kind != "failed":
            return []
        return [
            Outcome(job, "failed", message=f"{outcome.job.who} failed") for job in self._of(outcome)
        ]

    def _of(self, outcome: Outcome) -> list[Job]:
        job = outcome.job
        place = (job.folder, job.unit.key)
        return self._jobs.pop(place, []) if isinstance(job.unit, Training) else []


def missing_of(errands: Sequence[Errand], part: tuple[int, int]) -> tuple[list[Job], Waiting, int]:
    """What is to be done, trainings first, what waits for a training, and how much is finished."""
    reused = 0
    jobs: list[Job] = []
    trainings: dict[tuple[str, str], Job] = {}
    waiting: list[Job] = []
    for errand in errands:
        mine = errand.plan.units[part[0] :: part[1]]
        finished = Store(errand.folder).finished({unit.key for unit in mine})
        left = [Job(unit, str(errand.folder)) for unit in mine if unit.key not in finished]
        reused += len(mine) - len(left)
        if not errand.plan.trainings:
            jobs += left
            continue
        folder = str(errand.trained)
        left = [replace(job, trainings=folder) for job in left]
        trained, to_train = _to_train(errand, {Job(unit, "").needs for unit in mine})
        trainings |= {(folder, job.unit.key): job for job in to_train}
        reused += trained
        missing = {job.unit.key for job in to_train}
        jobs += [job for job in left if job.needs not in missing]
        waiting += [job for job in left if job.needs in missing]
    first = list(trainings.values())
    # Every part trains what it needs itself: it must not wait for one that may never run. Those
    # that run beside each other begin at different ones.
    turn = part[0] * len(first) // part[1]
    return [*first[turn:], *first[:turn], *jobs], Waiting(waiting), reused


def _to_train(errand: Errand, needed: set[str]) -> tuple[int, list[Job]]:
    """Count the trainings that are needed and finished; those that are still to be done."""
    trainings = [training for training in errand.plan.trainings if training.key in needed]
    finished = finished_trainings(errand.trained, {training.key for training in trainings})
    folder = str(errand.trained)
    missing = [t for t in trainings if t.key not in finished]
    return len(finished), [Job(training, folder, trainings=folder) for training in missing]
