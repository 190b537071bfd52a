"""A convolutional network with attention for phase shifters, our reconstruction (``cnn``)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn import functional

from holobeam.errors import InputError, check_choice, check_count
from holobeam.frontends.element_sets import Circle
from holobeam.learned.network import Network, Trace
from holobeam.learned.scene import FAINTEST, link_rate, radiated, received_power, solve_ridged
from holobeam.problems.downlink import Downlink
from holobeam.solvers.phase_shifters import needs_phase_shifters, plain_feed

Digital = Literal["wmmse", "direct"]
DIGITAL: tuple[Digital, ...] = ("wmmse", "direct")
"""Exact digital steps at the phases found, or the precoder from the network itself, as cited."""

_LEAST = 1e-12
_PAIR_FEATURES = 9
_POOLED_EXTRAS = 3


@dataclass(frozen=True, eq=False)
class View:
    """What the network sees: one subcarrier, one budget of radiated power.

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

    @property
    def level(self) -> Float[Tensor, " batch"]:
        """Noise of one of K users over what a whole array brings it."""
        users, antennas = self.rows.shape[1:]
        return self.noise * (users / antennas)

    @property
    def loudness(self) -> Float[Tensor, " batch"]:
        """``-log10`` of the level: the SNR behind the array in units of 20 dB, less 1."""
        return -0.5 * self.level.log10() - 1.0


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
    """Make the view of a problem that the network does not refuse."""
    ratio = problem.noise_power / problem.power.unsqueeze(1)
    rows = problem.h[:, 0]
    power = received_power(rows).mean(dim=2)
    present = power > 0
    size = torch.where(present, power, torch.ones_like(power))
    gains = torch.where(present, power / ratio, torch.zeros_like(power))
    mean = gains.mean(dim=1)
    # A channel that is not there is heard at 0 dB: any feasible answer is right.
    mean = torch.where(mean > 0, mean, torch.ones_like(mean))
    noise = mean.reciprocal().clamp(min=1.0 / FAINTEST, max=FAINTEST)
    return View(rows * size.rsqrt().unsqueeze(2), gains / mean.unsqueeze(1), noise)


def unit(value: Complex[Tensor, "..."]) -> Complex[Tensor, "..."]:
    """Phase of numbers of size about 1, with finite gradients at 0."""
    return value * (received_power(value) + _LEAST).rsqrt()


class Attention(nn.Module):
    """Scores between a chain and all users and other chains, and what these ask for.

    A score is a sum of real gates, one for each of three complex carriers: what user j hears of
    chain r, what the precoder sends over chain r for user j, and what user j hears of all that
    chain r sends together. All turn with the phases of user and chain, as a score has to. Other
    chains are weighed by what they send together with this one.
    """

    def __init__(self, heads: int, width: int) -> None:
        super().__init__()
        self.heads = heads
        self.inner = nn.Linear(_PAIR_FEATURES, width)
        self.out = nn.Linear(width, 3 * heads)
        self.chains = nn.Linear(3, width)
        self.chains_out = nn.Linear(width, heads)

    def forward(self, seen: View, spot: Spot) -> Float[Tensor, "batch rf_chains pairs antennas"]:
        """Real and imaginary parts of what is asked for, in the frame of the phases that are set."""
        size = seen.gains.clamp(min=_LEAST).rsqrt().unsqueeze(2)
        heard = spot.effective * size
        sent = _level(spot.digital.mH)
        received = spot.effective @ spot.digital
        echo = _level(received @ sent) * size
        users = self._to_users(seen, spot, received, (heard, sent, echo))
        asked = users @ seen.rows.conj() + self._to_chains(seen, spot) @ spot.phases
        local = asked.unflatten(1, (-1, self.heads)) * spot.phases.conj().unsqueeze(2)
        return torch.cat([local.real, local.imag], dim=2)

    def _to_users(
        self, seen: View, spot: Spot, received: Tensor, carriers: tuple[Tensor, ...]
    ) -> Complex[Tensor, "batch scores users"]:
        """Scores of users, ``(B, R H, K)``."""
        heard, sent, echo = carriers
        own, loud, gain = _common(seen)
        weight = _errors(seen, spot, received)[1].log().unsqueeze(2).expand_as(own)
        features = torch.stack(
            [
                own,
                loud,
                gain,
                0.3 * weight,
                0.3 * _log(heard),
                0.3 * _log(heard).mT,
                0.3 * _log(sent),
                0.3 * _log(echo),
                (heard * sent.conj()).real,
            ],
            dim=3,
        )
        gates = self.out(functional.silu(self.inner(features))).unflatten(3, (3, self.heads))
        scores = (gates * torch.stack([heard, sent, echo], dim=3).unsqueeze(4)).sum(dim=3)
        return scores.permute(0, 2, 3, 1).flatten(1, 2)

    def _to_chains(self, seen: View, spot: Spot) -> Complex[Tensor, "batch scores rf_chains"]:
        """Scores of other chains, ``(B, R H, R)``."""
        together = spot.digital @ spot.digital.mH
        power = together.diagonal(dim1=1, dim2=2).real.mean(dim=1)
        # Row r: what chain r sends, said in the phases of chain s.
        together = together.mT * (power + _LEAST).reciprocal()[:, None, None]
        own, loud, _ = _common(seen)
        features = torch.stack([own, loud, 0.3 * _log(together)], dim=3)
        gates = self.chains_out(functional.silu(self.chains(features)))
        scores = gates * (together * (1.0 - own)).unsqueeze(3)
        return scores.permute(0, 1, 3, 2).flatten(1, 2)


