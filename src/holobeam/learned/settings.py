"""How to train, and where training stands."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pydantic import ConfigDict, with_config

from holobeam.errors import InputError, check_count
from holobeam.learned.validation import Score


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes
    ----------
    steps
        Gradient steps in all.
    learning_rate, warmup, final_share
        Adam's rate rises linearly over ``warmup`` steps, then falls by a cosine to
        ``final_share`` of itself.
    clip
        Largest norm of a gradient; one that is not finite is left out.
    averaging
        Decay of the running mean of the weights, which is what is validated and kept.
    layer_weight
        Weight of the utility after every layer but the last, whose weight is 1.
    random_starts
        Share of the channels of a step that begin at random controls, where the network can.
    relative
        Divide every channel's utility by its own value at the step: the mean logarithm.
    checkpoint_every, validate_every
        In steps.
    """

    steps: int = 2000
    learning_rate: float = 2e-3
    warmup: int = 20
    final_share: float = 0.02
    clip: float = 1.0
    averaging: float = 0.99
    layer_weight: float = 0.3
    relative: bool = False
    random_starts: float = 0.0
    checkpoint_every: int = 500
    validate_every: int = 500

    def __post_init__(self) -> None:
        for name in ("steps", "checkpoint_every", "validate_every"):
            check_count(name, getattr(self, name))
        check_count("warmup", self.warmup, 0)
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise InputError(name, f"got {getattr(self, name)!r}", "it must be positive")

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        along = (step - self.warmup) / max(self.steps - self.warmup, 1)
        fall = 0.5 * (1.0 + math.cos(math.pi * min(along, 1.0)))
        return self.learning_rate * (self.final_share + (1.0 - self.final_share) * fall)


@dataclass(frozen=True)
class Moment:
    """Where training stands, for whoever watches."""

    step: int
    steps: int
    utility: float
    skipped: int
    seconds: float
    cpu_seconds: float
    scores: tuple[Score, ...] = ()
