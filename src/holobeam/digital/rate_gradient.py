"""Gradients of the weighted sum rate in closed form, through K x K products alone."""

from __future__ import annotations

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor


def rate_slope(
    received: Complex[Tensor, "batch subcarriers users users"],
    noise: Float[Tensor, "batch subcarriers users"],
    user_weights: Float[Tensor, "batch users"],
    others: Float[Tensor, "users users"] | None = None,
) -> Complex[Tensor, "batch subcarriers users users"]:
    """Wirtinger gradient of the weighted sum rate with respect to what the users receive.

    ``D[k, l] = alpha_k / (F ln 2) (T_kl / S_k - [l != k] T_kl / I_k)`` with
    ``S_k = sum_l |T_kl|^2 + noise_k`` and ``I_k = S_k - |T_kk|^2``. By the chain rule the gradients
    with respect to the analog and the digital part are ``H^H D V^H`` and ``(H A)^H D``. PyTorch's
    ``.grad`` is twice these.

    Parameters
    ----------
    received
        T, entry (k, l) is what user k hears of the stream of user l.
    noise
        sigma^2 of each user, > 0; constant, not folded.
    user_weights
        alpha.
    others
        1 off the diagonal and 0 on it, where the caller has it ready.

    Notes
    -----
    Source: unfolded-pga paper, Theorem 1 with the 1/ln 2 of its appendix; docs/methods.md,
    section 11. Cost ``O(K^2)``; no matrix with two antenna axes is ever formed.
    """
    power = torch.addcmul(received.real.square(), received.imag, received.imag)
    if others is None:
        others = 1.0 - torch.eye(power.shape[3], dtype=power.dtype, device=power.device)
    interference = (power * others).sum(dim=3) + noise
    total = interference + power.diagonal(dim1=2, dim2=3)
    scale = user_weights.unsqueeze(1) / (power.shape[1] * math.log(2.0))
    return received * torch.addcmul(
        (scale / total).unsqueeze(3), (scale / interference).unsqueeze(3), others, value=-1.0
    )


def gradient_of_analog(
    back: Complex[Tensor, "batch subcarriers antennas users"],
    adjoint: Complex[Tensor, "batch subcarriers users rf_chains"],
    slope: Complex[Tensor, "batch subcarriers users users"],
) -> Complex[Tensor, "batch subcarriers antennas rf_chains"]:
    """``H^H (D V^H)``, ``back`` being H^H and ``adjoint`` V^H: ``O(N R K + R K^2)``."""
    return back @ (slope @ adjoint)


def gradient_of_digital(
    e: Complex[Tensor, "batch subcarriers users rf_chains"],
    slope: Complex[Tensor, "batch subcarriers users users"],
) -> Complex[Tensor, "batch subcarriers rf_chains users"]:
    """``(H A)^H D``: ``O(R K^2)`` a subcarrier."""
    return e.mH @ slope


def fair_loss(
    received: Complex[Tensor, "batch users users"],
    noise: Float[Tensor, "batch users"],
    user_weights: Float[Tensor, "batch users"],
    beta: float = 0.0,
) -> tuple[Float[Tensor, " batch"], Complex[Tensor, "batch users users"]]:
    """``-mean(alpha r) + beta Var(r)`` of the rates in bits, and its gradient in ``received``.

    The variance is unbiased and over the unweighted rates; 0 for a single user. The gradient is
    ``dL/dRe + j dL/dIm``, as PyTorch's ``.grad``.

    Notes
    -----
    Source: ggml paper and its authors' code; docs/methods.md, section 17.
    """
    users = received.shape[2]
    signal, interference = _heard(received, noise)
    rates = torch.log1p(signal / interference) / math.log(2.0)
    value = -(user_weights * rates).mean(dim=1)
    along = -user_weights / users
    if beta != 0.0 and users > 1:
        away = rates - rates.mean(dim=1, keepdim=True)
        value = value + beta * away.square().sum(dim=1) / (users - 1)
        along = along + (2.0 * beta / (users - 1)) * away
    return value, _through_rates(along, signal, interference, received)


def product_loss(
    received: Complex[Tensor, "batch users users"],
    noise: Float[Tensor, "batch users"],
    user_weights: Float[Tensor, "batch users"],
    beta: float = 0.0,
) -> tuple[Float[Tensor, " batch"], Complex[Tensor, "batch users users"]]:
    """``E + beta Var(e)`` of the errors ``e_k = 2^(-r_k)``, and its gradient in ``received``.

    ``E = prod_k e_k^(alpha_k / K)``, the geometric mean for equal weights; the variance is unbiased
    and unweighted.

    Notes
    -----
    Source: ggml paper, its robust loss; docs/methods.md, section 18.
    """
    users = received.shape[2]
    signal, interference = _heard(received, noise)
    errors = interference / (signal + interference)
    mean = torch.exp((user_weights * errors.log()).sum(dim=1, keepdim=True) / users)
    value, slope = mean[:, 0], mean * user_weights / users
    if beta != 0.0 and users > 1:
        away = errors - errors.mean(dim=1, keepdim=True)
        value = value + beta * away.square().sum(dim=1) / (users - 1)
        slope = slope + (2.0 * beta / (users - 1)) * away * errors
    # e_k de_k/dr_k = -ln 2 e_k; the slope above is already e_k dL/de_k.
    return value, _through_rates(-math.log(2.0) * slope, signal, interference, received)


def _heard(received: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Powers of each user's own stream, and of everything else with the noise."""
    power = torch.addcmul(received.real.square(), received.imag, received.imag)
    own = torch.eye(received.shape[2], dtype=torch.bool, device=power.device)
    interference = power.masked_fill(own, 0.0).sum(dim=2) + noise
    return power.diagonal(dim1=1, dim2=2), interference


def _through_rates(along: Tensor, signal: Tensor, interference: Tensor, received: Tensor) -> Tensor:
    """Gradient in what is received, from that in the rates: ``dL/dRe + j dL/dIm``."""
    along = along * (2.0 / math.log(2.0))
    others = 1.0 - torch.eye(received.shape[2], dtype=signal.dtype, device=signal.device)
    factor = torch.addcmul(
        (along / (signal + interference)).unsqueeze(2),
        (along / interference).unsqueeze(2),
        others,
        value=-1.0,
    )
    return factor * received