def _level(value: Complex[Tensor, "b k r"]) -> Complex[Tensor, "b k r"]:
    return value * (received_power(value).mean(dim=(1, 2), keepdim=True) + _LEAST).rsqrt()


def _log(value: Complex[Tensor, "b k r"]) -> Float[Tensor, "b k r"]:
    return (received_power(value) + 1e-6).log()


def _common(seen: View) -> tuple[Tensor, Tensor, Tensor]:
    """Whether a user has this chain, the SNR, and gains, ``(B, K, R)`` each."""
    users = seen.gains.shape[1]
    own = torch.eye(users, dtype=seen.gains.dtype, device=seen.gains.device)
    own = own.expand(len(seen.gains), -1, -1)
    loud = seen.loudness[:, None, None].expand_as(own)
    gain = (0.5 * (seen.gains + 1e-6).log10()).unsqueeze(2).expand_as(own)
    return own, loud, gain


class Pointwise(nn.Linear):
    """A linear map of the channels of every antenna: a convolution of reach 1, as a product."""

    def forward(self, x: Float[Tensor, "rows inputs antennas"]) -> Tensor:
        """``(rows, outputs, N)``."""
        # Expanded, so that no copy in another order of axes is made.
        return torch.bmm(self.weight.expand(len(x), -1, -1), x) + self.bias.unsqueeze(1)


class Block(nn.Module):
    """Attention over users, a convolution along the antennas, attention over its channels."""

    def __init__(self, width: int, heads: int, kernel: int, pair_width: int) -> None:
        super().__init__()
        self.attention = Attention(heads, pair_width)
        self.mix = Pointwise(2 * heads + 1 + width, width)
        self.along = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.squeeze = nn.Linear(width + _POOLED_EXTRAS, width)
        self.excite = nn.Linear(width, width)
        self.out = Pointwise(width, width + 2)
        self.straight = Pointwise(2 * heads, 2)
        with torch.no_grad():
            self.out.weight[:2].zero_()
            self.out.bias[:2].zero_()
            self.straight.weight.zero_()
            self.straight.bias.zero_()

    def forward(
        self, seen: View, spot: Spot, state: Float[Tensor, "rows width antennas"]
    ) -> tuple[Complex[Tensor, "batch rf_chains antennas"], Float[Tensor, "rows width antennas"]]:
        """Phases to set next, and the state that goes with them."""
        asked = self.attention(seen, spot).flatten(0, 1)
        size = received_power(seen.rows).add(_LEAST).sqrt().flatten(0, 1).unsqueeze(1)
        mixed = functional.silu(self.mix(torch.cat([asked, size, state], dim=1)))
        mixed = functional.silu(self.along(mixed) + mixed)
        out = self.out(mixed * self._gate(seen, mixed))
        turn = out[:, :2] + self.straight(asked)
        moved = torch.complex(1.0 + turn[:, 0], turn[:, 1]).view_as(spot.phases)
        return unit(spot.phases * moved), state + out[:, 2:]

    def _gate(self, seen: View, mixed: Tensor) -> Float[Tensor, "rows width one"]:
        """Squeeze and excite: how much each channel counts on this chain."""
        users, antennas = seen.rows.shape[1:]
        loud = seen.loudness[:, None].expand_as(seen.gains)
        gain = 0.5 * (seen.gains + 1e-6).log10()
        wide = torch.full_like(gain, antennas).log10() - 1.8
        said = torch.stack([loud, gain, wide], dim=2).flatten(0, 1)
        pooled = torch.cat([mixed.mean(dim=2), said], dim=1)
        gates: Tensor = self.excite(functional.silu(self.squeeze(pooled))).sigmoid()
        return gates.unsqueeze(2)


