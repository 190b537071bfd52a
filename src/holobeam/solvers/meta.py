"""Meta-learned hybrid precoding: two small networks trained anew on every channel (``ggml``)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.digital.rate_gradient import fair_loss
from holobeam.digital.zero_forcing import zero_forcing
from holobeam.errors import InputError, check_count
from holobeam.problems.downlink import Downlink
from holobeam.solvers.base import Solver, State
from holobeam.solvers.phase_shifters import PhaseShifterSolver
from holobeam.solvers.reduced import needs_full_connection
from holobeam.solvers.reduced_loss import unit_problem
from holobeam.solvers.starts import matched_control, random_control, relaxed

Judge = Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]
"""Loss of what users receive, noise, user weights and beta; and its gradient."""

_FIRST, _SECOND, _TINY = 0.9, 0.999, 1e-8
"""Adam's two decays and its epsilon."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A linear layer of every channel's own network, with Adam's two averages beside it.

    Attributes
    ----------
    weight, bias
        ``(B, out, in)`` and ``(B, out)``.
    """

    weight: Tensor
    bias: Tensor
    weight_mean: Tensor
    weight_square: Tensor
    bias_mean: Tensor
    bias_square: Tensor


@dataclass(frozen=True, eq=False)
class Network:
    """Linear, ReLU, linear; one network a channel."""

    inner: Layer
    outer: Layer

    def __call__(self, features: Float[Tensor, "batch inputs"]) -> tuple[Tensor, Tensor]:
        """Output ``(B, out)`` and hidden values ``(B, width)``."""
        hidden = _apply(self.inner, features).relu()
        return _apply(self.outer, hidden), hidden

    def trained(
        self, features: Tensor, hidden: Tensor, slope: Tensor, rate: float, time: int
    ) -> Network:
        """One Adam step along the gradient that ``slope``, that of the output, leads to."""
        back = torch.bmm(slope.unsqueeze(1), self.outer.weight).squeeze(1) * (hidden > 0)
        return Network(
            _adam(self.inner, back, features, rate, time),
            _adam(self.outer, slope, hidden, rate, time),
        )


def _apply(layer: Layer, features: Tensor) -> Tensor:
    return torch.baddbmm(layer.bias.unsqueeze(2), layer.weight, features.unsqueeze(2)).squeeze(2)


def _adam(layer: Layer, slope: Tensor, features: Tensor, rate: float, time: int) -> Layer:
    """Adam's step of one layer, whose gradient is the outer product of slope and features.

    That product is never formed: both averages take it up as they are written.
    """
    size = rate * math.sqrt(1.0 - _SECOND**time) / (1.0 - _FIRST**time)
    tiny = _TINY * math.sqrt(1.0 - _SECOND**time)
    column, row = slope.unsqueeze(2), features.unsqueeze(1)
    weight_mean = (_FIRST * layer.weight_mean).addcmul_(column, (1.0 - _FIRST) * row)
    weight_square = (_SECOND * layer.weight_square).addcmul_(
        column.square(), (1.0 - _SECOND) * row.square()
    )
    bias_mean = torch.lerp(layer.bias_mean, slope, 1.0 - _FIRST)
    bias_square = torch.lerp(layer.bias_square, slope.square(), 1.0 - _SECOND)
    return Layer(
        torch.addcdiv(layer.weight, weight_mean, weight_square.sqrt().add_(tiny), value=-size),
        torch.addcdiv(layer.bias, bias_mean, bias_square.sqrt().add_(tiny), value=-size),
        weight_mean,
        weight_square,
        bias_mean,
        bias_square,
    )


def draw_network(
    sizes: tuple[int, int, int], batch: int, generator: torch.Generator, like: Tensor
) -> Network:
    """Uniform weights as PyTorch's linear layers begin with, the same for every channel."""
    layers = []
    for entering, leaving in pairwise(sizes):
        parts = []
        for shape in ((leaving, entering), (leaving,)):
            one = torch.rand(shape, generator=generator, dtype=torch.float64)
            one = ((2.0 * one - 1.0) / math.sqrt(entering)).to(like)
            parts.append(one.expand(batch, *shape).clone())
        empty = [torch.zeros_like(parts[0])] * 2 + [torch.zeros_like(parts[1])] * 2
        layers.append(Layer(*parts, *empty))
    return Network(*layers)


def as_features(z: Complex[Tensor, "batch rows columns"]) -> Float[Tensor, "batch features"]:
    """``[Re Z | Im Z]``, row after row."""
    return torch.cat([z.real, z.imag], dim=2).flatten(1)


def from_features(
    x: Float[Tensor, "batch features"], rows: int, columns: int
) -> Complex[Tensor, "batch rows columns"]:
    """Inverse of :func:`as_features`."""
    parts = x.reshape(-1, rows, 2 * columns)
    return torch.complex(parts[:, :, :columns].contiguous(), parts[:, :, columns:].contiguous())


