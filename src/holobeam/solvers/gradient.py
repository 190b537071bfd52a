"""Variable projection: a normalised gradient step on the controls, V tracked in closed form."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from holobeam.analog.projected_gradient import ascent_direction
from holobeam.digital.cells import CellLink
from holobeam.digital.link import Link
from holobeam.solvers import fused
from holobeam.solvers.base import EVERY_PROBLEM, AnyProblem, Pass, Record, Solver, State
from holobeam.solvers.cells import row_visits
from holobeam.solvers.starts import (
    digital_start,
    matched_control,
    random_control,
    relaxed,
)


@dataclass(frozen=True, eq=False)
class Memory:
    """Link at the controls, continuous controls behind them, velocity, iterations done.

    The compiled loop leaves the link out.
    """

    link: Link | CellLink | None
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
    gradient is taken at the projected point, the step is made on the latent one. Source: a variant
    of the unfolded-pga paper with untrained steps; docs/methods.md, section 7.
    """

    stackable: ClassVar[bool] = True
    problems: ClassVar[tuple[type, ...]] = EVERY_PROBLEM

    name: str = "vp"
    max_iterations: int = 20
    tolerance: float = 0.0
    first_step: float = 0.06
    last_step: float = 0.006
    momentum: float = 0.8
    digital_steps: int = 2
    begin: str = "matched"

    def init(
        self, problem: AnyProblem, generator: torch.Generator, start: State | None = None
    ) -> State:
        """Channel phases and equal-power RZF, or ``start``."""
        if start is not None:
            control = latent = start.control
            link = problem.link(control)
            digital = start.digital
        else:
            latent = (
                random_control(problem, generator)
                if self.begin == "random"
                else matched_control(problem, generator)
            )
            if type(self).step is VariableProjection.step and fused.serves(problem):
                memory = Memory(None, latent, torch.zeros_like(latent), 0)
                return replace(fused.begun(problem, latent), memory=memory)
            control = problem.frontend.project(latent)
            link = problem.link(control)
            digital = digital_start(problem, link)
        return _judged(problem, control, digital, Memory(link, latent, torch.zeros_like(latent), 0))

    def variant(self, index: int) -> Solver:
        """Random controls for every start but the first."""
        return self if index == 0 else replace(self, begin="random")

    def advance(self, problem: AnyProblem, state: State, count: int) -> State:
        """``count`` iterations, in the compiled loop where it serves."""
        if not self._compiled(problem, state):
            return super().advance(problem, state, count)
        return fused.climb(self, problem, state, None, count).state

    def run(self, problem: AnyProblem, state: State, record: Record, count: int) -> Pass:
        """All iterations at once in the compiled loop where it serves."""
        if not self._compiled(problem, state) or self.keep != "best":
            return super().run(problem, state, record, count)
        return fused.climb(self, problem, state, record, count)

    def _compiled(self, problem: AnyProblem, state: State) -> bool:
        # A subclass with steps of its own is not what was compiled.
        return (
            type(self).step is VariableProjection.step
            and fused.serves(problem, state)
            and hasattr(relaxed(problem.frontend.element_set), "kernel_code")
        )

    def step(self, problem: AnyProblem, state: State) -> State:
        """Ascend on the controls, project, refresh V."""
        memory: Memory = state.memory
        control, digital = state.control, state.digital
        link = problem.link(control) if memory.link is None else memory.link
        if not problem.frontend.is_digital:
            control, memory = self._ascend(problem, link, state)
            link = problem.link(control)
        for _ in range(self.digital_steps):
            digital = problem.digital_step(
                link, problem.weights(link, digital), digital, *row_visits(problem)
            )
        return _judged(
            problem, control, digital, replace(memory, link=link, count=memory.count + 1)
        )

    def _ascend(
        self, problem: AnyProblem, link: Link | CellLink, state: State
    ) -> tuple[Tensor, Memory]:
        memory: Memory = state.memory
        continuous = relaxed(problem.frontend.element_set)
        weights = problem.weights(link, state.digital)
        quadratic = problem.analog_quadratic(weights, state.digital)
        # Cells are batch entries of the quadratic.
        stacked = state.control.flatten(0, -3)
        direction = ascent_direction(quadratic, stacked, continuous).view_as(state.control)
        velocity = direction + self.kept(memory.count) * memory.velocity
        latent = continuous.project(memory.latent + self.size(memory.count) * velocity)
        control = problem.frontend.project(latent)
        return control, replace(memory, latent=latent, velocity=velocity)

    def size(self, count: int) -> float:
        """Step size of an iteration: falls linearly, then stays."""
        last = max(self.max_iterations - 1, 1)
        return self.first_step + (self.last_step - self.first_step) * min(count, last) / last

    def kept(self, count: int) -> float:
        """Share of the last direction that an iteration keeps: the same for all of them."""
        return self.momentum


def _judged(problem: AnyProblem, control: Tensor, digital: Tensor, memory: Memory) -> State:
    link = problem.link(control) if memory.link is None else memory.link
    digital = problem.rescale(link, digital)
    return State(control, digital, problem.utility(link, digital), memory)
