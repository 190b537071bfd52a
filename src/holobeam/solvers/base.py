"""What a solver is, and how solvers are chained, restarted and raced."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor

from holobeam.errors import InputError, ShapeError, UnsupportedError, check_count, check_finite
from holobeam.problems.downlink import Downlink
from holobeam.problems.multicell import MultiCell
from holobeam.problems.problem import Problem
from holobeam.solvers.loop import (
    Pass,
    Progress,
    Record,
    State,
    bare,
    choose,
    iterate,
    join,
    take,
)
from holobeam.solvers.solution import Solution

__all__ = [
    "EVERY_PROBLEM",
    "AnyProblem",
    "BestOf",
    "Chain",
    "Pass",
    "Progress",
    "Record",
    "Restart",
    "Solver",
    "State",
    "as_state",
    "check_supported",
    "choose",
    "make_generator",
    "make_state",
    "mismatch",
    "refusal",
    "take",
]

AnyProblem: TypeAlias = Any
"""A :class:`Problem`; every solver narrows it to what it serves, see :attr:`Solver.problems`."""

EVERY_PROBLEM: tuple[type, ...] = (Downlink, MultiCell)

# Complex numbers of channels up to which starts share one batch: beyond it nothing is gained.
_STACKED = 2**22


@dataclass(frozen=True, kw_only=True)
class Solver:
    """Base of all solvers: implement :meth:`init` and :meth:`step`, inherit the loop.

    Attributes
    ----------
    name
        For tables and messages.
    max_iterations
        Steps at most.
    tolerance
        A channel is converged when a step gains less than this, relative to its utility; 0: never.
    patience
        A channel is stalled when so many steps in a row gave no better point.
    keep
        ``best`` returns the best point met, ``last`` the last one.
    problems
        Classes of problems it is written for.
    """

    closed_form: ClassVar[bool] = False
    problems: ClassVar[tuple[type, ...]] = (Downlink,)
    stackable: ClassVar[bool] = False
    """Whether variants differ in their start alone, so that starts can share one batch."""

    name: str = "custom"
    max_iterations: int = 100
    tolerance: float = 1e-7
    patience: int = 50
    keep: str = "best"

    def supports(self, problem: AnyProblem) -> str | None:
        """Reason why this solver can't serve the problem, or None."""
        return mismatch(self, problem) or self.refuses(problem)

    def refuses(self, problem: AnyProblem) -> str | None:
        """Reason beyond the kind of problem, or None; only asked where the kind is right."""
        return None

    def init(
        self, problem: AnyProblem, generator: torch.Generator, start: State | None = None
    ) -> State:
        """Make the first state, from ``start`` where given."""
        raise NotImplementedError

    def step(self, problem: AnyProblem, state: State) -> State:
        """One iteration: pure and differentiable; a closed form has nothing left to do."""
        if self.closed_form:
            return state
        raise NotImplementedError

    def advance(self, problem: AnyProblem, state: State, count: int) -> State:
        """``count`` iterations; a fused kernel overrides this alone."""
        for _ in range(count):
            state = self.step(problem, state)
        return state

    def run(self, problem: AnyProblem, state: State, record: Record, count: int) -> Pass:
        """Advance by at most ``count`` iterations and keep the record of the best point.

        One step at a time here. A fused kernel overrides this, with its own record of what it
        passed: the loop sees the same as if it had stepped.
        """
        new = self.advance(problem, state, 1)
        # Whatever is not finite in a state makes its utility so.
        sane = torch.isfinite(new.utility)
        better = sane & (new.utility > record.best.utility)
        best = choose(better if self.keep == "best" else sane, bare(new), record.best)
        taken, converged = self.judge(state, new, 1)
        fresh = better if self.settled(new) else torch.ones_like(better)
        idle = torch.where(fresh, 0, record.idle + taken)
        return Pass(new, Record(best, idle), taken, converged & sane)

    def judge(self, before: State, after: State, count: int) -> tuple[Tensor, Tensor]:
        """Iterations taken by each channel between two states, and whether it converged."""
        gain = (after.utility - before.utility).abs()
        small = gain < self.tolerance * after.utility.abs().clamp(min=1e-12)
        taken = torch.full_like(small, count, dtype=torch.long)
        return taken, small if self.settled(after) else torch.zeros_like(small)

    def variant(self, index: int) -> Solver:
        """Return this solver with its ``index``-th start; 0 is its own."""
        return self

    def refiner(self) -> Solver:
        """Return the solver whose steps carry on from this one's answers: itself, or a part."""
        return self

    def settled(self, state: State) -> bool:
        """Whether convergence may be judged yet (not while a schedule still anneals)."""
        return True

    def __call__(
        self,
        problem: AnyProblem,
        *,
        seed: int | None = None,
        generator: torch.Generator | None = None,
        start: State | Solution | None = None,
        history: bool = False,
        progress: Progress | None = None,
    ) -> Solution:
        """Solve a problem.

        Parameters
        ----------
        problem
            What to solve.
        seed, generator
            Source of random starts; seed 0 where neither is given.
        start
            Where to begin instead of the solver's own start.
        history
            Whether to keep the utility after each iteration.
        progress
            Called after each iteration, or each 20 of a compiled loop.

        Raises
        ------
        UnsupportedError
            If the solver can't serve the problem, before anything is computed.
        """
        check_supported(self, problem)
        begin = time.perf_counter()
        generator = make_generator(seed, generator)
        with torch.no_grad():
            first = self.init(problem, generator, as_state(problem, start))
            run = iterate(self, problem, first, history, progress)
            control, digital = problem.feasible(run.best.control, run.best.digital)
        return Solution(
            problem=problem,
            control=control,
            digital=digital,
            status=run.status,
            iterations=run.iterations,
            solver=self.name,
            history=run.history,
            seconds=time.perf_counter() - begin,
        )


