"""Proportional fairness around any sum-rate solver, by damped reweighting of the users."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from holobeam.problems.multicell import MultiCell
from holobeam.solvers.base import (
    EVERY_PROBLEM,
    AnyProblem,
    Solver,
    State,
    check_supported,
    make_state,
    refusal,
)
from holobeam.solvers.gradient import VariableProjection
from holobeam.solvers.solution import Solution


@dataclass(frozen=True, eq=False)
class Memory:
    """User weights, the state of the inner solver, rounds done."""

    weights: Tensor
    inner: State
    count: int


@dataclass(frozen=True, kw_only=True)
class ProportionalFair(Solver):
    """Maximise ``sum alpha log max(R, 0.01)`` with a solver that maximises weighted sum rates.

    Attributes
    ----------
    inner
        Solver of the weighted problem; it also makes the start, at ``boost`` times the power.
    boost, decay
        The power falls as ``P max(1, boost decay^t)`` so that every user is alive at first.
    inner_iterations
        Iterations of the inner solver in each round.
    damping
        ``w <- w^damping (alpha / max(R, 0.02))^(1 - damping)``, scaled to mean 1, alpha the user
        weights. Undamped weights oscillate.

    Notes
    -----
    Source: docs/methods.md, section 9.
    """

    problems: ClassVar[tuple[type, ...]] = EVERY_PROBLEM

    name: str = "proportional-fair"
    max_iterations: int = 60
    tolerance: float = 0.0
    inner: Solver = field(default_factory=VariableProjection)
    boost: float = 100.0
    decay: float = 0.7
    inner_iterations: int = 8
    damping: float = 0.6

    def refuses(self, problem: AnyProblem) -> str | None:
        """Reason of the inner solver."""
        return refusal(self.inner, problem)

    def init(
        self, problem: AnyProblem, generator: torch.Generator, start: State | None = None
    ) -> State:
        """Solve for the sum rate at high power, or begin at ``start``."""
        weights = problem.user_weights
        if start is None:
            loud = self._weighted(problem, weights, self.boost)
            start_at = self.inner(loud, generator=generator)
            start = make_state(loud, start_at.control, start_at.digital)
        calm = self._weighted(problem, weights, self._power(0))
        inner = self.inner.refiner().init(calm, generator, start)
        return self._state(problem, Memory(weights, inner, 0))

    def step(self, problem: AnyProblem, state: State) -> State:
        """Reweight by the rates at this round's power, then iterate at it."""
        memory: Memory = state.memory
        factor = self._power(memory.count)
        at = self._weighted(problem, memory.weights, factor)
        rates = at.rates(at.link(memory.inner.control), memory.inner.digital)
        wanted = _counted(problem) / rates.clamp(min=0.02).view_as(memory.weights)
        weights = self._reweighted(memory.weights, wanted)
        at = self._weighted(problem, weights, factor)
        here = at.utility(at.link(memory.inner.control), memory.inner.digital)
        refiner = self.inner.refiner()
        inner = refiner.advance(at, replace(memory.inner, utility=here), self.inner_iterations)
        return self._state(problem, Memory(weights, inner, memory.count + 1))

    def _power(self, count: int) -> float:
        return max(1.0, self.boost * self.decay**count)

    def _reweighted(
        self, weights: Float[Tensor, "batch *users"], wanted: Float[Tensor, "batch *users"]
    ) -> Float[Tensor, "batch *users"]:
        new = weights**self.damping * wanted ** (1.0 - self.damping)
        return new / new.mean(dim=tuple(range(1, new.ndim)), keepdim=True)

    @staticmethod
    def _weighted(problem: AnyProblem, weights: Tensor, power: float) -> AnyProblem:
        return problem.with_(
            user_weights=weights,
            utility_name="sum_rate",
            noise_power=problem.noise_power / power,
        )

    @staticmethod
    def _state(problem: AnyProblem, memory: Memory) -> State:
        inner = memory.inner
        utility = problem.utility(problem.link(inner.control), inner.digital)
        return State(inner.control, inner.digital, utility, memory)


def _counted(problem: AnyProblem) -> Tensor:
    """User weights, 0 for the users that only pad a cell: nothing raises their rates."""
    if isinstance(problem, MultiCell):
        return problem.user_weights * problem.present
    weights: Tensor = problem.user_weights
    return weights


@dataclass(frozen=True, kw_only=True)
class Fair(Solver):
    """What ``+fair`` behind a solver's name does: proportional fairness, whatever was asked.

    Attributes
    ----------
    solver
        Who maximises the weighted sum rates in between, see :class:`ProportionalFair`.

    Notes
    -----
    ``solution.utility`` is then the fair one. Source: docs/methods.md, section 9.
    """

    problems: ClassVar[tuple[type, ...]] = EVERY_PROBLEM

    name: str = "fair"
    solver: Solver = field(default_factory=VariableProjection)

    def refuses(self, problem: AnyProblem) -> str | None:
        """Serve what the solver itself serves, if user weights can move it."""
        if self.solver.closed_form:
            return "a closed form does not look at user weights"
        return refusal(self.solver, problem)

    def variant(self, index: int) -> Solver:
        """Start ``index`` of the solver itself."""
        return replace(self, solver=self.solver.variant(index))

    def refiner(self) -> Solver:
        """Return that of the solver itself, fair."""
        return replace(self, solver=self.solver.refiner())

    def __call__(self, problem: AnyProblem, **options: Any) -> Solution:
        """Solve; options as for :class:`Solver`."""
        check_supported(self, problem)
        fair = problem.with_(utility_name="proportional_fair")
        return ProportionalFair(name=self.name, inner=self.solver)(fair, **options)
