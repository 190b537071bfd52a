"""Means, confidence intervals and paired differences over channel realisations."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from holobeam.errors import ShapeError

NORMAL_95 = 1.959964
"""Two-sided 95 % quantile of the normal law: batches are large enough for it."""

STARVED = 0.1
"""bits/s/Hz below which a user counts as starved."""


@dataclass(frozen=True)
class Estimate:
    """Mean of a sample with its standard error.

    Attributes
    ----------
    mean, standard_error
        Of the sample; the error is NaN for a single channel.
    count
        Size of the sample.
    """

    mean: float
    standard_error: float
    count: int

    @property
    def half_width(self) -> float:
        """Half of the 95 % confidence interval."""
        return NORMAL_95 * self.standard_error


def estimate(sample: Float[Tensor, " batch"]) -> Estimate:
    """Mean and standard error of one number per channel."""
    count = sample.numel()
    values = sample.double()
    error = float(values.std() / math.sqrt(count)) if count > 1 else math.nan
    return Estimate(float(values.mean()), error, count)


def paired_difference(first: Float[Tensor, " batch"], second: Float[Tensor, " batch"]) -> Estimate:
    """Mean of ``first - second`` on the same channels, with its own standard error.

    Channels differ far more than solvers do: compare solvers by this, never by two means.
    """
    if first.shape != second.shape:
        raise ShapeError("second", f"got shape {tuple(second.shape)}", f"need {tuple(first.shape)}")
    return estimate(first - second)


def starved_share(rates: Float[Tensor, "batch users"], floor: float = STARVED) -> float:
    """Share of users below ``floor`` bits/s/Hz."""
    return float((rates < floor).double().mean())


def outage(values: Tensor, share: float = 0.05) -> float:
    """Value that a share of the sample lies below."""
    return float(torch.quantile(values.double().flatten(), share))
