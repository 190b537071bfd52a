"""Hybrid precoders as factors ``A V ~ X`` of a digital one: PE-AltMin, manifold, OMP."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, Literal

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.analog.manifold import conjugate_gradients, unit_modulus
from holobeam.errors import InputError, ShapeError, check_count, check_finite
from holobeam.frontends.element_sets import Circle
from holobeam.frontends.frontend import Frontend, fully_digital
from holobeam.problems.downlink import Downlink
from holobeam.solvers.base import Solver, State, make_state
from holobeam.solvers.phase_shifters import (
    PhaseShifterSolver,
    least_squares_digital,
    plain_feed,
)
from holobeam.solvers.starts import digital_target, matched_control, random_control, relaxed
from holobeam.solvers.successive_convex import SuccessiveConvex

Target = Literal["wmmse", "sca"]


@dataclass(frozen=True, eq=False)
class Memory:
    """Digital precoder to be factorised, and the last accepted steps of the manifold search."""

    target: Tensor
    stride: Tensor


@dataclass(frozen=True, kw_only=True)
class Factorisation(PhaseShifterSolver):
    """Minimise ``||X - A V||^2`` over phases and digital part in turn, X a digital precoder.

    Attributes
    ----------
    rule
        ``manifold``: V by least squares, then conjugate gradients over the phases. ``pe``
        (phase extraction): a semi-unitary V in closed form, then the phases of ``X V^H``.
    target
        X: of the fully digital array by converged WMMSE, or by successive convex approximation.
    target_iterations
        Iterations spent on X.
    inner_steps
        Conjugate-gradient steps in each iteration (``manifold``).
    begin
        ``matched``: phases of the users' channels, or ``random``.

    Notes
    -----
    The error falls, the rate need not: as the methods are defined, the last iterate counts, V by
    least squares. What is left of the error is interference, so that the rate saturates with
    SNR; ``+w`` behind the name re-optimises V. Source: docs/methods.md, section 12.
    """

    name: str = "manifold-cg"
    max_iterations: int = 30
    tolerance: float = 0.0
    keep: str = "last"
    rule: Literal["manifold", "pe"] = "manifold"
    target: Target = "wmmse"
    target_iterations: int = 100
    inner_steps: int = 10
    begin: Literal["matched", "random"] = "matched"

    def init(
        self, problem: Downlink, generator: torch.Generator, start: State | None = None
    ) -> State:
        """Digital precoder, and the phases of the channel or of ``start``."""
        check_count("inner_steps", self.inner_steps)
        target = digital_optimum(problem, self.target, self.target_iterations)
        if start is not None:
            return replace(start, memory=_memory(target))
        pick = random_control if self.begin == "random" else matched_control
        control = relaxed(problem.frontend.element_set).project(pick(problem, generator))
        return _judged(problem, control, _memory(target))

    def variant(self, index: int) -> Solver:
        """Random phases for every start but the first."""
        return self if index == 0 else replace(self, begin="random")

    def step(self, problem: Downlink, state: State) -> State:
        """One alternation, V by least squares at its end."""
        memory: Memory = state.memory
        if self.rule == "pe":
            digital = semi_unitary(problem.analog(state.control), memory.target)
            control = extracted_phases(problem.frontend, digital, memory.target)
            return _judged(problem, control, memory)
        # In double precision whatever the input: in single, rounding decides the line searches of
        # channels that are nearly done, and a channel's answer would depend on its batch mates.
        wide = torch.complex128
        control, target = state.control.to(wide), memory.target.to(wide)
        digital = least_squares_digital(problem.analog(state.control).to(wide), target)
        error = FactorError(problem.frontend.to(target), digital, target)
        circle = relaxed(problem.frontend.element_set)
        run = conjugate_gradients(
            circle,
            error.value,
            error.gradient,
            control,
            iterations=self.inner_steps,
            stride=memory.stride,
        )
        return _judged(problem, run.control.to(problem.h), replace(memory, stride=run.stride))


@dataclass(frozen=True, eq=False)
class FactorError:
    """``sum_f ||A_f V_f - X_f||^2`` as a function of the controls."""

    frontend: Frontend
    digital: Complex[Tensor, "batch subcarriers rf_chains users"]
    target: Complex[Tensor, "batch subcarriers antennas users"]

    @cached_property
    def _plain(self) -> bool:
        return plain_feed(self.frontend)

    def _radiated(self, q: Tensor, digital: Tensor) -> Tensor:
        analog = q.unsqueeze(1) if self._plain else self.frontend.analog(q)
        return analog @ digital

    def value(
        self, q: Complex[Tensor, "rows antennas controls"], rows: Tensor | None = None
    ) -> Float[Tensor, " rows"]:
        """Error per channel, of the channels ``rows`` alone where given."""
        digital, target = self.digital, self.target
        if rows is not None:
            digital, target = digital[rows], target[rows]
        gap = self._radiated(q, digital) - target
        return torch.view_as_real(gap).flatten(1).square().sum(dim=1)

    def gradient(
        self, q: Complex[Tensor, "batch antennas controls"]
    ) -> Complex[Tensor, "batch antennas controls"]:
        """Wirtinger gradient ``(A V - X) V^H``, through the feed."""
        gap = self._radiated(q, self.digital) - self.target
        pull = gap @ self.digital.mH
        if not self._plain:
            pull = pull * self.frontend.scaled_feed().conj()
        return (pull.sum(dim=3, keepdim=True) if self.frontend.controls == 1 else pull).sum(dim=1)


def semi_unitary(
    analog: Complex[Tensor, "batch subcarriers antennas rf_chains"],
    target: Complex[Tensor, "batch subcarriers antennas users"],
) -> Complex[Tensor, "batch subcarriers rf_chains users"]:
    """``V U^H`` of ``X^H A = U S V^H``: the best digital part with orthonormal rows or columns."""
    left, _, right = torch.linalg.svd(target.mH @ analog, full_matrices=False)
    digital: Tensor = right.mH @ left.mH
    return digital


def extracted_phases(
    frontend: Frontend,
    digital: Complex[Tensor, "batch subcarriers rf_chains users"],
    target: Complex[Tensor, "batch subcarriers antennas users"],
) -> Complex[Tensor, "batch antennas controls"]:
    """Controls along ``X V^H``, summed over subcarriers (and chains, where one control serves all).

    With a V of orthonormal columns this is the minimiser of ``||X V^H - A||``; on a sub-connected
    array the minimiser of ``||X - A V||`` for every V.
    """
    wanted = target @ digital.mH * frontend.scaled_feed().conj()
    wanted = wanted.sum(dim=3, keepdim=True) if frontend.controls == 1 else wanted
    circle: Circle = relaxed(frontend.element_set)
    return unit_modulus(wanted.sum(dim=1), circle.radius)


def digital_optimum(
    problem: Downlink, target: Target, iterations: int
) -> Complex[Tensor, "batch subcarriers antennas users"]:
    """Precoder of the fully digital array on the same channels, by WMMSE or by SCA.

    Scaled to ``||X||^2 = F N``, where a least-squares V has entries of order 1 and so has the
    first step of a line search: the size of powers and channels does not matter.
    """
    if target == "wmmse":
        found = digital_target(problem, iterations)
    else:
        found = SuccessiveConvex(max_iterations=iterations)(digital_twin(problem)).precoder.to(
            problem.h
        )
    size = found.abs().square().mean(dim=(1, 2, 3), keepdim=True) * problem.users
    return found * torch.where(size > 0, size, torch.ones_like(size)).rsqrt()


def digital_twin(problem: Downlink) -> Downlink:
    """Same channels, noise and budget on a fully digital array, in double precision.

    In single, rounding would decide at which iteration a channel has converged.
    """
    per_chain = problem.power_at == "per_rf_chain"
    return Downlink(
        problem.h.to(torch.complex128),
        fully_digital(problem.frontend.antennas),
        noise_power=problem.noise_power,
        power=problem.power.sum(dim=1) if per_chain else problem.power,
        budget=problem.budget,
        weights=problem.user_weights,
    )


def _memory(target: Tensor) -> Memory:
    return Memory(target, torch.ones_like(target[:, 0, 0, 0].real, dtype=torch.float64))


def _judged(problem: Downlink, control: Tensor, memory: Memory) -> State:
    """State with V by least squares on the controls, scaled to the budget."""
    digital = least_squares_digital(problem.analog(control), memory.target)
    digital = problem.rescale(problem.link(control), digital)
    return make_state(problem, control, digital, memory)


@dataclass(frozen=True, kw_only=True)
class OrthogonalMatchingPursuit(PhaseShifterSolver):
    """Pick one beam of a dictionary for each RF chain, V by least squares.

    Attributes
    ----------
    dictionary
        ``(N, D)`` columns of unit-modulus entries. By default ``exp(j pi n s)`` with
        ``s = -1 + 2 i / grid``: the beams of a half-wavelength linear array. Give the array
        responses of your own array where it is another one.
    grid
        Number of default beams.
    target, target_iterations
        As in :class:`Factorisation`.

    Notes
    -----
    Each chain takes the beam with the largest ``||a^H (X - A V)||`` among those not yet taken.
    Source: docs/methods.md, section 12.
    """

    closed_form: ClassVar[bool] = True

    name: str = "omp"
    max_iterations: int = 0
    target: Target = "wmmse"
    target_iterations: int = 100
    grid: int = 128
    dictionary: Tensor | None = field(default=None)

    def refuses(self, problem: Downlink) -> str | None:
        """Needs a shifter on every branch: a column of A is a beam of the dictionary."""
        reason = super().refuses(problem)
        if reason is None and problem.frontend.controls == 1 and problem.chains > 1:
            return "its beams need a shifter on every branch; use pe-altmin or manifold-cg"
        size = self.grid if self.dictionary is None else self.dictionary.shape[-1]
        if reason is None and size < problem.chains:
            return f"it needs a beam for each of {problem.chains} chains, got {size}; raise grid"
        return reason

    def init(
        self, problem: Downlink, generator: torch.Generator, start: State | None = None
    ) -> State:
        """Pursue; a start is not read."""
        beams = self._beams(problem)
        target = digital_optimum(problem, self.target, self.target_iterations)
        residual, chosen = target, beams.new_zeros(problem.batch, problem.frontend.antennas, 0)
        taken = torch.zeros(problem.batch, beams.shape[1], dtype=torch.bool, device=beams.device)
        for _ in range(problem.chains):
            match = (beams.mH @ residual).abs().square().sum(dim=(1, 3))
            pick = match.masked_fill(taken, -1.0).argmax(dim=1)
            taken = taken.scatter(1, pick.unsqueeze(1), True)
            chosen = torch.cat([chosen, beams.mT[pick].unsqueeze(2)], dim=2)
            analog = chosen.unsqueeze(1)
            residual = target - analog @ least_squares_digital(analog, target)
        circle: Circle = relaxed(problem.frontend.element_set)
        control = circle.radius * chosen * torch.sgn(problem.frontend.scaled_feed()[0]).conj()
        digital = least_squares_digital(problem.analog(control), target)
        digital = problem.rescale(problem.link(control), digital)
        return make_state(problem, control, digital)

    def _beams(self, problem: Downlink) -> Tensor:
        antennas = problem.frontend.antennas
        if self.dictionary is None:
            check_count("grid", self.grid)
            place = torch.arange(antennas, dtype=torch.float64).unsqueeze(1)
            sine = -1.0 + 2.0 * torch.arange(self.grid, dtype=torch.float64) / self.grid
            phase = math.pi * place * sine
            return torch.polar(torch.ones_like(phase), phase).to(problem.h)
        beams = self.dictionary
        if beams.ndim != 2 or beams.shape[0] != antennas:
            raise ShapeError(
                "dictionary", f"got shape {tuple(beams.shape)}", f"need ({antennas}, D)"
            )
        check_finite("dictionary", beams)
        if bool(((beams.abs() - 1.0).abs() > 1e-4).any()):
            raise InputError("dictionary", "entries are off the unit circle", "use phases alone")
        return unit_modulus(beams.to(problem.h))
