"""Precoders whose radiated power is what rounding leaves of it, brought to their budget."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Complex, Float
from torch import Tensor

OverBudget = Callable[[Tensor], Tensor]
"""Power radiated ``(B, F)`` over the power allowed."""

_TRIES = 64
_NEAR = 0.9


def held(
    analog: Complex[Tensor, "batch subcarriers antennas rf_chains"],
    digital: Complex[Tensor, "batch subcarriers rf_chains users"],
    over_budget: OverBudget,
) -> Complex[Tensor, "batch subcarriers rf_chains users"]:
    """Precoders within their budget, in their own dtype, although rounding decides on their power.

    Large entries that cancel in the air leave a power that no scale sets exactly: but another
    scale, some last digits smaller, rounds otherwise. Of some of them the one is taken that comes
    closest to the budget from below. Where none comes near, what cancels is dropped.

    Parameters
    ----------
    analog
        A, in double precision.
    digital
        V, in the dtype that it is to be kept in.
    over_budget
        What power counts for.
    """
    found, load = _best_rounding(analog, digital, over_budget)
    near = (load > _NEAR).all(dim=1)[:, None, None, None]
    if bool(near.all()):
        return found
    return torch.where(near, found, _without_cancelling(analog, digital, over_budget))


def _load(analog: Tensor, digital: Tensor, over_budget: OverBudget) -> Tensor:
    return over_budget((analog @ digital.to(analog.dtype)).abs().square().sum(dim=(2, 3)))


def _at_budget(analog: Tensor, digital: Tensor, over_budget: OverBudget) -> Tensor:
    """In double precision."""
    load = _load(analog, digital, over_budget)
    scale = torch.where(load > 0, load, torch.ones_like(load)).rsqrt()
    return digital.to(analog.dtype) * scale[:, :, None, None]


def _best_rounding(
    analog: Tensor, digital: Tensor, over_budget: OverBudget
) -> tuple[Tensor, Float[Tensor, "batch subcarriers"]]:
    """The best of several scales, and its power over the budget; 0 where none is within it."""
    step = torch.finfo(digital.dtype).eps
    exact = _at_budget(analog, digital, over_budget)
    best, reached = digital, torch.zeros_like(exact[:, :, 0, 0].real)
    for turn in range(_TRIES):
        tried = (exact * (1.0 - 4.0 * step * turn)).to(digital.dtype)
        load = _load(analog, tried, over_budget)
        better = (load <= 1.0) & (load > reached)
        best = torch.where(better[:, :, None, None], tried, best)
        reached = torch.where(better, load, reached)
    return best, reached


def _without_cancelling(analog: Tensor, digital: Tensor, over_budget: OverBudget) -> Tensor:
    """What is left of precoders without the directions that the front-end hardly radiates."""
    step = torch.finfo(digital.dtype).eps
    values, basis = torch.linalg.eigh(analog.mH @ analog)
    kept = (values > step**0.8 * values[..., -1:]).unsqueeze(3)
    left = basis @ (kept * (basis.mH @ digital.to(basis.dtype)))
    return _at_budget(analog, left, over_budget).to(digital.dtype)
