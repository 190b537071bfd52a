"""Rates of users from what they receive."""

from __future__ import annotations

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor

FAIR_RATE_FLOOR = 0.01
"""bits/s/Hz below which the proportional-fair utility does not tell rates apart."""


def spectral_efficiency(
    received: Complex[Tensor, "batch subcarriers users users"],
    noise: Float[Tensor, "batch subcarriers users"],
) -> Float[Tensor, "batch users"]:
    """Rate of each user in bits/s/Hz, averaged over subcarriers.

    ``log2(1 + |T_kk|^2 / (sum_{j != k} |T_kj|^2 + noise_k))``; a user without signal gets 0.
    """
    power = received.abs().square()
    signal = power.diagonal(dim1=2, dim2=3)
    own = torch.eye(power.shape[2], dtype=torch.bool, device=power.device)
    interference = power.masked_fill(own, 0.0).sum(dim=3) + noise
    # Not ``signal > 0``: a signal that is not a number must not pass for silence.
    ratio = torch.where(signal == 0, torch.zeros_like(signal), signal / interference)
    return ratio.log1p().mean(dim=1) / math.log(2.0)


def proportional_fairness(
    rates: Float[Tensor, "batch users"], user_weights: Float[Tensor, "batch users"]
) -> Float[Tensor, " batch"]:
    """``sum_k alpha_k log(max(R_k, 0.01))``."""
    return (user_weights * rates.clamp(min=FAIR_RATE_FLOOR).log()).sum(dim=1)
