"""Reduced L-BFGS over phases and a K x K matrix: the digital precoder is eliminated (``vpk``)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from holobeam.analog.limited_memory import begin_memory, limited_memory_step
from holobeam.digital.rate_gradient import fair_loss
from holobeam.errors import InputError, check_count
from holobeam.problems.downlink import Downlink
from holobeam.solvers import fused, fused_reduced
from holobeam.solvers.base import Pass, Record, Solver, State, choose
from holobeam.solvers.loop import bare
from holobeam.solvers.phase_shifters import PhaseShifterSolver
from holobeam.solvers.reduced_loss import Memory, UnitProblem, reduced, unit_problem
from holobeam.solvers.starts import matched_control, random_control, relaxed


def needs_full_connection(problem: Downlink) -> str | None:
    """Reason why a method for one band, one radiated budget and ``K <= R`` can't serve, or None."""
    frontend = problem.frontend
    if frontend.controls != frontend.rf_chains:
        return "it needs a shifter on every branch; use vp or wmmse-cd for shared ones"
    if problem.h.shape[1] > 1:
        return "it designs one subcarrier; use vp or wmmse-cd for several"
    if problem.power_at != "radiated":
        return f"it counts radiated power, not power at {problem.power_at}; use vp or wmmse-cd"
    if problem.users > problem.chains:
        return (
            f"it needs a chain for each user (K <= R), got {problem.users} users on "
            f"{problem.chains} RF chains; use vp"
        )
    return None


@dataclass(frozen=True, kw_only=True)
class ReducedSearch(PhaseShifterSolver):
    """L-BFGS over the phases and a K x K matrix, the digital precoder eliminated exactly.

    Attributes
    ----------
    beta
        Weight of the variance of the users' rates (ggml paper's fairness: 0.2); 0 for the sum
        rate. The utility of a state is then ``K`` times minus the loss; starts are compared by sum
        rate.
    pairs
        Memory of L-BFGS.
    stride
        Scale of the matrix beside the phases; by default 0.02, and 0.01 where the mean receive
        SNR of one antenna is 17 dB or more.
    begin
        ``matched``: phases of the users' channels, spare chains random; ``random`` phases.

    Notes
    -----
    Needs a shifter on every branch, one subcarrier, radiated power and ``K <= R``. The objective
    never rises. Source: docs/methods.md, section 17.
    """

    stackable: ClassVar[bool] = True

    name: str = "vpk"
    max_iterations: int = 30
    tolerance: float = 0.0
    patience: int = 8
    beta: float = 0.0
    pairs: int = 8
    stride: float | None = None
    begin: Literal["matched", "random"] = "matched"

    def refuses(self, problem: Downlink) -> str | None:
        """Serves fully connected phase shifters with a chain for each user."""
        return super().refuses(problem) or needs_full_connection(problem)

    def variant(self, index: int) -> Solver:
        """Random phases for every start but the first."""
        return self if index == 0 else replace(self, begin="random")

    def init(
        self, problem: Downlink, generator: torch.Generator, start: State | None = None
    ) -> State:
        """Channel phases and equal-power RZF, or ``start``."""
        check_count("pairs", self.pairs)
        if not 0.0 <= self.beta < float("inf"):
            raise InputError("beta", f"got {self.beta!r}", "it must be finite and >= 0")
        unit = unit_problem(problem)
        if start is not None:
            control = start.control
        else:
            pick = random_control if self.begin == "random" else matched_control
            control = pick(problem, generator)
        phases = control.angle()
        if start is None and self._compiled() and fused.serves(problem):
            return fused_reduced.start(problem, unit, phases, self._stride(unit), self)
        loss = reduced(unit, phases, self.beta, self._stride(unit), start)
        size = phases[0].numel() + 2 * problem.users**2
        x = phases.new_zeros(problem.batch, size)
        memory = Memory(loss, begin_memory(x, *loss(x), self.pairs), unit.amplitude)
        state = self._state(problem, memory)
        if start is None:
            return state
        heard = problem.link(start.control).received(start.digital)[:, 0]
        value, _ = fair_loss(heard, problem.noise_power, problem.user_weights, self.beta)
        return replace(start, utility=-problem.users * value, memory=memory)

    def step(self, problem: Downlink, state: State) -> State:
        """One L-BFGS step."""
        memory: Memory = state.memory
        pairs = limited_memory_step(memory.loss, memory.pairs)
        return self._state(problem, replace(memory, pairs=pairs))

    def run(self, problem: Downlink, state: State, record: Record, count: int) -> Pass:
        """All iterations at once in the compiled loop where it serves."""
        if not (self._compiled() and fused.serves(problem, state)):
            return super().run(problem, state, record, count)
        new, idle, steps = fused_reduced.search(self, problem, state, record, count)
        better = new.utility > record.best.utility
        best = choose(better, bare(new), record.best)
        return Pass(new, Record(best, idle), steps.abs(), steps < 0)

    def _compiled(self) -> bool:
        # A subclass with steps of its own is not what was compiled.
        return type(self).step is ReducedSearch.step and self.keep == "best"

    def _state(self, problem: Downlink, memory: Memory) -> State:
        control, digital = memory.loss.digital(memory.pairs.x)
        digital = (memory.amplitude[:, None, None] * digital).to(problem.h.dtype)
        control = control * relaxed(problem.frontend.element_set).radius
        utility = -problem.users * memory.pairs.value
        return State(control, digital.unsqueeze(1), utility, memory)

    def _stride(self, unit: UnitProblem) -> Tensor:
        if self.stride is not None:
            return torch.full_like(unit.noise, self.stride)
        return torch.where(unit.noise < 0.02, 0.01, 0.02).to(unit.noise)