class Direct(nn.Module):
    """Digital precoder without solving anything: gated products of what is heard."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(6, width)
        self.out = nn.Linear(width, 3)

    def forward(self, seen: View, effective: Tensor) -> Complex[Tensor, "batch rf_chains users"]:
        """Three products of odd degree, each entry at a gate of its own."""
        size = seen.gains.clamp(min=_LEAST).rsqrt().unsqueeze(2)
        heard = effective * size
        back = heard.mH
        third = back @ (heard @ back)
        fifth = back @ (heard @ third)
        own = torch.eye(heard.shape[1], dtype=size.dtype, device=size.device).expand_as(heard.real)
        loud = seen.loudness[:, None, None].expand_as(own)
        gain = (0.5 * (seen.gains + 1e-6).log10()).unsqueeze(1).expand_as(own)
        features = torch.stack(
            [
                own,
                loud,
                gain,
                0.3 * (received_power(back) + 1e-6).log(),
                0.3 * (received_power(heard) + 1e-6).log(),
                0.3 * (received_power(third) + 1e-6).log(),
            ],
            dim=3,
        )
        gates = self.out(functional.silu(self.inner(features)))
        return gates[..., 0] * back + gates[..., 1] * third + gates[..., 2] * fifth


class AttentionCnn(Network):
    """Phases from convolutions and attention, and the digital part that goes with them.

    Parameters
    ----------
    blocks
        How often phases are set.
    width
        Channels of the convolutions.
    heads
        Messages that a chain receives in each block.
    kernel
        Antennas that a convolution reaches over, odd.
    pair_width
        Hidden width of the scores.
    digital
        ``wmmse``: digital steps in closed form at the phases found; ``direct``: the precoder
        comes from the network, as in the cited design.
    steps
        WMMSE steps after the last block (after every other block there is one).

    Notes
    -----
    Our reconstruction: the meta-learning paper cites a convolutional network with attention and
    gives no layers. Equivariant to the order of users, to phases of users, to steering all channels
    by a common phase ramp; any N and K, one chain a user. Source:
    docs/methods.md, section 27.
    """

    def __init__(
        self,
        blocks: int = 4,
        width: int = 16,
        heads: int = 4,
        kernel: int = 5,
        pair_width: int = 16,
        digital: str = "wmmse",
        steps: int = 3,
    ) -> None:
        super().__init__()
        self.digital = check_choice("digital", digital, DIGITAL)
        self.steps = check_count("steps", steps)
        self.width = check_count("width", width)
        check_count("heads", heads)
        check_count("pair_width", pair_width)
        if check_count("kernel", kernel) % 2 == 0:
            raise InputError("kernel", f"got {kernel}", "it must be odd, the antenna in its middle")
        made = (Block(width, heads, kernel, pair_width) for _ in range(check_count("blocks", blocks)))
        self.blocks = nn.ModuleList(made)
        if digital == "direct":
            self.direct = nn.ModuleList(Direct(pair_width) for _ in range(blocks + 1))

    def refusal(self, problem: Downlink) -> str | None:
        """Reason why it can't serve the problem, or None."""
        return unserved(problem)

    def start(self, problem: Downlink) -> Complex[Tensor, "batch antennas controls"]:
        """Conjugate phases of the channel."""
        radius: float = problem.frontend.element_set.radius
        return (radius * _conjugate_phases(problem.h[:, 0])).mT

    def forward(self, problem: Downlink, control: Tensor | None = None) -> Trace:
        """Design for a batch of channels."""
        del control
        seen = view(problem)
        phases = _conjugate_phases(seen.rows)
        spot = self._settle(seen, phases, None, 0)
        state = phases.real.new_zeros(phases.shape[0] * phases.shape[1], self.width, phases.shape[2])
        utilities = []
        for number, block in enumerate(self.blocks, 1):
            phases, state = block(seen, spot, state)
            spot = self._settle(seen, phases, spot, number)
            utilities.append(self._rate(seen, spot))
        radius: float = problem.frontend.element_set.radius
        digital = spot.digital.unsqueeze(1).to(problem.h.dtype)
        return Trace((radius * spot.phases.mT).to(problem.h.dtype), digital, tuple(utilities))

    def _settle(self, seen: View, phases: Tensor, before: Spot | None, number: int) -> Spot:
        """Digital part at new phases."""
        antennas = float(phases.shape[2])
        heard = (seen.rows * seen.gains.sqrt().unsqueeze(2)) @ phases.mT
        metric = phases.conj() @ phases.mT / antennas
        spot = Spot(phases, heard / antennas, metric, heard.mH)
        if self.digital == "direct":
            return _scaled(spot, self.direct[number](seen, spot.effective))
        spot = _forced(seen, spot) if before is None else replace(spot, digital=before.digital)
        for _ in range(self.steps if number == len(self.blocks) else 1):
            spot = _step(seen, spot)
        return spot

    def _rate(self, seen: View, spot: Spot) -> Float[Tensor, " batch"]:
        gains = received_power(spot.effective @ spot.digital)
        return link_rate(gains, _noise(seen) * radiated(spot.metric, spot.digital))