def make_state(problem: Problem, control: Tensor, digital: Tensor, memory: Any = None) -> State:
    """State at a point, with its utility."""
    return State(control, digital, problem.utility(problem.link(control), digital), memory)


def as_state(problem: Problem, start: State | Solution | None) -> State | None:
    """Check a warm start and make it feasible."""
    if start is None:
        return None
    for name, shape in problem.shapes.items():
        tensor = getattr(start, name)
        if tuple(tensor.shape) != shape:
            raise ShapeError(f"start.{name}", f"got shape {tuple(tensor.shape)}", f"need {shape}")
        check_finite(f"start.{name}", tensor)
    control, digital = problem.feasible(start.control.to(problem.h), start.digital.to(problem.h))
    return make_state(problem, control, digital)


def make_generator(seed: int | None, generator: torch.Generator | None) -> torch.Generator:
    """Explicit source of randomness: a generator, or one seeded with ``seed`` (0 by default)."""
    if generator is not None:
        if seed is not None:
            raise InputError("seed", "both seed and generator were given", "give one of them")
        return generator
    seed = 0 if seed is None else check_count("seed", seed, 0)
    return torch.Generator().manual_seed(seed)


def mismatch(solver: Solver, problem: AnyProblem) -> str | None:
    """Reason why a solver can't serve this kind of problem, or None."""
    if isinstance(problem, solver.problems):
        return None
    served = " or ".join(kind.__name__ for kind in solver.problems)
    return f"it designs for {served}, not for {type(problem).__name__}; see solvers.available()"


def refusal(solver: Solver, problem: AnyProblem) -> str | None:
    """First reason why a solver can't serve: the kind of problem, or what its ``supports`` says."""
    return mismatch(solver, problem) or solver.supports(problem)


def check_supported(solver: Solver, problem: AnyProblem) -> None:
    """Raise :class:`UnsupportedError` with the solver's reason if it can't serve the problem."""
    reason = refusal(solver, problem)
    if reason is not None:
        raise UnsupportedError(f"{solver.name} can't serve this problem: {reason}")


@dataclass(frozen=True, kw_only=True)
class Chain(Solver):
    """Run solvers one after the other, each from where the one before ended."""

    problems: ClassVar[tuple[type, ...]] = EVERY_PROBLEM

    name: str = "chain"
    solvers: tuple[Solver, ...] = field(default=())

    def refuses(self, problem: AnyProblem) -> str | None:
        """First reason of any link of the chain."""
        return next((r for s in self.solvers if (r := refusal(s, problem))), None)

    def refiner(self) -> Solver:
        """Return that of the last link."""
        return self.solvers[-1].refiner()

    def __call__(self, problem: AnyProblem, **options: Any) -> Solution:
        """Solve; options as for :class:`Solver`."""
        if not self.solvers:
            raise InputError("solvers", "the chain is empty", "give at least one solver")
        check_supported(self, problem)
        options["generator"] = make_generator(
            options.pop("seed", None), options.pop("generator", None)
        )
        solution = self.solvers[0](problem, **options)
        for solver in self.solvers[1:]:
            later = solver(problem, **{**options, "start": solution})
            solution = later.after(solution)
        return replace(solution, solver=self.name)


