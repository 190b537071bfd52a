"""``wmmse-digital``: converged WMMSE on fully digital arrays, of one cell or many."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from holobeam.digital.cells import CellLink
from holobeam.problems.multicell import MultiCell
from holobeam.solvers.base import AnyProblem, BestOf, Solver, State, choose
from holobeam.solvers.cells import row_visits
from holobeam.solvers.closed_form import DigitalWmmse
from holobeam.solvers.solution import Solution

WINDOW = 50
"""Iterations over which convergence of many cells is judged."""

_STEP, _EACH = 10**0.5, 25
"""What the noise is divided by on its way down, and iterations at each level."""


@dataclass(frozen=True, eq=False)
class Memory:
    """Link, iterations done, the last precoder and the stride of the leap, and the window.

    ``mark`` is the utility at the last multiple of :data:`WINDOW`, ``gain`` what was gained since
    the one before, relative.
    """

    link: CellLink
    count: int
    previous: Tensor
    stride: Tensor
    mark: Tensor
    gain: Tensor


@dataclass(frozen=True, kw_only=True)
class DigitalCells(DigitalWmmse):
    """WMMSE over the digital precoders of many cells, extrapolated, from high noise downwards.

    Attributes
    ----------
    noise
        Factor on the noise at first; it falls by ``sqrt(10)`` every 25 iterations. With much
        noise the users that are worth serving together settle first, and at high SNR the way
        from there is short (docs/methods.md, section 15).
    tolerance
        A channel is converged when 50 iterations gain less than this, relative.

    Notes
    -----
    Each step leaps along the last change of V, rows cut to their limits, and keeps the leap where
    it gains after a digital step. Source: docs/methods.md, section 15.
    """

    problems: ClassVar[tuple[type, ...]] = (MultiCell,)

    max_iterations: int = 1000
    tolerance: float = 1e-4
    noise: float = 1.0

    def init(
        self, problem: AnyProblem, generator: torch.Generator, start: State | None = None
    ) -> State:
        """Begin like :class:`DigitalWmmse`; a given start skips the way down."""
        first = super().init(problem, generator, start)
        memory = Memory(
            link=first.memory,
            count=0 if start is None else len(self.factors),
            previous=first.digital,
            stride=torch.ones_like(first.utility),
            mark=first.utility,
            gain=torch.full_like(first.utility, torch.inf),
        )
        return replace(first, memory=memory)

    @property
    def factors(self) -> tuple[float, ...]:
        """Noise factors of the first iterations."""
        found, level = [], self.noise
        while level > 1.0 + 1e-9:
            found += [level] * _EACH
            level /= _STEP
        return tuple(found)

    def settled(self, state: State) -> bool:
        """Whether the noise has come down."""
        return bool(state.memory.count > len(self.factors))

    def judge(self, before: State, after: State, count: int) -> tuple[Tensor, Tensor]:
        """Converged where the last whole window gained little."""
        taken, _ = super().judge(before, after, count)
        return taken, after.memory.gain < self.tolerance

    def step(self, problem: AnyProblem, state: State) -> State:
        """Leap, then receivers, weights and V."""
        memory: Memory = state.memory
        count, factors = memory.count, self.factors
        at = problem.with_noise_scaled(factors[count] if count < len(factors) else 1.0)
        link = memory.link
        here = state.utility if at is problem else at.utility(link, state.digital)
        tried, utility = self._leapt(at, state)
        gains = utility > here
        digital: Tensor = choose(gains, tried, state.digital)
        stride = torch.where(
            gains, (1.5 * memory.stride).clamp(max=50.0), (0.5 * memory.stride).clamp(min=0.5)
        )
        digital = _descended(at, link, digital)
        reached = problem.utility(link, digital)
        new = replace(memory, count=count + 1, previous=state.digital, stride=stride)
        return State(state.control, digital, reached, self._window(new, reached))

    def _leapt(self, at: AnyProblem, state: State) -> tuple[Tensor, Tensor]:
        """V further along its last change, after a digital step, and what it is worth."""
        memory: Memory = state.memory
        ahead = state.digital + memory.stride[:, None, None, None] * (
            state.digital - memory.previous
        )
        if at.power_at == "per_rf_chain":
            load = ahead.abs().square().sum(dim=3) / at.power
            ahead = ahead * load.clamp(min=1.0).rsqrt().unsqueeze(3).to(ahead.dtype)
        else:
            ahead = at.rescale(memory.link, ahead)
        ahead = _descended(at, memory.link, ahead)
        return ahead, at.utility(memory.link, ahead)

    def _window(self, memory: Memory, utility: Tensor) -> Memory:
        late = memory.count - len(self.factors)
        if late < 0 or late % WINDOW:
            return memory
        gain = (utility - memory.mark) / utility.abs().clamp(min=1e-12)
        full = late > 0
        return replace(
            memory, mark=utility, gain=gain if full else torch.full_like(gain, torch.inf)
        )


def _descended(at: AnyProblem, link: CellLink, digital: Tensor) -> Tensor:
    """Receivers and weights, then V within its budget."""
    new = at.digital_step(link, at.weights(link, digital), digital, *row_visits(at))
    scaled: Tensor = at.rescale(link, new)
    return scaled


@dataclass(frozen=True, kw_only=True)
class DigitalBound(BestOf):
    """Race the starts that suit one cell, or those that suit many.

    Attributes
    ----------
    solvers, cells
        Who races on one cell, and on many.
    """

    cells: tuple[Solver, ...] = field(default=())

    def refuses(self, problem: AnyProblem) -> str | None:
        """First reason of any racer."""
        return self._racing(problem).supports(problem)

    def __call__(self, problem: AnyProblem, **options: Any) -> Solution:
        """Solve; options as for :class:`Solver`. From a given start nobody has to race."""
        racing = self._racing(problem)
        if options.get("start") is not None:
            racing = replace(racing, solvers=racing.solvers[:1])
        return racing(problem, **options)

    def _racing(self, problem: AnyProblem) -> BestOf:
        many = isinstance(problem, MultiCell)
        return BestOf(name=self.name, solvers=self.cells if many else self.solvers)


def digital_bound(name: str = "wmmse-digital", **options: Any) -> DigitalBound:
    """``wmmse-digital``: the best of three starts: equal-power RZF, plain RZF, selected users.

    With many cells: equal-power RZF, directly and from 10 and 1000 times the noise, and selected
    users.
    """
    base = DigitalWmmse(**options)
    many = DigitalCells(**options)
    return DigitalBound(
        name=name,
        solvers=(base, replace(base, equal_power=False), replace(base, select=True)),
        cells=(
            many,
            *(replace(many, noise=level) for level in (10.0, 1000.0)),
            replace(many, select=True),
        ),
    )
