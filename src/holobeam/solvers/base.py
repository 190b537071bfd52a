"""The one loop that every solver runs in, and how solvers are chained, restarted and raced."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, ClassVar, TypeAlias

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.errors import InputError, ShapeError, UnsupportedError, check_count, check_finite
from holobeam.problems.downlink import Downlink
from holobeam.problems.multicell import MultiCell
from holobeam.problems.problem import Problem
from holobeam.solvers.solution import Solution, Status

AnyProblem: TypeAlias = Any
"""A :class:`Problem`; every solver narrows it to what it serves, see :attr:`Solver.problems`."""

EVERY_PROBLEM: tuple[type, ...] = (Downlink, MultiCell)

Progress = Callable[[int, int], None]
"""Called with (iterations done, iterations at most)."""


@dataclass(frozen=True, eq=False)
class State:
    """Where a solver stands; every tensor leads with the batch axis.

    Attributes
    ----------
    control, digital
        Controls and digital precoder, feasible up to a scale of the precoder.
    utility
        ``(B,)``: the design objective at this point.
    memory
        Whatever else the solver keeps: None, or dataclasses and tuples of tensors and numbers.
    """

    control: Complex[Tensor, "batch antennas controls"]
    digital: Complex[Tensor, "batch subcarriers rf_chains users"]
    utility: Float[Tensor, " batch"]
    memory: Any = None


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
        A channel is converged when a step gains less than this, relative to its utility.
    patience
        A channel is stalled when so many steps in a row gave no better point.
    problems
        Classes of problems it is written for.
    keep
        ``best`` returns the best point met, ``last`` the last one.
    """

    closed_form: ClassVar[bool] = False
    problems: ClassVar[tuple[type, ...]] = (Downlink,)

    name: str = "custom"
    max_iterations: int = 100
    tolerance: float = 1e-7
    patience: int = 50
    keep: str = "best"

    def supports(self, problem: AnyProblem) -> str | None:
        """Reason why this solver can't serve the problem, or None."""
        return mismatch(self, problem)

    def init(
        self, problem: AnyProblem, generator: torch.Generator, start: State | None = None
    ) -> State:
        """Make the first state, from ``start`` where given."""
        raise NotImplementedError

    def step(self, problem: AnyProblem, state: State) -> State:
        """One iteration: pure and differentiable."""
        raise NotImplementedError

    def advance(self, problem: AnyProblem, state: State, count: int) -> State:
        """``count`` iterations; a fused kernel overrides this alone."""
        for _ in range(count):
            state = self.step(problem, state)
        return state

    def chunk(self, problem: AnyProblem, state: State) -> int:
        """How many iterations may be advanced at once without losing a better point in between."""
        return 1

    def judge(self, before: State, after: State, count: int) -> tuple[Tensor, Tensor]:
        """Iterations taken by each channel between two states, and whether it converged."""
        gain = (after.utility - before.utility).abs()
        small = gain <= self.tolerance * after.utility.abs().clamp(min=1e-12)
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
            Called after each iteration.

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
            run = _iterate(self, problem, first, history, progress)
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


@dataclass
class _Run:
    best: State
    status: Tensor
    iterations: Tensor
    history: Tensor | None


