"""Element-wise alternating maximisation at zero forcing (``element-altmax``)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.analog.coordinate import as_array
from holobeam.analog.manifold import unit_modulus
from holobeam.digital.link import Link
from holobeam.digital.zero_forcing import water_filled_zero_forcing
from holobeam.errors import check_count
from holobeam.problems.downlink import Downlink
from holobeam.solvers.base import Solver, State
from holobeam.solvers.phase_shifters import PhaseShifterSolver
from holobeam.solvers.reduced import needs_full_connection
from holobeam.solvers.reduced_loss import unit_problem
from holobeam.solvers.starts import matched_control, random_control, relaxed

_LEAST = 1e-3
"""Smallest power of a user that the phases still count with, in shares of an equal one."""


@dataclass(frozen=True, eq=False)
class Memory:
    """Rows over their noise amplitudes, and the powers received in the last round."""

    h: Tensor
    powers: Tensor


@dataclass(frozen=True, kw_only=True)
class ElementWise(PhaseShifterSolver):
    """Move one phase after the other to where zero forcing needs least power, then water-fill.

    Attributes
    ----------
    max_iterations
        Rounds, each with the powers of the one before.
    sweeps
        Passes over all phases in a round.
    begin
        ``matched``: phases of the users' channels; ``random`` phases.

    Notes
    -----
    ``(F^H F)`` is taken for a multiple of the identity, which is what random phases tend to. The
    best round is returned. Source: Sohrabi and Yu, as a baseline of the ggml paper;
    docs/methods.md, section 18.
    """

    name: str = "element-altmax"
    max_iterations: int = 4
    tolerance: float = 0.0
    sweeps: int = 10
    begin: Literal["matched", "random"] = "matched"

    def refuses(self, problem: Downlink) -> str | None:
        """Serves fully connected phase shifters with a chain for each user."""
        return super().refuses(problem) or needs_full_connection(problem)

    def variant(self, index: int) -> Solver:
        """Random phases for every start but the first."""
        return self if index == 0 else replace(self, begin="random")

    def init(
        self, problem: Downlink, generator: torch.Generator, start: State | None = None
    ) -> State:
        """Channel phases and zero forcing, or ``start``."""
        check_count("sweeps", self.sweeps)
        h = unit_problem(problem).h.to(torch.complex128)
        memory = Memory(h, torch.ones_like(h[:, :, 0].real))
        if start is not None:
            return replace(start, memory=memory)
        pick = random_control if self.begin == "random" else matched_control
        control = relaxed(problem.frontend.element_set).project(pick(problem, generator))
        return _judged(problem, control, memory)

    def step(self, problem: Downlink, state: State) -> State:
        """One round: sweeps over the phases, zero forcing, powers."""
        memory: Memory = state.memory
        scaled = memory.h / memory.powers.sqrt().unsqueeze(2)
        feed = problem.frontend.scaled_feed()[0]
        analog = unit_modulus(problem.analog(state.control)[:, 0].to(torch.complex128))
        for _ in range(self.sweeps):
            analog = sweep_elements(scaled, analog)
        control = analog.to(problem.h.dtype) * torch.sgn(feed).conj()
        radius = relaxed(problem.frontend.element_set).radius
        return _judged(problem, radius * control, memory)


def _judged(problem: Downlink, control: Tensor, memory: Memory) -> State:
    """State at zero forcing with water-filled powers, which the next round counts with."""
    link = problem.link(control)
    digital = water_filled_zero_forcing(
        link, problem.noise_power, problem.power, each_subcarrier=False
    )
    digital = problem.rescale(link, digital)
    utility = problem.utility(link, digital)
    return State(control, digital, utility, replace(memory, powers=_powers(problem, link, digital)))


def _powers(problem: Downlink, link: Link, digital: Tensor) -> Tensor:
    """Powers that the users receive over their noise, at least a small share of the mean."""
    heard = link.received(digital)[:, 0].diagonal(dim1=1, dim2=2).abs().square().double()
    heard = heard / problem.noise_power
    mean = heard.mean(dim=1, keepdim=True)
    share = torch.where(mean > 0, heard / mean, torch.ones_like(heard))
    return share.clamp(min=_LEAST)


def sweep_elements(
    h: Complex[Tensor, "batch users antennas"],
    analog: Complex[Tensor, "batch antennas rf_chains"],
) -> Complex[Tensor, "batch antennas rf_chains"]:
    """One pass over all phases: none raises ``tr((H F F^H H^H + ridge)^-1)`` by itself.

    In double precision, compiled; on other devices by way of the CPU.
    """
    from holobeam.kernels.cpu import available_threads
    from holobeam.kernels.element import sweep_column

    analog = analog.clone()
    e = h @ analog
    for column in range(analog.shape[2]):
        others = e.clone()
        others[:, :, column] = 0.0
        root = _ridged(others @ others.mH)
        w = torch.linalg.solve_triangular(root, h, upper=False)
        u = torch.linalg.solve_triangular(root.mH, w, upper=True)
        f = as_array(analog[:, :, column]).copy()
        sweep_column(as_array(u), as_array(w), f, available_threads())
        new = torch.from_numpy(f).to(analog)
        analog[:, :, column] = new
        e[:, :, column] = (h @ new.unsqueeze(2)).squeeze(2)
    return analog


def _ridged(a: Tensor) -> Float[Tensor, "batch users users"]:
    """Cholesky factor of A with a ridge of a millionth of its mean diagonal."""
    level = a.diagonal(dim1=1, dim2=2).real.mean(dim=1)
    level = torch.where(level > 0, level, torch.ones_like(level))
    eye = torch.eye(a.shape[1], dtype=a.dtype, device=a.device)
    root: Tensor = torch.linalg.cholesky_ex(a + (1e-6 * level)[:, None, None] * eye)[0]
    return root
