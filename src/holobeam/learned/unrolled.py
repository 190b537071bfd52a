"""Unrolled block-coordinate WMMSE whose amplitude moves are learned (``unrolled-mmse``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn import functional

from holobeam.learned import compiled
from holobeam.learned.network import Network, Trace
from holobeam.learned.scene import (
    Scene,
    link_rate,
    radiated,
    received_power,
    see,
    solve_ridged,
    unserved,
)
from holobeam.problems.downlink import Downlink

_CLIP = 3.0
_FLOOR = 1e-4
_EDGE_CLIP = 10.0


@dataclass(frozen=True, eq=False)
class Point:
    """Amplitudes and the digital precoder that goes with them, with all that both imply.

    Attributes
    ----------
    control
        ``(B, N)`` amplitudes >= 0.
    effective, metric
        ``E = H^H diag(a) M`` and ``S = M^H diag(a)^2 M``.
    digital
        ``(B, R, K)``, at a scale of its own.
    """

    control: Float[Tensor, "batch antennas"]
    effective: Complex[Tensor, "batch users rf_chains"]
    metric: Complex[Tensor, "batch rf_chains rf_chains"]
    digital: Complex[Tensor, "batch rf_chains users"]


@dataclass(frozen=True, eq=False)
class Operating:
    """Receivers and weights at a point.

    Attributes
    ----------
    received
        ``E V``.
    decoders, mse_weights, cost
        u, w and ``w |u|^2``, ``(B, K)``.
    """

    received: Complex[Tensor, "batch users users"]
    decoders: Complex[Tensor, "batch users"]
    mse_weights: Float[Tensor, "batch users"]
    cost: Float[Tensor, "batch users"]


def operate(scene: Scene, point: Point) -> Operating:
    """Matched receivers and weights, the noise folded."""
    received = point.effective @ point.digital
    gains = received_power(received)
    own = torch.eye(gains.shape[1], dtype=torch.bool, device=gains.device)
    noise = scene.noise * radiated(point.metric, point.digital)
    interference = gains.masked_fill(own, 0.0).sum(dim=2) + noise.unsqueeze(1)
    total = interference + gains.diagonal(dim1=1, dim2=2)
    decoders = received.diagonal(dim1=1, dim2=2) / total
    weights = total / interference
    cost = weights * (decoders.real.square() + decoders.imag.square())
    return Operating(received, decoders, weights, cost)


def precode(scene: Scene, point: Point, cost: Tensor, wanted: Tensor) -> Point:
    """Exact minimiser over V of the folded error; ``wanted`` is ``w u``, ``(B, K)``."""
    back = point.effective.mH
    price = scene.noise * cost.sum(dim=1)
    system = (back * cost.unsqueeze(1)) @ point.effective + price[:, None, None] * point.metric
    digital = solve_ridged(system, back * wanted.unsqueeze(1))
    # The scale is free; at 1 nothing under- or overflows however many layers follow.
    scale = radiated(point.metric, digital).rsqrt()
    return Point(point.control, point.effective, point.metric, digital * scale[:, None, None])


def settle(scene: Scene, control: Tensor, digital: Tensor | None = None) -> Point:
    """Two exact updates of V at new amplitudes, from unit receivers where V is not given."""
    effective, metric = scene.effective(control), scene.metric(control)
    if digital is None:
        ones = torch.ones_like(effective[:, :, 0].real)
        empty = torch.zeros_like(effective.mH)
        first = precode(scene, Point(control, effective, metric, empty), ones, ones)
    else:
        first = Point(control, effective, metric, digital)
    for _ in range(1 if digital is None else 2):
        at = operate(scene, first)
        first = precode(scene, first, at.cost, at.mse_weights * at.decoders)
    return first


class Layer(nn.Module):
    """One learned move of all amplitudes at once.

    The exact move of every coordinate with the others held is known in closed form; networks
    shared by all elements say how far to go along it, and what to add.
    """

    def __init__(self, hidden: int, edge_width: int, node_width: int) -> None:
        super().__init__()
        self.edge = nn.Linear(6, edge_width)
        self.edge_state = nn.Linear(hidden, edge_width, bias=False)
        self.pool = nn.Linear(edge_width, hidden)
        self.node = nn.Linear(5 + 2 * hidden, node_width)
        self.context = nn.Linear(hidden, node_width, bias=False)
        self.out = nn.Linear(node_width, hidden + 2)
        with torch.no_grad():
            self.out.weight[:2].zero_()
            self.out.bias[:2].zero_()

    def forward(
        self, edges: Tensor, nodes: Tensor, state: Float[Tensor, "batch antennas hidden"]
    ) -> Float[Tensor, "batch antennas outputs"]:
        """Step length, correction and change of state of every element.

        ``edges`` is ``(B, N, K, 6)``, ``nodes`` ``(B, N, 5)``.
        """
        messages = self.edge(edges) + self.edge_state(state).unsqueeze(2)
        messages = functional.silu(messages)
        # Means and linear maps commute: pooled first, a K-th and an N-th of the work.
        local = self.pool(messages.mean(dim=2))
        everywhere = self.pool(messages.mean(dim=1)).amax(dim=1)
        inner = self.node(torch.cat([nodes, local, state], dim=2))
        inner = functional.silu(inner + self.context(everywhere).unsqueeze(1))
        out: Tensor = self.out(inner)
        return out


class UnrolledMmse(Network):
    """T learned iterations of ``mmse``.

    Parameters
    ----------
    layers
        T.
    hidden
        Channels of the state that every element carries from layer to layer.
    edge_width, node_width
        Hidden widths of the two networks of a layer.

    Notes
    -----
    Equivariant to permutations of users and of elements (with their rows of the feed), to phases
    of the users and to the basis of the feed; any N, K and R. Source: docs/methods.md, section 19.
    """

    startable: ClassVar[bool] = True

    def __init__(
        self, layers: int = 6, hidden: int = 24, edge_width: int = 32, node_width: int = 48
    ) -> None:
        super().__init__()
        self.hidden = hidden
        self.layers = nn.ModuleList(Layer(hidden, edge_width, node_width) for _ in range(layers))

    def train(self, mode: bool = True) -> UnrolledMmse:
        """Switch between training and evaluation, which packs the weights anew."""
        compiled.forget(self)
        super().train(mode)
        return self

    def refusal(self, problem: Downlink) -> str | None:
        """Reason why it can't serve the problem, or None."""
        return unserved(problem)

    def training_start(
        self, shape: tuple[int, ...], share: float, generator: torch.Generator
    ) -> Tensor | None:
        """Amplitudes 1, and random ones for a share of the channels."""
        if share <= 0.0:
            return None
        drawn = torch.rand(shape, generator=generator)
        chosen = torch.rand(shape[0], generator=generator) < share
        return torch.where(chosen[:, None, None], drawn, torch.ones_like(drawn))

    def forward(self, problem: Downlink, control: Tensor | None = None) -> Trace:
        """Walk all layers, from amplitudes 1 or from ``control``.

        Designs on a CPU, without gradients and in evaluation mode, take the compiled twin.
        """
        if compiled.serves(self, problem):
            return compiled.walk(self, problem, control)
        scene = see(problem)
        if control is None:
            amplitudes = torch.ones_like(scene.columns[:, :, 0].real)
        else:
            amplitudes = control[:, :, 0].real
        points, utilities = self.walk(scene, amplitudes)
        last = points[-1]
        digital = (scene.back @ last.digital).to(problem.h.dtype)
        return Trace(last.control.unsqueeze(2).to(problem.h.dtype), digital.unsqueeze(1), utilities)

    def best(self, problem: Downlink, passes: int) -> Trace:
        """Best design of every channel in some passes; the compiled twin makes all of them."""
        if compiled.serves(self, problem):
            return compiled.walk(self, problem, None, passes)
        return super().best(problem, passes)

    def walk(
        self, scene: Scene, amplitudes: Float[Tensor, "batch antennas"]
    ) -> tuple[list[Point], tuple[Tensor, ...]]:
        """Points and rates after every layer."""
        point = settle(scene, amplitudes)
        state = amplitudes.new_zeros(*amplitudes.shape, self.hidden)
        points, utilities = [], []
        for layer in self.layers:
            point, state = self._move(scene, point, state, layer)
            points.append(point)
            noise = scene.noise * radiated(point.metric, point.digital)
            gains = received_power(point.effective @ point.digital)
            utilities.append(link_rate(gains, noise))
        return points, tuple(utilities)

    def _move(
        self, scene: Scene, point: Point, state: Tensor, layer: nn.Module
    ) -> tuple[Point, Tensor]:
        edges, nodes, move = features(scene, point, state)
        out = layer(edges, nodes, state)
        step = 0.5 * torch.sigmoid(out[..., 0]) * move
        control = (point.control + step + out[..., 1]).relu() + _FLOOR
        control = control / control.amax(dim=1, keepdim=True)
        return settle(scene, control, point.digital), state + out[..., 2:]


