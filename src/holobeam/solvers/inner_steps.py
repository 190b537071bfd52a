"""What the closed-form sweep of ``mmse`` replaces: gradient steps inside, or other auxiliaries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from holobeam.analog.coordinate import coordinate_descent
from holobeam.analog.projected_gradient import projected_step
from holobeam.analog.quadratic import Quadratic
from holobeam.digital.link import Link
from holobeam.errors import InputError, check_count
from holobeam.frontends.element_sets import ElementSet, Interval
from holobeam.problems.downlink import Downlink
from holobeam.solvers.alternating import scale_is_free
from holobeam.solvers.base import Solver, State
from holobeam.solvers.starts import digital_start, matched_control, normalise_amplitudes


@dataclass(frozen=True, kw_only=True)
class InnerSteps(Solver):
    """Alternating MMSE whose analog update is not the exact sweep with fresh weights.

    Attributes
    ----------
    rule
        ``gradient``: projected gradient steps on the quadratic; ``fp``: the exact sweep, receivers
        and weights (the auxiliaries of a fractional programme) renewed once an iteration only.
    inner_steps
        Gradient steps in each iteration.
    step_size
        Their size, over the inverse of the mean curvature of the controls.

    Notes
    -----
    Not monotone where the step is too long: the best point is returned. Source: mmse paper, its
    remark on inner loops (our reading); docs/methods.md, section 3.
    """

    name: str = "mmse-gradient"
    max_iterations: int = 60
    tolerance: float = 0.0
    rule: Literal["gradient", "fp"] = "gradient"
    inner_steps: int = 5
    step_size: float = 0.1

    def refuses(self, problem: Downlink) -> str | None:
        """Serves everything with something to control."""
        if problem.frontend.is_digital:
            return "it designs controls, and a fully digital array has none; use wmmse-digital"
        return None

    def init(
        self, problem: Downlink, generator: torch.Generator, start: State | None = None
    ) -> State:
        """Begin where ``mmse`` begins, or at ``start``."""
        check_count("inner_steps", self.inner_steps)
        if not 0.0 < self.step_size < float("inf"):
            raise InputError("step_size", f"got {self.step_size!r}", "it must be positive")
        if start is not None:
            return self._state(problem, start.control, start.digital)
        control = problem.frontend.project(matched_control(problem, generator))
        digital = digital_start(problem, problem.link(control), equal_power=False)
        return self._state(problem, control, digital)

    def step(self, problem: Downlink, state: State) -> State:
        """Receivers and weights, V, then the inner steps on the controls."""
        link: Link = state.memory
        weights = problem.weights(link, state.digital)
        digital = problem.digital_step(link, weights, state.digital)
        if self.rule == "gradient":
            weights = problem.weights(link, digital)
        quadratic = problem.analog_quadratic(weights, digital)
        free = scale_is_free(problem)
        bounds: ElementSet = Interval(0.0, float("inf")) if free else problem.frontend.element_set
        control = self._moved(quadratic, state.control, bounds)
        if free:
            control, digital = normalise_amplitudes(control, digital)
        return self._state(problem, control, digital)

    def _moved(self, quadratic: Quadratic, control: Tensor, bounds: ElementSet) -> Tensor:
        if self.rule == "fp":
            return coordinate_descent(quadratic, control, bounds)
        mean = quadratic.curvature().mean(dim=(1, 2), keepdim=True)
        size = torch.where(mean > 0, -self.step_size / mean, 0.0)
        for _ in range(self.inner_steps):
            control = projected_step(control, quadratic.gradient(control), size, bounds)
        return control

    def _state(self, problem: Downlink, control: Tensor, digital: Tensor) -> State:
        link = problem.link(control)
        digital = problem.rescale(link, digital)
        return State(control, digital, problem.utility(link, digital), link)
