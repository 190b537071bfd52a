"""One layer of a graph of elements and users: messages along edges, states on elements."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn import functional

Variant = Literal["corrected", "literal", "conjugate"]
VARIANTS: tuple[Variant, ...] = ("corrected", "literal", "conjugate")
"""The right inner product, the one of equations (11)-(12), the one of equation (10)."""

Activations = Literal["printed", "swapped", "residual"]
ACTIVATIONS: tuple[Activations, ...] = ("printed", "swapped", "residual")
"""Tanh on vertices and sigmoid on edges, the reverse, SiLU with what was there before added."""

Message = Literal["interference", "mean"]

_TINY = 1e-9


def interference(
    columns: Complex[Tensor, "batch antennas users"],
    amplitude: Float[Tensor, "batch antennas channels"] | None,
    beams: Complex[Tensor, "batch antennas users channels"],
    variant: Variant = "corrected",
) -> Complex[Tensor, "batch antennas users channels"]:
    """What each beam sends towards the other users, along their masked channels.

    Entry (n, k) of a channel is ``sum_{i != k} g_ni (g_i^H d_k) / ||g_i||^2`` with
    ``g_ni = amplitude_n h_ni``: subtracted from ``d_k``, one other user hears nothing any more.

    Parameters
    ----------
    columns
        h_k.
    amplitude
        Real amplitudes of every channel; None for 1.
    beams
        d_k of every channel.
    variant
        ``conjugate`` takes the conjugate of the inner product, as in equation (10) of the mb-dnn
        paper, ``literal`` no conjugate at all, as in (11) and (12).

    Notes
    -----
    Two products of ``N x K`` and ``K x K C`` matrices for all channels together: the amplitudes
    are real, so they can be moved from the channel onto the beam. Source: docs/methods.md,
    section 20.
    """
    batch, antennas, users, channels = beams.shape
    power = columns.real.square() + columns.imag.square()
    if amplitude is None:
        masked = beams
        norms = power.sum(dim=1).unsqueeze(2)
    else:
        masked = beams * amplitude.unsqueeze(2)
        norms = power.mT @ amplitude.square()
    listen = columns.mT if variant == "literal" else columns.mH
    heard = (listen @ masked.reshape(batch, antennas, -1)).view(batch, users, users, channels)
    if variant == "conjugate":
        heard = heard.conj()
    own = torch.eye(users, dtype=torch.bool, device=columns.device).unsqueeze(2)
    heard = (heard / (norms + _TINY).unsqueeze(2)).masked_fill(own, 0.0)
    sent = (columns @ heard.reshape(batch, users, -1)).view_as(beams)
    return sent if amplitude is None else sent * amplitude.unsqueeze(2)


def mean_of_others(
    edges: Float[Tensor, "batch antennas users channels"], dim: int
) -> Float[Tensor, "batch antennas users channels"]:
    """Mean over all other entries of an axis; 0 where there are none."""
    others = max(edges.shape[dim] - 1, 1)
    return (edges.sum(dim=dim, keepdim=True) - edges) / others


class GraphLayer(nn.Module):
    """One update of edges and vertices with weights shared by all elements and users.

    Parameters
    ----------
    edges, vertices
        Real channels in, on every edge (element, user) and every vertex (element). Channels 2c and
        2c + 1 of an edge are real and imaginary part of its complex channel c.
    width
        Real channels out, both.
    message
        ``interference`` is the message of mb-dnn, ``mean`` that of 2dgnn.
    variant, activations
        Readings of the paper.
    last
        Of the network: edges stay linear, vertices end in (0, 1).
    """

    def __init__(
        self,
        edges: int,
        vertices: int,
        width: int,
        *,
        message: Message,
        variant: Variant,
        activations: Activations,
        last: bool,
    ) -> None:
        super().__init__()
        self.message, self.variant, self.activations = message, variant, activations
        self.last = last
        self.edge = nn.Linear(2 * edges, width, bias=False)
        self.others = nn.Linear(edges, width, bias=False)
        self.edge_vertex = nn.Linear(vertices, width)
        self.vertex = nn.Linear(vertices, width)
        self.gather = nn.Linear(edges, width, bias=False)

    def forward(
        self,
        columns: Complex[Tensor, "batch antennas users"],
        amplitude: Float[Tensor, "batch antennas complex_channels"] | None,
        edges: Float[Tensor, "batch antennas users edges"],
        vertices: Float[Tensor, "batch antennas vertices"],
    ) -> tuple[Float[Tensor, "batch antennas users width"], Float[Tensor, "batch antennas width"]]:
        """Update both; ``amplitude`` masks the channels of the message."""
        return self.edge_update(columns, amplitude, edges, vertices), self.vertex_update(
            edges, vertices
        )

    def edge_update(
        self, columns: Tensor, amplitude: Tensor | None, edges: Tensor, vertices: Tensor
    ) -> Float[Tensor, "batch antennas users width"]:
        """``phi(D W_d + e W_e + u W_u + A W_s + b)``."""
        others = max(edges.shape[1] - 1, 1)
        if self.message == "mean":
            message = mean_of_others(edges, 2)
        else:
            beams = torch.view_as_complex(edges.view(*edges.shape[:3], -1, 2))
            sent = interference(columns, amplitude, beams, self.variant)
            message = torch.view_as_real(sent).flatten(3)
        # The mean over other elements is that of all less the edge's own share: what is pooled
        # is multiplied once a user, not once an edge.
        out = self.edge(torch.cat([edges, message], dim=3))
        everyone = self.others(edges.sum(dim=1, keepdim=True))
        out = out + (everyone - self.others(edges)) / others
        out = out + self.edge_vertex(vertices).unsqueeze(2)
        return out if self.last else self._edge_activation(out, edges)

    def vertex_update(
        self, edges: Tensor, vertices: Tensor
    ) -> Float[Tensor, "batch antennas width"]:
        """``phi(A W_a + mean_k(D) W_b + b)``."""
        out: Tensor = self.vertex(vertices) + self.gather(edges.mean(dim=2))
        if self.last:
            return out.sigmoid()
        if self.activations == "residual":
            return _residual(out, vertices)
        return out.tanh() if self.activations == "printed" else out.sigmoid()

    def _edge_activation(self, out: Tensor, edges: Tensor) -> Tensor:
        if self.activations == "residual":
            return _residual(out, edges)
        return out.sigmoid() if self.activations == "printed" else out.tanh()


def _residual(out: Tensor, before: Tensor) -> Tensor:
    new = functional.silu(out)
    return new + before if new.shape[-1] == before.shape[-1] else new