def features(
    scene: Scene, point: Point, state: Tensor
) -> tuple[Float[Tensor, "batch n k 6"], Float[Tensor, "batch n 5"], Float[Tensor, "batch n"]]:
    """What a layer sees of every edge and every element, and the exact coordinate moves."""
    at = operate(scene, point)
    streams = scene.feed @ point.digital
    power = (streams.real.square() + streams.imag.square()).sum(dim=2, keepdim=True)
    heard = scene.columns.real.square() + scene.columns.imag.square()
    price = (scene.noise * at.cost.sum(dim=1))[:, None, None]
    pull = scene.columns.conj() * streams
    wanted = (pull * (at.mse_weights * at.decoders.conj()).unsqueeze(1)).real
    # Column k: what user k hears, each stream with the conjugate of what it heard of it.
    echo = (scene.columns.conj() * (streams @ at.received.mH)).real
    echo = at.cost.unsqueeze(1) * echo
    own = at.cost.unsqueeze(1) * heard * power
    curvature = own.sum(dim=2, keepdim=True) + price * power
    curvature = curvature + 1e-12 * curvature.mean(dim=1, keepdim=True) + 1e-30
    amplitude = point.control.unsqueeze(2)
    gradient = wanted.sum(dim=2, keepdim=True)
    slope = gradient - echo.sum(dim=2, keepdim=True) - price * power * amplitude
    move = (slope / curvature).clamp(-_CLIP, _CLIP)
    loud = scene.loudness[:, None, None]
    level = (at.mse_weights.log() / 3.0).unsqueeze(1)
    edges = torch.stack(
        [
            (wanted / curvature).clamp(-_EDGE_CLIP, _EDGE_CLIP),
            (echo / curvature).clamp(-_EDGE_CLIP, _EDGE_CLIP),
            own / curvature,
            level.expand_as(own),
            amplitude.expand_as(own),
            loud.expand_as(own),
        ],
        dim=3,
    )
    nodes = torch.cat(
        [
            amplitude,
            move,
            (curvature / curvature.mean(dim=1, keepdim=True)).log(),
            (gradient / curvature).clamp(-_CLIP, _CLIP),
            loud.expand_as(amplitude),
        ],
        dim=2,
    )
    return edges, nodes, move.squeeze(2)
