"""Designs for the worst case: an adversary adds channels, the design answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from holobeam.channels.csi_error import error_radius
from holobeam.errors import check_count
from holobeam.problems.downlink import Downlink
from holobeam.robust.adversary import worst_error
from holobeam.robust.evaluation import known_variance
from holobeam.robust.sampled import sample_average
from holobeam.robust.steps import handed_back, on_samples
from holobeam.solvers.base import AnyProblem, Solver, check_supported, make_generator, refusal
from holobeam.solvers.registry import solver as named_solver
from holobeam.solvers.solution import Solution


@dataclass(frozen=True, kw_only=True)
class WorstCase(Solver):
    """Adversarial design: each round adds the worst channel within the ball and designs anew.

    The estimate and the adversary's channels become the samples of a mean rate with one V
    (:func:`sample_average`); the design with the best worst case met is returned, so that it is
    never below the nominal one by the adversary's own measure.

    Attributes
    ----------
    solver
        Of the nominal design, a solver or its name.
    inner
        Of the designs with samples, from the best design so far; it must take subcarriers, as
        ``vp`` and ``wmmse-cd`` do.
    rounds
        Channels added.
    outage
        Of the radius of the ball: what an error's norm exceeds with this probability.
    iterations, starts
        Of the adversary in every round.

    Notes
    -----
    Source: docs/methods.md, section 25.
    """

    problems: ClassVar[tuple[type, ...]] = (Downlink,)

    name: str = "worst-case"
    solver: Solver | str = "vp"
    inner: Solver | str = "vp"
    rounds: int = 4
    outage: float = 0.05
    iterations: int = 20
    starts: int = 1

    def refuses(self, problem: Downlink) -> str | None:
        """Reason of the solver of the nominal design; fully digital arrays have no fixed basis."""
        if problem.frontend.is_digital:
            return "it designs arrays with controls; use NoiseEquivalent for fully digital ones"
        return refusal(as_solver(self.solver), problem)

    def __call__(self, problem: Downlink, **options: Any) -> Solution:
        """Solve; options as for :class:`Solver`."""
        check_count("rounds", self.rounds)
        generator = make_generator(options.pop("seed", None), options.pop("generator", None))
        check_supported(self, problem)
        variance = known_variance(problem)
        radius = error_radius(problem.h, variance, outage=self.outage).to(problem.h.real.dtype)
        best = as_solver(self.solver)(problem, generator=generator, **options)
        options.pop("start", None)
        error, lowest = self._attacked(best, radius, generator)
        samples, design = [problem.h], best
        for _ in range(self.rounds):
            samples.append(problem.h + error)
            posed = sample_average(problem, torch.stack(samples))
            start = on_samples(posed, best)
            found = as_solver(self.inner)(posed, generator=generator, start=start, **options)
            design = handed_back(problem, found, self.name)
            error, rates = self._attacked(design, radius, generator)
            best, lowest = _higher(best, lowest, design, rates)
        return handed_back(best.problem, best, self.name)

    def _attacked(
        self, solution: Solution, radius: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Worst error for a design, and the utility that is left."""
        error, rates = worst_error(
            solution.problem,
            solution.control,
            solution.digital,
            radius,
            iterations=self.iterations,
            starts=self.starts,
            generator=generator,
        )
        problem: AnyProblem = solution.problem
        return error, (problem.user_weights * rates).sum(dim=1)


def as_solver(solver: Solver | str) -> Solver:
    """A solver itself, or that of a name."""
    return named_solver(solver) if isinstance(solver, str) else solver


def _higher(
    best: Solution, lowest: Tensor, design: Solution, left: Tensor
) -> tuple[Solution, Tensor]:
    """Of two designs the one with the better worst case, channel by channel."""
    wins = left > lowest

    def pick(new: Tensor, old: Tensor) -> Tensor:
        return torch.where(wins.view(-1, *[1] * (new.ndim - 1)), new, old)

    merged = replace(
        best,
        control=pick(design.control, best.control),
        digital=pick(design.digital, best.digital),
        status=pick(design.status, best.status),
        iterations=best.iterations + design.iterations,
        history=None,
        seconds=best.seconds + design.seconds,
    )
    return merged, torch.maximum(left, lowest)
