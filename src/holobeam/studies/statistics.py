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


@dataclass(frozen=True)
class Share:
    """Share of a number of trials with its 95 % confidence interval.

    Attributes
    ----------
    share, low, high
        In ``[0, 1]``; NaN without trials.
    count
        Trials.
    """

    share: float
    low: float
    high: float
    count: int


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
    _check_paired(first, second)
    return estimate(first - second)


def _check_paired(first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape:
        raise ShapeError("second", f"got shape {tuple(second.shape)}", f"need {tuple(first.shape)}")


def starved_share(rates: Float[Tensor, "batch users"], floor: float = STARVED) -> float:
    """Share of users below ``floor`` bits/s/Hz."""
    return float((rates < floor).double().mean())


def outage(values: Tensor, share: float = 0.05) -> float:
    """Value that a share of the sample lies below."""
    return float(torch.quantile(values.double().flatten(), share))


def wilson(successes: float, count: int) -> Share:
    """Share of successes with the 95 % interval of Wilson (1927), which never leaves ``[0, 1]``.

    Parameters
    ----------
    successes
        Out of ``count``; halves are ties.
    count
        Trials.
    """
    if count == 0:
        return Share(math.nan, math.nan, math.nan, 0)
    share, spread = successes / count, NORMAL_95**2 / count
    centre = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread**2 / 4) / (1 + spread)
    # At the ends one bound is the end itself, which rounding would miss by an ulp.
    low = 0.0 if successes <= 0 else centre - half
    high = 1.0 if successes >= count else centre + half
    return Share(share, low, high, count)


def win_rate(
    first: Float[Tensor, " batch"], second: Float[Tensor, " batch"], tie: float = 1e-9
) -> Share:
    """Share of channels on which ``first`` is above ``second``; a tie is half a win.

    Parameters
    ----------
    first, second
        One number per channel, the same channels in the same order.
    tie
        Difference, in the unit of the numbers, up to which two are equal.
    """
    _check_paired(first, second)
    gap = first.double() - second.double()
    wins = float((gap > tie).sum()) + 0.5 * float((gap.abs() <= tie).sum())
    return wilson(wins, gap.numel())


def paired_ratio(first: Float[Tensor, " batch"], second: Float[Tensor, " batch"]) -> Estimate:
    """Ratio of the means of ``first`` and ``second`` on the same channels.

    The standard error is that of the linearised ratio, ``(first - ratio * second) / mean(second)``
    (delta method), so that what the channels have in common cancels.
    """
    _check_paired(first, second)
    base = float(second.double().mean())
    if base == 0.0:
        return Estimate(math.nan, math.nan, first.numel())
    ratio = float(first.double().mean()) / base
    linear = estimate((first.double() - ratio * second.double()) / base)
    return Estimate(ratio, linear.standard_error, first.numel())
