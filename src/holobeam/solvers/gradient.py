"""Variable projection: a normalised gradient step on the controls, V tracked in closed form."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from holobeam.analog.projected_gradient import ascent_direction
from holobeam.digital.link import Link
from holobeam.frontends.element_sets import Interval
from holobeam.problems.downlink import Downlink
from holobeam.solvers.base import Solver, State
from holobeam.solvers.starts import (
    digital_start,
    matched_control,
    random_control,
    relax,
    relaxed,
)


@dataclass(frozen=True, eq=False)
class Memory:
    """Link at the controls, continuous controls behind them, velocity, iterations done."""

    link: Link
    latent: Tensor
    velocity: Tensor
    count: int


@dataclass(frozen=True, kw_only=True)
class VariableProjection(Solver):
    """Projected gradient on the controls with the digital part refreshed after every step.

    Attributes
    ----------
    first_step, last_step
        Step sizes in units of the root-mean-square control step, linear in between.
    momentum
        Share of the last direction that is kept.
    digital_steps
        WMMSE steps on V after each analog step.
    begin
        ``matched`` or ``random``.

    Notes
    -----
    Stepped sets (b-bit phases, on/off) are driven through a continuous latent control: the
    gradient is taken at the projected point, the step is made on the latent one. Source:
    phase-shifter-pga, (a), recommended variant ``vp``, with its default, untrained steps.
    """

    name: str = "vp"
    max_iterations: int = 20
    tolerance: float = 0.0
    first_step: float = 0.06
    last_step: float = 0.006
    momentum: float = 0.8
    digital_steps: int = 2
    begin: str = "matched"

    def init(
        self, problem: Downlink, generator: torch.Generator, start: State | None = None
    ) -> State:
        """Channel phases and equal-power RZF, or ``start``."""
        if start is not None:
            return self._state(problem, start.control, start.control, start.digital,
                               torch.zeros_like(start.control), 0)
        latent = (
            random_control(problem, generator) if self.begin == "random"
            else matched_control(relax(problem), generator)
        )
        control = problem.frontend.project(latent)
        digital = digital_start(problem, problem.link(control))
        return self._state(problem, control, latent, digital, torch.zeros_like(control), 0)

    def variant(self, index: int) -> Solver:
        """Random controls for every start but the first."""
        return self if index == 0 else replace(self, begin="random")

    def step(self, problem: Downlink, state: State) -> State:
        """Ascend on the controls, project, refresh V."""
        memory: Memory = state.memory
        digital = state.digital
        if problem.frontend.is_digital:
            return self._refresh(problem, state.control, state.control, digital,
                                 memory.velocity, memory.count, memory.link)
        continuous = relaxed(problem.frontend.element_set)
        weights = problem.weights(memory.link, digital)
        quadratic = problem.analog_quadratic(weights, digital)
        direction = ascent_direction(quadratic, state.control, continuous)
        if isinstance(continuous, Interval):
            direction = direction.real.to(direction.dtype)
        velocity = direction + self.momentum * memory.velocity
        latent = continuous.project(memory.latent + self._size(memory.count) * velocity)
        control = problem.frontend.project(latent)
        return self._refresh(problem, control, latent, digital, velocity, memory.count,
                             problem.link(control))

    def _size(self, count: int) -> float:
        last = max(self.max_iterations - 1, 1)
        return self.first_step + (self.last_step - self.first_step) * min(count, last) / last

    def _refresh(
        self, problem: Downlink, control: Tensor, latent: Tensor, digital: Tensor,
        velocity: Tensor, count: int, link: Link,
    ) -> State:
        for _ in range(self.digital_steps):
            digital = problem.digital_step(link, problem.weights(link, digital), digital)
        digital = problem.rescale(link, digital)
        return State(control, digital, problem.utility(link, digital),
                     Memory(link, latent, velocity, count + 1))

    def _state(
        self, problem: Downlink, control: Tensor, latent: Tensor, digital: Tensor,
        velocity: Tensor, count: int,
    ) -> State:
        link = problem.link(control)
        digital = problem.rescale(link, digital)
        return State(control, digital, problem.utility(link, digital),
                     Memory(link, latent, velocity, count))
