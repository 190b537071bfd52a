"""A convolutional network with attention for phase shifters, our reconstruction (``cnn``)."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn import functional

from holobeam.errors import InputError, check_choice, check_count
from holobeam.learned.network import Network, Trace
from holobeam.learned.phase_scene import (
    LEAST,
    Spot,
    View,
    conjugate_phases,
    forced,
    place,
    radius,
    receivers,
    refused,
    spot_rate,
    view,
    with_digital,
    wmmse_step,
)
from holobeam.learned.scene import received_power
from holobeam.problems.downlink import Downlink

Digital = Literal["wmmse", "direct"]
DIGITAL: tuple[Digital, ...] = ("wmmse", "direct")
"""Exact digital steps at the phases found, or the precoder from the network itself, as cited."""

_USER_FEATURES = 9
_CHAIN_FEATURES = 3
_DIRECT_FEATURES = 6
_POOLED_EXTRAS = 3


class Attention(nn.Module):
    """Scores between a chain and all users and other chains, and what these ask for.

    A score is a sum of real gates, one for each of three complex carriers: what user j hears of
    chain r, what the precoder sends over chain r for user j, and what user j hears of all that
    chain r sends. All turn with the phases of user and chain, as a score has to. Other
    chains are weighed by what they send together with this one.
    """

    def __init__(self, heads: int, width: int) -> None:
        super().__init__()
        self.heads = heads
        self.inner = nn.Linear(_USER_FEATURES, width)
        self.out = nn.Linear(width, 3 * heads)
        self.chains = nn.Linear(_CHAIN_FEATURES, width)
        self.chains_out = nn.Linear(width, heads)

    def forward(self, seen: View, spot: Spot) -> Float[Tensor, "batch rf_chains parts antennas"]:
        """Real and imaginary parts of what is asked for, relative to the phases that are set."""
        heard = spot.effective * seen.sizes
        sent = _level(spot.digital.mH)
        received = spot.effective @ spot.digital
        echo = _level(received @ sent) * seen.sizes
        weights = receivers(seen, spot, received)[1]
        users = self._to_users(seen, weights, heard, sent, echo)
        asked = users @ seen.rows.conj() + self._to_chains(seen, spot) @ spot.phases
        asked = asked.view(len(asked), -1, self.heads, asked.shape[2])
        local = asked * spot.phases.conj().unsqueeze(2)
        return torch.cat([local.real, local.imag], dim=2)

    def _to_users(
        self, seen: View, weights: Tensor, heard: Tensor, sent: Tensor, echo: Tensor
    ) -> Complex[Tensor, "batch scores users"]:
        """Scores of users, ``(B, R H, K)``."""
        own, loud, gain = _common(seen)
        features = torch.stack(
            [
                own,
                loud,
                gain,
                0.3 * weights.log().unsqueeze(2).expand_as(own),
                0.3 * _log(heard),
                0.3 * _log(heard).mT,
                0.3 * _log(sent),
                0.3 * _log(echo),
                (heard * sent.conj()).real,
            ],
            dim=3,
        )
        gates: Tensor = self.out(functional.silu(self.inner(features)))
        gates = gates.view(*own.shape, 3, self.heads)
        scores = (gates * torch.stack([heard, sent, echo], dim=3).unsqueeze(4)).sum(dim=3)
        return scores.permute(0, 2, 3, 1).flatten(1, 2)

    def _to_chains(self, seen: View, spot: Spot) -> Complex[Tensor, "batch scores rf_chains"]:
        """Scores of other chains, ``(B, R H, R)``."""
        together = spot.digital @ spot.digital.mH
        power = together.diagonal(dim1=1, dim2=2).real.mean(dim=1)
        # Row r: what chain r sends, said in the phases of chain s.
        together = together.mT * (power + LEAST).reciprocal()[:, None, None]
        own, loud, _ = _common(seen)
        features = torch.stack([own, loud, 0.3 * _log(together)], dim=3)
        gates: Tensor = self.chains_out(functional.silu(self.chains(features)))
        scores = gates * (together * (1.0 - own)).unsqueeze(3)
        return scores.permute(0, 1, 3, 2).flatten(1, 2)


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
            # At rest no phase moves: training begins at the phases of the channel.
            self.out.weight[:2].zero_()
            self.out.bias[:2].zero_()
            self.straight.weight.zero_()
            self.straight.bias.zero_()

    def forward(
        self, seen: View, spot: Spot, state: Float[Tensor, "rows width antennas"]
    ) -> tuple[Complex[Tensor, "batch rf_chains antennas"], Float[Tensor, "rows width antennas"]]:
        """Phases to set next, and the state that goes with them."""
        asked = self.attention(seen, spot).flatten(0, 1)
        size = received_power(seen.rows).add(LEAST).sqrt().flatten(0, 1).unsqueeze(1)
        mixed = functional.silu(self.mix(torch.cat([asked, size, state], dim=1)))
        mixed = functional.silu(self.along(mixed) + mixed)
        out = self.out(mixed * self._gate(seen, mixed))
        turn = out[:, :2] + self.straight(asked)
        moved = torch.complex(1.0 + turn[:, 0], turn[:, 1]).view_as(spot.phases)
        return _unit(spot.phases * moved), state + out[:, 2:]

    def _gate(self, seen: View, mixed: Tensor) -> Float[Tensor, "rows width 1"]:
        """Squeeze and excite: how much each channel counts on this chain."""
        gain = seen.log_gains
        loud = seen.loudness.unsqueeze(1).expand_as(gain)
        wide = torch.full_like(gain, seen.rows.shape[2]).log10() - 1.8
        said = torch.stack([loud, gain, wide], dim=2).flatten(0, 1)
        pooled = torch.cat([mixed.mean(dim=2), said], dim=1)
        gates: Tensor = self.excite(functional.silu(self.squeeze(pooled))).sigmoid()
        return gates.unsqueeze(2)


class Direct(nn.Module):
    """Digital precoder without solving anything: gated products of what is heard."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(_DIRECT_FEATURES, width)
        self.out = nn.Linear(width, 3)

    def forward(self, seen: View, spot: Spot) -> Complex[Tensor, "batch rf_chains users"]:
        """Three products of odd degree, each entry at a gate of its own."""
        heard = spot.effective * seen.sizes
        back = heard.mH
        third = back @ (heard @ back)
        fifth = back @ (heard @ third)
        own, loud, gain = _common(seen)
        features = torch.stack(
            [
                own,
                loud,
                gain.mT,
                0.3 * _log(back),
                0.3 * _log(heard),
                0.3 * _log(third),
            ],
            dim=3,
        )
        gates: Tensor = self.out(functional.silu(self.inner(features)))
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

    Raises
    ------
    InputError
        If a size is not positive, the kernel even, or the digital part unknown.

    Notes
    -----
    Our reconstruction: the meta-learning paper cites a convolutional network with attention and
    gives no layers. Equivariant to the order of users, to phases of users and to steering all
    channels by a common phase ramp; any N and K, one chain a user. Source: docs/methods.md,
    section 27.
    """

    def __init__(
        self,
        blocks: int = 4,
        *,
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
            raise InputError("kernel", f"got {kernel}", "it must be odd: an antenna is its middle")
        count = check_count("blocks", blocks)
        made = (Block(width, heads, kernel, pair_width) for _ in range(count))
        self.blocks = nn.ModuleList(made)
        if digital == "direct":
            self.direct = nn.ModuleList(Direct(pair_width) for _ in range(count + 1))

    def refusal(self, problem: Downlink) -> str | None:
        """Reason why it can't serve the problem, or None."""
        return refused(problem)

    def start(self, problem: Downlink) -> Complex[Tensor, "batch antennas controls"]:
        """Conjugate phases of the channel."""
        return radius(problem) * conjugate_phases(problem.h[:, 0]).mT

    def forward(self, problem: Downlink, control: Tensor | None = None) -> Trace:
        """Design for a batch of channels."""
        del control
        seen = view(problem)
        phases = conjugate_phases(seen.rows)
        spot = self._settle(seen, phases, None, 0)
        rows, antennas = phases.shape[0] * phases.shape[1], phases.shape[2]
        state = seen.noise.new_zeros(rows, self.width, antennas)
        utilities = []
        for number, block in enumerate(self.blocks, 1):
            phases, state = block(seen, spot, state)
            spot = self._settle(seen, phases, spot, number)
            utilities.append(spot_rate(seen, spot))
        control = (radius(problem) * spot.phases.mT).to(problem.h.dtype)
        return Trace(control, spot.digital.unsqueeze(1).to(problem.h.dtype), tuple(utilities))

    def _settle(self, seen: View, phases: Tensor, before: Spot | None, number: int) -> Spot:
        """Digital part at new phases."""
        spot = place(seen, phases)
        if self.digital == "direct":
            return with_digital(spot, self.direct[number](seen, spot))
        spot = forced(seen, spot) if before is None else replace(spot, digital=before.digital)
        for _ in range(self.steps if number == len(self.blocks) else 1):
            spot = wmmse_step(seen, spot)
        return spot


def _unit(value: Complex[Tensor, "batch r n"]) -> Complex[Tensor, "batch r n"]:
    """Phase of numbers of size about 1, with finite gradients at 0."""
    return value * (received_power(value) + LEAST).rsqrt()


def _level(value: Complex[Tensor, "batch k r"]) -> Complex[Tensor, "batch k r"]:
    """Entries over their root mean square."""
    return value * (received_power(value).mean(dim=(1, 2), keepdim=True) + LEAST).rsqrt()


def _log(value: Complex[Tensor, "batch k r"]) -> Float[Tensor, "batch k r"]:
    return (received_power(value) + 1e-6).log()


def _common(seen: View) -> tuple[Tensor, Tensor, Tensor]:
    """Whether the chain is the user's, the SNR, and the user's gain, ``(B, K, R)`` each."""
    users = seen.gains.shape[1]
    own = torch.eye(users, dtype=seen.gains.dtype, device=seen.gains.device)
    own = own.expand(len(seen.gains), -1, -1)
    loud = seen.loudness[:, None, None].expand_as(own)
    return own, loud, seen.log_gains.unsqueeze(2).expand_as(own)