@dataclass(frozen=True, eq=False)
class Precoding:
    """The loss as a function of an unprojected analog part and an unscaled digital one, power 1.

    Attributes
    ----------
    h, noise, user_weights
        As in :class:`~holobeam.solvers.reduced_loss.UnitProblem`, ``noise`` ``(B, K)``.
    beta
        Weight of the variance of the rates.
    judge
        Value and slope of what is received, :func:`fair_loss` by default.
    """

    h: Complex[Tensor, "batch users antennas"]
    noise: Float[Tensor, "batch users"]
    user_weights: Float[Tensor, "batch users"]
    beta: float
    judge: Judge = fair_loss

    def slopes(
        self,
        analog: Complex[Tensor, "batch antennas rf_chains"],
        digital: Complex[Tensor, "batch rf_chains users"],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``L``, ``H F`` and ``W``, what leads to the gradients, and that in D."""
        e = self.h @ analog
        value, w = self.judge(e @ digital, self.noise, self.user_weights, self.beta)
        return value, e, w, e.mH @ w

    def analog_gradient(self, analog: Tensor, digital: Tensor) -> Tensor:
        """``dL/dF`` with D held as it is."""
        _, _, w, _ = self.slopes(analog, digital)
        return self.h.mH @ (w @ digital.mH)

    def digital_gradient(self, analog: Tensor, digital: Tensor) -> Tensor:
        """``dL/dD`` with F held, the power not normalised."""
        return self.slopes(analog, digital)[3]

    def normalised(self, z: Tensor, raw: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Projected F, scaled D, and the gradients in ``z`` and ``raw`` through both maps.

        ``F = z / |z|`` and ``D = raw / ||F raw||``; gradients are ``dL/dRe + j dL/dIm``.
        """
        size = z.abs()
        safe = torch.where(size > 0, size, torch.ones_like(size))
        analog = torch.where(size > 0, z / safe, torch.ones_like(z))
        radiated = analog @ raw
        power = radiated.abs().square().sum(dim=(1, 2))
        scale = torch.where(power > 0, power, torch.ones_like(power)).rsqrt()[:, None, None]
        digital = scale * raw
        _, _, w, of_digital = self.slopes(analog, digital)
        along = (raw.conj() * of_digital).real.sum(dim=(1, 2))[:, None, None]
        loss = along * scale**3
        of_raw = scale * of_digital - loss * (analog.mH @ radiated)
        of_analog = self.h.mH @ (w @ digital.mH) - loss * (radiated @ raw.mH)
        outward = (of_analog * analog.conj()).real
        return analog, digital, (of_analog - outward * analog) / safe, of_raw


@dataclass(frozen=True, eq=False)
class Memory:
    """Fixed start, networks and their inputs, and the digital part of the last step (power 1).

    Users are in the order of their gains; ``places`` ``(B, K)`` says where each has gone.
    """

    loss: Precoding
    analog: Tensor
    digital: Tensor
    amplitude: Tensor
    places: Tensor
    analog_network: Network
    digital_network: Network
    analog_features: Tensor
    digital_features: Tensor
    last: Tensor
    count: int


@dataclass(frozen=True, kw_only=True)
class MetaPrecoding(PhaseShifterSolver):
    """Train two networks on one channel: their outputs, added to a fixed start, are the precoder.

    Attributes
    ----------
    beta
        Weight of the variance of the users' rates.
    analog_rate, digital_rate
        Learning rates of the two Adams.
    hidden
        Width of the hidden layers.
    accumulate
        Whether the networks are fed the sum of all gradients so far (what the authors' program
        does: it never clears them), or those of the present iteration (as printed).
    noise_input
        Feed fixed random numbers instead of gradients: what the gradients are worth.
    begin
        ``random`` phases, or ``matched`` ones.

    Notes
    -----
    Every channel has networks of its own, drawn alike. The utility is the sum rate, on which the
    best iterate is chosen; ``keep="last"`` returns the last one. All gradients are closed forms.
    Source: ggml paper and its authors' code; docs/methods.md, section 18.
    """

    name: str = "ggml"
    max_iterations: int = 500
    tolerance: float = 0.0
    patience: int = 1000
    beta: float = 0.2
    analog_rate: float = 1.5e-3
    digital_rate: float = 1e-3
    hidden: int = 200
    accumulate: bool = True
    noise_input: bool = False
    begin: Literal["random", "matched"] = "random"

    def supports(self, problem: Downlink) -> str | None:
        """Serves fully connected phase shifters with a chain for each user."""
        reason = super().supports(problem) or needs_full_connection(problem)
        size = None if reason else problem.frontend.scaled_feed().abs()
        if size is not None and bool(((size / size.mean() - 1.0).abs() > 1e-6).any()):
            return "it needs a feed of equal amplitudes; use vpk or vp"
        return reason

    def variant(self, index: int) -> Solver:
        """Other random numbers for every start: the generator goes on."""
        return self if index == 0 else replace(self, begin="random")

    def init(
        self, problem: Downlink, generator: torch.Generator, start: State | None = None
    ) -> State:
        """Draw networks and phases, zero-forcing D; or begin at ``start``."""
        check_count("hidden", self.hidden)
        for name in ("beta", "analog_rate", "digital_rate"):
            value = getattr(self, name)
            if not 0.0 <= value < float("inf"):
                raise InputError(name, f"got {value!r}", "it must be finite and >= 0")
        like = problem.h.real
        digital_size = 2 * problem.chains * problem.users
        analog_size = 2 * problem.frontend.antennas * problem.chains
        networks = [
            draw_network((size, self.hidden, size), problem.batch, generator, like)
            for size in (digital_size, analog_size)
        ]
        if start is None:
            pick = matched_control if self.begin == "matched" else random_control
            control = pick(problem, generator)
            link = problem.link(control)
            digital = problem.rescale(link, zero_forcing(link))
        else:
            control, digital = start.control, start.digital
        features = [
            self._features(problem.batch, size, generator, like)
            for size in (digital_size, analog_size)
        ]
        memory = self._memory(problem, (control, digital), networks, features)
        link = problem.link(control)
        return State(control, digital, problem.utility(link, digital), memory)

    def _features(self, batch: int, size: int, generator: torch.Generator, like: Tensor) -> Tensor:
        if not self.noise_input:
            return like.new_zeros(batch, size)
        one = torch.randn(size, generator=generator, dtype=torch.float64)
        return one.to(like).expand(batch, size).clone()

    def _memory(
        self,
        problem: Downlink,
        start: tuple[Tensor, Tensor],
        networks: list[Network],
        features: list[Tensor],
    ) -> Memory:
        unit = unit_problem(problem)
        real = problem.h.real.dtype
        control, digital = start
        # The networks tell users apart: strongest first, so that their order does not matter.
        order = unit.h.abs().square().sum(dim=2).argsort(dim=1, descending=True, stable=True)
        loss = Precoding(
            unit.h.gather(1, order.unsqueeze(2).expand_as(unit.h)),
            unit.noise.to(real).unsqueeze(1).expand(-1, problem.users),
            unit.user_weights.to(real).gather(1, order),
            self.beta,
        )
        # F has modulus 1 whatever the feed; its size goes into the digital part.
        analog = torch.sgn(problem.analog(control)[:, 0])
        size = problem.analog(control).abs().mean(dim=(1, 2, 3))
        amplitude = unit.amplitude.to(real) / size
        first = (digital[:, 0] / amplitude[:, None, None]).to(problem.h.dtype)
        first = first.gather(2, order.unsqueeze(1).expand_as(first))
        return Memory(
            loss=loss,
            analog=analog,
            digital=first,
            amplitude=amplitude,
            places=order.argsort(dim=1),
            digital_network=networks[0],
            analog_network=networks[1],
            digital_features=features[0],
            analog_features=features[1],
            last=first,
            count=0,
        )

    def step(self, problem: Downlink, state: State) -> State:
        """One iteration: both networks run, the loss goes back through them, Adam steps."""
        memory: Memory = state.memory
        loss, count = memory.loss, memory.count + 1
        rows, columns = memory.analog.shape[1], memory.digital.shape[2]
        chains = memory.digital.shape[1]
        analog_in = self._fed(
            memory.analog_features, loss.analog_gradient(memory.analog, memory.last)
        )
        change, analog_hidden = memory.analog_network(analog_in)
        z = memory.analog + from_features(change, rows, chains)
        analog = torch.sgn(z)
        digital_in = self._fed(
            memory.digital_features, loss.digital_gradient(analog, memory.digital)
        )
        change, digital_hidden = memory.digital_network(digital_in)
        raw = memory.digital + from_features(change, chains, columns)
        analog, digital, of_z, of_raw = loss.normalised(z, raw)
        # The program back-propagates twice into the same sums.
        of_z, of_raw = 2.0 * as_features(of_z), 2.0 * as_features(of_raw)
        carried = self.accumulate and not self.noise_input
        new = replace(
            memory,
            analog_network=memory.analog_network.trained(
                analog_in, analog_hidden, of_z, self.analog_rate, count
            ),
            digital_network=memory.digital_network.trained(
                digital_in, digital_hidden, of_raw, self.digital_rate, count
            ),
            analog_features=analog_in + of_z if carried else memory.analog_features,
            digital_features=digital_in + of_raw if carried else memory.digital_features,
            last=digital,
            count=count,
        )
        return self._state(problem, analog, digital, new)

    def _fed(self, features: Tensor, gradient: Tensor) -> Tensor:
        return features if self.noise_input else features + as_features(gradient)

    def _state(self, problem: Downlink, analog: Tensor, digital: Tensor, memory: Memory) -> State:
        circle = relaxed(problem.frontend.element_set)
        control = circle.radius * analog * torch.sgn(problem.frontend.scaled_feed()[0]).conj()
        columns = memory.places.unsqueeze(1).expand_as(digital)
        scaled = (memory.amplitude[:, None, None] * digital.gather(2, columns)).unsqueeze(1)
        utility = problem.utility(problem.link(control), scaled)
        return State(control, scaled, utility, memory)
