"""Reduced L-BFGS over phases and a K x K matrix: the digital precoder is eliminated (``vpk``)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.analog.coordinate import as_array
from holobeam.analog.limited_memory import FIRST, begin_memory, limited_memory_step
from holobeam.analog.limited_memory import Memory as Pairs
from holobeam.digital.link import solve_small
from holobeam.digital.rate_gradient import fair_loss
from holobeam.errors import InputError, check_count
from holobeam.problems.downlink import Downlink
from holobeam.solvers import fused
from holobeam.solvers.base import Pass, Record, Solver, State, choose, take
from holobeam.solvers.loop import bare
from holobeam.solvers.phase_shifters import PhaseShifterSolver
from holobeam.solvers.starts import matched_control, random_control, relaxed

_WIDE = torch.complex128


def needs_full_connection(problem: Downlink) -> str | None:
    """Reason why a method for one band, one radiated budget and ``K <= R`` can't serve, or None."""
    frontend = problem.frontend
    if frontend.controls != frontend.rf_chains:
        return "it needs a shifter on every branch; use vp or wmmse-cd for shared ones"
    if problem.h.shape[1] > 1:
        return "it designs one subcarrier; use vp or wmmse-cd for several"
    if problem.power_at != "radiated":
        return f"it counts radiated power, not power at {problem.power_at}; use vp or wmmse-cd"
    if problem.users > problem.chains:
        return (
            f"it needs a chain for each user (K <= R), got {problem.users} users on "
            f"{problem.chains} RF chains; use vp"
        )
    return None


@dataclass(frozen=True, eq=False)
class UnitProblem:
    """The problem in units where power is 1, entries have mean power 1 and users the same noise.

    Attributes
    ----------
    h
        ``(B, K, N)``: rows over their noise amplitudes, scaled as a whole to mean power 1.
    noise
        ``(B,)``: noise power of every user that goes with it.
    feed
        ``(B, N, R)``: what a control of modulus 1 lets through; None where it is 1 everywhere.
    user_weights
        ``(B, K)``.
    amplitude
        ``(B,)``: square root of the budget.
    """

    h: Complex[Tensor, "batch users antennas"]
    noise: Float[Tensor, " batch"]
    feed: Complex[Tensor, "batch antennas rf_chains"] | None
    user_weights: Float[Tensor, "batch users"]
    amplitude: Float[Tensor, " batch"]


def unit_problem(problem: Downlink) -> UnitProblem:
    """Scale a narrowband problem under one radiated budget; rates stay what they are."""
    wide = problem.h[:, 0].to(_WIDE)
    noise = problem.noise_power.double()
    level = noise.mean(dim=1, keepdim=True)
    rows = wide * (level / noise).sqrt().unsqueeze(2)
    gain = rows.abs().square().mean(dim=(1, 2))
    gain = torch.where(gain > 0, gain, torch.ones_like(gain))
    power = problem.power.double()
    feed = problem.frontend.scaled_feed() * relaxed(problem.frontend.element_set).radius
    return UnitProblem(
        (rows * gain.rsqrt()[:, None, None]).to(problem.h.dtype),
        level[:, 0] / (power * gain),
        None if bool((feed == 1).all()) else feed.expand(problem.batch, -1, -1),
        problem.user_weights.double(),
        power.sqrt(),
    )


