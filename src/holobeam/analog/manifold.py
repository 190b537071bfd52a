"""Riemannian conjugate gradients over controls on circles, a whole batch of channels at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor

from holobeam.analog.quadratic import Quadratic
from holobeam.errors import InputError
from holobeam.frontends.element_sets import Circle, ElementSet

Value = Callable[[Tensor], Tensor]
"""Objective per channel, ``(B,)``, of controls ``(B, N, C)``."""

Gradient = Callable[[Tensor], Tensor]
"""Its Wirtinger gradient with respect to the conjugate controls, ``(B, N, C)``."""

_SUFFICIENT = 1e-4
_HALVINGS = 30


@dataclass(frozen=True, eq=False)
class Descent:
    """Where a conjugate-gradient run stands; every tensor leads with the batch axis.

    Attributes
    ----------
    control
        ``(B, N, C)`` on the circle.
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


def tangent(
    circle: Circle,
    q: Complex[Tensor, "batch antennas controls"],
    vector: Complex[Tensor, "batch antennas controls"],
) -> Complex[Tensor, "batch antennas controls"]:
    """Part of a vector along the circles at ``q``: the Riemannian gradient of a Euclidean one."""
    radial = (q - circle.centre) / circle.radius
    return vector - (vector.real * radial.real + vector.imag * radial.imag) * radial


def begin_descent(
    circle: Circle,
    value: Value,
    gradient: Gradient,
    q: Complex[Tensor, "batch antennas controls"],
    stride: Float[Tensor, " batch"] | float = 1.0,
) -> Descent:
    """Steepest descent direction at ``q``; ``stride`` is half of the first step tried."""
    slope = tangent(circle, q, 2.0 * gradient(q))
    at = value(q)
    if not isinstance(stride, Tensor):
        stride = torch.full_like(at, stride)
    return Descent(q, at, slope, -slope, stride)


def conjugate_step(
    circle: Circle, value: Value, gradient: Gradient, descent: Descent
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
    control, at, stride, moved = _armijo(circle, value, descent, slope)
    new = tangent(circle, control, 2.0 * gradient(control))
    change = new - tangent(circle, control, descent.gradient)
    size = _inner(descent.gradient, descent.gradient)
    beta = (_inner(new, change) / size.clamp(min=torch.finfo(size.dtype).tiny)).clamp(min=0.0)
    beta = torch.where(moved, beta, torch.zeros_like(beta))
    direction = beta[:, None, None] * tangent(circle, control, descent.direction) - new
    descends = _inner(new, direction) < 0
    direction = torch.where(descends[:, None, None], direction, -new)
    return Descent(control, at, new, direction, stride)


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """Real inner product per channel."""
    return (a.real * b.real + a.imag * b.imag).sum(dim=(1, 2))


def _armijo(
    circle: Circle, value: Value, descent: Descent, slope: Tensor
) -> tuple[Tensor, Tensor, Tensor, Bool[Tensor, " batch"]]:
    """Backtrack until the objective falls by a share of the slope: control, value, step, moved."""
    stride = 2.0 * descent.stride
    control, best = descent.control, descent.value
    moved = torch.zeros_like(stride, dtype=torch.bool)
    for _ in range(_HALVINGS):
        trial = circle.project(descent.control + stride[:, None, None] * descent.direction)
        at = value(trial)
        enough = (at <= descent.value - _SUFFICIENT * stride * slope) & (slope > 0) & ~moved
        control = torch.where(enough[:, None, None], trial, control)
        best = torch.where(enough, at, best)
        moved = moved | enough
        if bool((moved | (slope <= 0)).all()):
            break
        stride = torch.where(moved, stride, 0.5 * stride)
    return control, best, torch.where(moved, stride, descent.stride), moved


def conjugate_gradients(
    circle: Circle,
    value: Value,
    gradient: Gradient,
    q: Complex[Tensor, "batch antennas controls"],
    iterations: int = 10,
    stride: Float[Tensor, " batch"] | float = 1.0,
) -> Descent:
    """Run :func:`conjugate_step` several times from ``q``."""
    descent = begin_descent(circle, value, gradient, q, stride)
    for _ in range(iterations):
        descent = conjugate_step(circle, value, gradient, descent)
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
        Where to start, on the circle.
    element_set
        A circle; centre and radius are free (Lorentzian elements live on one, too).
    iterations
        Conjugate-gradient steps.

    Raises
    ------
    InputError
        If the element set is not a circle.
    """
    if not isinstance(element_set, Circle):
        raise InputError(
            "element_set",
            f"got {type(element_set).__name__}",
            "Riemannian steps need a Circle; use coordinate_descent",
        )
    # The curvature says what a step is: the smallest one is safe for a diagonal quadratic.
    scale = quadratic.curvature().amax(dim=(1, 2))
    stride = 0.25 / scale.clamp(min=torch.finfo(scale.dtype).tiny)
    run = conjugate_gradients(
        element_set, quadratic.value, quadratic.gradient, q, iterations, stride
    )
    return run.control


