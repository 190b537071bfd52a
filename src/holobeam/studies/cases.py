"""What units of work consist of, and the names that their files go by."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from holobeam.studies.channel_tables import ChannelTable
from holobeam.studies.computed import Computation
from holobeam.studies.knowledge import Knowledge
from holobeam.studies.scenario import FrontendTable, Operation
from holobeam.studies.trainings import Training, weights_path

FORMAT = 1
"""Part of every key: raised when units of an older version may not be reused."""


@dataclass(frozen=True)
class Case:
    """Everything that the numbers of one contestant at one point depend on.

    Attributes
    ----------
    channels, frontend, problem
        What is drawn, on what hardware, at which operating point.
    solver, options, starts, history
        How it is solved, and whether the utility is kept after each iteration.
    seed
        Of channels and of random starts.
    knowledge
        What is known of the channels, if not all.
    training
        What makes the solver's weights; its key stands among the options.
    """

    channels: ChannelTable
    frontend: FrontendTable
    problem: Operation
    solver: str
    options: tuple[tuple[str, Any], ...]
    starts: int
    history: bool
    seed: int
    knowledge: Knowledge = field(default_factory=Knowledge)
    training: Training | None = None

    def located(self, folder: Path | None) -> Case:
        """Case whose weights are a file, in a folder of trainings."""
        if self.training is None or folder is None:
            return self
        options = {**dict(self.options), "weights": str(weights_path(folder, self.training.key))}
        return replace(self, options=tuple(options.items()), training=None)

    @cached_property
    def identity(self) -> str:
        """Canonical text of the case."""
        parts = {
            "format": FORMAT,
            "channels": self.channels.model_dump(mode="json"),
            "frontend": self.frontend.model_dump(mode="json"),
            "problem": self.problem.model_dump(mode="json"),
            "solver": self.solver,
            "options": dict(self.options),
            "starts": self.starts,
            "history": self.history,
            "seed": self.seed,
            **self.knowledge.identity,
        }
        return json.dumps(parts, sort_keys=True, separators=(",", ":"))

    @property
    def size(self) -> float:
        """Elements times users, near enough to guess times by."""
        table = self.channels
        shape = getattr(table, "shape", None) or (getattr(table, "antennas", 64), 1)
        return float(shape[0] * shape[1] * table.users * getattr(table, "subcarriers", 1))


@dataclass(frozen=True)
class ComputedCase:
    """Everything that the numbers of one method of a computation depend on.

    Attributes
    ----------
    computation
        What is computed.
    solver, options
        By which method.
    seed
        Of the samples.
    """

    computation: Computation
    solver: str
    options: tuple[tuple[str, Any], ...]
    seed: int

    @cached_property
    def identity(self) -> str:
        """Canonical text of the case."""
        parts = {
            "format": FORMAT,
            "computed": self.computation.model_dump(mode="json"),
            "solver": self.solver,
            "options": dict(self.options),
            "seed": self.seed,
        }
        return json.dumps(parts, sort_keys=True, separators=(",", ":"))

    @property
    def size(self) -> float:
        """Work of a sample, near enough to guess times by."""
        return self.computation.size


AnyCase: TypeAlias = Case | ComputedCase


@dataclass(frozen=True)
class Unit:
    """A shard of the channels of a case: what one worker solves as one batch."""

    case: AnyCase
    start: int
    stop: int

    @cached_property
    def key(self) -> str:
        """Name of the unit's file: a hash of all that its numbers depend on."""
        return digest(f"{self.case.identity}:{self.start}:{self.stop}")


@dataclass(frozen=True)
class TimingUnit:
    """Solve times of a case at one batch size."""

    case: Case
    batch: int
    repeats: int

    @cached_property
    def key(self) -> str:
        """Name of its file."""
        return digest(f"timing:{self.case.identity}:{self.batch}:{self.repeats}")


AnyUnit: TypeAlias = Unit | TimingUnit | Training


def digest(text: str) -> str:
    """Twenty hexadecimal digits of a text."""
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()
