"""Block-coordinate WMMSE: receivers, weights, digital precoder, controls, in turn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from holobeam.analog.coordinate import AnalogUpdate, coordinate_descent
from holobeam.analog.two_level import unfit
from holobeam.digital.cells import CellLink
from holobeam.digital.link import Link
from holobeam.frontends.element_sets import Interval, Points
from holobeam.problems.downlink import Downlink
from holobeam.problems.multicell import MultiCell
from holobeam.solvers import fused, fused_cells
from holobeam.solvers.base import (
    EVERY_PROBLEM,
    AnyProblem,
    Pass,
    Record,
    Solver,
    State,
    choose,
    make_state,
)
from holobeam.solvers.cells import Visits, keep_what_gains, row_visits
from holobeam.solvers.starts import (
    digital_start,
    digital_target,
    fit_to_target,
    matched_control,
    normalise_amplitudes,
    quantised_control,
    random_control,
    relax,
)

Begin = Literal["matched", "random", "fit", "fit-random", "relax"]

CELL_SWEEPS = 5
"""Sweeps over the controls in each iteration of many cells (docs/methods.md, section 15)."""

QUANTISING_SHARES = (0.35, 0.5, 0.2, 0.28, 0.42)
"""Share of elements above the middle level, one per start (docs/methods.md, section 4)."""

_BLOCKS = ("step", "_update", "_digital", "_state")
"""What an iteration consists of."""

_MARKS = (20, 30, 40, 60, 80, 120, 160, 240, 320, 480)
"""Iterations on the continuous set after which phases are rounded."""


@dataclass(frozen=True, eq=False)
class Momentum:
    """What the guarded extrapolation remembers: where the controls were, and how far to leap."""

    previous: Tensor
    stride: Tensor


@dataclass(frozen=True, eq=False)
class Memory:
    """Link at the current controls, iterations done, and the extrapolation's memory.

    The compiled loop leaves the link out.
    """

    link: Link | CellLink | None
    count: int
    momentum: Momentum | None


def annealing_schedule(floor: float = 0.01, count: int = 20) -> tuple[float, ...]:
    """Noise factors ``floor ** (1 - t / count)``: low noise first keeps every user alive."""
    return tuple(floor ** (1.0 - t / count) for t in range(count))


@dataclass(frozen=True, kw_only=True)
class Alternating(Solver):
    """WMMSE alternation with an exchangeable analog method.

    Attributes
    ----------
    analog
        How the controls are updated; exact coordinate descent by default. None: one sweep of it,
        with many cells five.
    begin
        ``matched``: chains pointed at users, amplitudes at one half; ``random``; ``fit``: least
        squares to the fully digital precoder, from matched controls; ``fit-random``: the same from
        random ones; ``relax``: quantised from the continuous set's
        solution.
    noise_schedule
        Factors on the noise in the first iterations. None: :func:`annealing_schedule`, with many
        cells nothing.
    extrapolate
        Leap along the last change of the controls before each sweep, kept only if it helps.
    share
        With ``relax``: share of elements that the first quantisation puts above the middle level.
    digital_sweeps
        Digital steps with the same receivers and weights: more than one pays under per-chain
        limits, where a step visits each row once. None: one, with many cells under such limits
        up to 30 visits.
    refresh
        Whether receivers and weights are renewed between the digital step and the controls.
    equal_power
        Whether the first digital precoder gives every user the same power (else plain RZF).

    Notes
    -----
    With noise folding each block is an exact minimiser: no step lowers the utility once the
    schedule is over. Source: docs/methods.md, sections 2 to 4.
    """

    stackable: ClassVar[bool] = True
    problems: ClassVar[tuple[type, ...]] = EVERY_PROBLEM

    name: str = "wmmse-cd"
    analog: AnalogUpdate | None = coordinate_descent
    begin: Begin = "matched"
    noise_schedule: tuple[float, ...] | None = ()
    extrapolate: bool = False
    share: float = QUANTISING_SHARES[0]
    digital_sweeps: int | None = 1
    refresh: bool = True
    equal_power: bool = True

    def refuses(self, problem: AnyProblem) -> str | None:
        """Serves every front-end; the fit to a digital precoder knows one cell."""
        if isinstance(problem, MultiCell) and self.begin in {"fit", "fit-random"}:
            return "it starts from the fully digital precoder of one cell; use wmmse-cd"
        frontend = problem.frontend
        if not frontend.is_digital:
            reason = unfit(self.analog, frontend.element_set, frontend.antennas * frontend.controls)
            if reason is not None:
                return reason
        return None

    def init(
        self, problem: AnyProblem, generator: torch.Generator, start: State | None = None
    ) -> State:
        """Begin as :attr:`begin` says, or at ``start`` (then no noise schedule is run)."""
        if start is not None:
            return self._state(problem, start.control, start.digital, len(self.schedule))
        control, digital = self._first(problem, generator)
        skipped = self.noise_schedule is None and isinstance(problem, MultiCell)
        return self._state(problem, control, digital, len(self.schedule) if skipped else 0)

    @property
    def schedule(self) -> tuple[float, ...]:
        """Factors on the noise, where a schedule is run."""
        return annealing_schedule() if self.noise_schedule is None else self.noise_schedule

    def variant(self, index: int) -> Solver:
        """Start ``index``: other quantisations first where there are any, then random ones.

        A fitted start stays one: fitted from random controls, it ends higher than the random
        controls themselves (docs/methods.md, section 4).
        """
        if index == 0 or (self.begin == "relax" and index < len(QUANTISING_SHARES)):
            return replace(self, share=QUANTISING_SHARES[index])
        fitted = self.begin in {"fit", "fit-random"}
        return replace(self, begin="fit-random" if fitted else "random")

    def settled(self, state: State) -> bool:
        """Whether the noise schedule is over."""
        return bool(state.memory.count > len(self.schedule))

    def advance(self, problem: AnyProblem, state: State, count: int) -> State:
        """``count`` iterations, in the compiled loop where it serves."""
        done = self._fused(problem, state, None, count)
        return super().advance(problem, state, count) if done is None else done.state

    def run(self, problem: AnyProblem, state: State, record: Record, count: int) -> Pass:
        """All iterations at once in the compiled loop where it serves."""
        done = self._fused(problem, state, record, count) if self.keep == "best" else None
        return super().run(problem, state, record, count) if done is None else done

    def _fused(
        self, problem: AnyProblem, state: State, record: Record | None, count: int
    ) -> Pass | None:
        # A subclass with blocks of its own is not what was compiled.
        own = (getattr(type(self), name) is not getattr(Alternating, name) for name in _BLOCKS)
        if any(own) or not self.refresh:
            return None
        if fused_cells.serves(problem, state):
            sweeps = fused_cells.sweeps_of(self._update(problem))
            if sweeps > 0:
                return fused_cells.alternate(self, problem, state, record, count, sweeps=sweeps)
        elif self.analog in (None, coordinate_descent) and fused.serves(problem, state):
            return fused.alternate(self, problem, state, record, count)
        return None

    def step(self, problem: AnyProblem, state: State) -> State:
        """Receivers and weights, digital precoder, controls; docs/methods.md, section 3."""
        if state.memory.link is None:
            linked = replace(state.memory, link=problem.link(state.control))
            state = replace(state, memory=linked)
        count = state.memory.count
        noisy = count < len(self.schedule)
        factor = self.schedule[count] if noisy else 1.0
        at = problem.with_noise_scaled(factor)
        if self.extrapolate and not noisy:
            state = _leap(problem, state, row_visits(problem, self.digital_sweeps))
        link, momentum = state.memory.link, state.memory.momentum
        if momentum is not None and noisy:
            momentum = replace(momentum, previous=state.control)
        weights = at.weights(link, state.digital)
        digital = self._digital(at, link, weights, state.digital)
        control = state.control
        if not problem.frontend.is_digital:
            weights = at.weights(link, digital) if self.refresh else weights
            moved = move_controls(self._update(at), at, weights, control, digital)
            guarded = isinstance(at, MultiCell) and at.power_at == "radiated"
            control, digital = keep_what_gains(at, (control, digital), moved) if guarded else moved
        return self._state(problem, control, digital, count + 1, momentum)

    def _update(self, problem: AnyProblem) -> AnalogUpdate:
        if self.analog is not None:
            return self.analog
        sweeps = CELL_SWEEPS if isinstance(problem, MultiCell) else 1
        return partial(coordinate_descent, sweeps=sweeps)

    def _digital(self, problem: AnyProblem, link: Any, weights: Any, digital: Tensor) -> Tensor:
        visits = row_visits(problem, self.digital_sweeps)
        steps = 1 if visits or self.digital_sweeps is None else self.digital_sweeps
        for _ in range(steps):
            digital = problem.digital_step(link, weights, digital, *visits)
        return digital

    def _state(
        self,
        problem: AnyProblem,
        control: Tensor,
        digital: Tensor,
        count: int,
        momentum: Momentum | None = None,
    ) -> State:
        link = problem.link(control)
        digital = problem.rescale(link, digital)
        if momentum is None and self.extrapolate:
            momentum = Momentum(control, torch.ones_like(digital[:, 0, 0, 0].real))
        return State(
            control, digital, problem.utility(link, digital), Memory(link, count, momentum)
        )

    def _first(self, problem: AnyProblem, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        if self.begin in {"fit", "fit-random"} and not problem.frontend.is_digital:
            pick = matched_control if self.begin == "fit" else random_control
            if fused.serves(problem):
                return fused.fitted_start(problem, pick(problem, generator))
            return fit_to_target(problem, pick(problem, generator), digital_target(problem))
        if self.begin == "relax" and isinstance(problem.frontend.element_set, Points):
            control = self._quantised(problem, generator)
        elif self.begin == "random" and not problem.frontend.is_digital:
            control = random_control(problem, generator)
        else:
            control = problem.frontend.project(matched_control(problem, generator))
        link = problem.link(control)
        return control, digital_start(problem, link, equal_power=self.equal_power)

    def _quantised(self, problem: AnyProblem, generator: torch.Generator) -> Tensor:
        easier = relax(problem)
        frontend = easier.frontend
        size = frontend.antennas * frontend.controls
        fit = unfit(self.analog, frontend.element_set, size) is None
        if isinstance(frontend.element_set, Interval) and isinstance(problem, Downlink):
            solver = surface_solver()
        elif not fit:
            # Searches over two levels have nothing to do on the continuous set.
            solver = coordinate_solver(begin="matched", max_iterations=self.max_iterations)
        elif isinstance(frontend.element_set, Interval):
            solver = replace(self, begin="matched")
        else:
            return self._best_rounding(problem, easier, generator)
        solution = solver(easier, generator=generator)
        return quantised_control(problem, solution.control, self.share)

    def _best_rounding(
        self, problem: AnyProblem, easier: AnyProblem, generator: torch.Generator
    ) -> Tensor:
        """Best of the roundings along the way to the relaxed optimum, channel by channel.

        Coarse phases round the worse the closer they come to it: from some point on users gain by
        phases finer than a step (docs/methods.md, section 4).
        """
        solver = replace(self, begin="matched")
        state = solver.init(easier, generator)
        best: State | None = None
        done = 0
        for mark in sorted({min(mark, self.max_iterations) for mark in (*_MARKS, 10**9)}):
            state, done = solver.advance(easier, state, mark - done), mark
            control = quantised_control(problem, state.control, self.share)
            link = problem.link(control)
            new = make_state(problem, control, digital_start(problem, link))
            best = new if best is None else choose(new.utility > best.utility, new, best)
        assert best is not None
        return best.control


def scale_is_free(problem: AnyProblem) -> bool:
    """Whether amplitudes may be swept over [0, inf): only the radiated power counts."""
    element_set = problem.frontend.element_set
    return (
        problem.power_at == "radiated"
        and isinstance(element_set, Interval)
        and element_set.low == 0
    )


def move_controls(
    analog: AnalogUpdate, problem: AnyProblem, weights: Any, control: Tensor, digital: Tensor
) -> tuple[Tensor, Tensor]:
    """Better controls by an analog method; a free scale goes from amplitudes into V."""
    quadratic = problem.analog_quadratic(weights, digital)
    free = scale_is_free(problem)
    bounds: Any = Interval(0.0, float("inf")) if free else problem.frontend.element_set
    # Cells are batch entries of the quadratic.
    control = analog(quadratic, control.flatten(0, -3), bounds).view_as(control)
    return normalise_amplitudes(control, digital) if free else (control, digital)


def surface_solver(**options: Any) -> Alternating:
    """``mmse-fast``: digital fit, annealed noise, guarded extrapolation (methods, section 4)."""
    defaults: dict[str, Any] = {
        "name": "mmse-fast",
        "max_iterations": 60,
        "begin": "fit",
        "noise_schedule": annealing_schedule(),
        "extrapolate": True,
    }
    return Alternating(**{**defaults, **options})


def _leap(problem: AnyProblem, state: State, visits: Visits) -> State:
    """Try controls further along their last change; keep them where the true utility gains."""
    memory: Memory = state.memory
    momentum = memory.momentum
    assert momentum is not None
    control, previous = state.control, momentum.previous
    free = scale_is_free(problem)
    if free:
        total, before = (q.real.sum(dim=(-2, -1), keepdim=True) for q in (control, previous))
        previous = previous * torch.where(before > 0, total / before, torch.ones_like(before))
    stride = momentum.stride.view(-1, *[1] * (control.ndim - 1))
    ahead = control + stride * (control - previous)
    bounds = Interval(0.0, float("inf")) if free else problem.frontend.element_set
    ahead = bounds.project(ahead)
    link = problem.link(ahead)
    digital = state.digital
    for _ in range(2):
        digital = problem.digital_step(link, problem.weights(link, digital), digital, *visits)
    digital = problem.rescale(link, digital)
    utility = problem.utility(link, digital)
    accepted = utility > state.utility
    stride = torch.where(
        accepted, (1.5 * momentum.stride).clamp(max=50.0), (0.5 * momentum.stride).clamp(min=0.5)
    )
    leapt = State(ahead, digital, utility, Memory(link, memory.count, None))
    stayed = replace(state, memory=replace(memory, momentum=None))
    chosen: State = choose(accepted, leapt, stayed)
    memory = replace(chosen.memory, momentum=Momentum(control, stride))
    return replace(chosen, memory=memory)


def coordinate_solver(**options: Any) -> Alternating:
    """``wmmse-cd``: exact sweeps on any front-end, extrapolated; annealed in one cell."""
    defaults: dict[str, Any] = {
        "name": "wmmse-cd",
        "max_iterations": 120,
        "analog": None,
        "begin": "relax",
        "noise_schedule": None,
        "digital_sweeps": None,
        "extrapolate": True,
    }
    return Alternating(**{**defaults, **options})
