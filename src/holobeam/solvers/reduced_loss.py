"""The loss that ``vpk`` minimises: phases and a K x K matrix, the digital precoder eliminated."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.analog.limited_memory import Memory as Pairs
from holobeam.digital.link import solve_small
from holobeam.digital.rate_gradient import fair_loss
from holobeam.problems.downlink import Downlink
from holobeam.solvers.base import State, take
from holobeam.solvers.starts import modulus

_WIDE = torch.complex128


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
    feed = problem.frontend.scaled_feed() * modulus(problem.frontend.element_set)
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
    Source: ``vpk``; docs/methods.md, section 17.
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
