"""Shake the best point, solve again, keep what is better."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Complex
from torch import Tensor

from holobeam.errors import InputError, check_count
from holobeam.frontends.element_sets import Circle, Interval
from holobeam.problems.downlink import Downlink
from holobeam.solvers.alternating import scale_is_free
from holobeam.solvers.base import Solver, check_supported, make_generator, make_state
from holobeam.solvers.solution import Solution
from holobeam.solvers.starts import digital_start


@dataclass(frozen=True, kw_only=True)
class Perturb(Solver):
    """Solve, then disturb the controls of the best point and solve again from there.

    ``hb.solve(problem, method, perturbations=5)`` makes one around any solver.

    Attributes
    ----------
    solver
        What solves; its refiner goes on from the disturbed points.
    rounds
        How often.
    size
        Standard deviation of the disturbance, see :func:`perturbed`.

    Notes
    -----
    The disturbed controls get a fresh equal-power precoder, so that users who were switched off
    come back. Source: docs/methods.md, section 4.
    """

    name: str = "perturb"
    solver: Solver = field(default_factory=Solver)
    rounds: int = 5
    size: float = 1.0

    def refuses(self, problem: Downlink) -> str | None:
        """Reason of the solver itself."""
        return self.solver.supports(problem)

    def refiner(self) -> Solver:
        """Return that of the solver itself."""
        return self.solver.refiner()

    def __call__(self, problem: Downlink, **options: Any) -> Solution:
        """Solve; options as for :class:`Solver`."""
        check_count("rounds", self.rounds, 0)
        if not 0.0 <= self.size < float("inf"):
            raise InputError("size", f"got {self.size!r}", "it must be finite and >= 0")
        check_supported(self, problem)
        generator = make_generator(options.pop("seed", None), options.pop("generator", None))
        best = self.solver(problem, generator=generator, **options)
        options.pop("start", None)
        again = self.solver.refiner()
        for _ in range(self.rounds):
            control = perturbed(problem, best.control, self.size, generator)
            digital = digital_start(problem, problem.link(control))
            start = make_state(problem, control, digital)
            best = best.better(again(problem, generator=generator, start=start, **options))
        return replace(best, solver=self.name)


def perturbed(
    problem: Downlink,
    control: Complex[Tensor, "batch antennas controls"],
    size: float,
    generator: torch.Generator,
) -> Complex[Tensor, "batch antennas controls"]:
    """Disturb controls at random, the same way for every channel of the batch.

    Amplitudes are multiplied by ``exp(size x)`` with x standard normal (and divided by their
    maximum where their scale is free), points of a circle turned by ``size x`` radians; of any
    other set a quarter of ``size`` of the entries is drawn anew.
    """
    frontend = problem.frontend
    element_set = frontend.element_set
    draw = torch.randn(control.shape[1:], generator=generator, dtype=torch.float64)
    noise = (size * draw).to(control.real)
    if isinstance(element_set, Interval):
        grown = element_set.low + (control - element_set.low) * noise.exp()
        top = grown.real.amax(dim=(1, 2), keepdim=True)
        if scale_is_free(problem):
            grown = grown / torch.where(top > 0, top, torch.ones_like(top))
        return frontend.project(grown)
    if isinstance(element_set, Circle):
        turn = torch.polar(torch.ones_like(noise), noise)
        return frontend.project(element_set.centre + (control - element_set.centre) * turn)
    fresh = frontend.sample(problem.batch, generator, control.dtype, control.device)
    chosen = torch.rand(control.shape[1:], generator=generator) < size / 4
    return torch.where(chosen.to(control.device), fresh, control)
