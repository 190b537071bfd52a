"""Gradient of the fair loss of many cells, users with several antennas, in closed form."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor

from holobeam.digital.cells import stream_blocks
from holobeam.digital.link import solve_small


def fair_cell_loss(
    received: Complex[Tensor, "batch cells users receivers streams"],
    noise: Float[Tensor, "batch users"],
    user_weights: Float[Tensor, "batch users"],
    present: Bool[Tensor, "batch users"],
    beta: float = 0.0,
) -> tuple[Float[Tensor, " batch"], Complex[Tensor, "batch cells users receivers streams"]]:
    """``-mean(alpha r) + beta Var(r)`` over the users of all cells, and its gradient.

    ``r_u = log2 det(I + Y_u^H Q_u^-1 Y_u)`` with Y_u the user's own streams and Q_u the
    covariance of all the others and the noise. The gradient is ``dL/dRe + j dL/dIm``.

    Parameters
    ----------
    received
        From every base station at the antennas of every user (cell by cell), ``H A V``.
    noise
        At each antenna of a user.
    user_weights
        alpha.
    present
        Users that exist; padding has no rate, and no part in mean and variance.
    beta
        Weight of the unbiased variance of the unweighted rates.

    Notes
    -----
    With ``D = Q^-1 Y (I + Y^H Q^-1 Y)^-1``, the matched receivers, the gradient of a rate in nats
    is ``2 D`` in the user's own streams and ``-2 D (Q^-1 Y)^H Z`` in the others' streams Z: no
    difference of nearly equal numbers. One cell, one antenna: :func:`fair_loss`. Source:
    docs/methods.md, section 18.
    """
    mine, blocks = stream_blocks(received.to(torch.complex128))
    own = blocks.masked_fill(~mine, 0.0).sum(dim=(1, 4))
    others = blocks.masked_fill(mine, 0.0)
    eye = torch.eye(own.shape[2], dtype=own.dtype, device=own.device)
    covariance = torch.einsum("bcumks,bcunks->bumn", others, others.conj())
    covariance = covariance + noise.double()[:, :, None, None] * eye
    filtered = solve_small(covariance, own, ridge=0.0)
    gain = own.mH @ filtered
    gain = torch.eye(own.shape[3], dtype=own.dtype, device=own.device) + (gain + gain.mH) / 2
    lower: Tensor = torch.linalg.cholesky_ex(gain, check_errors=False)[0]
    rates = 2.0 / math.log(2.0) * lower.diagonal(dim1=2, dim2=3).real.log().sum(dim=2)
    value, along = _fair(rates.clamp(min=0.0), user_weights.double(), present, beta)
    decoders = solve_small(gain, filtered.mH, ridge=0.0).mH
    leaking = torch.einsum("buns,bcunkt->bcuskt", filtered.conj(), others)
    theirs = torch.einsum("bums,bcuskt->bcumkt", decoders, leaking)
    whole = torch.where(mine, decoders[:, None, :, :, None], -theirs)
    slope = (2.0 / math.log(2.0)) * along[:, None, :, None, None, None] * whole
    return value.to(noise.dtype), slope.reshape(received.shape).to(received.dtype)


def _fair(
    rates: Float[Tensor, "batch users"], alpha: Tensor, present: Tensor, beta: float
) -> tuple[Tensor, Tensor]:
    """Loss of rates in bits, and its gradient in them."""
    count = present.sum(dim=1, keepdim=True).clamp(min=1)
    value = -(alpha * rates).sum(dim=1) / count[:, 0]
    along = -alpha / count
    if beta == 0.0:
        return value, along
    mean = (rates * present).sum(dim=1, keepdim=True) / count
    away = torch.where(present, rates - mean, 0.0)
    freedom = (count - 1).clamp(min=1)
    value = value + beta * away.square().sum(dim=1) / freedom[:, 0]
    return value, along + 2.0 * beta * away / freedom
