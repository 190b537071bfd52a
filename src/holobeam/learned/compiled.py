"""Bridges from networks to their compiled twins: tensors in, tensors out.

What runs there must be what the networks do in torch, which remains the oracle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from holobeam.learned.network import REAL, Network, Trace, first_weight
from holobeam.learned.scene import span
from holobeam.problems.downlink import Downlink
from holobeam.solvers.judged import plain_array

if TYPE_CHECKING:
    from holobeam.kernels.unrolled import Packed
    from holobeam.learned.unrolled import Layer, UnrolledMmse

_KEY = "_compiled"


@dataclass
class _Kept:
    """Packed weights of a network, and by what to tell that they are out of date."""

    packed: Any
    tables: list[tuple[dict[str, Any], str]]
    mark: list[int]
    key: int


def serves(network: Network, problem: Downlink) -> bool:
    """Whether compiled twins serve a network on a problem that it does not refuse."""
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

    packed = packed_weights(network, pack)
    basis, back = span(problem.frontend).arrays
    h, shapes = problem.h, problem.shapes
    start = h.new_ones(shapes["control"]) if control is None else control.to(h.dtype)
    out = h.new_empty(shapes["control"]), h.new_empty(shapes["digital"])
    rates = h.real.new_empty((len(network.layers), problem.batch))
    kernel.walk(
        kernel.Scenes(*scene_arrays(problem), plain_array(start), basis, back),
        packed,
        kernel.Designs(out[0].numpy(), out[1].numpy(), rates.numpy()),
        passes,
        available_threads(),
    )
    return Trace(out[0], out[1], tuple(rates) if passes == 1 else (rates[-1],))


def design(problem: Downlink, shares: Tensor, logits: Tensor) -> Trace:
    """Do what ``structure`` of ``learned/heads.py`` does, compiled.

    Amplitudes are ``shares`` ``(B, N)``, up to scale; ``logits`` are ``(B, K, 2)``.
    """
    from holobeam.kernels.cpu import available_threads
    from holobeam.kernels.structure import design as run

    h, shapes = problem.h, problem.shapes
    out = h.new_empty(shapes["control"]), h.new_empty(shapes["digital"])
    rates = logits.new_empty(problem.batch)
    run(
        (*scene_arrays(problem), *span(problem.frontend).arrays),
        plain_array(shares),
        plain_array(logits),
        (out[0].numpy(), out[1].numpy(), rates.numpy()),
        available_threads(),
    )
    return Trace(out[0], out[1], (rates,))


def features(problem: Downlink) -> Tensor:
    """Columns and loudness of a scene as a plain network reads them, ``(B, 2 N K + 1)``."""
    from holobeam.kernels.cpu import available_threads
    from holobeam.kernels.structure import tell

    h = problem.h
    seen = problem.noise_power.new_empty((problem.batch, 2 * h.shape[2] * h.shape[3] + 1))
    tell(scene_arrays(problem), seen.numpy(), available_threads())
    return seen


def scene_arrays(problem: Downlink) -> tuple[Any, Any, Any]:
    """Channels, noise and budget as kernels of networks read them."""
    parts = problem.h[:, 0], problem.noise_power, problem.power
    return plain_array(parts[0]), plain_array(parts[1]), plain_array(parts[2])


def forget(network: Network) -> None:
    """Drop what was kept of a network's weights."""
    network.__dict__.pop(_KEY, None)


def packed_weights(network: Any, pack: Callable[[Any], Any], key: int = 0) -> Any:
    """Packed weights, packed anew where any of them was written to or replaced, or for a new key.

    ``pack`` is called with the network.
    """
    kept: _Kept | None = network.__dict__.get(_KEY)
    if kept is None or kept.key != key or kept.mark != _mark(kept.tables):
        tables = [
            (module._parameters, name)
            for module in network.modules()
            for name in module._parameters
        ]
        kept = _Kept(pack(network), tables, _mark(tables), key)
        network.__dict__[_KEY] = kept
    return kept.packed


def _mark(tables: list[tuple[dict[str, Any], str]]) -> list[int]:
    """Where the weights lie and how often they were written to."""
    mark: list[int] = []
    for table, name in tables:
        weight = table[name]
        if weight is not None:
            mark += (weight.data_ptr(), weight._version)
    return mark


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
    edge, edge_state, edge_bias = plain(layer.edge), plain(layer.edge_state), layer.edge.bias
    pool, pool_bias = plain(layer.pool), wide(layer.pool.bias)
    nodes, local, state = np.split(plain(layer.node), [5, 5 + len(pool)], axis=1)
    amplitude, move, curvature, gradient, loudness = nodes.T
    seen = np.stack([move, curvature, gradient, loudness, amplitude], axis=1)
    out, out_bias = plain(layer.out), wide(layer.out.bias)
    wanted, echo, own, level, amplitude_of_edge, loudness_of_edge = edge.T
    parts = [
        panels(np.column_stack([amplitude_of_edge, edge_state])),
        *map(row, (wanted, echo, own, level, loudness_of_edge, wide(edge_bias))),
        panels(pool),
        row(pool_bias),
        panels(np.column_stack([row((local @ pool).T).T, seen, state])),
        row(wide(layer.node.bias) + local @ pool_bias),
        panels(plain(layer.context)),
        panels(np.roll(out, -2, axis=0)),
        row(np.roll(out_bias, -2)),
    ]
    return np.concatenate([part.ravel() for part in parts])


def plain(linear: torch.nn.Linear) -> Any:
    """Weights of a linear map, in double precision."""
    return wide(linear.weight)


def wide(weight: Tensor) -> Any:
    """Array of a tensor, in double precision."""
    return weight.detach().double().numpy()


def row(values: Any) -> Any:
    """Zeros behind the first axis, up to whole vectors."""
    from holobeam.kernels.perceptron import padded

    rest = padded(len(values)) - len(values)
    return np.concatenate([values, np.zeros((rest, *values.shape[1:]))])


def panels(matrix: Any) -> Any:
    """``(width, inputs)`` weights as panels, see ``kernels/perceptron.py``."""
    from holobeam.kernels.vectors import LANES

    rows = row(matrix)
    return rows.reshape(-1, LANES, rows.shape[1]).transpose(0, 2, 1)
