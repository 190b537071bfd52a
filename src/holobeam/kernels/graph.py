"""The graph network ``mb-dnn``, compiled: one channel after the other, weights in packed form.

``learned/mbgnn.py`` and ``learned/graph_layer.py`` are the oracles. Edges carry complex channels:
eight of them fill a vector, real parts in its first half. States of elements lie alike, two
channels for each complex one, so that what masks a complex channel is the mean of the two halves.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from holobeam.kernels.compiling import compiled
from holobeam.kernels.cpu import spread
from holobeam.kernels.options import KEPT, QUIET, WITHIN
from holobeam.kernels.perceptron import affine, padded
from holobeam.kernels.scene import look
from holobeam.kernels.vectors import (
    LANES,
    constant,
    entry,
    fma,
    load,
    sigmoid,
    silu,
    store,
    swap,
    turn,
)

HALF = LANES // 2
TINY = 1e-9
FAINT = 1e-6


class Places(NamedTuple):
    """Widths of a layer and where its weights begin in the one array of all.

    ``edges``, ``vertices``, ``width``: padded inputs and outputs; ``same_edges``,
    ``same_vertices``: whether what was there before is added. Matrices are in panels, see
    ``perceptron.py``.
    """

    edges: int
    vertices: int
    width: int
    same_edges: int
    same_vertices: int
    edge: int
    others: int
    share: int
    share_bias: int
    vertex: int
    vertex_bias: int


@njit(**QUIET)
def place(channel: int) -> int:
    """Where a real channel lies: of a pair the first in the first half of a vector."""
    pair = channel // 2
    return pair // HALF * LANES + channel % 2 * HALF + pair % HALF


@njit(**QUIET)
def _first(
    columns: Any, feed: Any, stride: int, loudness: float, edges: Any, vertices: Any
) -> None:
    """States before the first layer, in place; of the feed where there is one."""
    (edge, apart), (vertex, beside) = edges, vertices
    chains, antennas = feed.shape[1], vertex.shape[0] // beside
    users = edge.shape[0] // (apart * antennas)
    for n in range(antennas):
        vertex[n * beside], vertex[n * beside + HALF] = 1.0, loudness
        for r in range(chains):
            vertex[n * beside + place(2 + 2 * r)] = feed[n, r].real
            vertex[n * beside + place(3 + 2 * r)] = feed[n, r].imag
        for k in range(users):
            row = (k * antennas + n) * apart
            re, im = columns[0][k * stride + n], columns[1][k * stride + n]
            edge[row], edge[row + HALF] = re, im
            for r in range(chains):
                a, b = feed[n, r].real, feed[n, r].imag
                edge[row + place(2 * r + 2)] = re * a + im * b
                edge[row + place(2 * r + 3)] = im * a - re * b


@njit(**WITHIN)
def _mask(states: Any, sizes: Any, columns: Any, panel: int, plain: bool, room: Any) -> None:
    """Amplitudes of one vector of channels, masked beams and inverse norms of the users."""
    (edge, apart), (vertex, beside) = states
    antennas, users, stride, width = sizes
    mask, norms, _ = room
    for n in range(antennas):
        share = constant(load(edge, 0), 1.0)
        if not plain:
            state = load(vertex, n * beside + panel)
            share = constant(state, 0.5) * (state + swap(state))
        store(mask, n * LANES, share)
        for k in range(users):
            row = (k * antennas + n) * apart + panel
            store(edge, row + width, share * load(edge, row))
    for i in range(users):
        total = constant(load(edge, 0), 0.0)
        for n in range(antennas):
            share = load(mask, n * LANES)
            a, b = entry(columns[0], i * stride + n), entry(columns[1], i * stride + n)
            total = fma(share * share, fma(a, a, b * b), total)
        one = constant(total, 1.0)
        store(norms, i * LANES, one / (total + constant(total, TINY)))


@njit(**WITHIN)
def _interfere(states: Any, sizes: Any, columns: Any, plain: bool, room: Any) -> None:
    """Messages of all edges, behind their states: what beams send along other users' channels."""
    edge, apart = states[0]
    antennas, users, stride, width = sizes
    mask, norms, heard = room
    for panel in range(0, width, LANES):
        _mask(states, sizes, columns, panel, plain, room)
        for i in range(users):
            for k in range(users):
                re = constant(load(edge, 0), 0.0)
                im = re
                for n in range(antennas if i != k else 0):
                    beam = load(edge, (k * antennas + n) * apart + width + panel)
                    re = fma(entry(columns[0], i * stride + n), beam, re)
                    im = fma(entry(columns[1], i * stride + n), beam, im)
                value = (re - turn(im)) * load(norms, i * LANES)
                store(heard, (i * users + k) * 2 * LANES, value)
                store(heard, (i * users + k) * 2 * LANES + LANES, turn(value))
        for k in range(users):
            for n in range(antennas):
                sent = constant(load(edge, 0), 0.0)
                for i in range(users):
                    at = (i * users + k) * 2 * LANES
                    sent = fma(entry(columns[0], i * stride + n), load(heard, at), sent)
                    sent = fma(entry(columns[1], i * stride + n), load(heard, at + LANES), sent)
                row = (k * antennas + n) * apart + width + panel
                store(edge, row, sent * load(mask, n * LANES))


