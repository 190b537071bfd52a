"""The worst channel within a ball around an estimate, for a precoder that is given."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.channels.base import complex_normal
from holobeam.channels.csi_error import entry_axes, per_user
from holobeam.errors import ShapeError, check_count
from holobeam.problems.problem import Problem
from holobeam.solvers.base import make_generator


def worst_error(
    problem: Problem,
    control: Complex[Tensor, "*control"],
    digital: Complex[Tensor, "*digital"],
    radius: Float[Tensor, "*users"],
    *,
    iterations: int = 60,
    starts: int = 4,
    tried: Sequence[Complex[Tensor, "*shape"]] = (),
    seed: int | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Complex[Tensor, "*shape"], Float[Tensor, "batch users"]]:
    """Errors within the balls that cost each user most, by projected gradient descent.

    A user's rate depends on its own channel alone, so users are searched side by side and each
    keeps its own worst. From every start: no error, the random ones, and those ``tried``. A step
    goes against the gradient by a length of each user's own, which grows where the rate falls and
    halves where it does not; what leaves the ball is scaled back onto it. Rates never rise.

    Parameters
    ----------
    problem
        Its ``h`` is the centre of the balls.
    control, digital
        The precoder to attack.
    radius
        ``(B, K)``: largest norm of a user's error over its subcarriers and antennas; ``(B, L, L,
        K)`` of many cells, a ball for each base station's channel.
    iterations
        Steps from each start.
    starts
        Random errors on the sphere to start from.
    tried
        Errors, in the shape of ``h``, that the answer must be as bad as; scaled back into the ball.
    seed, generator
        Of the random starts.

    Returns
    -------
    tuple
        The worst error found, in the shape of ``h``, and the users' rates with it, ``(B, users)``.

    Notes
    -----
    A local search: it bounds the worst case from above. Source: docs/methods.md, section 24.
    """
    check_count("iterations", iterations, 0)
    check_count("starts", starts, 0)
    h = problem.h
    axes = entry_axes(h)
    if tuple(radius.shape) != tuple(h.abs().square().sum(dim=axes).shape):
        users = tuple(h.abs().square().sum(dim=axes).shape)
        raise ShapeError("radius", f"got shape {tuple(radius.shape)}", f"need {users}")
    generator = make_generator(seed, generator)
    points = [torch.zeros_like(h), *(clip_error(error, radius) for error in tried)]
    for _ in range(starts):
        one = complex_normal(tuple(h.shape[1:]), generator).to(h).expand_as(h)
        points.append(clip_error(1e6 * per_user(radius, h) * one, radius))
    worst, rates = points[0], _rates(problem, control, digital, points[0])
    for point in points:
        error, found = _descend(problem, (control, digital), radius, point, iterations)
        lower = found < rates
        worst = torch.where(spread_users(lower, h), error, worst)
        rates = torch.where(lower, found, rates)
    return worst, rates


def clip_error(
    error: Complex[Tensor, "*shape"], radius: Float[Tensor, "*users"]
) -> Complex[Tensor, "*shape"]:
    """Scale each user's error back into its ball."""
    size = error.abs().square().sum(dim=entry_axes(error)).sqrt()
    scale = radius / torch.where(size > 0, size, torch.ones_like(size))
    return error * per_user(scale.clamp(max=1.0), error)


def _descend(
    problem: Problem,
    precoder: tuple[Tensor, Tensor],
    radius: Tensor,
    error: Tensor,
    iterations: int,
) -> tuple[Tensor, Tensor]:
    """Lower every user's rate from one start."""
    rates = _rates(problem, *precoder, error)
    stride = torch.ones_like(rates)
    for _ in range(iterations):
        slope = _slope(problem, precoder, error)
        size = slope.abs().square().sum(dim=entry_axes(slope)).sqrt()
        length = radius / torch.where(size > 0, size, torch.ones_like(size))
        step = spread_users(stride, error) * per_user(length, error) * slope
        trial = clip_error(error - step, radius)
        found = _rates(problem, *precoder, trial)
        lower = found < rates
        error = torch.where(spread_users(lower, error), trial, error)
        rates = torch.where(lower, found, rates)
        stride = torch.where(lower, (1.5 * stride).clamp(max=2.0), 0.5 * stride)
    return error, rates


def _rates(problem: Problem, control: Tensor, digital: Tensor, error: Tensor) -> Tensor:
    with torch.no_grad():
        return problem.with_(true_h=problem.h + error).true_rates(control, digital)


def _slope(problem: Problem, precoder: tuple[Tensor, Tensor], error: Tensor) -> Tensor:
    """Gradient of the sum of all rates: each user's part is that of its own rate."""
    with torch.enable_grad():
        moved = error.detach().requires_grad_()
        rates = problem.with_(true_h=problem.h + moved).true_rates(*precoder)
        (slope,) = torch.autograd.grad(rates.sum(), moved)
    return slope


def spread_users(value: Tensor, h: Tensor) -> Tensor:
    """Give a value of every user, ``(B, users)``, the axes of channels."""
    if h.ndim == 4:
        return value[:, None, :, None]
    return value.view(h.shape[0], 1, h.shape[2], h.shape[3], 1, 1)
