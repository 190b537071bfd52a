"""Digital step under a power limit on every RF chain: closed-form row updates."""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.digital.link import Link, Weights


def row_step(
    link: Link,
    weights: Weights,
    limit: Float[Tensor, "batch rf_chains"],
    digital: Complex[Tensor, "batch subcarriers rf_chains users"],
    *,
    joint: bool,
    sweeps: int = 1,
) -> Complex[Tensor, "batch subcarriers rf_chains users"]:
    """Minimise the weighted mean-square error over one row of V after the other.

    Parameters
    ----------
    link, weights, digital
        Where things stand.
    limit
        ``(B, R)``: largest power of each row.
    joint
        Whether the limit holds for the mean over subcarriers (else on each of them).
    sweeps
        Passes over the rows.

    Notes
    -----
    Row r, the others held: ``t / (C_rr + price)`` with ``t = D_r - sum_{i != r} C_ri V_i`` and the
    smallest price that keeps the limit; with one subcarrier ``t / C_rr`` or ``sqrt(P_r) t / |t|``.
    Source: multicell paper (our reading); docs/methods.md, section 8. Compiled; on other devices
    the loop over rows runs in torch.
    """
    wanted = torch.diag_embed(weights.mse_weights * weights.decoders)
    return update_rows(link.e, weights.cost, wanted, limit, digital, joint=joint, sweeps=sweeps)


def row_step_torch(
    link: Link,
    weights: Weights,
    limit: Float[Tensor, "batch rf_chains"],
    digital: Complex[Tensor, "batch subcarriers rf_chains users"],
    *,
    joint: bool,
    sweeps: int = 1,
) -> Complex[Tensor, "batch subcarriers rf_chains users"]:
    """Do the same row updates in torch: any device; the oracle of the kernel."""
    wanted = torch.diag_embed(weights.mse_weights * weights.decoders)
    return _update_rows_torch(
        link.e, weights.cost, wanted, limit, digital, joint=joint, sweeps=sweeps
    )


def update_rows(
    e: Complex[Tensor, "batch subcarriers rows rf_chains"],
    cost: Float[Tensor, "batch subcarriers rows"],
    wanted: Complex[Tensor, "batch subcarriers rows streams"],
    limit: Float[Tensor, "batch rf_chains"],
    digital: Complex[Tensor, "batch subcarriers rf_chains streams"],
    *,
    joint: bool,
    sweeps: int = 1,
) -> Complex[Tensor, "batch subcarriers rf_chains streams"]:
    """Sweep the rows of V on ``sum_f V^H E^H diag(c) E V - 2 Re tr(wanted^H E V)``.

    The form that one cell and many share: in a multi-cell problem the batch holds the cells, the
    rows of E are the whitened receivers of all users, and ``cost`` is one.
    """
    if digital.device.type != "cpu":
        return _update_rows_torch(e, cost, wanted, limit, digital, joint=joint, sweeps=sweeps)
    from holobeam.kernels import cpu

    wide = torch.complex128
    out = digital.to(wide).contiguous().clone()
    cpu.row_sweep(
        e.to(wide).resolve_conj().contiguous().numpy(),
        cost.double().contiguous().numpy(),
        wanted.to(wide).resolve_conj().contiguous().numpy(),
        limit.double().contiguous().numpy(),
        out.numpy(),
        joint,
        sweeps,
        cpu.available_threads(),
    )
    return out.to(digital.dtype)


def _update_rows_torch(
    e: Tensor,
    cost: Tensor,
    wanted: Tensor,
    limit: Tensor,
    digital: Tensor,
    *,
    joint: bool,
    sweeps: int,
) -> Tensor:
    digital = digital.clone()
    subcarriers = digital.shape[1]
    for _ in range(sweeps):
        for r in range(digital.shape[2]):
            path = e[:, :, :, r]
            stiffness = (cost * path.abs().square()).sum(dim=2)
            error = wanted - cost.unsqueeze(3) * (e @ digital)
            want = (path.conj().unsqueeze(3) * error).sum(dim=2)
            want = want + stiffness.unsqueeze(2) * digital[:, :, r]
            energy = want.abs().square().sum(dim=2)
            if joint:
                price = _price(energy, stiffness, limit[:, r] * subcarriers).unsqueeze(1)
            else:
                flat = _price(
                    energy.reshape(-1, 1),
                    stiffness.reshape(-1, 1),
                    limit[:, r].repeat_interleave(subcarriers),
                )
                price = flat.reshape(stiffness.shape)
            scale = stiffness + price
            safe = torch.where(scale > 0, scale, torch.ones_like(scale))
            digital[:, :, r] = torch.where((scale > 0).unsqueeze(2), want / safe.unsqueeze(2), 0.0)
    return digital


def _price(energy: Tensor, stiffness: Tensor, budget: Tensor) -> Tensor:
    """Smallest price >= 0 with ``sum_f energy_f / (stiffness_f + price)^2 <= budget``."""
    tiny = torch.finfo(energy.dtype).tiny
    low = torch.zeros_like(budget)
    high = (energy.sum(dim=1) / budget).sqrt()

    def power(price: Tensor) -> Tensor:
        return (energy / (stiffness + price.unsqueeze(1)).square().clamp(min=tiny)).sum(dim=1)

    slack = power(low) <= budget
    for _ in range(100):
        middle = (low + high) / 2
        over = power(middle) > budget
        low, high = torch.where(over, middle, low), torch.where(over, high, middle)
    return torch.where(slack, torch.zeros_like(high), high)
