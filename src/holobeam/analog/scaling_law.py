"""How the SNR of a metasurface antenna grows with its elements: exact optima and their limits.

One user in line of sight, one microstrip. ``wave[n] = h_n g_n``: channel times waveguide, of
amplitude ``a_n`` (attenuation) and phase ``psi_n``. Every gain is the SNR in units of that of one
lossless element with the whole budget.

Two readings of the power constraint:

* ``fixed``: the waveguide carries the budget, ``1 / N`` of it passes by each element, and a control
  that lets less than all of it through wastes the rest: ``|sum w q|^2 / N``;
* ``radiated``: what is let through is scaled up to the budget: ``|sum w q|^2 / sum a^2 |q|^2``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.errors import InputError, ShapeError, check_choice, check_count, check_finite

Control = Literal["lorentzian", "binary", "phase-shifters"]
Reading = Literal["fixed", "radiated"]

_CONTROLS: tuple[Control, ...] = ("lorentzian", "binary", "phase-shifters")
_READINGS: tuple[Reading, ...] = ("fixed", "radiated")

PEAK = 1.2564312086261697
"""Root of ``exp(x) = 1 + 2 x``: attenuation times length at which a strip is at its best."""


@dataclass(frozen=True, eq=False)
class SnrOptimum:
    """Best gain of one strip, ``(*batch,)``, and controls ``(*batch, N)`` that reach it."""

    gain: Float[Tensor, "*batch"]
    control: Complex[Tensor, "*batch elements"]


def best_gain(
    wave: Complex[Tensor, "*batch elements"], control: Control, reading: Reading = "fixed"
) -> SnrOptimum:
    """Largest SNR gain of a finite strip over all its controls.

    Parameters
    ----------
    wave
        ``(*batch, N)`` complex, channel times waveguide.
    control
        ``lorentzian``, ``binary`` (on/off), or ``phase-shifters`` (any phase, full amplitude).
    reading
        ``fixed`` or ``radiated``, see the module.

    Notes
    -----
    Exact in closed form or by enumeration, except the Lorentzian circle under the radiated reading:
    a monotone fixed point from 64 directions. Binary controls under it enumerate ``O(N^2)`` orders.
    Source: multicell paper, its SNR theorem (our reading); docs/methods.md, section 16.
    """
    control = check_choice("control", control, _CONTROLS)
    reading = check_choice("reading", reading, _READINGS)
    if wave.ndim < 1 or not wave.is_complex() or wave.shape[-1] == 0:
        raise ShapeError("wave", f"got {wave.dtype} of shape {tuple(wave.shape)}", "need (*, N)")
    wave = check_finite("wave", wave).to(torch.complex128)
    if control == "phase-shifters":
        best = torch.polar(torch.ones_like(wave.real), -wave.angle())
    elif control == "lorentzian":
        best = _lorentzian(wave) if reading == "fixed" else _radiated_lorentzian(wave)
    else:
        best = _binary(wave) if reading == "fixed" else _radiated_binary(wave)
    return SnrOptimum(snr_gain(wave, best, reading), best)


def snr_gain(
    wave: Complex[Tensor, "*batch elements"],
    control: Complex[Tensor, "*batch elements"],
    reading: Reading = "fixed",
) -> Float[Tensor, "*batch"]:
    """SNR gain of given controls; 0 where nothing is let through."""
    signal = (wave * control).sum(dim=-1).abs().square()
    if reading == "fixed":
        return signal / wave.shape[-1]
    spent = (wave * control).abs().square().sum(dim=-1)
    return torch.where(spent > 0, signal / torch.where(spent > 0, spent, 1.0), 0.0)


def _lorentzian(wave: Tensor) -> Tensor:
    """Controls of amplitude ``(S1 + |S0|) / 2``, ``S1 = sum a``, ``S0 = sum w``."""
    bias = 1j * wave.sum(dim=-1, keepdim=True)
    return 0.5 * (1j + torch.polar(torch.ones_like(wave.real), bias.angle() - wave.angle()))


def _binary(wave: Tensor) -> Tensor:
    """Best half plane: with its direction theta it lets through ``sum a [cos(psi - theta)]_+``.

    In the order of their phases its elements follow one another. Turned until an edge meets an
    element, just left behind at the back or just taken in at the front, it holds the same ones: 2 N
    arcs, each a difference of running sums.
    """
    turn, count = 2.0 * math.pi, wave.shape[-1]
    phase, order = (wave.angle() % turn).sort(dim=-1)
    ordered = wave.gather(-1, order)
    twice = torch.cat([phase, phase + turn], dim=-1)
    running = torch.nn.functional.pad(torch.cat([ordered, ordered], dim=-1).cumsum(dim=-1), (1, 0))
    index = torch.arange(count, device=wave.device).expand(phase.shape)
    across = torch.searchsorted(twice, phase + math.pi, right=True)
    first = torch.cat([index + 1, across], dim=-1)
    after = torch.cat([across, index + count + 1], dim=-1)
    reached = (running.gather(-1, after) - running.gather(-1, first)).abs()
    best = reached.argmax(dim=-1, keepdim=True)
    begin, end = first.gather(-1, best), after.gather(-1, best)
    again = index + count
    chosen = ((index >= begin) & (index < end)) | ((again >= begin) & (again < end))
    return torch.zeros_like(wave).scatter(-1, order, chosen.to(wave.dtype))


def _between(angles: Tensor) -> Tensor:
    """Midpoints of the arcs that angles cut the circle into."""
    cuts = (angles % (2.0 * math.pi)).sort(dim=-1).values
    following = torch.cat([cuts[..., 1:], cuts[..., :1] + 2.0 * math.pi], dim=-1)
    return (cuts + following) / 2


def _radiated_binary(wave: Tensor) -> Tensor:
    """Best leading part of an order: elements by ``cos(psi - theta) / a``, for every theta.

    The order changes only where two elements are equal, at ``O(N^2)`` directions.
    """
    flat = wave.reshape(-1, wave.shape[-1])
    chosen = [_best_prefix(one) for one in flat]
    return torch.stack(chosen).view(wave.shape)


def _best_prefix(wave: Tensor) -> Tensor:
    size = wave.abs().clamp(min=1e-300)
    scores = wave / size.square()
    first, second = torch.triu_indices(len(wave), len(wave), 1)
    normal = (scores[first] - scores[second]).angle() + math.pi / 2
    edges = torch.cat([normal, normal + math.pi, scores.new_zeros(1).real])
    best, kept = -1.0, torch.ones_like(wave)
    for part in torch.split(_between(edges), 4096):
        along = (scores * torch.polar(torch.ones_like(part), -part).unsqueeze(1)).real
        order = along.argsort(dim=1, descending=True)
        gains = wave[order].cumsum(dim=1).abs().square() / size[order].square().cumsum(dim=1)
        top = int(gains.argmax())
        row, count = divmod(top, len(wave))
        if float(gains[row, count]) > best:
            best = float(gains[row, count])
            kept = torch.zeros_like(wave)
            kept[order[row, : count + 1]] = 1.0
    return kept


def _radiated_lorentzian(wave: Tensor, starts: int = 64, rounds: int = 2000) -> Tensor:
    """Monotone fixed point ``phi = -arg(w e^(-j theta) + j lambda a^2)`` from many directions.

    ``f^2 / p >= 2 y f - y^2 p`` with equality at ``y = f / p``: the right side is maximised over
    every element in closed form, ``lambda = y / 2``.
    """
    waves = wave.unsqueeze(-2)
    turn = 2.0 * math.pi * torch.arange(starts, dtype=torch.float64, device=wave.device) / starts
    phase = turn.unsqueeze(-1) - waves.angle()
    size = waves.abs().square()
    control = waves
    for _ in range(rounds):
        control = 0.5 * (1j + torch.polar(torch.ones_like(phase), phase))
        heard = (waves * control).sum(dim=-1, keepdim=True)
        spent = (size * control.abs().square()).sum(dim=-1, keepdim=True).clamp(min=1e-300)
        goal = waves * heard.conj() / heard.abs().clamp(min=1e-300)
        new = -(goal + 0.5j * (heard.abs() / spent) * size).angle()
        moved = float((new - phase).abs().max())
        phase = new
        if moved < 1e-13:
            break
    gains = snr_gain(waves, control, "radiated")
    best = gains.argmax(dim=-1)[..., None, None].expand(*wave.shape[:-1], 1, wave.shape[-1])
    return control.gather(-2, best).squeeze(-2)


# -- limits ------------------------------------------------------------------------------------


def limit_coefficient(control: Control, reading: Reading = "fixed") -> float:
    """Gain over N of a long lossless strip whose phases are spread evenly.

    1/4 and 1/pi^2 (``fixed``); 0.5977 and 0.2307 (``radiated``), where the designs that are best
    for the fixed reading reach 1/2 and 2/pi^2 only. Phase shifters reach 1 either way.
    """
    control = check_choice("control", control, _CONTROLS)
    reading = check_choice("reading", reading, _READINGS)
    if control == "phase-shifters":
        return 1.0
    if reading == "fixed":
        return 0.25 if control == "lorentzian" else 1.0 / math.pi**2
    if control == "binary":
        # An arc of half width w passes sin(w) / pi of the field and w / pi of the power.
        width = _maximum(lambda w: math.sin(w) ** 2 / (math.pi * w), 0.5, 1.5)
        return math.sin(width) ** 2 / (math.pi * width)
    return _lorentzian_limit(_maximum(_lorentzian_limit, 0.1, 0.95))


def _lorentzian_limit(tilt: float) -> float:
    """``f^2 / p`` at ``phi = -arg(e^(j psi) + j tilt)``, psi even on the circle."""
    sine = (2.0 * math.pi * torch.arange(4096, dtype=torch.float64) / 4096).sin()
    size = (1.0 + tilt**2 + 2.0 * tilt * sine).sqrt()
    field = float(((1.0 + tilt * sine) / size).mean()) / 2
    power = (1.0 - float(((sine + tilt) / size).mean())) / 2
    return field**2 / power


def _maximum(function: Callable[[float], float], low: float, high: float) -> float:
    """Golden-section search of a unimodal function."""
    ratio = (math.sqrt(5.0) - 1.0) / 2
    for _ in range(80):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if function(left) > function(right) else (left, high)
    return (low + high) / 2


def attenuated_sum(
    elements: int,
    spacing: float,
    attenuation: float,
    feeding: Literal["left", "centre"] = "left",
) -> float:
    """``S1 = sum_n a_n`` of a strip: ``(1 - e^(-alpha d N)) / (1 - e^(-alpha d))`` fed at the left.

    Parameters
    ----------
    elements, spacing, attenuation
        N, metres between elements, 1/m.
    feeding
        ``left`` or ``centre`` (without the power split, which halves the square).
    """
    _check_strip(elements, spacing, attenuation)
    loss = attenuation * spacing
    if check_choice("feeding", feeding, ("left", "centre")) == "left":
        return elements * 1.0 if loss == 0 else math.expm1(-loss * elements) / math.expm1(-loss)
    half = elements // 2
    middle, first = elements % 2, 1.0 if elements % 2 else 0.5
    arm = half * 1.0 if loss == 0 else math.expm1(-loss * half) / math.expm1(-loss)
    return middle + 2.0 * math.exp(-loss * first) * arm


def limit_gain(
    control: Control,
    elements: int,
    spacing: float,
    attenuation: float,
    feeding: Literal["left", "centre"] = "left",
) -> float:
    """Gain of a long strip under the fixed reading: ``S1^2 / (4 N)``, ``S1^2 / (pi^2 N)`` or N.

    Linear in N while ``alpha d N << 1``; it peaks at :func:`peak_elements` and then falls as 1/N.
    Phase shifters sit behind no waveguide, and don't lose.
    """
    strip = attenuated_sum(elements, spacing, attenuation, feeding)
    share = limit_coefficient(control)
    return float(elements) if control == "phase-shifters" else share * strip**2 / elements


def peak_elements(
    attenuation: float, spacing: float, feeding: Literal["left", "centre"] = "left"
) -> float:
    """Elements at which attenuation ends the growth: ``1.2564 / (alpha d)``, centred twice that."""
    _check_strip(1, spacing, attenuation)
    if attenuation == 0:
        return math.inf
    arms = 1 if check_choice("feeding", feeding, ("left", "centre")) == "left" else 2
    return arms * PEAK / (attenuation * spacing)


def _check_strip(elements: int, spacing: float, attenuation: float) -> None:
    check_count("elements", elements)
    if not (0 < spacing < math.inf and 0 <= attenuation < math.inf):
        raise InputError(
            "spacing",
            f"got {spacing!r} with attenuation={attenuation!r}",
            "need a positive spacing and no gain along the strip",
        )
