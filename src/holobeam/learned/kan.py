"""Kolmogorov-Arnold networks: a trained spline on every connection, one network a channel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from holobeam.errors import InputError, check_count
from holobeam.solvers.embedded import Layer, draw_uniform, fresh_layer

_RIPPLE = 0.1
"""Bound of the first spline coefficients over that of the first base weights."""


@dataclass(frozen=True)
class SplineBasis:
    """B-splines on a uniform grid whose knots go on, at the same distance, outside it.

    Attributes
    ----------
    order
        Degree of the pieces, >= 1; 3 is cubic.
    grid
        Number of intervals between ``low`` and ``high``, >= 1.
    low, high
        Where the grid begins and ends. The splines sum to 1 between them, fade over ``order``
        further intervals on either side, and are 0 beyond.

    Raises
    ------
    InputError
        Names the argument, what was wrong and what would be right.

    Notes
    -----
    Source: docs/methods.md, section 18.
    """

    order: int = 3
    grid: int = 5
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        check_count("order", self.order)
        check_count("grid", self.grid)
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            wrong = f"got the range [{self.low}, {self.high}]"
            raise InputError("high", wrong, "both ends must be finite, low below high")

    @property
    def size(self) -> int:
        """Number of splines, ``grid + order``."""
        return self.grid + self.order

    @property
    def spacing(self) -> float:
        """Distance of neighbouring knots."""
        return (self.high - self.low) / self.grid

    def __call__(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape splines"]:
        """Values of all splines, one more axis behind; finite wherever x is a number."""
        at = self._place(x)
        return _raised(at, self._indicators(at), 1, self.order)

    def slopes(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape splines"]:
        """Derivatives of all splines (from the right where pieces of order 1 meet)."""
        at = self._place(x)
        lower = _raised(at, self._indicators(at), 1, self.order - 1)
        return (lower[..., :-1] - lower[..., 1:]) / self.spacing

    def _place(self, x: Tensor) -> Tensor:
        """Position in units of the spacing, the first knot at 0; clamped to just outside."""
        last = self.grid + 2 * self.order
        at = (x - self.low) / self.spacing + self.order
        return at.clamp(-1.0, last + 1.0).unsqueeze(-1)

    def _indicators(self, at: Tensor) -> Tensor:
        """Splines of order 0: in which interval a number lies."""
        intervals = torch.arange(self.grid + 2 * self.order, device=at.device, dtype=at.dtype)
        return ((at >= intervals) & (at < intervals + 1.0)).to(at.dtype)


def _raised(at: Tensor, splines: Tensor, first: int, last: int) -> Tensor:
    """Cox-de Boor recursion on the knots 0, 1, 2, ..., from order ``first - 1`` to ``last``."""
    for order in range(first, last + 1):
        count = splines.shape[-1] - 1
        knots = torch.arange(count, device=at.device, dtype=at.dtype)
        rising = (at - knots) * splines[..., :-1]
        falling = (knots + (order + 1) - at) * splines[..., 1:]
        splines = (rising + falling) / order
    return splines


def branches(
    basis: SplineBasis, x: Float[Tensor, "*lead inputs"]
) -> Float[Tensor, "*lead features"]:
    """What weights are applied to: ``silu(x_i)`` and all splines at ``x_i``, input by input.

    A connection's function is ``w silu(x) + sum_g c_g B_g(x)``: linear in its weights, so that a
    layer is a linear one on these ``inputs (1 + grid + order)`` features.
    """
    base = torch.nn.functional.silu(x).unsqueeze(-1)
    return torch.cat([base, basis(x)], dim=-1).flatten(-2)


def branch_slopes(
    basis: SplineBasis, x: Float[Tensor, "*lead inputs"]
) -> Float[Tensor, "*lead inputs branches"]:
    """Derivatives of :func:`branches`, each in its own input."""
    gate = torch.sigmoid(x)
    base = gate * (1.0 + x * (1.0 - gate))
    return torch.cat([base.unsqueeze(-1), basis.slopes(x)], dim=-1)


@dataclass(frozen=True, eq=False)
class KolmogorovArnold:
    """Two layers of trained functions; one network for each entry of the leading axes.

    Attributes
    ----------
    inner, outer
        Linear layers on :func:`branches`, no bias: a spline basis contains the constants.
    basis
        Shared by all connections; grids are not adapted to the data.

    Notes
    -----
    Source: the network that the ggml paper embeds; docs/methods.md, section 18.
    """

    inner: Layer
    outer: Layer
    basis: SplineBasis

    def __call__(self, features: Float[Tensor, "*lead inputs"]) -> tuple[Tensor, Tensor]:
        """Output ``(*lead, out)`` and hidden values ``(*lead, width)``."""
        hidden = self.inner(branches(self.basis, features))
        return self.outer(branches(self.basis, hidden)), hidden

    def back(self, hidden: Tensor, slope: Tensor) -> Float[Tensor, "*lead width"]:
        """Gradient in the hidden values, from that in the output."""
        through = branch_slopes(self.basis, hidden)
        return (self.outer.back(slope).view_as(through) * through).sum(dim=-1)

    def trained(
        self, features: Tensor, hidden: Tensor, slope: Tensor, rate: float, time: int
    ) -> KolmogorovArnold:
        """One Adam step along the gradient that ``slope``, that of the output, leads to."""
        back = self.back(hidden, slope)
        return KolmogorovArnold(
            self.inner.trained(back, branches(self.basis, features), rate, time),
            self.outer.trained(slope, branches(self.basis, hidden), rate, time),
            self.basis,
        )


def draw_layer(
    sizes: tuple[int, int],
    basis: SplineBasis,
    lead: tuple[int, ...],
    generator: torch.Generator,
    like: Tensor,
) -> Layer:
    """Draw base weights as a linear layer's, and spline coefficients a tenth of their size.

    The same for every entry of the leading axes.
    """
    entering, leaving = sizes
    bound = 1.0 / math.sqrt(entering)
    base = draw_uniform((leaving, entering, 1), bound, lead, generator, like)
    shape = (leaving, entering, basis.size)
    splines = draw_uniform(shape, _RIPPLE * bound, lead, generator, like)
    return fresh_layer(torch.cat([base, splines], dim=-1).flatten(-2))


def draw_kan(
    sizes: tuple[int, int, int],
    lead: tuple[int, ...],
    generator: torch.Generator,
    like: Tensor,
    basis: SplineBasis,
) -> KolmogorovArnold:
    """Draw an untrained network of the given inputs, width and outputs.

    Parameters
    ----------
    sizes
        Inputs, hidden values, outputs.
    lead
        Leading axes: how many networks, all drawn alike.
    generator
        Source of the weights.
    like
        Tensor of the dtype and device wanted.
    basis
        Order, grid and range of the splines.
    """
    inner, outer = (draw_layer(pair, basis, lead, generator, like) for pair in pairwise(sizes))
    return KolmogorovArnold(inner, outer, basis)