@njit(**WITHIN)
def _pool(states: Any, sizes: Any, behind: int, sums: Any) -> None:
    """Sums of edges over elements, and their means over users behind the states of elements."""
    (edge, apart), (vertex, beside) = states
    antennas, users, _, width = sizes
    for panel in range(0, width, LANES):
        zero = constant(load(edge, 0), 0.0)
        for k in range(users):
            store(sums, k * width + panel, zero)
        for n in range(antennas):
            mean = zero
            for k in range(users):
                state = load(edge, (k * antennas + n) * apart + panel)
                mean = mean + state
                at = k * width + panel
                store(sums, at, load(sums, at) + state)
            mean = mean * constant(mean, 1.0 / users)
            store(vertex, n * beside + behind + panel, mean)


@njit(**WITHIN)
def _renew(
    state: Any, begin: int, apart: int, rows: int, width: int, before: Any, extra: Any, same: bool
) -> None:
    """Activation of what a layer gives, with what was there before added, in place of it."""
    for n in range(rows):
        for panel in range(0, width, LANES):
            at = begin + n * apart + panel
            value = silu(load(before, n * width + panel) + load(extra, n * width + panel))
            store(state, at, value + load(state, at) if same else value)


@njit(**WITHIN)
def _layer(
    weights: Any, at: Any, states: Any, columns: Any, sizes: Any, plain: bool, room: Any
) -> None:
    """One layer of one channel, in place."""
    (edge, apart), (vertex, beside) = states
    antennas, users, stride = sizes
    mask, norms, heard, sums, base, share, out, fresh, nothing = room
    edges, vertices, width = at[0], at[1], at[2]
    inner = (antennas, users, stride, edges)
    _interfere(states, inner, columns, plain, (mask, norms, heard))
    _pool(states, inner, vertices, sums)
    affine(sums, 0, edges, users, (edges, edges), (0, width), weights, at[6], nothing, 0, base,
           False)  # fmt: skip
    affine(vertex, 0, beside, antennas, (vertices, vertices), (0, width), weights, at[7], weights,
           at[8], share, False)  # fmt: skip
    both = vertices + edges
    affine(vertex, 0, beside, antennas, (both, both), (0, width), weights, at[9], weights, at[10],
           fresh, False)  # fmt: skip
    for k in range(users):
        begin = k * antennas * apart
        affine(edge, begin, apart, antennas, (2 * edges, 2 * edges), (0, width), weights, at[5],
               base, k * width, out, False)  # fmt: skip
        _renew(edge, begin, apart, antennas, width, out, share, at[3] == 1)
    _renew(vertex, 0, beside, antennas, width, fresh, nothing, at[4] == 1)


