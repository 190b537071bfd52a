"""What a network on fully connected phase shifters sees, and digital steps at phases it sets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.frontends.element_sets import Circle
from holobeam.learned.scene import FAINTEST, link_rate, radiated, received_power, solve_ridged
from holobeam.problems.downlink import Downlink
from holobeam.solvers.phase_shifters import needs_phase_shifters

LEAST = 1e-12
"""Added to powers of numbers of size about 1, so that roots have gradients at 0."""

_LEAST_GAIN = 1e-6


@dataclass(frozen=True, eq=False)
class View:
    """One subcarrier, one budget of radiated power, P = 1, channels of unit mean power.

    Attributes
    ----------
    rows
        ``(B, K, N)``: h_k^H, every user's mean power 1.
    gains
        ``(B, K)``: what that left out, over the user's noise; mean 1 over the users.
    noise
        ``(B,)``: noise power over the budget on that scale.
    """

    rows: Complex[Tensor, "batch users antennas"]
    gains: Float[Tensor, "batch users"]
    noise: Float[Tensor, " batch"]

    @cached_property
    def scaled_rows(self) -> Complex[Tensor, "batch users antennas"]:
        """h_k^H, each user at its gain."""
        return self.rows * self.gains.sqrt().unsqueeze(2)

    @cached_property
    def sizes(self) -> Float[Tensor, "batch users 1"]:
        """Inverse amplitudes of the gains: received numbers times it have size about 1."""
        return self.gains.clamp(min=LEAST).rsqrt().unsqueeze(2)

    @cached_property
    def folded(self) -> Float[Tensor, " batch"]:
        """Noise beside ``E`` and ``S`` of a :class:`Spot`, which are over N."""
        return self.noise / float(self.rows.shape[2])

    @cached_property
    def loudness(self) -> Float[Tensor, " batch"]:
        """SNR of one of K users behind the whole array, in units of 20 dB, less 1."""
        return -0.5 * (self.folded * float(self.rows.shape[1])).log10() - 1.0

    @cached_property
    def log_gains(self) -> Float[Tensor, "batch users"]:
        """Gains in units of 20 dB."""
        return 0.5 * (self.gains + _LEAST_GAIN).log10()


@dataclass(frozen=True, eq=False)
class Spot:
    """Phases, and the digital precoder that goes with them.

    Attributes
    ----------
    phases
        ``(B, R, N)``: unit modulus, a row a chain.
    effective, metric
        ``E = H F / N`` (every user at its gain) and ``S = F^H F / N``.
    digital
        ``(B, R, K)``, radiating ``tr(V^H S V) = 1``.
    """

    phases: Complex[Tensor, "batch rf_chains antennas"]
    effective: Complex[Tensor, "batch users rf_chains"]
    metric: Complex[Tensor, "batch rf_chains rf_chains"]
    digital: Complex[Tensor, "batch rf_chains users"]


def view(problem: Downlink) -> View:
    """Make the view of a problem that :func:`refused` has no objection to."""
    ratio = problem.noise_power / problem.power.unsqueeze(1)
    rows = problem.h[:, 0]
    power = received_power(rows).mean(dim=2)
    size = torch.where(power > 0, power, torch.ones_like(power))
    gains = power / ratio
    mean = gains.mean(dim=1)
    # A channel that is not there is heard at 0 dB: any feasible answer is right.
    mean = torch.where(mean > 0, mean, torch.ones_like(mean))
    noise = mean.reciprocal().clamp(min=1.0 / FAINTEST, max=FAINTEST)
    return View(rows * size.rsqrt().unsqueeze(2), gains / mean.unsqueeze(1), noise)


def refused(problem: Downlink) -> str | None:
    """Reason why networks on phase shifters can't see this problem, or None."""
    return needs_phase_shifters(problem) or _hardware(problem) or _what_is_asked(problem)


