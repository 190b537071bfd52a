"""The graph network that sees the surface (``mb-dnn-plus``), alone and ahead of unrolled layers."""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn import functional

from holobeam.learned import compiled
from holobeam.learned.heads import (
    Shares,
    amplitudes,
    finish,
    graph_head,
    point_rate,
    project,
    structure,
    trace,
)
from holobeam.learned.network import Network, Trace
from holobeam.learned.scene import Scene, see, unserved
from holobeam.learned.unrolled import Point, UnrolledMmse
from holobeam.problems.downlink import Downlink

_LOUD = 1e-3


class ComplexLinear(nn.Module):
    """Complex-linear map of channels without a bias: it commutes with every phase."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs, 2) * (0.5 / inputs) ** 0.5)

    def forward(self, z: Complex[Tensor, "*axes inputs"]) -> Complex[Tensor, "*axes outputs"]:
        """``z W``."""
        return z @ torch.view_as_complex(self.weight)


class PlusLayer(nn.Module):
    """One layer; see :class:`MbPlus`."""

    def __init__(self, inputs: int, channels: int, vertices: int) -> None:
        super().__init__()
        self.amplitude = nn.Linear(vertices, inputs)
        self.mix = ComplexLinear(4 * inputs + 2, channels)
        self.inner = nn.Linear(vertices + 4 * channels + 1, 2 * vertices)
        self.out = nn.Linear(2 * vertices, vertices)
        self.gate_edge = nn.Linear(channels + 1, channels)
        self.gate_vertex = nn.Linear(vertices + 1, channels, bias=False)

    def forward(
        self,
        sight: Sight,
        beams: Complex[Tensor, "batch n k inputs"],
        vertices: Float[Tensor, "batch n vertices"],
    ) -> tuple[Complex[Tensor, "batch n k channels"], Float[Tensor, "batch n vertices"]]:
        """Gated update of the beams, and the new vertices."""
        alpha = self.amplitude(vertices).sigmoid() + 0.1
        z = self.mix(torch.cat([beams, *_terms(sight, alpha, beams), sight.begin], dim=3))
        turned = torch.view_as_real(z * sight.phase).flatten(3)
        told = [vertices, turned.mean(dim=2), turned.amax(dim=2), sight.loud]
        inner = functional.silu(self.inner(torch.cat(told, dim=2)))
        vertices = vertices + self.out(inner)
        gate = self.gate_edge(torch.cat([log_size(z), sight.size], dim=3))
        vertex = self.gate_vertex(torch.cat([vertices, sight.loud], dim=2))
        return z * (gate + vertex.unsqueeze(2)).sigmoid(), vertices


class Sight:
    """What all layers look at: the scene, its channel as a beam, sizes and phases.

    Parameters
    ----------
    scene
        What the network sees.
    """

    def __init__(self, scene: Scene) -> None:
        columns = scene.columns
        self.scene = scene
        self.antennas = columns.shape[1]
        self.power = columns.real.square() + columns.imag.square()
        size = (self.power + 1e-12).sqrt()
        self.size = size.unsqueeze(3)
        self.phase = (columns.conj() / (size + _LOUD)).unsqueeze(3)
        self.loud = scene.loudness[:, None, None].expand(-1, self.antennas, 1)
        self.begin = torch.stack([columns, self.through(columns)], dim=3)

    def through(self, x: Complex[Tensor, "batch n any"]) -> Complex[Tensor, "batch n any"]:
        """Project onto the span of the feed."""
        feed = self.scene.feed
        return feed @ (feed.mH @ x) / float(self.antennas)


def _terms(
    sight: Sight, alpha: Float[Tensor, "batch n channels"], beams: Complex[Tensor, "batch n k c"]
) -> tuple[Tensor, Tensor, Tensor]:
    """Interference, what the masked surface can radiate of a beam, and what its user hears."""
    batch, antennas, users, channels = beams.shape
    columns = sight.scene.columns
    masked = beams * alpha.unsqueeze(2)
    flat = masked.view(batch, antennas, -1)
    heard = (columns.mH @ flat).view(batch, users, users, channels)
    norms = sight.power.mT @ alpha.square() + _LOUD * antennas
    own = torch.eye(users, dtype=torch.bool, device=columns.device).unsqueeze(2)
    others = (heard / norms.unsqueeze(2)).masked_fill(own, 0.0)
    sent = (columns @ others.view(batch, users, -1)).view_as(beams) * alpha.unsqueeze(2)
    held = sight.through(flat).view_as(beams) * alpha.unsqueeze(2)
    kept = heard.diagonal(dim1=1, dim2=2).mT / float(antennas)
    return sent, held, columns.unsqueeze(3) * kept.unsqueeze(1)


def log_size(z: Tensor) -> Float[Tensor, "..."]:
    """``log(1 + |z|)``, differentiable at 0."""
    return (z.real.square() + z.imag.square() + 1e-12).sqrt().log1p()


class MbPlus(Network):
    """Layers of :class:`MbDnn` that also see what the masked surface can radiate.

    Parameters
    ----------
    layers
        T.
    channels
        Complex channels of an edge.
    vertices
        Real channels of an element.
    head
        ``mmse``, or ``wls`` and ``ls``, which project a free beam.

    Notes
    -----
    The surface enters through the projector onto the span of its feed: equivariant to permutations
    of users and of elements (with their rows of the feed), to phases of the users and to the basis
    of the feed; any N, K and R. Source: docs/methods.md, section 20.
    """

    def __init__(
        self, layers: int = 4, channels: int = 8, vertices: int = 16, head: str = "mmse"
    ) -> None:
        super().__init__()
        self.head = graph_head(head)
        self.begin = nn.Parameter(torch.zeros(vertices))
        sizes = [2, *[channels] * (layers - 1)]
        self.layers = nn.ModuleList(PlusLayer(size, channels, vertices) for size in sizes)
        self.element = nn.Linear(vertices, vertices)
        self.element_out = nn.Linear(vertices, 1)
        self.shares: Shares | None = None
        self.free: ComplexLinear | None = None
        if self.head == "mmse":
            self.shares = Shares(channels)
        else:
            self.free = ComplexLinear(channels + 2, 1)

    def refusal(self, problem: Downlink) -> str | None:
        """Reason why it can't serve the problem, or None."""
        return unserved(problem)

    def forward(self, problem: Downlink, control: Tensor | None = None) -> Trace:
        """Design for a batch of channels."""
        del control
        scene = see(problem)
        if self.shares is None:
            return trace(problem, scene, self.design(scene))
        shares, beams, _ = self._walk(scene)
        logits = self.shares(scene, log_size(beams).mean(dim=1))
        return finish(self, problem, scene, shares, logits)

    def design(self, scene: Scene) -> Point:
        """Amplitudes and digital precoder, in the basis of the scene."""
        shares, beams, sight = self._walk(scene)
        chosen = amplitudes(shares)
        if self.shares is not None:
            return structure(scene, chosen, self.shares(scene, log_size(beams).mean(dim=1)))
        assert self.free is not None
        target = self.free(torch.cat([beams, sight.begin], dim=3)).squeeze(3)
        # A target of what is radiated is one of ``wanted`` over the amplitudes: a^2 becomes a.
        weighted = self.head == "wls"
        wanted = target / chosen.unsqueeze(2) if weighted else target
        return project(scene, chosen, wanted, weighted=weighted)

    def _walk(self, scene: Scene) -> tuple[Tensor, Tensor, Sight]:
        """Amplitudes up to scale, the last beams, and what was looked at."""
        sight = Sight(scene)
        beams = sight.begin
        vertices = self.begin.expand(*scene.columns.shape[:2], -1)
        for number, layer in enumerate(self.layers):
            change, vertices = layer(sight, beams, vertices)
            beams = beams + change if number else change
        hidden = functional.silu(self.element(vertices))
        return self.element_out(hidden).squeeze(2).sigmoid(), beams, sight