@njit(**WITHIN)
def _finish(
    weights: Any, last: Any, states: Any, columns: Any, sizes: Any, loudness: float, room: Any,
    shares: Any, logits: Any,
) -> None:  # fmt: skip
    """Amplitudes up to scale and logits of the users, in place."""
    vertex, beside = states[1]
    antennas, users, stride = sizes
    sums, hidden, out, fresh = room
    edges, vertices = last[0], last[1]
    _pool(states, (antennas, users, stride, edges), vertices, sums)
    both = vertices + edges
    affine(vertex, 0, beside, antennas, (both, both), (0, LANES), weights, last[2], weights,
           last[3], fresh, False)  # fmt: skip
    for n in range(antennas):
        at = n * LANES
        value = sigmoid(load(fresh, at))
        store(fresh, at, value)
        shares[n] = 0.5 * (fresh[at] + fresh[at + 1])
    inputs = edges + 3
    for k in range(users):
        gain = 0.0
        for n in range(antennas):
            a, b = columns[0][k * stride + n], columns[1][k * stride + n]
            gain += a * a + b * b
        for i in range(edges):
            hidden[i] = sums[k * edges + i] / antennas
        hidden[edges] = math.log(gain / antennas + FAINT)
        hidden[edges + 1], hidden[edges + 2] = loudness, users / 4.0
        affine(hidden, 0, 0, 1, (inputs, inputs), (0, LANES), weights, last[4], weights, last[5],
               fresh, True)  # fmt: skip
        affine(fresh, 0, 0, 1, (LANES, LANES), (0, LANES), weights, last[6], weights, last[7],
               out, False)  # fmt: skip
        logits[k, 0], logits[k, 1] = out[0], out[1]


@njit(**QUIET, **KEPT)
def _graphs(scenes: Any, network: Any, answer: Any, first: int, last: int) -> None:
    """Walk channels ``first`` to ``last``; see :func:`walk`."""
    h, noise_power, power, feed = scenes
    weights, layers, head = network
    shares, logits = answer
    kind = weights.dtype
    users, antennas = h.shape[1], h.shape[2]
    stride = padded(antennas)
    most = max(layers[:, 0].max(), layers[:, 2].max())
    apart, beside = 2 * most, max(layers[:, 1].max(), layers[:, 2].max()) + most
    columns = np.zeros(users * stride, kind), np.zeros(users * stride, kind)
    edge, vertex = np.zeros(users * antennas * apart, kind), np.zeros(antennas * beside, kind)
    states = (edge, apart), (vertex, beside)
    heard, sums = np.zeros(users * users * 2 * LANES, kind), np.zeros(users * most, kind)
    room = (
        np.zeros(antennas * LANES, kind), np.zeros(users * LANES, kind), heard, sums,
        np.zeros(users * most, kind), np.zeros(antennas * most, kind),
        np.zeros(antennas * most, kind), np.zeros(antennas * most, kind),
        np.zeros(antennas * most, kind),
    )  # fmt: skip
    hidden = np.zeros(most + 3, kind)
    sizes = (antennas, users, stride)
    for b in range(first, last):
        loudness = -0.5 * math.log10(look(h[b], noise_power[b], float(power[b]), columns))
        edge[:], vertex[:] = 0.0, 0.0
        _first(columns, feed, stride, loudness, states[0], states[1])
        for t in range(layers.shape[0]):
            _layer(weights, layers[t], states, columns, sizes, t == 0, room)
        _finish(weights, head, states, columns, sizes, loudness, (sums, hidden, room[6], room[7]),
                shares[b], logits[b])  # fmt: skip


def walk(
    scenes: tuple[Any, ...], network: tuple[Any, ...], answer: tuple[Any, ...], threads: int
) -> None:
    """Walk the layers on a batch of channels; ``answer`` is written.

    Parameters
    ----------
    scenes
        Channels ``(B, K, N)``, noise ``(B, K)`` and budget ``(B,)`` in the precision of the
        weights; the feed ``(N, R)`` with columns of mean power 1, complex128, ``(N, 0)`` where it
        isn't seen.
    network
        Weights in one array; a row of :class:`Places` for every layer but the last; of the last
        one and the head the padded edges and vertices, and where matrices and biases begin: of
        elements, then of the two layers of the users' numbers.
    answer
        ``(B, N)`` amplitudes up to scale and ``(B, K, 2)`` logits.
    threads
        At most.
    """
    batch, users, antennas = scenes[0].shape
    arguments = (scenes, network, answer)
    run = compiled(_graphs, (*arguments, 0, batch), network[0].dtype.char)
    cost = batch * antennas * users * network[0].size * 3e-11

    def work(first: int, last: int) -> None:
        run(*arguments, first, last)

    spread(work, batch, cost, threads)
