"""One normalised gradient step on the quadratic, projected back onto the element set."""

from __future__ import annotations

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.analog.quadratic import Quadratic
from holobeam.frontends.element_sets import Circle, ElementSet, Interval


def ascent_direction(
    quadratic: Quadratic,
    q: Complex[Tensor, "batch antennas controls"],
    element_set: ElementSet,
) -> Complex[Tensor, "batch antennas controls"]:
    """Negative gradient, along the element set, with unit mean square.

    At matched decoders the negative gradient of the quadratic is the gradient of the rate, so this
    is the direction of steepest ascent of the rate, scaled per channel: its tangential part on a
    circle, its real part on an interval.

    Notes
    -----
    Source: a variant of the unfolded-pga paper; docs/methods.md, section 7.
    """
    step = -quadratic.gradient(q)
    if isinstance(element_set, Circle):
        radial = (q - element_set.centre) / element_set.radius
        step = step - (step * radial.conj()).real * radial
    elif isinstance(element_set, Interval):
        step = step.real.to(step.dtype)
    square = step.abs().square().sum(dim=(1, 2), keepdim=True)
    # Chosen before the root: where there is no gradient, that of the root would not be finite.
    size = torch.where(square > 0, square, torch.ones_like(square)).sqrt()
    scale = math.sqrt(q.shape[1] * q.shape[2])
    return torch.where(square > 0, step * (scale / size), 0.0)


def projected_step(
    q: Complex[Tensor, "batch antennas controls"],
    direction: Complex[Tensor, "batch antennas controls"],
    size: float | Float[Tensor, "batch 1 1"],
    element_set: ElementSet,
) -> Complex[Tensor, "batch antennas controls"]:
    """Move along a direction and return to the element set."""
    return element_set.project(q + size * direction)
