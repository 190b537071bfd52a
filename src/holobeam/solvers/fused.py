"""Bridges from solvers to their compiled loops: tensors in, tensors out, records kept.

What runs here must be what the steps in torch do, which remain the oracles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from holobeam.analog.coordinate import as_array
from holobeam.frontends.element_sets import Interval
from holobeam.problems.downlink import Downlink
from holobeam.solvers.base import AnyProblem, Pass, Record, State

if TYPE_CHECKING:
    from holobeam.solvers.alternating import Alternating
    from holobeam.solvers.gradient import VariableProjection

PATIENT = 2**62


def serves(problem: AnyProblem, state: State | None = None) -> bool:
    """Whether compiled loops serve a problem, from a state on.

    They know narrowband channels, one power budget, weighted sum rates, built-in element sets and
    CPU tensors without gradients.
    """
    return (
        isinstance(problem, Downlink)
        and problem.h.device.type == "cpu"
        and not problem.h.requires_grad
        and not (state is not None and (state.control.requires_grad or state.digital.requires_grad))
        and problem.h.shape[1] == 1
        and problem.power_at != "per_rf_chain"
        and problem.utility_name == "sum_rate"
        and not problem.frontend.is_digital
        and hasattr(problem.frontend.element_set, "kernel_code")
    )


def element_code(element_set: Any) -> tuple[int, Any]:
    """Kind and levels of an element set, as kernels read them."""
    kind, levels = element_set.kernel_code()
    return kind, np.asarray(levels, dtype=complex)


def tensor(array: Any, like: Tensor) -> Tensor:
    """Tensor of the dtype of another one."""
    made = torch.from_numpy(array)
    return made if made.dtype == like.dtype else made.to(like.dtype)


def problem_arrays(problem: Downlink) -> tuple[Any, ...]:
    """Channels, feed, noise, user weights, budget, and whether radiated power counts."""
    return (
        as_array(problem.h[:, 0]),
        as_array(problem.frontend.scaled_feed()[0]),
        as_array(problem.noise_power),
        as_array(problem.user_weights),
        as_array(problem.power),
        problem.power_at == "radiated",
    )


def fresh(*tensors: Tensor) -> tuple[Any, ...]:
    """Arrays that a kernel may write to."""
    return tuple(
        np.array(
            t.detach().resolve_conj().numpy(), dtype=complex if t.is_complex() else float, order="C"
        )
        for t in tensors
    )


def alternate(
    solver: Alternating, problem: Downlink, state: State, record: Record | None, count: int
) -> Pass:
    """Run at most ``count`` iterations of :meth:`Alternating.step` in the compiled loop.

    With a record the loop stops at the solver's patience, without one it does not count.
    """
    from holobeam.kernels import alternating as kernel
    from holobeam.kernels.cpu import available_threads
    from holobeam.solvers.alternating import Memory, Momentum, scale_is_free

    memory: Memory = state.memory
    schedule = solver.schedule[memory.count : memory.count + count]
    free = scale_is_free(problem)
    kind, levels = element_code(
        Interval(0.0, float("inf")) if free else problem.frontend.element_set
    )
    control, digital, utility = fresh(state.control, state.digital[:, 0], state.utility)
    if memory.momentum is None:
        previous, stride = np.empty_like(control), np.ones_like(utility)
    else:
        previous, stride = fresh(memory.momentum.previous, memory.momentum.stride)
    best = kernel.Best(*record_arrays(state, record))
    plan = kernel.Plan(
        np.array(schedule + (1.0,) * (count - len(schedule))),
        len(schedule), solver.extrapolate, kind, levels, free,
        float(solver.tolerance),
        PATIENT if record is None else solver.patience,
    )  # fmt: skip
    steps = kernel.alternate(
        kernel.Channels(*problem_arrays(problem)),
        kernel.Point(control, digital, previous, stride, utility),
        best,
        plan,
        available_threads(),
    )
    momentum = memory.momentum and Momentum(
        tensor(previous, state.control), tensor(stride, state.utility)
    )
    new = Memory(None, memory.count + count, momentum)
    return passed(state, (control, digital, utility), new, best, steps)


def climb(
    solver: VariableProjection,
    problem: Downlink,
    state: State,
    record: Record | None,
    count: int,
) -> Pass:
    """Run at most ``count`` iterations of :meth:`VariableProjection.step` in the compiled loop.

    With a record the loop stops at the solver's patience, without one it does not count.
    """
    from holobeam.kernels import projection as kernel
    from holobeam.kernels.alternating import Best, Channels
    from holobeam.kernels.cpu import available_threads
    from holobeam.solvers.gradient import Memory
    from holobeam.solvers.starts import relaxed

    memory: Memory = state.memory
    element_set = problem.frontend.element_set
    control, digital, latent, velocity, utility = fresh(
        state.control, state.digital[:, 0], memory.latent, memory.velocity, state.utility
    )
    best = Best(*record_arrays(state, record))
    plan = kernel.Plan(
        np.array([solver.size(memory.count + i) for i in range(count)]),
        np.array([solver.kept(memory.count + i) for i in range(count)]), solver.digital_steps,
        *element_code(element_set), *element_code(relaxed(element_set)),
        float(solver.tolerance), PATIENT if record is None else solver.patience,
    )  # fmt: skip
    steps = kernel.climb(
        Channels(*problem_arrays(problem)),
        kernel.Point(control, digital, latent, velocity, utility),
        best,
        plan,
        available_threads(),
    )
    new = Memory(
        None,
        tensor(latent, state.control),
        tensor(velocity, state.control),
        memory.count + count,
    )
    return passed(state, (control, digital, utility), new, best, steps)


def record_arrays(state: State, record: Record | None) -> tuple[Any, ...]:
    """Controls, precoder, utility and idle count of the best point, for a kernel to write to."""
    best = state if record is None else record.best
    idle = torch.zeros(len(best.utility), dtype=torch.long) if record is None else record.idle
    return *fresh(best.control, best.digital[:, 0], best.utility), idle.numpy().copy()


def passed(state: State, point: tuple[Any, ...], memory: Any, best: Any, steps: Any) -> Pass:
    """What a kernel left behind, as tensors like those it came from."""
    control, digital, utility = (
        tensor(array, like)
        for array, like in zip(point, (state.control, state.digital, state.utility), strict=True)
    )
    top = State(
        tensor(best.control, state.control),
        tensor(best.digital, state.digital).unsqueeze(1),
        tensor(best.utility, state.utility),
    )
    taken = torch.from_numpy(steps)
    return Pass(
        State(control, digital.unsqueeze(1), utility, memory),
        Record(top, torch.from_numpy(best.idle)),
        taken.abs(),
        taken < 0,
    )


def pointed_control(problem: Downlink, spare: Tensor) -> Tensor:
    """Do what ``matched_control`` does on circles; ``spare`` ``(N, R - K)``: chains left over."""
    from holobeam.kernels import matched as kernel
    from holobeam.kernels.cpu import available_threads
    from holobeam.solvers.starts import relaxed

    frontend = problem.frontend
    control = kernel.point(
        as_array(problem.h[:, 0]),
        as_array(frontend.scaled_feed()[0]),
        as_array(problem.noise_power),
        as_array(spare),
        frontend.controls,
        *element_code(relaxed(frontend.element_set)),
        available_threads(),
    )
    return tensor(control, problem.h)


def begun(problem: Downlink, latent: Tensor) -> State:
    """Project controls and give every user the same power, compiled."""
    from holobeam.kernels import matched as kernel
    from holobeam.kernels.alternating import Channels
    from holobeam.kernels.cpu import available_threads

    (control,) = fresh(latent)
    digital, utility = kernel.begin(
        Channels(*problem_arrays(problem)),
        control,
        *element_code(problem.frontend.element_set),
        available_threads(),
    )
    return State(
        tensor(control, problem.h),
        tensor(digital, problem.h).unsqueeze(1),
        tensor(utility, problem.noise_power),
    )


def fitted_start(problem: Downlink, control: Tensor) -> tuple[Tensor, Tensor]:
    """Do what ``fit_to_target(problem, control, digital_target(problem))`` does, compiled."""
    from holobeam.kernels import start as kernel
    from holobeam.kernels.cpu import available_threads

    h, feed, noise, weights, power, _ = problem_arrays(problem)
    basis = as_array(torch.linalg.qr(problem.h[:, 0].mH)[0])
    element_set = problem.frontend.element_set
    free = isinstance(element_set, Interval) and element_set.low == 0
    kind, levels = element_code(Interval(0.0, float("inf")) if free else element_set)
    (fitted,) = fresh(control)
    digital = np.empty((problem.batch, problem.chains, problem.users), dtype=complex)
    kernel.fitted_start(
        kernel.Channels(h, basis, feed, noise, weights, power),
        fitted,
        digital,
        kernel.Plan(20, 20, kind, levels, free),
        available_threads(),
    )
    return tensor(fitted, problem.h), tensor(digital, problem.h).unsqueeze(1)
