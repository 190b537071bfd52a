"""Bridge from ``vpk`` to its compiled loop: tensors in, tensors out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from holobeam.analog.coordinate import as_array
from holobeam.analog.limited_memory import FIRST, begin_memory
from holobeam.problems.downlink import Downlink
from holobeam.solvers import fused
from holobeam.solvers.base import Record, State
from holobeam.solvers.reduced_loss import Memory, Reduced, UnitProblem, ridge_of
from holobeam.solvers.starts import relaxed

if TYPE_CHECKING:
    from holobeam.solvers.reduced import ReducedSearch

_PAIRS = ("x", "value", "gradient", "moves", "turns", "inverse", "scale", "stuck")


def start(
    problem: Downlink,
    unit: UnitProblem,
    phases: Tensor,
    stride: Tensor,
    solver: ReducedSearch,
) -> State:
    """Do what :func:`~holobeam.solvers.reduced_loss.reduced` and the first evaluation do."""
    from holobeam.kernels import reduced as kernel

    batch, users, beta = problem.batch, problem.users, solver.beta
    rows = torch.zeros(batch, users, dtype=torch.float64)
    base = torch.eye(users, dtype=torch.complex128).expand(batch, -1, -1)
    loss = Reduced(
        unit.h, unit.feed, unit.user_weights, unit.noise, phases, base, rows, stride, beta
    )
    x = phases.new_zeros(batch, phases[0].numel() + 2 * users**2)
    empty = begin_memory(x, x.new_zeros(batch), x, solver.pairs)
    memory = Memory(loss, empty, unit.amplitude)
    channels, point = _channels(loss), _point(memory)
    plan = kernel.Plan(0, 0, loss.feed is None, float(beta), ridge_of(unit.h.dtype), FIRST, 0.0, 0)
    kernel.start(channels, point, plan, _threads(problem.batch))
    memory = replace(
        memory,
        loss=replace(loss, rows=torch.from_numpy(channels.rows)),
        pairs=replace(
            empty,
            value=torch.from_numpy(point.value).to(x),
            gradient=torch.from_numpy(point.gradient).to(x),
        ),
    )
    return _state(problem, memory, point)


def search(
    solver: ReducedSearch, problem: Downlink, state: State, record: Record, count: int
) -> tuple[State, Tensor, Tensor]:
    """Make at most ``count`` steps: new state, idle counts, steps (negative: converged)."""
    from holobeam.kernels import reduced as kernel

    memory: Memory = state.memory
    loss, pairs = memory.loss, memory.pairs
    point = _point(memory)
    (idle,) = fused.fresh(record.idle)
    (best,) = fused.fresh(record.best.utility / -problem.users)
    plan = kernel.Plan(
        pairs.count, count, loss.feed is None, float(loss.beta), ridge_of(loss.h.dtype), FIRST,
        float(solver.tolerance), solver.patience,
    )  # fmt: skip
    steps = kernel.search(_channels(loss), point, best, idle, plan, _threads(problem.batch))
    made = {
        name: torch.from_numpy(getattr(point, name)).to(getattr(pairs, name)) for name in _PAIRS
    }
    memory = replace(memory, pairs=replace(pairs, count=pairs.count + count, **made))
    return _state(problem, memory, point), torch.from_numpy(idle), torch.from_numpy(steps)


def _threads(batch: int) -> int:
    """Threads for a batch; one channel needs no look at the machine."""
    from holobeam.kernels.cpu import available_threads

    return 1 if batch == 1 else available_threads()


def _channels(loss: Reduced) -> Any:
    from holobeam.kernels import reduced as kernel

    h = as_array(loss.h)
    feed = np.ones((1, 1, 1), dtype=complex) if loss.feed is None else as_array(loss.feed.mT)
    numbers = (loss.rows, loss.stride, loss.noise, loss.user_weights, loss.base)
    parts: tuple[Any, ...] = (
        h.real, h.imag, feed.real, feed.imag, as_array(loss.phases.mT), *map(as_array, numbers)
    )  # fmt: skip
    return kernel.Channels(*map(np.ascontiguousarray, parts))


def _point(memory: Memory) -> Any:
    from holobeam.kernels import reduced as kernel

    pairs, loss = memory.pairs, memory.loss
    batch, antennas, chains = loss.phases.shape
    parts: tuple[Any, ...] = (
        *fused.fresh(*(getattr(pairs, name) for name in _PAIRS)),
        np.empty((batch, antennas, chains), dtype=complex),
        np.empty((batch, chains, loss.h.shape[1]), dtype=complex),
    )
    return kernel.Point(*parts)


def _state(problem: Downlink, memory: Memory, point: Any) -> State:
    circle = relaxed(problem.frontend.element_set)
    control = circle.radius * torch.from_numpy(point.control)
    digital = memory.amplitude[:, None, None] * torch.from_numpy(point.digital)
    utility = -problem.users * memory.pairs.value
    return State(
        control.to(problem.h.dtype), digital.to(problem.h.dtype).unsqueeze(1), utility, memory
    )
