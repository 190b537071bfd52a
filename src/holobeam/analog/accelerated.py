"""Parallel updates of the controls for batches and GPUs: accelerated projected gradient, blocks.

Nothing here loops over elements: a step is a few matrix products, whatever N, and runs wherever the
tensors are. Each function is an analog method, ``(quadratic, q, element_set) -> q``, that never
raises the quadratic.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.analog.quadratic import Quadratic
from holobeam.errors import check_count
from holobeam.frontends.element_sets import ElementSet, Interval

_SAFETY = 1.1
_GOLDEN_ANGLE = math.pi * (3.0 - math.sqrt(5.0))


def accelerated_projected_gradient(
    quadratic: Quadratic,
    q: Complex[Tensor, "batch antennas controls"],
    element_set: ElementSet,
    steps: int = 4,
    power_iterations: int = 4,
) -> Complex[Tensor, "batch antennas controls"]:
    """Some steps of FISTA on the quadratic, projected onto the element set after each.

    The metric is ``1.1 lambda diag(a)`` with a the curvature of each control and lambda the largest
    eigenvalue of the quadratic in that metric, from a few power iterations. A channel whose
    quadratic does not fall takes one step in a metric that majorises for certain instead, or keeps
    its controls.

    Parameters
    ----------
    quadratic, q, element_set
        As for :func:`holobeam.analog.coordinate_descent`. On circles and points, which are not
        convex, the same steps are a heuristic with the same guard.
    steps
        Gradient steps; each costs ``O(F J S N)``.
    power_iterations
        Products spent on lambda.

    Raises
    ------
    InputError
        If ``steps`` or ``power_iterations`` is not a whole number >= 1.

    Notes
    -----
    Source: mmse paper (our reading), docs/methods.md, section 3.
    """
    check_count("steps", steps)
    check_count("power_iterations", power_iterations)
    curvature = quadratic.curvature()
    moves = curvature > 0
    safe = torch.where(moves, curvature, torch.ones_like(curvature))
    top = largest_eigenvalue(
        quadratic, safe, real=isinstance(element_set, Interval), iterations=power_iterations
    )
    metric = safe * torch.where(top > 0, _SAFETY * top, torch.ones_like(top))[:, None, None]
    point, ahead, inertia = q, q, 1.0
    for _ in range(steps):
        new = element_set.project(ahead - quadratic.gradient(ahead) / metric)
        new = torch.where(moves, new, q)
        later = (1.0 + math.sqrt(1.0 + 4.0 * inertia**2)) / 2.0
        ahead = new + (inertia - 1.0) / later * (new - point)
        point, inertia = new, later
    value = quadratic.value(q)
    lower = quadratic.value(point) < value
    if bool(lower.all()):
        return point
    # Where lambda was too low, or momentum led astray: one step that majorises for certain.
    bounds = quadratic.row_bounds()
    sure = element_set.project(q - quadratic.gradient(q) / torch.where(bounds > 0, bounds, 1.0))
    sure = torch.where(moves & (quadratic.value(sure) < value)[:, None, None], sure, q)
    return torch.where(lower[:, None, None], point, sure)


def largest_eigenvalue(
    quadratic: Quadratic,
    metric: Float[Tensor, "batch antennas controls"],
    *,
    real: bool,
    iterations: int = 4,
) -> Float[Tensor, " batch"]:
    """Largest eigenvalue of the quadratic's matrix in a diagonal metric, by power iterations.

    An estimate from below: on flat spectra a third too low after four products, hence the guard of
    whoever uses it. With ``real`` over real controls only, which is what amplitudes see: smaller,
    so steps are longer.
    """
    root = metric.sqrt()
    turn = _GOLDEN_ANGLE * torch.arange(root[0].numel(), device=root.device, dtype=root.dtype)
    first = torch.polar(torch.ones_like(turn), turn).view(1, *root.shape[1:]).expand(root.shape)
    z = first.real.to(first.dtype) if real else first
    size = _norm(z)
    for _ in range(iterations):
        z = quadratic.product(z / size / root) / root
        z = z.real.to(z.dtype) if real else z
        size = _norm(z).clamp(min=torch.finfo(metric.dtype).tiny)
    return size[:, 0, 0]


def _norm(z: Tensor) -> Tensor:
    return z.abs().square().sum(dim=(1, 2), keepdim=True).sqrt()


def block_coordinate_descent(
    quadratic: Quadratic,
    q: Complex[Tensor, "batch antennas controls"],
    element_set: ElementSet,
    blocks: int = 8,
    steps: int = 2,
) -> Complex[Tensor, "batch antennas controls"]:
    """One block of elements after the other, each by :func:`accelerated_projected_gradient`.

    Block b holds elements b, b + blocks, b + 2 blocks, ...: neighbours, whose waves are alike, are
    never moved against the same residual.

    Parameters
    ----------
    quadratic, q, element_set
        As for :func:`holobeam.analog.coordinate_descent`.
    blocks
        How many; the elements of one block move together. No more than there are elements.
    steps
        Gradient steps on each block.

    Raises
    ------
    InputError
        If ``blocks`` or ``steps`` is not a whole number >= 1.

    Notes
    -----
    Source: mmse paper (our reading), docs/methods.md, section 3.
    """
    blocks = min(check_count("blocks", blocks), quadratic.antennas)
    q = q.clone()
    residual = quadratic.residual(q)
    for b in range(blocks):
        here = slice(b, None, blocks)
        y, d = quadratic.y[..., here], quadratic.d[:, :, here]
        z = None if quadratic.z is None else quadratic.z[:, :, here]
        now = q[:, here]
        # What this block alone leaves of the residual is the target that it is fitted to.
        alone = y @ (now[:, None, :, :, None] * d).sum(dim=3)
        part = Quadratic(y, alone - residual, d, quadratic.rho, z)
        q[:, here] = accelerated_projected_gradient(part, now, element_set, steps)
        residual = part.residual(q[:, here])
    return q


def separable_descent(
    quadratic: Quadratic,
    q: Complex[Tensor, "batch antennas controls"],
    element_set: ElementSet,
) -> Complex[Tensor, "batch antennas controls"]:
    """Exact coordinate descent, all elements at once, where no stream couples them (J = 0).

    Least-squares fits are of this kind: the answer is that of
    :func:`holobeam.analog.coordinate_descent`, control by control of an element.
    """
    q = q.clone()
    d, rho = quadratic.d, quadratic.rho[:, :, None, None]
    x = quadratic.rows(q)
    away = x if quadratic.z is None else x - quadratic.z
    for c in range(q.shape[2]):
        branch = d[:, :, :, c]
        curvature = (rho * branch.abs().square()).sum(dim=(1, 3))
        slope = (rho * away * branch.conj()).sum(dim=(1, 3))
        moves = curvature > 0
        wanted = q[:, :, c] - slope / torch.where(moves, curvature, torch.ones_like(curvature))
        new = torch.where(moves, element_set.project(wanted), q[:, :, c])
        away = away + (new - q[:, :, c])[:, None, :, None] * branch
        q[:, :, c] = new
    return q
