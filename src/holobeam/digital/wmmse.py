"""The weighted-MMSE digital step, with the power budget folded into the noise or priced."""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.digital.link import Link, Weights, priced_metric, solve_small, widen


def mmse_weights(
    link: Link,
    digital: Complex[Tensor, "batch subcarriers rf_chains users"],
    noise: Float[Tensor, "batch subcarriers users"],
    user_weights: Float[Tensor, "batch users"],
) -> Weights:
    """Matched receivers and weights.

    ``u_k = T_kk / S_k`` and ``w_k = alpha_k S_k / I_k`` with received powers
    ``S_k = sum_j |T_kj|^2 + noise`` and ``I_k`` the same without the user's own stream.

    Notes
    -----
    Source: mmse paper (our reading); docs/methods.md, section 3.
    """
    received = link.received(digital)
    power = received.abs().square()
    signal = power.diagonal(dim1=2, dim2=3)
    own = torch.eye(power.shape[2], dtype=torch.bool, device=power.device)
    interference = power.masked_fill(own, 0.0).sum(dim=3) + noise
    total = (signal + interference).clamp(min=torch.finfo(power.dtype).tiny)
    decoders = received.diagonal(dim1=2, dim2=3) / total
    safe = torch.where(interference > 0, interference, total)
    return Weights(decoders, user_weights.unsqueeze(1) * total / safe)


def folded_step(
    link: Link,
    weights: Weights,
    price: Float[Tensor, "batch subcarriers"],
    digital: Complex[Tensor, "batch subcarriers rf_chains users"],
) -> Complex[Tensor, "batch subcarriers rf_chains users"]:
    """Exact minimiser over V of the noise-folded weighted mean-square error.

    ``V = (E^H diag(c) E + rho G)^-1 E^H diag(w u)`` with ``c = w |u|^2`` and ``rho`` the price of
    power. A channel whose system has no finite, nonzero answer keeps its old V.

    Notes
    -----
    Source: mmse paper (our reading); docs/methods.md, section 3. Cost ``O(R^3 + K R^2)``, whatever
    N.
    """
    wide = widen(link)
    back = wide.e.mH
    cost = weights.cost.double()
    system = (back * cost.unsqueeze(2)) @ wide.e + priced_metric(wide, price.double())
    right = back * (weights.mse_weights * weights.decoders).unsqueeze(2)
    return keep_finite(solve_small(system, right).to(digital.dtype), digital)


def bisected_step(
    link: Link,
    weights: Weights,
    budget: Float[Tensor, " batch"],
    digital: Complex[Tensor, "batch subcarriers rf_chains users"],
    *,
    joint: bool,
) -> Complex[Tensor, "batch subcarriers rf_chains users"]:
    """Minimiser under ``tr(V^H G V) <= budget``, by bisection over the multiplier.

    With ``joint`` the budget bounds the mean over subcarriers, else it holds on each.

    In the basis that makes G the identity and the quadratic form diagonal, the power is
    ``sum b / (lambda + mu)^2``: one eigendecomposition, then a scalar search.

    Notes
    -----
    Source: mmse paper, baselines (our reconstruction); docs/methods.md, section 5.
    """
    wide = widen(link)
    back = wide.e.mH
    cost = weights.cost.double()
    form = (back * cost.unsqueeze(2)) @ wide.e
    right = back * (weights.mse_weights * weights.decoders).unsqueeze(2)
    root = inverse_root(priced_metric(wide, torch.ones_like(cost[:, :, 0])))
    values, basis = torch.linalg.eigh(root.mH @ form @ root)
    turned = basis.mH @ root.mH @ right
    values = torch.maximum(values, 1e-14 * _top(values))
    energy = turned.abs().square().sum(dim=3)
    mu = _multiplier(values, energy, budget.double(), joint=joint)
    new = root @ (basis @ (turned / (values + mu.unsqueeze(2)).unsqueeze(3)))
    return keep_finite(new.to(digital.dtype), digital)


def unregularised_step(
    link: Link,
    weights: Weights,
    digital: Complex[Tensor, "batch subcarriers rf_chains users"],
) -> Complex[Tensor, "batch subcarriers rf_chains users"]:
    """Least-norm minimiser over V of the weighted mean-square error, its power left out.

    ``V = (E^H diag(c) E)^+ E^H diag(w u)``, up to the scale that the budget decides afterwards.
    Where K <= R this is channel inversion, whatever w and u.

    Notes
    -----
    Source: mmse paper (our reading); docs/methods.md, section 5.
    """
    wide = widen(link)
    root = weights.mse_weights.double().sqrt()
    size = weights.decoders.abs().double()
    # The least-squares form: squaring E would square its condition.
    rows = (root * size).unsqueeze(3) * wide.e
    wanted = root * torch.sgn(weights.decoders.to(wide.e.dtype))
    finite = torch.isfinite(rows).flatten(1).all(dim=1)[:, None, None, None]
    inverse = torch.linalg.pinv(torch.where(finite, rows, 0.0), rtol=1e-10)
    return keep_finite((inverse * wanted.unsqueeze(2)).to(digital.dtype), digital)


def _top(values: Tensor) -> Tensor:
    """Largest eigenvalue of each matrix, kept as an axis, never zero."""
    return values.amax(dim=-1, keepdim=True).clamp(min=torch.finfo(values.dtype).tiny)


def _multiplier(values: Tensor, energy: Tensor, budget: Tensor, *, joint: bool) -> Tensor:
    """Smallest mu >= 0 with ``sum energy / (values + mu)^2`` within the budget, ``(B, F)``."""
    batch, subcarriers, chains = values.shape
    limit = budget.unsqueeze(1).expand(batch, subcarriers)
    if joint:
        flat = (batch, 1, subcarriers * chains)
        values, energy, limit = (
            values.reshape(flat),
            energy.reshape(flat),
            subcarriers * limit[:, :1],
        )
    low = torch.zeros_like(limit)
    high = (energy.sum(dim=2) / limit).sqrt()

    def over(mu: Tensor) -> Tensor:
        return (energy / (values + mu.unsqueeze(2)).square()).sum(dim=2) > limit

    bound = over(low)
    for _ in range(60):
        middle = (low + high) / 2
        above = over(middle)
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return torch.where(bound, high, torch.zeros_like(high)).expand(batch, subcarriers)


def inverse_root(metric: Tensor) -> Tensor:
    """Matrix W with ``W^H G W = I`` on the range of G, zero on its null space."""
    values, basis = torch.linalg.eigh(metric)
    top = values.amax(dim=-1, keepdim=True)
    kept = values > 1e-12 * top
    scale = torch.where(kept, values.clamp(min=1e-300).rsqrt(), 0.0)
    root: Tensor = basis * scale.unsqueeze(-2)
    return root


def keep_finite(new: Tensor, old: Tensor) -> Tensor:
    """Take ``new`` where it is finite and not all zero, else ``old``, per channel."""
    good = torch.isfinite(new).flatten(1).all(dim=1) & (new != 0).flatten(1).any(dim=1)
    return torch.where(good.view(-1, *[1] * (new.ndim - 1)), new, old)
