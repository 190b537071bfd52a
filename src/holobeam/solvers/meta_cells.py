"""What ``ggml`` minimises in many cells: users with several antennas, a power of 1 in each cell."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from holobeam.digital.cell_gradient import fair_cell_loss
from holobeam.problems.multicell import MultiCell


@dataclass(frozen=True, eq=False)
class CellJudge:
    """The fair loss of all cells as a function of what stacked rows receive.

    Attributes
    ----------
    present
        ``(B, U)``: users that exist.
    """

    present: Tensor

    def __call__(
        self,
        received: Complex[Tensor, "batch cells rows streams"],
        noise: Float[Tensor, "batch users"],
        user_weights: Float[Tensor, "batch users"],
        beta: float,
    ) -> tuple[Float[Tensor, " batch"], Complex[Tensor, "batch cells rows streams"]]:
        """Loss and its gradient; rows are receive antennas, user by user."""
        heard = received.reshape(*received.shape[:2], noise.shape[1], -1, received.shape[3])
        value, slope = fair_cell_loss(heard, noise, user_weights, self.present, beta)
        return value, slope.flatten(2, 3)


@dataclass(frozen=True, eq=False)
class UnitCells:
    """Many cells in units where every budget is 1, users have one noise, own entries mean power 1.

    Attributes
    ----------
    h
        ``(B, L, U M, N)``: from each base station to every receive antenna, the users of each cell
        strongest first.
    noise, user_weights
        ``(B, U)``, in the same order.
    amplitude
        ``(B, L)``: square roots of the budgets.
    places
        ``(B, L, K S)``: where each column of a digital part is in that order.
    judge
        The loss.
    """

    h: Complex[Tensor, "batch cells rows antennas"]
    noise: Float[Tensor, "batch users"]
    user_weights: Float[Tensor, "batch users"]
    amplitude: Float[Tensor, "batch cells"]
    places: Int[Tensor, "batch cells streams"]
    judge: CellJudge


def unit_cells(problem: MultiCell) -> UnitCells:
    """Scale many cells under radiated budgets; rates stay what they are."""
    wide = problem.h.to(torch.complex128)
    noise = problem.noise_power.double()
    level = noise.mean(dim=(1, 2), keepdim=True)
    amplitude = problem.power.double().sqrt()
    wide = wide * (level / noise).sqrt()[:, None, :, :, None, None]
    wide = wide * amplitude[:, :, None, None, None, None]
    own = wide.diagonal(dim1=1, dim2=2).abs().square()
    there = problem.present.permute(0, 2, 1)[:, :, None, None]
    entries = (there.expand_as(own)).sum(dim=(1, 2, 3, 4)).clamp(min=1)
    gain = own.sum(dim=(1, 2, 3, 4)) / entries
    gain = torch.where(gain > 0, gain, torch.ones_like(gain))
    wide = wide * gain.rsqrt()[:, None, None, None, None, None]
    strength = own.sum(dim=(2, 3)).permute(0, 2, 1)
    order = strength.argsort(dim=2, descending=True, stable=True)
    rows = order[:, None, :, :, None, None].expand_as(wide)
    batch, cells, _, users = wide.shape[:4]
    real = problem.h.real.dtype
    places = order.argsort(dim=2).unsqueeze(3) * problem.streams
    places = places + torch.arange(problem.streams, device=places.device)
    weights = problem.user_weights.gather(2, order).flatten(1)
    return UnitCells(
        wide.gather(3, rows).flatten(2, 4).to(problem.h.dtype),
        (level[:, 0] / gain[:, None]).expand(batch, cells * users).to(real),
        weights.to(real),
        amplitude.to(real),
        places.flatten(2),
        CellJudge(problem.present.gather(2, order).flatten(1)),
    )


def needs_chains_in_every_cell(problem: MultiCell) -> str | None:
    """Reason why a method with a radiated budget and a chain for each stream can't serve."""
    frontend = problem.frontend
    if frontend.controls != frontend.rf_chains:
        return "it needs a shifter on every branch; use vp or wmmse-cd for shared ones"
    if problem.power_at != "radiated":
        return f"it counts radiated power, not power at {problem.power_at}; use vp or wmmse-cd"
    if problem.columns > problem.chains:
        return (
            f"it needs a chain for each stream of a cell, got {problem.columns} streams on "
            f"{problem.chains} RF chains; use vp or wmmse-cd"
        )
    return None
