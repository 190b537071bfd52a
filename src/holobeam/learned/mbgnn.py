"""Graph networks of elements and users: the model-based one of the mb-dnn paper (``mb-dnn``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from holobeam.errors import InputError, check_choice, check_count
from holobeam.learned import compiled, compiled_graph
from holobeam.learned.graph_layer import ACTIVATIONS, VARIANTS, GraphLayer, Message
from holobeam.learned.heads import Shares, amplitudes, graph_head, project, structure, trace
from holobeam.learned.network import Network, Trace
from holobeam.learned.scene import Scene, plain_feed, see, unserved
from holobeam.learned.unrolled import Point
from holobeam.problems.downlink import Downlink


class MbDnn(Network):
    """Layers that subtract from every beam what other users would hear of it.

    Parameters
    ----------
    rf_chains
        R of a network that sees the feed; one that does not takes any.
    feed_aware
        Whether edges begin with ``conj(M_nr) h_nk`` and elements with ``M_nr`` beside the channel.
        Without it amplitudes depend on the channel alone, as printed.
    variant
        ``corrected``; ``conjugate``: the inner product of equation (10); ``literal``: that of
        equations (11) and (12), and beams that begin at ``conj(h)``.
    widths
        Real channels of every layer, even; the last is 2.
    activations
        ``printed`` (tanh on elements, sigmoid on edges), ``swapped``, or ``residual`` (SiLU).
        Amplitudes leave through a sigmoid in any case.
    head
        ``ls`` (printed), ``wls`` or ``mmse``.
    snr_aware
        Whether channels are scaled to unit power and elements told the SNR that is left: one
        network for all SNRs. Else it sees the channels as they are, as printed.

    Notes
    -----
    Equivariant to permutations of users and of elements (with their rows of the feed where it
    sees them); any N and K. Source: mb-dnn paper; docs/methods.md, section 20.
    """

    message: ClassVar[Message] = "interference"

    def __init__(
        self,
        rf_chains: int = 3,
        *,
        feed_aware: bool = True,
        variant: str = "corrected",
        widths: Sequence[int] = (16, 16, 16, 2),
        activations: str = "residual",
        head: str = "mmse",
        snr_aware: bool = True,
    ) -> None:
        super().__init__()
        self.rf_chains = check_count("rf_chains", rf_chains)
        self.feed_aware, self.snr_aware = feed_aware, snr_aware
        self.variant = check_choice("variant", variant, VARIANTS)
        self.head = graph_head(head)
        chosen = check_choice("activations", activations, ACTIVATIONS)
        self.widths = _even(widths)
        seen = 2 * rf_chains if feed_aware else 0
        edges, vertices = 2 + seen, 1 + seen + int(snr_aware)
        layers = []
        for number, width in enumerate(self.widths):
            last = number == len(self.widths) - 1
            layer = GraphLayer(
                edges,
                vertices,
                width,
                message=self.message,
                variant=self.variant,
                activations=chosen,
                last=last,
            )
            layers.append(layer)
            last_edges, edges, vertices = edges, width, width
        self.layers = nn.ModuleList(layers)
        self.shares: Shares | None = None
        if self.head == "mmse":
            # Two numbers a user take the place of the last edges.
            self.shares = Shares(last_edges)
            del layers[-1].edge, layers[-1].others, layers[-1].edge_vertex

    def refusal(self, problem: Downlink) -> str | None:
        """Reason why it can't serve the problem, or None."""
        reason = unserved(problem)
        if reason is not None or not self.feed_aware:
            return reason
        found = problem.frontend.rf_chains
        if found != self.rf_chains:
            return f"it sees {self.rf_chains} RF chains, not {found}; use mb-dnn-plus for any R"
        return None

    def forward(self, problem: Downlink, control: Tensor | None = None) -> Trace:
        """Design for a batch of channels, in the compiled twin where it serves."""
        del control
        if compiled.serves(self, problem) and compiled_graph.knows(self):
            return compiled.design(problem, *compiled_graph.walk(self, problem))
        scene = see(problem)
        return trace(problem, scene, self.design(problem, scene))

    def train(self, mode: bool = True) -> MbDnn:
        """Switch between training and evaluation, which packs the weights anew."""
        compiled.forget(self)
        super().train(mode)
        return self

    def design(self, problem: Downlink, scene: Scene) -> Point:
        """Amplitudes and digital precoder, in the basis of the scene."""
        columns = scene.columns if self.snr_aware else problem.h[:, 0].mH
        edges, vertices = self._first(problem, scene, columns)
        amplitude = None
        for layer in self.layers[:-1]:
            edges, vertices = layer(columns, amplitude, edges, vertices)
            # A complex channel takes the mean of its two vertex channels, as the output does.
            amplitude = vertices.view(*vertices.shape[:2], -1, 2).mean(dim=3)
        last = self.layers[-1]
        assert isinstance(last, GraphLayer)
        shares = last.vertex_update(edges, vertices).mean(dim=2)
        chosen = amplitudes(shares)
        if self.shares is not None:
            return structure(scene, chosen, self.shares(scene, edges.mean(dim=1)))
        wanted = torch.view_as_complex(last.edge_update(columns, amplitude, edges, vertices))
        return project(scene, chosen, wanted, weighted=self.head == "wls")

    def _first(
        self, problem: Downlink, scene: Scene, columns: Complex[Tensor, "batch antennas users"]
    ) -> tuple[Float[Tensor, "batch n k edges"], Float[Tensor, "batch n vertices"]]:
        """States before the first layer."""
        begin = columns.conj() if self.variant == "literal" else columns
        beams, level = begin.unsqueeze(3), torch.ones_like(columns[:, :, :1].real)
        parts = [level]
        if self.snr_aware:
            parts.append(scene.loudness[:, None, None].expand_as(level))
        if self.feed_aware:
            feed = plain_feed(problem.frontend.scaled_feed()[0])
            beams = torch.cat([beams, begin.unsqueeze(3) * feed.conj().unsqueeze(1)], dim=3)
            parts.append(torch.view_as_real(feed).flatten(1).expand(len(columns), -1, -1))
        return torch.view_as_real(beams.resolve_conj()).flatten(3), torch.cat(parts, dim=2)


def _even(widths: Sequence[int]) -> tuple[int, ...]:
    sizes = tuple(widths)
    if len(sizes) < 2 or sizes[-1] != 2 or any(check_count("widths", w) % 2 for w in sizes):
        wrong = f"got {sizes}"
        raise InputError("widths", wrong, "give at least two even numbers, the last of them 2")
    return sizes
