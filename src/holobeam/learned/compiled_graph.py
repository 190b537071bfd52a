"""Bridge from ``mb-dnn`` to its compiled twin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from holobeam.learned.compiled import packed_weights, panels, plain, row, scene_arrays, wide
from holobeam.learned.scene import span
from holobeam.problems.downlink import Downlink
from holobeam.solvers.judged import plain_array

if TYPE_CHECKING:
    from holobeam.learned.graph_layer import GraphLayer
    from holobeam.learned.mbgnn import MbDnn


def knows(network: MbDnn) -> bool:
    """Whether a network is of the kind that was compiled: corrected, residual, its own SNR seen."""
    layers: list[GraphLayer] = list(network.layers)  # type: ignore[arg-type]
    return (
        network.shares is not None
        and network.snr_aware
        and network.variant == "corrected"
        and network.message == "interference"
        and layers[0].activations == "residual"
    )


def walk(network: MbDnn, problem: Downlink) -> tuple[Tensor, Tensor]:
    """Amplitudes up to scale ``(B, N)`` and logits ``(B, K, 2)`` of :meth:`MbDnn.design`."""
    from holobeam.kernels.cpu import available_threads
    from holobeam.kernels.graph import walk as run

    antennas = problem.frontend.antennas
    packed = packed_weights(network, lambda own: _pack(own, antennas), antennas)
    real = problem.noise_power
    shares = real.new_empty((problem.batch, antennas))
    logits = real.new_empty((problem.batch, problem.users, 2))
    feed = span(problem.frontend).plain_array
    run(
        (*scene_arrays(problem), feed if network.feed_aware else feed[:, :0].copy()),
        packed,
        (plain_array(shares), plain_array(logits)),
        available_threads(),
    )
    return shares, logits


def _pack(network: MbDnn, antennas: int) -> tuple[Any, Any, tuple[int, ...]]:
    """Weights, places of the layers, and places of the head, see ``kernels/graph.py``."""
    parts: list[Any] = []
    layers = []
    for layer in list(network.layers)[:-1]:
        layers.append(_pack_layer(layer, antennas, parts))  # type: ignore[arg-type]
    head = _pack_head(network, parts)
    dtype = plain_array(network.layers[0].vertex.weight).dtype  # type: ignore[union-attr, arg-type]
    weights = np.concatenate([part.ravel() for part in parts]).astype(dtype)
    return weights, np.array(layers, dtype=np.int64), head


def _add(parts: list[Any], part: Any) -> int:
    """Append an array; where it begins."""
    at = sum(int(other.size) for other in parts)
    parts.append(part)
    return at


def _pack_layer(layer: GraphLayer, antennas: int, parts: list[Any]) -> Any:
    """Weights of a layer; its row of ``Places``.

    The mean over the other elements is a sum over all, which belongs to the user, less the edge's
    own share, which goes into the weights of the edge.
    """
    from holobeam.kernels.graph import Places
    from holobeam.kernels.perceptron import padded

    edges, vertices = layer.gather.in_features, layer.vertex.in_features
    width = layer.vertex.out_features
    others = plain(layer.others) / max(antennas - 1, 1)
    edge = plain(layer.edge)
    own, message = edge[:, :edges] - others, edge[:, edges:]
    both = np.concatenate([_lanes(plain(layer.vertex)), _lanes(plain(layer.gather))], axis=1)
    return Places(
        padded(edges), padded(vertices), padded(width),
        int(edges == width), int(vertices == width),
        _add(parts, panels(np.concatenate([_lanes(own), _lanes(message)], axis=1))),
        _add(parts, panels(_lanes(others))),
        _add(parts, panels(_lanes(plain(layer.edge_vertex)))),
        _add(parts, _lanes(wide(layer.edge_vertex.bias)[:, None])[:, 0]),
        _add(parts, panels(both)),
        _add(parts, _lanes(wide(layer.vertex.bias)[:, None])[:, 0]),
    )  # fmt: skip


def _pack_head(network: MbDnn, parts: list[Any]) -> tuple[int, ...]:
    """Weights of the last layer of elements and of the users' numbers; where they are."""
    from holobeam.kernels.perceptron import padded

    last: Any = network.layers[-1]
    assert network.shares is not None
    edges, vertices = last.gather.in_features, last.vertex.in_features
    vertex = _lanes(plain(last.vertex), rows=False)
    both = np.concatenate([vertex, _lanes(plain(last.gather), rows=False)], axis=1)
    inner = plain(network.shares.inner)
    inner = np.concatenate([_lanes(inner[:, :-3], rows=False), inner[:, -3:]], axis=1)
    return (
        padded(edges), padded(vertices),
        _add(parts, panels(both)), _add(parts, row(wide(last.vertex.bias))),
        _add(parts, panels(inner)), _add(parts, row(wide(network.shares.inner.bias))),
        _add(parts, panels(row(plain(network.shares.out).T).T)),
        _add(parts, row(wide(network.shares.out.bias))),
    )  # fmt: skip


def _lanes(matrix: Any, rows: bool = True) -> Any:
    """Weights whose inputs lie as in ``kernels/graph.py``, padded by zeros.

    ``rows``: whether outputs lie so too, else in their order.
    """
    from holobeam.kernels.graph import place
    from holobeam.kernels.perceptron import padded

    height, length = matrix.shape
    to = np.array([place(i) if rows else i for i in range(height)])
    out = np.zeros((padded(height), padded(length)))
    out[np.ix_(to, [place(i) for i in range(length)])] = matrix
    return out
