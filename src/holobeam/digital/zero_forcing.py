"""Closed-form digital precoders: matched filter, regularised and plain zero forcing."""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.digital.link import Link, inverse_metric, priced_metric, solve_small, widen
from holobeam.digital.water_filling import water_filling


def _forcing(link: Link, load: Tensor) -> Tensor:
    """``(E^H E + load G)^-1 E^H`` by the K x K form where K < R, else by the R x R form."""
    wide = widen(link)
    back = wide.e.mH
    users, chains = wide.e.shape[2:]
    load = load.double()
    if users < chains:
        filtered = inverse_metric(wide, back)
        inner = wide.e @ filtered
        eye = torch.eye(users, dtype=inner.dtype, device=inner.device)
        return filtered @ solve_small(inner + load[:, :, None, None] * eye, eye.expand_as(inner))
    return solve_small(back @ wide.e + priced_metric(wide, load), back)


def matched(link: Link) -> Complex[Tensor, "batch subcarriers rf_chains users"]:
    """Maximum-ratio transmission, ``V = G^-1 E^H``: most signal per unit of counted power."""
    wide = widen(link)
    return inverse_metric(wide, wide.e.mH).to(link.e.dtype)


def regularised_zero_forcing(
    link: Link,
    noise_over_power: Float[Tensor, "batch users"],
    *,
    equal_power: bool = False,
) -> Complex[Tensor, "batch subcarriers rf_chains users"]:
    """RZF: ``V = (E^H E + K c G)^-1 E^H`` with ``c`` the noise over the power budget.

    Parameters
    ----------
    link
        Effective channel and metric.
    noise_over_power
        ``(B, K)``: noise power of each user over the budget; rows of E are scaled to equal noise.
    equal_power
        Divide each column by its amplitude, so that every user gets the same power. Where gains
        differ by more than 20 dB this is by far the better start (docs/methods.md, section 6).
    """
    level = noise_over_power.mean(dim=1, keepdim=True)
    scale = (level / noise_over_power).sqrt()
    scaled = Link(link.e * scale[:, None, :, None].to(link.e.real.dtype), link.g)
    users = link.e.shape[2]
    load = (users * level).expand(-1, link.e.shape[1])
    digital = _forcing(scaled, load).to(link.e.dtype)
    if not equal_power:
        return digital
    return equal_columns(link, digital)


def equal_columns(
    link: Link, digital: Complex[Tensor, "batch subcarriers rf_chains users"]
) -> Complex[Tensor, "batch subcarriers rf_chains users"]:
    """Every user's column scaled to the same power; columns of next to nothing become nothing."""
    amplitude = link.column_power(digital).sqrt()
    largest = amplitude.amax(dim=2, keepdim=True)
    weak = amplitude <= 1e-12 * largest
    safe = torch.where(weak, torch.ones_like(amplitude), amplitude)
    return torch.where(weak.unsqueeze(2), 0.0, digital / safe.unsqueeze(2))


def zero_forcing(link: Link) -> Complex[Tensor, "batch subcarriers rf_chains users"]:
    """Least-power precoder with ``E V = I``: ``G^-1 E^H (E G^-1 E^H)^-1``; needs K <= R.

    Users that can't be told apart (identical, all-zero) get the ridge's finite answer.
    """
    wide = widen(link)
    filtered = inverse_metric(wide, wide.e.mH)
    inner = wide.e @ filtered
    eye = torch.eye(inner.shape[-1], dtype=inner.dtype, device=inner.device)
    return (filtered @ solve_small(inner, eye.expand_as(inner), ridge=1e-12)).to(link.e.dtype)


def water_filled_zero_forcing(
    link: Link,
    noise: Float[Tensor, "batch users"],
    budget: Float[Tensor, " batch"],
    *,
    each_subcarrier: bool,
) -> Complex[Tensor, "batch subcarriers rf_chains users"]:
    """Zero forcing with the budget water-filled over users (and subcarriers under a mean budget).

    ``p_k = max(0, mu / t_k - noise_k)`` with ``t_k`` the power of column k before scaling and
    ``sum p_k t_k`` the budget.

    Notes
    -----
    Source: docs/methods.md, sections 5 and 6.
    """
    digital = zero_forcing(link)
    cost = link.column_power(digital)
    batch, subcarriers, users = cost.shape
    noise = noise.unsqueeze(1).expand_as(cost)
    if each_subcarrier:
        power = water_filling(cost, noise, budget.unsqueeze(1).expand(batch, subcarriers))
    else:
        flat = (batch, subcarriers * users)
        power = water_filling(cost.reshape(flat), noise.reshape(flat), budget * subcarriers)
        power = power.reshape(cost.shape)
    return digital * power.sqrt().unsqueeze(2)