def unserved(problem: Downlink) -> str | None:
    """Reason why the network can't serve a problem, or None."""
    reason = needs_phase_shifters(problem)
    if reason is not None:
        return reason
    frontend = problem.frontend
    if not isinstance(frontend.element_set, Circle):
        return "it sets phases continuously; use vp or wmmse-cd for stepped ones"
    if frontend.controls != frontend.rf_chains or not plain_feed(frontend):
        return "it needs a shifter on every branch; use unfolded-vp for shared ones"
    if problem.h.shape[1] > 1:
        return "it is trained for one subcarrier; use unfolded-vp for several"
    if problem.power_at != "radiated":
        return "it is trained for radiated power; use vp for other budgets"
    if problem.utility_name != "sum_rate" or bool((problem.user_weights != 1.0).any()):
        return "it is trained for the plain sum rate; use vpk or vp for weights and fairness"
    if problem.users != frontend.rf_chains:
        return (
            f"it gives every user a chain of its own, got {problem.users} users on "
            f"{frontend.rf_chains} RF chains; use vpk or vp"
        )
    return None


def _conjugate_phases(rows: Complex[Tensor, "b k n"]) -> Complex[Tensor, "b k n"]:
    """Phases that add a user's channel up; 1 where there is none."""
    phases = torch.sgn(rows.conj().resolve_conj())
    return torch.where(phases == 0, torch.ones_like(phases), phases)


def _noise(seen: View) -> Float[Tensor, " batch"]:
    """Noise beside ``E`` and ``S``, which are over N."""
    return seen.noise / float(seen.rows.shape[2])


def _scaled(spot: Spot, digital: Tensor) -> Spot:
    scale = radiated(spot.metric, digital).rsqrt()
    return replace(spot, digital=digital * scale[:, None, None])


def _forced(seen: View, spot: Spot) -> Spot:
    """Regularised zero forcing at equal powers."""
    back = spot.effective.mH
    system = back @ spot.effective + seen.level[:, None, None] * spot.metric
    digital = solve_ridged(system, back)
    spent = (digital.conj() * (spot.metric @ digital)).real.sum(dim=1, keepdim=True)
    return _scaled(spot, digital * spent.clamp(min=1e-20).rsqrt())


def _errors(seen: View, spot: Spot, received: Tensor) -> tuple[Tensor, Tensor]:
    """Receivers u and weights w of every user, the noise folded."""
    gains = received_power(received)
    own = torch.eye(gains.shape[1], dtype=torch.bool, device=gains.device)
    noise = _noise(seen) * radiated(spot.metric, spot.digital)
    interference = gains.masked_fill(own, 0.0).sum(dim=2) + noise.unsqueeze(1)
    total = interference + gains.diagonal(dim1=1, dim2=2)
    return received.diagonal(dim1=1, dim2=2) / total, total / interference


def _step(seen: View, spot: Spot) -> Spot:
    """One WMMSE step on V, the noise folded."""
    decoders, weights = _errors(seen, spot, spot.effective @ spot.digital)
    cost = weights * received_power(decoders)
    back = spot.effective.mH
    price = _noise(seen) * cost.sum(dim=1)
    system = (back * cost.unsqueeze(1)) @ spot.effective + price[:, None, None] * spot.metric
    return _scaled(spot, solve_ridged(system, back * (weights * decoders).unsqueeze(1)))