@dataclass(frozen=True, eq=False)
class Reduced:
    """Loss as a function of phases and X, the power-optimal digital precoder put in.

    Attributes
    ----------
    h, feed, user_weights
        As in :class:`UnitProblem`.
    noise
        ``(B,)``.
    phases
        ``(B, N, R)``: where the phases start.
    base, rows
        ``(B, K, K)`` and ``(B, K)``: ``X = diag(rows) (base + stride Z)``.
    stride
        ``(B,)``: how far a unit of Z goes.
    beta
        Weight of the variance of the rates.

    Notes
    -----
    Source: ``vpk``; docs/methods.md, section 16.
    """

    h: Complex[Tensor, "batch users antennas"]
    feed: Complex[Tensor, "batch antennas rf_chains"] | None
    user_weights: Float[Tensor, "batch users"]
    noise: Float[Tensor, " batch"]
    phases: Float[Tensor, "batch antennas rf_chains"]
    base: Complex[Tensor, "batch users users"]
    rows: Float[Tensor, "batch users"]
    stride: Float[Tensor, " batch"]
    beta: float

    def of(self, rows: Tensor | None) -> Reduced:
        """Restrict to some channels."""
        if rows is None:
            return self
        held: Reduced = take(self, rows)
        return held

    def split(self, x: Float[Tensor, "batch dimension"]) -> tuple[Tensor, Tensor]:
        """Phases and X of a point; X in double precision."""
        size = self.phases[0].numel()
        phases = self.phases + x[:, :size].reshape_as(self.phases.mT).mT
        users = self.h.shape[1]
        parts = x[:, size:].double().reshape(-1, users, users, 2)
        z = torch.complex(parts[..., 0].contiguous(), parts[..., 1].contiguous())
        mixed = self.base + self.stride[:, None, None] * z
        return phases, self.rows[:, :, None] * mixed

    def __call__(
        self, x: Float[Tensor, "batch dimension"], rows: Tensor | None = None
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch dimension"]]:
        """Loss and gradient; what has no finite loss has an infinite one."""
        at = self.of(rows)
        phases, mix = at.split(x)
        analog = beams(phases, at.feed)
        q, r, s = gram(at.h, analog, at.noise)
        t = s @ mix
        y = r @ t
        scale = _amplitude(t, y)
        users = y.shape[1]
        noise = at.noise.unsqueeze(1).expand(-1, users)
        value, w = fair_loss(scale[:, None, None] * y, noise, at.user_weights.double(), self.beta)
        pull = -0.5 * scale**3 * (y.conj() * w).real.sum(dim=(1, 2))
        g_y = scale[:, None, None] * w
        turned = pull[:, None, None] * t
        g_mix = s @ (r @ (g_y + 2.0 * turned))
        g_r = (g_y - g_mix + turned) @ t.mH
        g_r = g_r + g_r.mH
        ahead = g_r @ q.mH
        back = at.h.mH @ ahead.to(at.h.dtype) - analog @ (q @ ahead).to(at.h.dtype)
        g_phases = analog.real * back.imag - analog.imag * back.real
        g_z = at.stride[:, None, None] * at.rows[:, :, None] * g_mix
        gradient = torch.cat(
            [g_phases.mT.flatten(1), torch.view_as_real(g_z).flatten(1).to(x.dtype)], dim=1
        )
        sane = torch.isfinite(value) & torch.isfinite(gradient).all(dim=1)
        value = torch.where(sane, value, torch.full_like(value, torch.inf)).to(x.dtype)
        return value, torch.where(sane[:, None], gradient, torch.zeros_like(gradient))

    def digital(self, x: Float[Tensor, "batch dimension"]) -> tuple[Tensor, Tensor]:
        """Controls of modulus 1, and the digital precoder of power 1, ``c Q T``."""
        phases, mix = self.split(x)
        q, r, s = gram(self.h, beams(phases, self.feed), self.noise)
        t = s @ mix
        scale = _amplitude(t, r @ t)
        control = torch.polar(torch.ones_like(phases), phases)
        return control, (scale[:, None, None] * (q @ t)).to(self.h.dtype)


def beams(
    phases: Float[Tensor, "batch antennas rf_chains"],
    feed: Complex[Tensor, "batch antennas rf_chains"] | None,
) -> Complex[Tensor, "batch antennas rf_chains"]:
    """Analog beamformer of phases on a feed."""
    turned = torch.polar(torch.ones_like(phases), phases)
    return turned if feed is None else turned * feed


def gram(
    h: Complex[Tensor, "batch users antennas"],
    analog: Complex[Tensor, "batch antennas rf_chains"],
    noise: Float[Tensor, " batch"],
) -> tuple[Tensor, Tensor, Tensor]:
    """``Q = (A^H A)^-1 A^H H^H``, ``R = H A Q`` and ``S = (R + K noise I)^-1``, complex128.

    A least-power precoder that makes the users hear Y spends ``tr(Y^H R^-1 Y)``: nothing else of
    the analog part matters. Nearly parallel beams are held apart by a ridge.
    """
    e = (h @ analog).to(_WIDE)
    metric = (analog.mH @ analog).to(_WIDE)
    q = solve_small(metric, e.mH, ridge=ridge_of(h.dtype))
    r = e @ q
    r = 0.5 * (r + r.mH)
    users = h.shape[1]
    eye = torch.eye(users, dtype=_WIDE, device=h.device)
    s = solve_small(r + (users * noise)[:, None, None] * eye, eye.expand_as(r))
    return q, r, s


def ridge_of(dtype: torch.dtype) -> float:
    """Ridge of ``A^H A`` relative to its mean diagonal: products in single precision are rough."""
    return 1e-9 if dtype == _WIDE else 1e-6


def _amplitude(t: Tensor, y: Tensor) -> Tensor:
    """``c``: what brings ``Re tr(T^H Y)`` to 1; 1 where it is nothing."""
    power = (t.conj() * y).real.sum(dim=(1, 2))
    safe = power > torch.finfo(power.dtype).tiny
    return torch.where(safe, power, torch.ones_like(power)).rsqrt()


@dataclass(frozen=True, eq=False)
class Memory:
    """The loss, where the search stands, and the amplitude of the budget."""

    loss: Reduced
    pairs: Pairs
    amplitude: Tensor


@dataclass(frozen=True, kw_only=True)
class ReducedSearch(PhaseShifterSolver):
    """L-BFGS over the phases and a K x K matrix, the digital precoder eliminated exactly.

    Attributes
    ----------
    beta
        Weight of the variance of the users' rates (ggml paper's fairness: 0.2); 0 for the sum
        rate. The utility of a state is then ``K`` times minus the loss; starts are compared by sum
        rate.
    pairs
        Memory of L-BFGS.
    stride
        Scale of the matrix beside the phases; by default 0.02, and 0.01 where the mean receive
        SNR of one antenna is 17 dB or more.
    begin
        ``matched``: phases of the users' channels, spare chains random; ``random`` phases.

    Notes
    -----
    Needs a shifter on every branch, one subcarrier, radiated power and ``K <= R``. The objective
    never rises. Source: docs/methods.md, section 16.
    """

    stackable: ClassVar[bool] = True

    name: str = "vpk"
    max_iterations: int = 30
    tolerance: float = 0.0
    patience: int = 8
    beta: float = 0.0
    pairs: int = 8
    stride: float | None = None
    begin: Literal["matched", "random"] = "matched"

    def supports(self, problem: Downlink) -> str | None:
        """Serves fully connected phase shifters with a chain for each user."""
        return super().supports(problem) or needs_full_connection(problem)

    def variant(self, index: int) -> Solver:
        """Random phases for every start but the first."""
        return self if index == 0 else replace(self, begin="random")

    def init(
        self, problem: Downlink, generator: torch.Generator, start: State | None = None
    ) -> State:
        """Channel phases and equal-power RZF, or ``start``."""
        check_count("pairs", self.pairs)
        if not 0.0 <= self.beta < float("inf"):
            raise InputError("beta", f"got {self.beta!r}", "it must be finite and >= 0")
        unit = unit_problem(problem)
        if start is not None:
            control = start.control
        else:
            pick = random_control if self.begin == "random" else matched_control
            control = pick(problem, generator)
        phases = control.angle()
        loss = reduced(unit, phases, self.beta, self._stride(unit), start)
        size = phases[0].numel() + 2 * problem.users**2
        x = phases.new_zeros(problem.batch, size)
        memory = Memory(loss, begin_memory(x, *loss(x), self.pairs), unit.amplitude)
        state = self._state(problem, memory)
        if start is None:
            return state
        heard = problem.link(start.control).received(start.digital)[:, 0]
        value, _ = fair_loss(heard, problem.noise_power, problem.user_weights, self.beta)
        return replace(start, utility=-problem.users * value, memory=memory)

    def step(self, problem: Downlink, state: State) -> State:
        """One L-BFGS step."""
        memory: Memory = state.memory
        pairs = limited_memory_step(memory.loss, memory.pairs)
        return self._state(problem, replace(memory, pairs=pairs))

    def run(self, problem: Downlink, state: State, record: Record, count: int) -> Pass:
        """All iterations at once in the compiled loop where it serves."""
        # A subclass with steps of its own is not what was compiled.
        mine = type(self).step is ReducedSearch.step
        if not (mine and self.keep == "best" and fused.serves(problem, state)):
            return super().run(problem, state, record, count)
        memory: Memory = state.memory
        pairs, idle, steps = compiled_steps(self, memory, record, count)
        new = self._state(problem, replace(memory, pairs=pairs))
        better = new.utility > record.best.utility
        best = choose(better, bare(new), record.best)
        return Pass(new, Record(best, idle), steps.abs(), steps < 0)

    def _state(self, problem: Downlink, memory: Memory) -> State:
        control, digital = memory.loss.digital(memory.pairs.x)
        digital = (memory.amplitude[:, None, None] * digital).to(problem.h.dtype)
        control = control * relaxed(problem.frontend.element_set).radius
        utility = -problem.users * memory.pairs.value
        return State(control, digital.unsqueeze(1), utility, memory)

    def _stride(self, unit: UnitProblem) -> Tensor:
        if self.stride is not None:
            return torch.full_like(unit.noise, self.stride)
        return torch.where(unit.noise < 0.02, 0.01, 0.02).to(unit.noise)


def reduced(
    unit: UnitProblem,
    phases: Float[Tensor, "batch antennas rf_chains"],
    beta: float,
    stride: Float[Tensor, " batch"],
    start: State | None = None,
) -> Reduced:
    """Loss around phases, from every user at equal power or from the precoder of a start."""
    q, r, s = gram(unit.h, beams(phases, unit.feed), unit.noise)
    spent = (s @ r @ s).diagonal(dim1=1, dim2=2).real
    present = spent > 1e-12 * spent.amax(dim=1, keepdim=True)
    rows = torch.where(present, spent, torch.ones_like(spent)).rsqrt()
    rows = torch.where(present, rows, torch.zeros_like(rows))
    mean = rows.sum(dim=1, keepdim=True) / present.sum(dim=1, keepdim=True).clamp(min=1)
    rows = rows / torch.where(mean > 0, mean, torch.ones_like(mean))
    base = torch.diag_embed(torch.ones_like(rows)).to(_WIDE)
    if start is not None:
        # Q T = V where V lies in the range of Q; X = S^-1 T.
        t = torch.linalg.pinv(q) @ start.digital[:, 0].to(_WIDE)
        kap = (rows.shape[1] * unit.noise)[:, None, None]
        safe = torch.where(rows > 0, rows, torch.ones_like(rows))
        base = (r @ t + kap * t) / safe.unsqueeze(2) / unit.amplitude[:, None, None]
    return Reduced(
        unit.h, unit.feed, unit.user_weights, unit.noise, phases, base, rows, stride, beta
    )


def compiled_steps(
    solver: ReducedSearch, memory: Memory, record: Record, count: int
) -> tuple[Pairs, Tensor, Tensor]:
    """Make at most ``count`` steps in the compiled loop: the search, idle counts, steps made."""
    from holobeam.kernels import reduced as kernel
    from holobeam.kernels.cpu import available_threads

    loss, pairs = memory.loss, memory.pairs
    h = as_array(loss.h)
    plain = loss.feed is None
    feed = np.ones((1, 1, 1), dtype=complex) if loss.feed is None else as_array(loss.feed.mT)
    channels = kernel.Channels(
        *(np.ascontiguousarray(part) for part in (h.real, h.imag, feed.real, feed.imag)),
        *(
            np.ascontiguousarray(as_array(part))
            for part in (
                loss.phases.mT, loss.rows, loss.stride, loss.noise, loss.user_weights, loss.base,
            )
        ),
    )  # fmt: skip
    names = ("x", "value", "gradient", "moves", "turns", "inverse", "scale", "stuck")
    point = kernel.Point(*(as_array(getattr(pairs, name)).copy() for name in names))
    (idle,) = fused.fresh(record.idle)
    (best,) = fused.fresh(record.best.utility / -loss.h.shape[1])
    plan = kernel.Plan(
        pairs.count, count, plain, float(loss.beta), ridge_of(loss.h.dtype), FIRST,
        float(solver.tolerance), solver.patience,
    )  # fmt: skip
    steps = kernel.search(channels, point, best, idle, plan, available_threads())
    made = {name: torch.from_numpy(getattr(point, name)).to(getattr(pairs, name)) for name in names}
    new = replace(pairs, count=pairs.count + count, **made)
    return new, torch.from_numpy(idle), torch.from_numpy(steps)
