"""Small networks that a solver trains anew on every channel, with an Adam of their own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

_FIRST, _SECOND, _TINY = 0.9, 0.999, 1e-8
"""Adam's two decays and its epsilon."""


class Embedded(Protocol):
    """One hidden layer, one network for each entry of the leading axes (channels, or cells)."""

    def __call__(
        self, features: Float[Tensor, "*lead inputs"]
    ) -> tuple[Float[Tensor, "*lead outputs"], Float[Tensor, "*lead width"]]:
        """Output, and the hidden values that :meth:`trained` asks for."""
        ...

    def trained(
        self, features: Tensor, hidden: Tensor, slope: Tensor, rate: float, time: int
    ) -> Embedded:
        """One Adam step (the ``time``-th) along the gradient that ``slope`` leads to."""
        ...


@dataclass(frozen=True, eq=False)
class Layer:
    """A linear layer of every channel's own network, with Adam's two averages beside it.

    Attributes
    ----------
    weight, weight_mean, weight_square
        ``(*lead, out, in)``.
    bias, bias_mean, bias_square
        ``(*lead, out)``, or None without one.
    """

    weight: Tensor
    weight_mean: Tensor
    weight_square: Tensor
    bias: Tensor | None = None
    bias_mean: Tensor | None = None
    bias_square: Tensor | None = None

    def __call__(self, features: Float[Tensor, "*lead inputs"]) -> Float[Tensor, "*lead outputs"]:
        """Weights times features, plus the bias."""
        out = (self.weight @ features.unsqueeze(-1)).squeeze(-1)
        return out if self.bias is None else out + self.bias

    def back(self, slope: Float[Tensor, "*lead outputs"]) -> Float[Tensor, "*lead inputs"]:
        """Gradient in the features, from that in the output."""
        return (slope.unsqueeze(-2) @ self.weight).squeeze(-2)

    def trained(self, slope: Tensor, features: Tensor, rate: float, time: int) -> Layer:
        """Adam's step; the gradient of the weights is the outer product of slope and features.

        That product is never formed: both averages take it up as they are written.
        """
        size = rate * math.sqrt(1.0 - _SECOND**time) / (1.0 - _FIRST**time)
        tiny = _TINY * math.sqrt(1.0 - _SECOND**time)
        column, row = slope.unsqueeze(-1), features.unsqueeze(-2)
        mean = (_FIRST * self.weight_mean).addcmul_(column, (1.0 - _FIRST) * row)
        square = (_SECOND * self.weight_square).addcmul_(
            column.square(), (1.0 - _SECOND) * row.square()
        )
        weight = torch.addcdiv(self.weight, mean, square.sqrt().add_(tiny), value=-size)
        if self.bias is None or self.bias_mean is None or self.bias_square is None:
            return Layer(weight, mean, square)
        bias_mean = torch.lerp(self.bias_mean, slope, 1.0 - _FIRST)
        bias_square = torch.lerp(self.bias_square, slope.square(), 1.0 - _SECOND)
        bias = torch.addcdiv(self.bias, bias_mean, bias_square.sqrt().add_(tiny), value=-size)
        return Layer(weight, mean, square, bias, bias_mean, bias_square)


@dataclass(frozen=True, eq=False)
class Perceptron:
    """Linear, ReLU, linear; one network a channel."""

    inner: Layer
    outer: Layer

    def __call__(self, features: Float[Tensor, "*lead inputs"]) -> tuple[Tensor, Tensor]:
        """Output ``(*lead, out)`` and hidden values ``(*lead, width)``."""
        hidden = self.inner(features).relu()
        return self.outer(hidden), hidden

    def trained(
        self, features: Tensor, hidden: Tensor, slope: Tensor, rate: float, time: int
    ) -> Perceptron:
        """One Adam step along the gradient that ``slope``, that of the output, leads to."""
        back = self.outer.back(slope) * (hidden > 0)
        return Perceptron(
            self.inner.trained(back, features, rate, time),
            self.outer.trained(slope, hidden, rate, time),
        )


def draw_uniform(
    shape: tuple[int, ...],
    bound: float,
    lead: tuple[int, ...],
    generator: torch.Generator,
    like: Tensor,
) -> Tensor:
    """Uniform numbers within ``±bound``, the same for every entry of the leading axes."""
    one = torch.rand(shape, generator=generator, dtype=torch.float64)
    return (bound * (2.0 * one - 1.0)).to(like).expand(*lead, *shape).clone()


def fresh_layer(weight: Tensor, bias: Tensor | None = None) -> Layer:
    """Layer that has not been trained yet."""
    means = torch.zeros_like(weight), torch.zeros_like(weight)
    if bias is None:
        return Layer(weight, *means)
    return Layer(weight, *means, bias, torch.zeros_like(bias), torch.zeros_like(bias))


def draw_perceptron(
    sizes: tuple[int, int, int],
    lead: tuple[int, ...],
    generator: torch.Generator,
    like: Tensor,
) -> Perceptron:
    """Uniform weights as PyTorch's linear layers begin with, the same for every channel."""
    layers = []
    for entering, leaving in pairwise(sizes):
        bound = 1.0 / math.sqrt(entering)
        weight, bias = (
            draw_uniform(shape, bound, lead, generator, like)
            for shape in ((leaving, entering), (leaving,))
        )
        layers.append(fresh_layer(weight, bias))
    return Perceptron(*layers)