class MbUnrolled(Network):
    """:class:`MbPlus` says where :class:`UnrolledMmse` begins.

    Parameters
    ----------
    layers
        Unrolled layers.
    hidden
        State of an element in them.
    plus_layers, channels, vertices, head
        Of the first network.

    Notes
    -----
    Utilities are those of the first network and of every unrolled layer. Source: docs/methods.md,
    section 20.
    """

    def __init__(
        self,
        layers: int = 3,
        hidden: int = 24,
        *,
        plus_layers: int = 4,
        channels: int = 8,
        vertices: int = 16,
        head: str = "mmse",
    ) -> None:
        super().__init__()
        self.first = MbPlus(plus_layers, channels, vertices, head=head)
        self.then = UnrolledMmse(layers, hidden)

    def refusal(self, problem: Downlink) -> str | None:
        """Reason why it can't serve the problem, or None."""
        return unserved(problem)

    def forward(self, problem: Downlink, control: Tensor | None = None) -> Trace:
        """Design for a batch of channels; the second network in its compiled twin if it serves."""
        del control
        if compiled.serves(self.then, problem):
            made = self.first(problem)
            last = compiled.walk(self.then, problem, made.control)
            return Trace(last.control, last.digital, (*made.utilities, *last.utilities))
        scene = see(problem)
        first = self.first.design(scene)
        points, rates = self.then.walk(scene, first.control)
        return trace(problem, scene, points[-1], (point_rate(scene, first), *rates))
