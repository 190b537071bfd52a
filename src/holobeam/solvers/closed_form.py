"""Solvers that don't iterate over the controls: linear precoders, digital WMMSE, random."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from holobeam.digital.link import Link
from holobeam.digital.zero_forcing import (
    equal_columns,
    matched,
    regularised_zero_forcing,
    water_filled_zero_forcing,
    zero_forcing,
)
from holobeam.problems.downlink import Downlink
from holobeam.solvers.base import EVERY_PROBLEM, AnyProblem, Solver, State, make_state
from holobeam.solvers.cells import row_visits
from holobeam.solvers.starts import (
    digital_start,
    matched_control,
    noise_over_power,
    random_control,
    selected_start,
)

Rule = Literal["mrt", "zf", "rzf", "rzf-equal-power", "zf-equal-power", "zf-water-filling"]


def needs_chains(problem: Downlink) -> str | None:
    """Reason why zero forcing can't serve: more users than RF chains."""
    if problem.users > problem.chains:
        return (
            f"zero forcing needs K <= R, got {problem.users} users on {problem.chains} RF "
            "chains; use rzf, wmmse-cd or vp"
        )
    return None


@dataclass(frozen=True, kw_only=True)
class ClosedForm(Solver):
    """A linear precoder on the link; analog parts are pointed at the users and left there."""

    closed_form: ClassVar[bool] = True

    name: str = "rzf"
    max_iterations: int = 0
    rule: Rule = "rzf"

    def refuses(self, problem: Downlink) -> str | None:
        """Zero forcing needs as many chains as users."""
        return needs_chains(problem) if self.rule.startswith("zf") else None

    def init(
        self, problem: Downlink, generator: torch.Generator, start: State | None = None
    ) -> State:
        """Compute the precoder on the start's controls, or on matched ones."""
        if start is None:
            control = problem.frontend.project(matched_control(problem, generator))
        else:
            control = start.control
        link = problem.link(control)
        return make_state(problem, control, problem.rescale(link, self._digital(problem, link)))

    def _digital(self, problem: Downlink, link: Link) -> Tensor:
        if self.rule == "mrt":
            return matched(link)
        if self.rule == "zf":
            return zero_forcing(link)
        if self.rule == "zf-equal-power":
            return equal_columns(link, zero_forcing(link))
        if self.rule in {"rzf", "rzf-equal-power"}:
            equal = self.rule == "rzf-equal-power"
            return regularised_zero_forcing(link, noise_over_power(problem), equal_power=equal)
        total = 1.0 / noise_over_power(problem) * problem.noise_power
        return water_filled_zero_forcing(
            link, problem.noise_power, total[:, 0], each_subcarrier=problem.budget == "each"
        )


@dataclass(frozen=True, kw_only=True)
class DigitalWmmse(Solver):
    """WMMSE over the digital precoder alone; controls are absent, or drawn once and held.

    Attributes
    ----------
    equal_power
        Whether the first precoder gives every user the same power (else plain RZF).
    select
        Whether it serves only the users that are worth serving together.
    controls
        ``none`` on fully digital arrays; ``random`` draws them once.
    """

    problems: ClassVar[tuple[type, ...]] = EVERY_PROBLEM

    name: str = "wmmse-digital"
    max_iterations: int = 500
    tolerance: float = 1e-8
    equal_power: bool = True
    select: bool = False
    controls: Literal["none", "random"] = "none"

    def refuses(self, problem: AnyProblem) -> str | None:
        """Serves fully digital arrays, unless the controls are drawn at random."""
        if self.controls == "none" and not problem.frontend.is_digital:
            return (
                f"it designs fully digital arrays, not {problem.frontend.name}; use wmmse-cd "
                "or vp there"
            )
        return None

    def init(
        self, problem: AnyProblem, generator: torch.Generator, start: State | None = None
    ) -> State:
        """RZF, plain or with equal powers, on the link of the controls."""
        if start is not None:
            return replace(start, memory=problem.link(start.control))
        if self.controls == "random" and not problem.frontend.is_digital:
            control = random_control(problem, generator)
        else:
            control = matched_control(problem, generator)
        link = problem.link(control)
        if self.select:
            digital = selected_start(problem, link)
        else:
            digital = digital_start(problem, link, equal_power=self.equal_power)
        return State(control, digital, problem.utility(link, digital), link)

    def step(self, problem: AnyProblem, state: State) -> State:
        """Receivers and weights, then V."""
        link = state.memory
        weights = problem.weights(link, state.digital)
        digital = problem.digital_step(link, weights, state.digital, *row_visits(problem))
        digital = problem.rescale(link, digital)
        return State(state.control, digital, problem.utility(link, digital), link)
