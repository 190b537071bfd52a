"""Bridge from ``unrolled-mmse`` to its compiled twin: tensors in, tensors out.

What runs there must be what :meth:`UnrolledMmse.walk` does in torch, which remains the oracle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from holobeam.learned.network import REAL, Trace, first_weight
from holobeam.learned.scene import orthonormal
from holobeam.problems.downlink import Downlink
from holobeam.solvers.judged import plain_array

if TYPE_CHECKING:
    from holobeam.kernels.unrolled import Packed
    from holobeam.learned.unrolled import Layer, UnrolledMmse

_KEY = "_compiled"


@dataclass
class _Kept:
    """What is worked out once for a network: its weights packed, and the last feed it met."""

    packed: Packed
    tables: list[tuple[dict[str, Any], str]]
    mark: list[int]
    feed: tuple[Tensor, Any, Any] | None = None


def serves(network: UnrolledMmse, problem: Downlink) -> bool:
    """Whether the compiled twin serves a network on a problem that it does not refuse."""
    first = first_weight(network)
    return not (
        first is None
        or network.training
        or torch.is_grad_enabled()
        or first.is_inference()  # nobody counts who writes to it
        or problem.h.device.type != "cpu"
        or torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or first.dtype != REAL[problem.h.dtype]
    )


def walk(
    network: UnrolledMmse, problem: Downlink, control: Tensor | None, passes: int = 1
) -> Trace:
    """Do what :meth:`UnrolledMmse.forward` does, compiled.

    The trace has the rates of every layer; after several passes, each from where the last one
    ended, the best pass of every channel and its rate.
    """
    from holobeam.kernels import unrolled as kernel
    from holobeam.kernels.cpu import available_threads

    kept = _kept(network)
    basis, back = _seen(kept, problem)
    h, shapes = problem.h, problem.shapes
    start = h.new_ones(shapes["control"]) if control is None else control.to(h.dtype)
    out = h.new_empty(shapes["control"]), h.new_empty(shapes["digital"])
    rates = h.real.new_empty((len(network.layers), problem.batch))
    kernel.walk(
        kernel.Scenes(
            plain_array(h[:, 0]),
            plain_array(problem.noise_power),
            plain_array(problem.power),
            plain_array(start),
            basis,
            back,
        ),
        kept.packed,
        kernel.Designs(out[0].numpy(), out[1].numpy(), rates.numpy()),
        passes,
        available_threads(),
    )
    return Trace(out[0], out[1], tuple(rates) if passes == 1 else (rates[-1],))


def forget(network: UnrolledMmse) -> None:
    """Drop what was kept of a network's weights."""
    network.__dict__.pop(_KEY, None)


def _kept(network: UnrolledMmse) -> _Kept:
    """Packed weights, packed anew where any of them was written to or replaced since."""
    kept: _Kept | None = network.__dict__.get(_KEY)
    if kept is None or kept.mark != _mark(kept.tables):
        tables = [
            (module._parameters, name)
            for module in network.layers.modules()
            for name in module._parameters
        ]
        kept = _Kept(pack(network), tables, _mark(tables))
        network.__dict__[_KEY] = kept
    return kept


def _mark(tables: list[tuple[dict[str, Any], str]]) -> list[int]:
    """Where the weights lie and how often they were written to."""
    mark: list[int] = []
    for table, name in tables:
        weight = table[name]
        if weight is not None:
            mark += (weight.data_ptr(), weight._version)
    return mark


def _seen(kept: _Kept, problem: Downlink) -> tuple[Any, Any]:
    """Basis of the feed and the way back, worked out where it is another than the last one."""
    feed, last = problem.frontend.scaled_feed()[0], kept.feed
    if last is None or last[0].dtype != feed.dtype or not torch.equal(last[0], feed):
        basis, back = (plain_array(part.to(torch.complex128)) for part in orthonormal(feed))
        # One assignment: threads that share a network may bring different feeds.
        last = kept.feed = (feed.clone(), basis, back)
    return last[1], last[2]


def pack(network: UnrolledMmse) -> Packed:
    """Weights of all layers as the kernel reads them."""
    from holobeam.kernels.unrolled import Packed, places

    first: Layer = network.layers[0]  # type: ignore[assignment]
    widths = (network.hidden, first.edge.out_features, first.node.out_features)
    layers = [_pack_layer(layer) for layer in network.layers]  # type: ignore[arg-type]
    dtype = first.edge.weight.detach().numpy().dtype
    return Packed(np.stack(layers).astype(dtype), widths, tuple(places(*widths)))


def _pack_layer(layer: Layer) -> Any:
    """Weights of a layer in one array, in the order of :class:`~holobeam.kernels.unrolled.Places`.

    Two linear maps in a row are one: the pooling of an element's own messages is multiplied into
    the network of the elements.
    """
    edge, edge_state, edge_bias = _plain(layer.edge), _plain(layer.edge_state), layer.edge.bias
    pool, pool_bias = _plain(layer.pool), _wide(layer.pool.bias)
    nodes, local, state = np.split(_plain(layer.node), [5, 5 + len(pool)], axis=1)
    amplitude, move, curvature, gradient, loudness = nodes.T
    seen = np.stack([move, curvature, gradient, loudness, amplitude], axis=1)
    out, out_bias = _plain(layer.out), _wide(layer.out.bias)
    wanted, echo, own, level, amplitude_of_edge, loudness_of_edge = edge.T
    parts = [
        _panels(np.column_stack([amplitude_of_edge, edge_state])),
        *map(_row, (wanted, echo, own, level, loudness_of_edge, _wide(edge_bias))),
        _panels(pool),
        _row(pool_bias),
        _panels(np.column_stack([_row((local @ pool).T).T, seen, state])),
        _row(_wide(layer.node.bias) + local @ pool_bias),
        _panels(_plain(layer.context)),
        _panels(np.roll(out, -2, axis=0)),
        _row(np.roll(out_bias, -2)),
    ]
    return np.concatenate([part.ravel() for part in parts])


def _plain(linear: torch.nn.Linear) -> Any:
    return _wide(linear.weight)


def _wide(weight: Tensor) -> Any:
    return weight.detach().double().numpy()


def _row(values: Any) -> Any:
    """Zeros behind the first axis, up to whole vectors."""
    from holobeam.kernels.perceptron import padded

    rest = padded(len(values)) - len(values)
    return np.concatenate([values, np.zeros((rest, *values.shape[1:]))])


def _panels(matrix: Any) -> Any:
    """``(width, inputs)`` weights as panels, see ``kernels/perceptron.py``."""
    from holobeam.kernels.vectors import LANES

    rows = _row(matrix)
    return rows.reshape(-1, LANES, rows.shape[1]).transpose(0, 2, 1)
