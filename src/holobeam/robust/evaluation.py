"""How well a design holds on channels that it has not seen: mean, outage, worst case."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.channels.csi_error import draw_error, entry_axes, error_radius, per_user
from holobeam.errors import InputError, ShapeError, check_count
from holobeam.robust.adversary import clip_error, spread_users, worst_error
from holobeam.solvers.base import AnyProblem
from holobeam.solvers.solution import Solution


@dataclass(frozen=True, eq=False)
class Robustness:
    """What a design reaches on true channels; the design itself saw estimates.

    Attributes
    ----------
    rates
        ``(D, B, users)`` bits/s/Hz on D true channels around each estimate.
    worst_rates
        ``(B, users)`` with the worst errors found within the balls.
    radius
        Of the balls, one a user.
    worst_h
        The worst channels.
    """

    rates: Float[Tensor, "draws batch users"]
    worst_rates: Float[Tensor, "batch users"]
    radius: Float[Tensor, "*users"]
    worst_h: Complex[Tensor, "*shape"]

    @property
    def mean(self) -> Float[Tensor, " batch"]:
        """Mean sum rate over the true channels."""
        return self.rates.sum(dim=2).mean(dim=0)

    def outage(self, probability: float = 0.05) -> Float[Tensor, " batch"]:
        """Sum rate that is missed with the probability."""
        return outage_rate(self.rates.sum(dim=2), probability)

    @property
    def worst(self) -> Float[Tensor, " batch"]:
        """Sum rate with the worst errors found: never above that of any error tried in the balls.

        Each user's error is its own worst, so that it is also the sum of the users' worst cases.
        """
        return self.worst_rates.sum(dim=1)


def outage_rate(
    rates: Float[Tensor, "draws batch"], probability: float = 0.05
) -> Float[Tensor, " batch"]:
    """Rate that is missed with a probability, by linear interpolation between the draws."""
    if not 0.0 < probability < 1.0:
        raise InputError("probability", f"got {probability!r}", "need one in (0, 1)")
    found: Tensor = torch.quantile(rates, probability, dim=0)
    return found


def robustness(
    solution: Solution,
    *,
    draws: int = 100,
    errors: Complex[Tensor, "draws *shape"] | None = None,
    error_variance: float | Tensor | None = None,
    radius: Float[Tensor, "*users"] | None = None,
    outage: float = 0.05,
    iterations: int = 60,
    starts: int = 4,
    seed: int = 0,
) -> Robustness:
    """Judge controls and digital precoders on true channels around the estimates they come from.

    Parameters
    ----------
    solution
        A design; the ``h`` of its problem is the estimate. What the design did with the estimate
        does not matter here: only ``control`` and ``digital`` are looked at.
    draws
        True channels around each estimate: ``h + e``, e circular Gaussian of the error variance.
    errors
        Those errors, ``(D, *h.shape)``, in place of drawn ones.
    error_variance
        Mean power of an entry of the error; the problem's by default.
    radius
        Balls of the worst case; by default what the norm of an error exceeds with probability
        ``outage``.
    outage
        Of the radius.
    iterations, starts
        Of :func:`worst_error`; the drawn error that costs most is a start as well.
    seed
        Of errors and starts.

    Raises
    ------
    InputError
        If nothing says how large errors are.

    Notes
    -----
    Source: docs/methods.md, section 24.
    """
    problem: AnyProblem = solution.problem
    variance = problem.error_variance if error_variance is None else error_variance
    variance = known_variance(problem, variance)
    if errors is None:
        check_count("draws", draws)
        size = per_user(variance.sqrt(), problem.h)
        errors = size * draw_error(problem.h, seed, None, draws=draws)
    elif tuple(errors.shape[1:]) != tuple(problem.h.shape):
        right = f"need (draws, {', '.join(map(str, problem.h.shape))})"
        raise ShapeError("errors", f"got shape {tuple(errors.shape)}", right)
    if radius is None:
        radius = error_radius(problem.h, variance, outage=outage).to(problem.h.real.dtype)
    precoder = solution.control, solution.digital
    rates = torch.stack(
        [problem.with_(true_h=problem.h + error).true_rates(*precoder) for error in errors]
    )
    worst, worst_rates = worst_error(
        problem,
        *precoder,
        radius,
        iterations=iterations,
        starts=starts,
        tried=[_costliest(problem, precoder, errors, radius)],
        seed=seed,
    )
    return Robustness(rates, worst_rates, radius, problem.h + worst)


def known_variance(problem: AnyProblem, value: float | Tensor | None = None) -> Tensor:
    """Error variance of each user's entries, from the caller or from the problem.

    Raises
    ------
    InputError
        If neither knows it.
    """
    value = problem.error_variance if value is None else value
    if value is None:
        raise InputError(
            "error_variance",
            "the problem does not say how wrong its channels are",
            "pass error_variance to the problem, e.g. from holobeam.channels.RelativeError",
        )
    first, second = entry_axes(problem.h)
    shape = [size for axis, size in enumerate(problem.h.shape) if axis not in {first, second}]
    return torch.as_tensor(value, dtype=problem.h.real.dtype, device=problem.h.device).expand(shape)


def _costliest(
    problem: AnyProblem, precoder: tuple[Tensor, Tensor], errors: Tensor, radius: Tensor
) -> Tensor:
    """Of the errors scaled back into the balls, the one that costs each user most."""
    worst, lowest = torch.zeros_like(problem.h), None
    for error in errors:
        inside = clip_error(error, radius)
        rates = problem.with_(true_h=problem.h + inside).true_rates(*precoder)
        lower = torch.ones_like(rates, dtype=torch.bool) if lowest is None else rates < lowest
        worst = torch.where(spread_users(lower, problem.h), inside, worst)
        lowest = rates if lowest is None else torch.minimum(rates, lowest)
    return worst
