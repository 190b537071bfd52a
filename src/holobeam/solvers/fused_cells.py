"""Bridge from the alternation to its compiled loop for many cells: tensors in, tensors out."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from holobeam.analog.coordinate import as_array, coordinate_descent
from holobeam.problems.multicell import MultiCell
from holobeam.solvers.base import AnyProblem, Pass, Record, State
from holobeam.solvers.cells import row_visits
from holobeam.solvers.fused import (
    PATIENT,
    element_code,
    fresh,
    passed,
    record_arrays,
    tensor,
)

if TYPE_CHECKING:
    from holobeam.solvers.alternating import Alternating


def serves(problem: AnyProblem, state: State) -> bool:
    """Whether the compiled loop serves a problem, from a state on.

    It knows limits per RF chain, built-in element sets, and CPU tensors without gradients.
    """
    return (
        # A subclass may have blocks of its own, which are not what was compiled.
        type(problem) is MultiCell
        and problem.power_at == "per_rf_chain"
        and problem.utility_name == "sum_rate"
        and problem.h.device.type == "cpu"
        and not any(t.requires_grad for t in (problem.h, state.control, state.digital))
        and problem.feed is not None
        and not problem.feed.requires_grad
        and hasattr(problem.frontend.element_set, "kernel_code")
    )


def sweeps_of(update: Any) -> int:
    """Sweeps of an analog update that is plain coordinate descent; 0 for any other."""
    if update is coordinate_descent:
        return 1
    plain = isinstance(update, partial) and update.func is coordinate_descent and not update.args
    return int(update.keywords["sweeps"]) if plain and set(update.keywords) == {"sweeps"} else 0


def alternate(
    solver: Alternating,
    problem: MultiCell,
    state: State,
    record: Record | None,
    count: int,
    *,
    sweeps: int,
) -> Pass:
    """Run at most ``count`` iterations of :meth:`Alternating.step` in the compiled loop.

    With a record the loop stops at the solver's patience, without one it does not count.
    """
    from holobeam.kernels import cell_loop as kernel
    from holobeam.kernels.alternating import Best, Point
    from holobeam.kernels.cpu import available_threads
    from holobeam.solvers.alternating import Memory, Momentum

    memory: Memory = state.memory
    schedule = solver.schedule[memory.count : memory.count + count]
    visits = row_visits(problem, solver.digital_sweeps)
    assert len(visits) == 2, "rows have limits here"
    # The helpers know a subcarrier axis, which many cells don't have.
    state = replace(state, digital=state.digital.unsqueeze(1))
    if record is not None:
        top = replace(record.best, digital=record.best.digital.unsqueeze(1))
        record = replace(record, best=top)
    control, digital, utility = fresh(state.control, state.digital[:, 0], state.utility)
    if memory.momentum is None:
        previous, stride = np.empty_like(control), np.ones_like(utility)
    else:
        previous, stride = fresh(memory.momentum.previous, memory.momentum.stride)
    best = Best(*record_arrays(state, record))
    plan = kernel.Plan(
        np.array(schedule + (1.0,) * (count - len(schedule))),
        len(schedule), solver.extrapolate, *element_code(problem.frontend.element_set), sweeps,
        *visits, float(solver.tolerance),
        PATIENT if record is None else solver.patience,
    )  # fmt: skip
    assert problem.feed is not None
    channels = kernel.Channels(
        as_array(problem.h.flatten(2, 3)),
        as_array(problem.feed),
        as_array(problem.noise_power.flatten(1)),
        as_array(problem.user_weights.flatten(1)),
        as_array(problem.power),
        problem.streams,
    )
    point = Point(control, digital, previous, stride, utility)
    steps = kernel.alternate(channels, point, best, plan, available_threads())
    momentum = memory.momentum and Momentum(
        tensor(previous, state.control), tensor(stride, state.utility)
    )
    new = Memory(None, memory.count + count, momentum)
    done = passed(state, (control, digital, utility), new, best, steps)
    return _without_subcarriers(done)


def _without_subcarriers(done: Pass) -> Pass:
    state = replace(done.state, digital=done.state.digital.squeeze(1))
    best = replace(done.record.best, digital=done.record.best.digital.squeeze(1))
    return replace(done, state=state, record=replace(done.record, best=best))
