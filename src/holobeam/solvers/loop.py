"""The one loop that every solver runs in, and the states that it passes along."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor

from holobeam.errors import check_count
from holobeam.problems.problem import Problem
from holobeam.solvers.solution import Status

if TYPE_CHECKING:
    from holobeam.solvers.base import Solver

Progress = Callable[[int, int], None]
"""Called with (iterations done, iterations at most)."""

CHUNK = 20
"""Iterations that a fused kernel may run at once where somebody watches the progress."""


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


@dataclass(frozen=True, eq=False)
class Record:
    """Best point of every channel so far, and for how many iterations nobody has beaten it."""

    best: State
    idle: Int[Tensor, " batch"]


@dataclass(frozen=True, eq=False)
class Pass:
    """Where some iterations led: the last state, the record, iterations taken, convergence."""

    state: State
    record: Record
    taken: Int[Tensor, " batch"]
    converged: Bool[Tensor, " batch"]


@dataclass
class Run:
    """What the loop hands back: the best point of each channel, and how it ended."""

    best: State
    status: Tensor
    iterations: Tensor
    history: Tensor | None


def iterate(
    solver: Solver, problem: Problem, state: State, keep_history: bool, progress: Progress | None
) -> Run:
    """Step until every channel is finished; a finished or non-finite channel stays as it is."""
    check_count("max_iterations", solver.max_iterations, 0)
    batch, device = problem.batch, problem.h.device
    best = bare(state, copy=True)
    unfinished = Status.CONVERGED if solver.closed_form else Status.MAX_ITERATIONS
    status = torch.full((batch,), int(unfinished), device=device)
    iterations = torch.zeros(batch, dtype=torch.long, device=device)
    record = Record(best, torch.zeros_like(iterations))
    utilities = [best.utility.clone()]
    rows = torch.arange(batch, device=device)
    most = 1 if keep_history else CHUNK if progress is not None else solver.max_iterations
    done = 0
    if progress is not None:
        progress(0, solver.max_iterations)
    while done < solver.max_iterations:
        passed = solver.run(problem, state, record, min(most, solver.max_iterations - done))
        state, record = passed.state, passed.record
        done += max(int(passed.taken.max()), 1)
        iterations[rows] += passed.taken
        if rows.numel() == batch:
            best = record.best
        else:
            _write(best, record.best, rows)
        sane = torch.isfinite(state.utility)
        stalled = sane & (record.idle >= solver.patience)
        status[rows[stalled]] = Status.STALLED
        status[rows[passed.converged]] = Status.CONVERGED
        status[rows[~sane]] = Status.NON_FINITE
        if keep_history:
            utilities.append(best.utility.clone())
        if progress is not None:
            progress(done, solver.max_iterations)
        kept = (sane & ~passed.converged & ~stalled).nonzero().squeeze(1)
        if kept.numel() == 0:
            break
        if kept.numel() < rows.numel():
            rows, problem = rows[kept], problem.take(kept)
            state, record = take(state, kept), take(record, kept)
    history = torch.stack(utilities, dim=1) if keep_history else None
    return Run(best, status, iterations, history)


def _write(best: State, new: State, rows: Tensor) -> None:
    best.control[rows] = new.control
    best.digital[rows] = new.digital
    best.utility[rows] = new.utility


def bare(state: State, *, copy: bool = False) -> State:
    """Return a point without the solver's memory."""
    parts = (state.control, state.digital, state.utility)
    return State(*(part.clone() for part in parts)) if copy else State(*parts)


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


def join(values: Sequence[Any]) -> Any:
    """Put nests of the same form one behind the other on the batch axis."""
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat(list(values))
    if isinstance(first, tuple):
        return tuple(join(items) for items in zip(*values, strict=True))
    if is_dataclass(first) and not isinstance(first, type):
        parts = {f.name: join([getattr(v, f.name) for v in values]) for f in fields(first)}
        return replace(first, **parts)
    return first