def _iterate(
    solver: Solver, problem: Problem, state: State, keep_history: bool, progress: Progress | None
) -> _Run:
    """Step until every channel is finished; a finished or non-finite channel stays as it is."""
    check_count("max_iterations", solver.max_iterations, 0)
    batch, device = problem.batch, problem.h.device
    best = State(state.control.clone(), state.digital.clone(), state.utility.clone())
    unfinished = Status.CONVERGED if solver.closed_form else Status.MAX_ITERATIONS
    status = torch.full((batch,), int(unfinished), device=device)
    iterations = torch.zeros(batch, dtype=torch.long, device=device)
    idle = torch.zeros_like(iterations)
    utilities = [best.utility.clone()]
    rows = torch.arange(batch, device=device)
    done = 0
    if progress is not None:
        progress(0, solver.max_iterations)
    while done < solver.max_iterations:
        count = 1 if keep_history else solver.chunk(problem, state)
        count = min(count, solver.max_iterations - done)
        new = solver.advance(problem, state, count)
        done += count
        # Whatever is not finite in a state makes its utility so.
        sane = torch.isfinite(new.utility)
        better = sane & (new.utility > best.utility[rows])
        _write(best, new, rows, better if solver.keep == "best" else sane)
        taken, converged = solver.judge(state, new, count)
        converged = converged & sane
        iterations[rows] += taken
        fresh = better if solver.settled(new) else torch.ones_like(better)
        idle[rows] = torch.where(fresh, 0, idle[rows] + taken)
        stalled = sane & (idle[rows] >= solver.patience)
        status[rows[stalled]] = Status.STALLED
        status[rows[converged]] = Status.CONVERGED
        status[rows[~sane]] = Status.NON_FINITE
        if keep_history:
            utilities.append(best.utility.clone())
        if progress is not None:
            progress(done, solver.max_iterations)
        kept = (sane & ~converged & ~stalled).nonzero().squeeze(1)
        if kept.numel() == 0:
            break
        state = new
        if kept.numel() < rows.numel():
            rows, problem, state = rows[kept], problem.take(kept), take(state, kept)
    history = torch.stack(utilities, dim=1) if keep_history else None
    return _Run(best, status, iterations, history)


def _write(best: State, new: State, rows: Tensor, where: Tensor) -> None:
    """Put some channels of ``new`` into their places in ``best``, in place."""
    into = rows[where]
    if into.numel() > 0:
        best.control[into] = new.control[where]
        best.digital[into] = new.digital[where]
        best.utility[into] = new.utility[where]


def take(value: Any, rows: Tensor) -> Any:
    """Restrict a state (or any nest of dataclasses, tuples and tensors) to some channels."""
    if isinstance(value, Tensor):
        return value[rows]
    if isinstance(value, tuple):
        return tuple(take(item, rows) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        parts = {f.name: take(getattr(value, f.name), rows) for f in fields(value)}
        return replace(value, **parts)
    return value


def choose(mask: Tensor, yes: Any, no: Any) -> Any:
    """Select between two nests of the same form, channel by channel."""
    if isinstance(yes, Tensor):
        return torch.where(mask.view(-1, *[1] * (yes.ndim - 1)), yes, no)
    if isinstance(yes, tuple):
        return tuple(choose(mask, a, b) for a, b in zip(yes, no, strict=True))
    if is_dataclass(yes) and not isinstance(yes, type):
        parts = {
            f.name: choose(mask, getattr(yes, f.name), getattr(no, f.name)) for f in fields(yes)
        }
        return replace(yes, **parts)
    return yes


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

    def supports(self, problem: AnyProblem) -> str | None:
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

    def supports(self, problem: AnyProblem) -> str | None:
        """Reason of the solver itself."""
        return refusal(self.solver, problem)

    def refiner(self) -> Solver:
        """Return that of the solver itself."""
        return self.solver.refiner()

    def __call__(self, problem: AnyProblem, **options: Any) -> Solution:
        """Solve; options as for :class:`Solver`."""
        check_count("starts", self.starts)
        generator = make_generator(options.pop("seed", None), options.pop("generator", None))
        best = self.solver(problem, generator=generator, **options)
        options.pop("start", None)
        for index in range(1, self.starts):
            best = best.better(self.solver.variant(index)(problem, generator=generator, **options))
        return best


@dataclass(frozen=True, kw_only=True)
class BestOf(Solver):
    """Race solvers and keep the best answer of each channel."""

    problems: ClassVar[tuple[type, ...]] = EVERY_PROBLEM

    name: str = "best-of"
    solvers: tuple[Solver, ...] = field(default=())

    def supports(self, problem: AnyProblem) -> str | None:
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
