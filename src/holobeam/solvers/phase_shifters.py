"""What the solvers for phase shifters share: whom they serve, and how phases are rounded.

Some of them also serve vector modulators, whose controls are any complex numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from jaxtyping import Complex
from torch import Tensor

from holobeam.digital.link import Link, inverse_metric, widen
from holobeam.frontends.element_sets import Circle
from holobeam.frontends.frontend import Frontend
from holobeam.solvers.base import (
    AnyProblem,
    Solver,
    as_state,
    check_supported,
    choose,
    make_generator,
)
from holobeam.solvers.refit import digital_refit
from holobeam.solvers.solution import Solution
from holobeam.solvers.starts import relax, relaxed


def needs_phase_shifters(problem: AnyProblem) -> str | None:
    """Reason why a method for unit-modulus controls can't serve a front-end."""
    if problem.frontend.is_digital:
        return "it designs phase shifters, not a fully digital array; use wmmse-digital there"
    if problem.frontend.has_free_gain:
        return (
            f"it designs phase shifters, not {problem.frontend.name}, whose gain is free; use "
            "wmmse-mo, ggml or wmmse-cd there"
        )
    circle = relaxed(problem.frontend.element_set)
    if not isinstance(circle, Circle) or circle.centre != 0:
        return f"it designs phase shifters, not {problem.frontend.name}; use vp or wmmse-cd there"
    return None


def plain_feed(frontend: Frontend) -> bool:
    """Whether the controls are the analog part: a shifter on every branch, a feed of ones."""
    return frontend.controls > 1 and bool((frontend.scaled_feed() == 1).all())


def least_squares_digital(
    analog: Complex[Tensor, "batch subcarriers antennas rf_chains"],
    target: Complex[Tensor, "batch subcarriers antennas users"],
) -> Complex[Tensor, "batch subcarriers rf_chains users"]:
    """``A^+ X``: the digital precoder whose radiated rows are nearest to a target."""
    analog = analog.expand(-1, target.shape[1], -1, -1)
    # Products in the given dtype, the R x R system in double precision.
    wide = widen(Link(analog.mH @ target, analog.mH @ analog))
    return inverse_metric(wide, wide.e).to(target.dtype)


@dataclass(frozen=True, kw_only=True)
class PhaseShifterSolver(Solver):
    """Base of solvers that design phases on the circle; b-bit phases are rounded from there.

    On a stepped set the continuous problem is solved, its phases are projected onto the levels and
    the digital part is re-optimised with them.
    """

    free_gain: ClassVar[bool] = False
    """Whether controls on the plane (vector modulators) are served, too."""

    def refuses(self, problem: AnyProblem) -> str | None:
        """Serves phase shifters: any phase or stepped, every connection, OFDM."""
        if self.free_gain and problem.frontend.has_free_gain:
            return None
        return needs_phase_shifters(problem)

    def refiner(self) -> Solver:
        """Digital steps alone: fairness goes on from the controls that were found."""
        return digital_refit()

    def __call__(self, problem: AnyProblem, **options: Any) -> Solution:
        """Solve; options as for :class:`Solver`."""
        check_supported(self, problem)
        element_set = problem.frontend.element_set
        if relaxed(element_set) is element_set:
            return super().__call__(problem, **options)
        start = as_state(problem, options.pop("start", None))
        options["generator"] = make_generator(
            options.pop("seed", None), options.pop("generator", None)
        )
        smooth = super().__call__(relax(problem), start=start, **options)
        rounded = digital_refit()(problem, start=smooth, **options)
        if start is not None and self.keep == "best":
            worse = start.utility > rounded.utility
            control, digital = choose(
                worse, (start.control, start.digital), (rounded.control, rounded.digital)
            )
            rounded = replace(rounded, control=control, digital=digital)
        return replace(
            rounded,
            solver=self.name,
            iterations=rounded.iterations + smooth.iterations,
            seconds=rounded.seconds + smooth.seconds,
        )
