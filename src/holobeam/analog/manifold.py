"""Riemannian conjugate gradients over controls on circles, a whole batch of channels at once.

The plane is the flat case: every direction is a tangent, and a point is its own retraction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor

from holobeam.analog.quadratic import Quadratic
from holobeam.errors import InputError
from holobeam.frontends.element_sets import Circle, ElementSet, Plane

Value = Callable[[Tensor, Tensor | None], Tensor]
"""Objective per channel of controls ``(rows, N, C)``; rows are indices of channels, None is all."""

Gradient = Callable[[Tensor], Tensor]
"""Its Wirtinger gradient with respect to the conjugate controls, ``(B, N, C)``."""

Manifold = Circle | Plane
"""Element sets that gradients can follow."""

_UNIT = Circle()
_SUFFICIENT = 1e-4
_HALVINGS = 30


@dataclass(frozen=True, eq=False)
class Descent:
    """Where a conjugate-gradient run stands; every tensor leads with the batch axis.

    Attributes
    ----------
    control
        ``(B, N, C)`` on the circle or the plane.
    value
        ``(B,)``: the objective there.
    gradient, direction
        Riemannian gradient, and the direction of the next step.
    stride
        ``(B,)``: step sizes last accepted.
    """

    control: Complex[Tensor, "batch antennas controls"]
    value: Float[Tensor, " batch"]
    gradient: Complex[Tensor, "batch antennas controls"]
    direction: Complex[Tensor, "batch antennas controls"]
    stride: Float[Tensor, " batch"]


def retract(
    manifold: Manifold, z: Complex[Tensor, "batch antennas controls"]
) -> Complex[Tensor, "batch antennas controls"]:
    """Nearest points of the circle; its right-most one for the centre itself."""
    if isinstance(manifold, Plane):
        return z
    if manifold.centre == 0:
        return unit_modulus(z, manifold.radius)
    return manifold.centre + unit_modulus(z - manifold.centre, manifold.radius)


def unit_modulus(z: Complex[Tensor, "*shape"], radius: float = 1.0) -> Complex[Tensor, "*shape"]:
    """``radius z / |z|``, and ``radius`` where z is 0; differentiable away from 0."""
    # Several times faster than sgn: complex moduli guard against overflow that can't occur here.
    energy = torch.addcmul(z.real.square(), z.imag, z.imag)
    tiny = torch.finfo(energy.dtype).tiny
    scale = energy.clamp(min=tiny).rsqrt()
    # A square below the smallest number says nothing about the direction: those go to the right.
    return torch.where(energy > tiny, z * (scale * radius if radius != 1.0 else scale), radius)


def tangent(
    manifold: Manifold,
    q: Complex[Tensor, "batch antennas controls"],
    vector: Complex[Tensor, "batch antennas controls"],
) -> Complex[Tensor, "batch antennas controls"]:
    """Part of a vector along the circles at ``q``: the Riemannian gradient of a Euclidean one."""
    if isinstance(manifold, Plane):
        return vector
    radial = q if manifold == _UNIT else (q - manifold.centre) / manifold.radius
    along = torch.addcmul(vector.real * radial.real, vector.imag, radial.imag)
    return vector - along * radial


def begin_descent(
    manifold: Manifold,
    value: Value,
    gradient: Gradient,
    q: Complex[Tensor, "batch antennas controls"],
    stride: Float[Tensor, " batch"] | float = 1.0,
) -> Descent:
    """Steepest descent direction at ``q``; ``stride`` is half of the first step tried."""
    slope = tangent(manifold, q, 2.0 * gradient(q))
    at = value(q, None)
    if not isinstance(stride, Tensor):
        stride = torch.full_like(at, stride)
    return Descent(q, at, slope, -slope, stride)


def conjugate_step(
    manifold: Manifold, value: Value, gradient: Gradient, descent: Descent
) -> Descent:
    """One Polak-Ribiere step with an Armijo search: no channel's objective rises.

    The search halves from twice the last accepted step, for each channel on its own; a channel
    without an acceptable step stays where it is and turns to steepest descent. Transport is by
    projection, beta is clipped at 0, and a direction that does not descend is replaced.

    Notes
    -----
    Source: docs/methods.md, section 12. Cost: one gradient, and one value per trial step.
    """
    slope = -_inner(descent.gradient, descent.direction)
    control, at, stride, moved = _armijo(manifold, value, descent, slope)
    new = tangent(manifold, control, 2.0 * gradient(control))
    change = new - tangent(manifold, control, descent.gradient)
    size = _inner(descent.gradient, descent.gradient)
    beta = (_inner(new, change) / size.clamp(min=torch.finfo(size.dtype).tiny)).clamp(min=0.0)
    beta = torch.where(moved, beta, torch.zeros_like(beta))
    direction = beta[:, None, None] * tangent(manifold, control, descent.direction) - new
    descends = _inner(new, direction) < 0
    direction = torch.where(descends[:, None, None], direction, -new)
    return Descent(control, at, new, direction, stride)


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """Real inner product per channel."""
    flat_a, flat_b = (torch.view_as_real(x.resolve_conj()).flatten(1) for x in (a, b))
    product: Tensor = torch.linalg.vecdot(flat_a, flat_b)
    return product


def _armijo(
    manifold: Manifold, value: Value, descent: Descent, slope: Tensor
) -> tuple[Tensor, Tensor, Tensor, Bool[Tensor, " batch"]]:
    """Backtrack until the objective falls by a share of the slope: control, value, step, moved.

    Channels that have found their step leave the search, so that the longest search does not cost
    everybody its length.
    """
    control, best = descent.control.clone(), descent.value.clone()
    kept = descent.stride.clone()
    moved = torch.zeros_like(slope, dtype=torch.bool)
    stride, rows = 2.0 * descent.stride, None
    origin, direction, start = descent.control, descent.direction, descent.value
    for _ in range(_HALVINGS):
        trial = retract(manifold, origin + stride[:, None, None] * direction)
        at = value(trial, rows)
        enough = (at <= start - _SUFFICIENT * stride * slope) & (slope > 0)
        into = enough.nonzero().squeeze(1) if rows is None else rows[enough]
        control[into], best[into] = trial[enough], at[enough]
        kept[into], moved[into] = stride[enough], True
        left = (~enough & (slope > 0)).nonzero().squeeze(1)
        if left.numel() == 0:
            break
        rows = left if rows is None else rows[left]
        stride, slope, start = 0.5 * stride[left], slope[left], start[left]
        origin, direction = origin[left], direction[left]
    return control, best, kept, moved


def conjugate_gradients(
    manifold: Manifold,
    value: Value,
    gradient: Gradient,
    q: Complex[Tensor, "batch antennas controls"],
    *,
    iterations: int = 10,
    stride: Float[Tensor, " batch"] | float = 1.0,
) -> Descent:
    """Run :func:`conjugate_step` several times from ``q``."""
    descent = begin_descent(manifold, value, gradient, q, stride)
    for _ in range(iterations):
        descent = conjugate_step(manifold, value, gradient, descent)
    return descent


def manifold_descent(
    quadratic: Quadratic,
    q: Complex[Tensor, "batch antennas controls"],
    element_set: ElementSet,
    iterations: int = 10,
) -> Complex[Tensor, "batch antennas controls"]:
    """Riemannian conjugate gradients on any quadratic: an analog method of ``Alternating``.

    Parameters
    ----------
    quadratic
        What to minimise.
    q
        Where to start, on the set.
    element_set
        A circle, whose centre and radius are free (Lorentzian elements live on one, too), or the
        plane.
    iterations
        Conjugate-gradient steps.

    Raises
    ------
    InputError
        If the element set is neither a circle nor the plane.
    """
    if not isinstance(element_set, Circle | Plane):
        raise InputError(
            "element_set",
            f"got {type(element_set).__name__}",
            "Riemannian steps need a Circle or a Plane; use coordinate_descent",
        )
    # What a step of order 1 over the largest curvature is for: the first trials are of its size.
    scale = quadratic.curvature().amax(dim=(1, 2))
    stride = 0.25 / scale.clamp(min=torch.finfo(scale.dtype).tiny)
    run = conjugate_gradients(
        element_set,
        lambda at, rows: _of(quadratic, rows).value(at),
        quadratic.gradient,
        q,
        iterations=iterations,
        stride=stride,
    )
    return run.control


def _of(quadratic: Quadratic, rows: Tensor | None) -> Quadratic:
    if rows is None:
        return quadratic
    z = None if quadratic.z is None else quadratic.z[rows]
    return Quadratic(
        quadratic.y[rows], quadratic.t[rows], quadratic.d[rows], quadratic.rho[rows], z
    )