def _hardware(problem: Downlink) -> str | None:
    frontend = problem.frontend
    if not isinstance(frontend.element_set, Circle):
        return "it sets phases continuously; use vp or wmmse-cd for stepped ones"
    shared = frontend.controls != frontend.rf_chains
    if shared or not bool((frontend.scaled_feed() == 1).all()):
        return "it needs a shifter on every branch; use unfolded-vp for shared ones"
    if problem.users != frontend.rf_chains:
        return (
            f"it gives every user a chain of its own, got {problem.users} users on "
            f"{frontend.rf_chains} RF chains; use vpk or vp"
        )
    return None


def _what_is_asked(problem: Downlink) -> str | None:
    if problem.h.shape[1] > 1:
        return "it is trained for one subcarrier; use unfolded-vp for several"
    if problem.power_at != "radiated":
        return "it is trained for radiated power; use vp for other budgets"
    if problem.utility_name != "sum_rate" or bool((problem.user_weights != 1.0).any()):
        return "it is trained for the plain sum rate; use vp for weights and fairness"
    return None


def radius(problem: Downlink) -> float:
    """Modulus of the shifters."""
    circle = problem.frontend.element_set
    assert isinstance(circle, Circle)
    return circle.radius


def conjugate_phases(rows: Complex[Tensor, "batch k n"]) -> Complex[Tensor, "batch k n"]:
    """Phases at which a user's channel adds up; 1 where there is none."""
    phases = torch.sgn(rows.conj().resolve_conj())
    return torch.where(phases == 0, torch.ones_like(phases), phases)


def place(seen: View, phases: Complex[Tensor, "batch rf_chains antennas"]) -> Spot:
    """Spot of some phases, its digital part matched to what is heard."""
    antennas = float(phases.shape[2])
    effective = seen.scaled_rows @ phases.mT / antennas
    return Spot(phases, effective, phases.conj() @ phases.mT / antennas, effective.mH)


def with_digital(spot: Spot, digital: Complex[Tensor, "batch rf_chains users"]) -> Spot:
    """Spot with another digital part, scaled to the budget."""
    scale = radiated(spot.metric, digital).rsqrt()
    return replace(spot, digital=digital * scale[:, None, None])


def forced(seen: View, spot: Spot) -> Spot:
    """Regularised zero forcing, every user at the same power."""
    back = spot.effective.mH
    price = seen.folded * float(seen.rows.shape[1])
    system = back @ spot.effective + price[:, None, None] * spot.metric
    digital = solve_ridged(system, back)
    spent = (digital.conj() * (spot.metric @ digital)).real.sum(dim=1, keepdim=True)
    return with_digital(spot, digital * spent.clamp(min=1e-20).rsqrt())


def receivers(
    seen: View, spot: Spot, received: Complex[Tensor, "batch users users"]
) -> tuple[Complex[Tensor, "batch users"], Float[Tensor, "batch users"]]:
    """Receivers u and weights w of every user, the noise folded."""
    gains = received_power(received)
    own = torch.eye(gains.shape[1], dtype=torch.bool, device=gains.device)
    noise = seen.folded * radiated(spot.metric, spot.digital)
    interference = gains.masked_fill(own, 0.0).sum(dim=2) + noise.unsqueeze(1)
    total = interference + gains.diagonal(dim1=1, dim2=2)
    return received.diagonal(dim1=1, dim2=2) / total, total / interference


def wmmse_step(seen: View, spot: Spot) -> Spot:
    """One exact update of receivers, weights and V, the noise folded.

    Source: docs/methods.md, section 3.
    """
    decoders, weights = receivers(seen, spot, spot.effective @ spot.digital)
    cost = weights * received_power(decoders)
    back = spot.effective.mH
    price = seen.folded * cost.sum(dim=1)
    system = (back * cost.unsqueeze(1)) @ spot.effective + price[:, None, None] * spot.metric
    return with_digital(spot, solve_ridged(system, back * (weights * decoders).unsqueeze(1)))


def spot_rate(seen: View, spot: Spot) -> Float[Tensor, " batch"]:
    """Sum rate, bits/s/Hz."""
    gains = received_power(spot.effective @ spot.digital)
    return link_rate(gains, seen.folded * radiated(spot.metric, spot.digital))
