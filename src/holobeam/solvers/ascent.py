"""Projected gradient ascent on the rate, jointly over phases and digital part (``pga``)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.analog.manifold import unit_modulus
from holobeam.digital.rate_gradient import gradient_of_analog, gradient_of_digital, rate_slope
from holobeam.digital.zero_forcing import regularised_zero_forcing, zero_forcing
from holobeam.errors import InputError, ShapeError, check_count
from holobeam.frontends.frontend import fully_digital
from holobeam.problems.downlink import Downlink
from holobeam.solvers.base import Solver, State, make_state
from holobeam.solvers.phase_shifters import (
    PhaseShifterSolver,
    least_squares_digital,
    plain_feed,
)
from holobeam.solvers.starts import matched_control, noise_over_power, random_control, relaxed

_FAR = 1e-2

StepSizes = float | tuple[object, ...] | Tensor


@dataclass(frozen=True, eq=False)
class Memory:
    """``H^H`` laid out for products, the unit of digital steps, and iterations done."""

    back: Tensor
    unit: Tensor
    count: int


@dataclass(frozen=True, kw_only=True)
class ProjectedGradientAscent(PhaseShifterSolver):
    """Alternate several gradient steps on the phases with one on the digital part.

    Attributes
    ----------
    inner_steps
        J: steps on the controls in each iteration.
    analog_steps
        mu: a number, or nested tuples or a tensor that broadcast to (iterations, J).
    digital_steps
        lambda: a number, or a tuple or tensor of one per iteration; for noise of mean power 1 and
        channels of mean power 1.
    begin
        ``matched``: phases of the users' channels; ``random`` phases. The digital part is the
        least-squares fit to zero forcing either way.

    Notes
    -----
    The step sizes are absolute, for channels whose entries have mean power 1; channels with a user
    more than 20 dB away from that, such as those of a link budget, are measured in units of their
    own. A tensor of step sizes that requires gradients makes :meth:`step` a layer
    that can be trained. Source: unfolded-pga paper, its conventional method; docs/methods.md,
    section 11.
    """

    name: str = "pga"
    max_iterations: int = 30
    tolerance: float = 0.0
    inner_steps: int = 10
    analog_steps: StepSizes = 0.01
    digital_steps: StepSizes = 1e-4
    begin: Literal["matched", "random"] = "matched"

    def refuses(self, problem: Downlink) -> str | None:
        """Serves phase shifters under one power budget."""
        if problem.power_at == "per_rf_chain":
            return "it knows one power budget, not a limit per RF chain; use wmmse-cd or vp"
        return super().refuses(problem)

    def init(
        self, problem: Downlink, generator: torch.Generator, start: State | None = None
    ) -> State:
        """Phases of the channel and least squares to zero forcing, or ``start``."""
        check_count("inner_steps", self.inner_steps)
        for name, sizes, axes in (
            ("analog_steps", self.analog_steps, (self.max_iterations, self.inner_steps)),
            ("digital_steps", self.digital_steps, (self.max_iterations,)),
        ):
            _check_sizes(name, sizes, axes)
        back = problem.h.mH.resolve_conj().contiguous()
        memory = Memory(back, digital_unit(problem), 0)
        if start is not None:
            return replace(start, memory=memory)
        pick = random_control if self.begin == "random" else matched_control
        control = relaxed(problem.frontend.element_set).project(pick(problem, generator))
        digital = least_squares_digital(problem.analog(control), forced_target(problem))
        digital = problem.rescale(problem.link(control), digital)
        return make_state(problem, control, digital, memory)

    def variant(self, index: int) -> Solver:
        """Random phases for every start but the first."""
        return self if index == 0 else replace(self, begin="random")

    def step(self, problem: Downlink, state: State) -> State:
        """J ascents on the phases, one on the digital part, power back to the budget."""
        memory: Memory = state.memory
        digital = state.digital
        control = ascend_control(
            problem, state.control, digital, memory.back, self._analog_sizes(memory.count)
        )
        link = problem.link(control)
        noise = problem.noise_power.unsqueeze(1)
        slope = rate_slope(link.received(digital), noise, problem.user_weights)
        size = _at(self.digital_steps, memory.count, ()) * memory.unit
        digital = problem.rescale(link, digital + size * gradient_of_digital(link.e, slope))
        return State(
            control,
            digital,
            problem.utility(link, digital),
            replace(memory, count=memory.count + 1),
        )

    def _analog_sizes(self, count: int) -> tuple[float | Tensor, ...]:
        row = _at(self.analog_steps, count, (self.inner_steps,))
        if isinstance(row, Tensor):
            return tuple(row.unbind())
        return (row,) * self.inner_steps


def digital_unit(problem: Downlink) -> Float[Tensor, "batch 1 1 1"]:
    """What a step of the digital part is measured in: the power that is as loud as the noise.

    The paper's step belongs to unit noise and channels of mean power 1. Near that it is taken as
    it is, so that a fade is a fade; with a user far from it users are measured over their noise.
    """
    level = problem.h.abs().square().mean(dim=(1, 3))
    far = ((level > 0) & ((level < _FAR) | (level > 1.0 / _FAR))).any(dim=1)
    heard = (level / problem.noise_power).mean(dim=1)
    unit = torch.where(far, heard.reciprocal(), problem.noise_power.mean(dim=1))
    return unit[:, None, None, None]


def ascend_control(
    problem: Downlink,
    control: Complex[Tensor, "batch antennas controls"],
    digital: Complex[Tensor, "batch subcarriers rf_chains users"],
    back: Complex[Tensor, "batch subcarriers antennas users"],
    sizes: tuple[float | Tensor, ...],
) -> Complex[Tensor, "batch antennas controls"]:
    """Gradient steps on the controls with the digital part held, each put back on the circle.

    The rate here is that of the plain noise: the power is not counted again in between.
    """
    frontend = problem.frontend
    feed = frontend.scaled_feed()
    radius = relaxed(frontend.element_set).radius
    noise = problem.noise_power.unsqueeze(1)
    others = 1.0 - torch.eye(problem.users, dtype=noise.dtype, device=noise.device)
    adjoint = digital.mH.resolve_conj()
    if plain_feed(frontend) and problem.h.shape[1] == 1:
        # The same with three axes: half of the time of a small batch is spent on views.
        h, back, one, adjoint = problem.h[:, 0], back[:, 0], digital[:, 0], adjoint[:, 0]
        for size in sizes:
            received = torch.bmm(torch.bmm(h, control), one).unsqueeze(1)
            slope = size * rate_slope(received, noise, problem.user_weights, others)
            step = torch.bmm(slope.squeeze(1), adjoint)
            control = unit_modulus(torch.baddbmm(control, back, step), radius)
        return control
    for size in sizes:
        received = (problem.h @ (control.unsqueeze(1) * feed)) @ digital
        slope = size * rate_slope(received, noise, problem.user_weights, others)
        gradient = gradient_of_analog(back, adjoint, slope) * feed.conj()
        if frontend.controls == 1:
            gradient = gradient.sum(dim=3, keepdim=True)
        control = unit_modulus(control + gradient.sum(dim=1), radius)
    return control


def forced_target(problem: Downlink) -> Complex[Tensor, "batch subcarriers antennas users"]:
    """Zero forcing of the fully digital array, every user as far above its own noise.

    Regularised where users outnumber antennas. Up to scale.
    """
    level = problem.noise_power.mean(dim=1, keepdim=True)
    amplitude = (problem.noise_power / level).sqrt()
    h = problem.h / amplitude[:, None, :, None]
    bound = Downlink(
        h, fully_digital(problem.frontend.antennas), noise_power=level.expand_as(amplitude)
    )
    control = torch.ones(problem.batch, problem.frontend.antennas, 1).to(problem.h)
    link = bound.link(control)
    if problem.users > problem.frontend.antennas:
        return bound.analog(control) @ regularised_zero_forcing(link, noise_over_power(bound))
    return bound.analog(control) @ zero_forcing(link)


def _at(sizes: StepSizes, index: int, shape: tuple[int, ...]) -> float | Tensor:
    """Step sizes of one iteration: a number as it is, a table's row broadcast to ``shape``."""
    if isinstance(sizes, (int, float)):
        return float(sizes)
    table = sizes if isinstance(sizes, Tensor) else torch.tensor(sizes, dtype=torch.float64)
    return (
        table[min(index, table.shape[0] - 1)].expand(shape) if table.ndim else table.expand(shape)
    )


def _check_sizes(name: str, sizes: StepSizes, axes: tuple[int, ...]) -> None:
    """Raise unless step sizes are finite numbers that broadcast to ``axes``."""
    try:
        table = torch.as_tensor(sizes, dtype=torch.float64)
    except (TypeError, ValueError) as error:
        raise InputError(name, f"got {sizes!r}", "give numbers, one or a table") from error
    if not bool(torch.isfinite(table).all()):
        raise InputError(name, f"got {sizes!r}", "step sizes must be finite")
    want = " x ".join(str(axis) for axis in axes)
    fits = table.ndim <= len(axes) and all(
        have in {1, axis} for have, axis in zip(table.shape, axes, strict=False)
    )
    if not fits:
        raise ShapeError(name, f"got shape {tuple(table.shape)}", f"need a number or {want}")