@dataclass(frozen=True, kw_only=True)
class Restart(Solver):
    """Run one solver from several starts and keep the best answer of each channel."""

    problems: ClassVar[tuple[type, ...]] = EVERY_PROBLEM

    name: str = "restart"
    solver: Solver = field(default_factory=Solver)
    starts: int = 8

    def refuses(self, problem: AnyProblem) -> str | None:
        """Reason of the solver itself."""
        return refusal(self.solver, problem)

    def refiner(self) -> Solver:
        """Return that of the solver itself."""
        return self.solver.refiner()

    def __call__(self, problem: AnyProblem, **options: Any) -> Solution:
        """Solve; options as for :class:`Solver`."""
        check_count("starts", self.starts)
        generator = make_generator(options.pop("seed", None), options.pop("generator", None))
        check_supported(self, problem)
        start, best, done = options.pop("start", None), None, 0
        while done < self.starts:
            # A given start skips the noise schedule: it can't share a batch with the others.
            count = 1 if start is not None else self._together(problem, self.starts - done)
            variants = [self.solver.variant(done + i) for i in range(count)]
            if count == 1:
                found = variants[0](problem, generator=generator, start=start, **options)
            else:
                found = _stacked(variants, problem, generator, **options)
            best = found if best is None else best.better(found)
            start, done = None, done + count
        assert best is not None
        return best

    def _together(self, problem: AnyProblem, left: int) -> int:
        """How many of the starts left to run as one batch."""
        room = _STACKED // problem.h.numel()
        return max(1, min(left, room)) if self.solver.stackable else 1


def _stacked(
    variants: list[Solver],
    problem: AnyProblem,
    generator: torch.Generator,
    *,
    history: bool = False,
    progress: Progress | None = None,
) -> Solution:
    """Run several starts of one solver as one batch; the best of each channel."""
    begin = time.perf_counter()
    solver, starts, batch = variants[0], len(variants), problem.batch
    many = problem.take(torch.arange(batch, device=problem.h.device).repeat(starts))
    with torch.no_grad():
        first = join([variant.init(problem, generator) for variant in variants])
        run = iterate(solver, many, first, history, progress)
        control, digital = many.feasible(run.best.control, run.best.digital)
        utility = many.utility(many.measured_link(control), digital)
    winner = utility.view(starts, batch).argmax(dim=0) * batch
    winner = winner + torch.arange(batch, device=winner.device)
    tried = None if run.history is None else run.history.view(starts, batch, -1)
    return Solution(
        problem=problem,
        control=control[winner],
        digital=digital[winner],
        status=run.status[winner],
        iterations=run.iterations.view(starts, batch).sum(dim=0),
        solver=solver.name,
        history=None if tried is None else tried.amax(dim=0),
        seconds=time.perf_counter() - begin,
    )


@dataclass(frozen=True, kw_only=True)
class BestOf(Solver):
    """Race solvers and keep the best answer of each channel."""

    problems: ClassVar[tuple[type, ...]] = EVERY_PROBLEM

    name: str = "best-of"
    solvers: tuple[Solver, ...] = field(default=())

    def refuses(self, problem: AnyProblem) -> str | None:
        """First reason of any racer."""
        return next((r for s in self.solvers if (r := refusal(s, problem))), None)

    def refiner(self) -> Solver:
        """Return that of the first racer."""
        return self.solvers[0].refiner()

    def __call__(self, problem: AnyProblem, **options: Any) -> Solution:
        """Solve; options as for :class:`Solver`."""
        if not self.solvers:
            raise InputError("solvers", "nobody is racing", "give at least one solver")
        check_supported(self, problem)
        options["generator"] = make_generator(
            options.pop("seed", None), options.pop("generator", None)
        )
        best = self.solvers[0](problem, **options)
        for solver in self.solvers[1:]:
            best = best.better(solver(problem, **options))
        return replace(best, solver=self.name)
