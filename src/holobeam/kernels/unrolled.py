"""The whole of the network ``unrolled-mmse``, compiled: one channel after the other.

Arrays in, arrays out; ``learned/unrolled.py`` is the oracle, whose layers these are.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from holobeam.kernels.blocks import spent
from holobeam.kernels.cpu import compiled, spread
from holobeam.kernels.perceptron import PLAIN, affine, blocked, messages, padded
from holobeam.kernels.scene import features, link, look, operate, precode, rate, spell, streams
from holobeam.kernels.vectors import LANES, load, store

FLOOR = 1e-4
NODES = 5
"""Inputs of an element beside messages and state: move, curvature, gradient, loudness, amplitude.
The amplitude comes last, next to the state: messages read the two together."""


class Places(NamedTuple):
    """Where the parts of a layer's weights begin, and their length in all.

    ``state``: amplitude and state to edges; ``edge``: five features, then the bias; matrices are
    in panels, see ``perceptron.py``.
    """

    state: int
    edge: int
    edge_bias: int
    pool: int
    pool_bias: int
    node: int
    node_bias: int
    context: int
    out: int
    out_bias: int
    length: int


def places(hidden: int, edge: int, node: int) -> Places:
    """Lay out the weights of a layer."""
    e, h, n, o = (padded(x) for x in (edge, hidden, node, hidden + 2))
    lengths = (
        (1 + hidden) * e, 5 * e, e, edge * h, h,
        (e + NODES + hidden) * n, n, hidden * n, node * o, o,
    )  # fmt: skip
    return Places(*(sum(lengths[:i]) for i in range(len(lengths) + 1)))


@njit(**PLAIN)
def _inputs(
    layer: Any, place: Any, loudness: float, w: Any, amplitudes: Any, mean: Any, seen: Any,
    curvature: Any, room: Any,
) -> None:  # fmt: skip
    """What elements and users bring into the networks of a layer, in place."""
    level, antennas = mean
    rows, by_user = room[0], room[2]
    width, apart = by_user.shape[0] // w.shape[0], rows.shape[0] // blocked(antennas)
    for n in range(antennas):
        at = n * apart + width
        rows[at] = seen[3][n]
        rows[at + 1] = math.log(curvature[n] / level)
        rows[at + 2] = seen[4][n]
        rows[at + 3] = loudness
        rows[at + 4] = amplitudes[n]
    first, second = place[1] + 3 * width, place[1] + 4 * width
    for k in range(w.shape[0]):
        excess = math.log(w[k]) / 3.0
        for i in range(width):
            by_user[k * width + i] = layer[first + i] * excess + layer[second + i] * loudness


@njit(**PLAIN)
def _network(
    layer: Any, widths: Any, place: Any, antennas: int, users: int, seen: Any, room: Any
) -> None:
    """Both networks of a layer: outputs of every element and the new state, in place."""
    hidden, edge, node = widths
    rows, by_element, by_user, sums, pooled, best, base, inner, out = room
    e, h, n, o = padded(edge), padded(hidden), padded(node), padded(hidden + 2)
    apart, inputs = e + NODES + o, e + NODES + hidden
    amplitude = e + NODES - 1
    affine(rows, amplitude, apart, antennas, 1 + hidden, e, layer, place[0], layer, place[2],
           by_element, False)  # fmt: skip
    messages((seen[0], seen[1], seen[2]), layer, place[1], (by_element, by_user),
             (antennas, users, seen[3].shape[0], e, apart), rows, sums)  # fmt: skip
    affine(sums, 0, e, users, edge, h, layer, place[3], layer, place[4], pooled, False)
    for i in range(hidden):
        best[i] = pooled[i]
        for k in range(1, users):
            if not pooled[k * h + i] <= best[i]:
                best[i] = pooled[k * h + i]
    affine(best, 0, 0, 1, hidden, n, layer, place[7], layer, place[6], base, False)
    affine(rows, 0, apart, antennas, inputs, n, layer, place[5], base, 0, inner, True)
    affine(inner, 0, n, antennas, node, o, layer, place[8], layer, place[9], out, False)
    for row in range(antennas):
        state = row * apart + e + NODES
        # The last lanes gather what is no state; nobody reads them.
        for i in range(0, o, LANES):
            store(rows, state + i, load(rows, state + i) + load(out, row * o + i))


@njit(**PLAIN)
def _move(amplitudes: Any, antennas: int, move: Any, out: Any, hidden: int) -> None:
    """Amplitudes after a layer, in place, the largest of them 1."""
    width, top = padded(hidden + 2), 0.0
    for n in range(antennas):
        step, correction = out[n * width + hidden], out[n * width + hidden + 1]
        goal = amplitudes[n] + 0.5 * move[n] / (1.0 + math.exp(-step)) + correction
        goal = 0.0 if goal < 0.0 else goal  # what is not a number stays so
        amplitudes[n] = goal + FLOOR
        if not amplitudes[n] <= top:
            top = amplitudes[n]
    for n in range(antennas):
        amplitudes[n] /= top


@njit(**PLAIN)
def _pair(like: Any, length: int) -> Any:
    return _flat(like, length), _flat(like, length)


@njit(**PLAIN)
def _flat(like: Any, length: int) -> Any:
    return np.zeros(length, dtype=like.dtype)


@njit(**PLAIN)
def _room(like: Any, sizes: Any, widths: Any) -> Any:
    """Arrays of one channel: fields of the elements, small matrices as reals, of the networks."""
    antennas, users, chains = sizes
    hidden, edge, node = widths
    size, e, o = padded(antennas), padded(edge), padded(hidden + 2)
    blocks = blocked(antennas)
    fields = (_pair(like, users * size), _flat(like, size), _flat(like, size))
    seen = (
        _flat(like, users * size), _flat(like, users * size), _flat(like, users * size),
        _flat(like, size), _flat(like, size),
    )  # fmt: skip
    small = (
        _pair(like, chains * users), _pair(like, users * users), _flat(like, users),
        _pair(like, users),
    )  # fmt: skip
    network = (
        _flat(like, blocks * (e + NODES + o)), _flat(like, blocks * e), _flat(like, users * e),
        _flat(like, blocked(users) * e), _flat(like, blocked(users) * padded(hidden)),
        _flat(like, hidden), _flat(like, blocked(1) * padded(node)),
        _flat(like, blocks * padded(node)), _flat(like, blocks * o),
    )  # fmt: skip
    return fields, seen, small, network


@njit(**PLAIN)
def _matrices(users: int, chains: int) -> Any:
    """E, S, V, a system to solve, what is received, receivers and weights."""
    kind = np.complex128
    return (
        np.empty((users, chains), kind), np.empty((chains, chains), kind),
        np.empty((chains, users), kind), np.empty((chains, chains), kind),
        np.empty((users, users), kind), np.ones(users, kind), np.ones(users),
    )  # fmt: skip


@njit(**PLAIN)
def _settle(noise: float, matrices: Any, updates: int) -> None:
    """Exact updates of V at the amplitudes of a link; at last the receivers and weights."""
    e, g, v, system, received, u, w = matrices
    if updates == 1:
        u[:], w[:] = 1.0, 1.0
        spending = precode(e, g, noise, u, w, v, system)
    else:
        spending = max(spent(g, v), 1e-30)
    for _ in range(updates):
        operate(e, v, noise * spending, received, u, w)
        spending = precode(e, g, noise, u, w, v, system)
    operate(e, v, noise * spending, received, u, w)


@njit(**PLAIN)
def _layer(
    layer: Any, network: Any, noise: float, place: Any, matrices: Any, amplitudes: Any, room: Any
) -> None:
    """Move the amplitudes of one channel by one layer, in place."""
    widths, places, antennas = network
    columns, feed = place
    fields, seen, small, own = room
    loudness = -0.5 * math.log10(noise)
    price = noise * spell(matrices[2], matrices[4], matrices[5], matrices[6], small)
    mean = streams(columns, feed, small, price, fields) / antennas
    ridge = 1e-12 * mean + 1e-30
    features(columns, small, price, ridge, amplitudes, fields, seen)
    _inputs(layer, places, loudness, matrices[6], amplitudes, (mean + ridge, antennas), seen,
            fields[2], own)  # fmt: skip
    _network(layer, widths, places, antennas, len(matrices[6]), seen, own)
    _move(amplitudes, antennas, seen[3], own[8], widths[0])


@njit(**PLAIN)
def _walk(problem: Any, network: Any, answer: Any, first: int, last: int) -> None:
    """Walk all layers on channels ``first`` to ``last``; see :func:`walk`."""
    h, noise_power, power, start, basis, back = problem
    weights, widths, places = network
    control, digital, rates = answer
    users, antennas, chains = h.shape[1], h.shape[2], basis.shape[1]
    size = padded(antennas)
    columns, feed = _pair(weights, users * size), _pair(weights, chains * size)
    scaled, amplitudes = _pair(weights, chains * size), _flat(weights, size)
    room = _room(weights, (antennas, users, chains), widths)
    matrices = _matrices(users, chains)
    for n in range(antennas):
        for r in range(chains):
            feed[0][r * size + n], feed[1][r * size + n] = basis[n, r].real, basis[n, r].imag
    for b in range(first, last):
        noise = look(h[b], noise_power[b], float(power[b]), columns)
        for n in range(antennas):
            amplitudes[n] = start[b, n, 0].real
        room[3][0][:] = 0.0
        link(columns, feed, amplitudes, scaled, matrices[0], matrices[1])
        _settle(noise, matrices, 1)
        for t in range(weights.shape[0]):
            _layer(weights[t], (widths, places, antennas), noise, (columns, feed), matrices,
                   amplitudes, room)  # fmt: skip
            link(columns, feed, amplitudes, scaled, matrices[0], matrices[1])
            _settle(noise, matrices, 2)
            rates[t, b] = rate(matrices[6])
        for n in range(antennas):
            control[b, n, 0] = amplitudes[n]
        digital[b, 0] = 0.0
        for r in range(chains):
            for s in range(chains):
                for k in range(users):
                    digital[b, 0, r, k] += back[r, s] * matrices[2][s, k]


class Scenes(NamedTuple):
    """Channels, and what a network sees of the hardware.

    ``h`` ``(B, K, N)`` and ``start`` ``(B, N, 1)`` complex in the precision of the weights, as are
    ``noise_power`` ``(B, K)`` and ``power`` ``(B,)``; ``basis`` ``(N, R)``, the orthonormal feed,
    and ``back`` ``(R, R)`` as in ``learned/scene.py``, complex128.
    """

    h: Any
    noise_power: Any
    power: Any
    start: Any
    basis: Any
    back: Any


class Packed(NamedTuple):
    """A network: ``(layers, length)`` weights, each layer laid out as :func:`places` says.

    ``widths``: hidden, edge, node.
    """

    weights: Any
    widths: tuple[int, int, int]
    places: tuple[int, ...]


class Designs(NamedTuple):
    """What is written: ``(B, N, 1)`` controls, ``(B, 1, R, K)`` precoders, ``(layers, B)`` rates.

    Precoders are those of the hardware, at a scale of their own; rates are in bits/s/Hz.
    """

    control: Any
    digital: Any
    rates: Any


def walk(scenes: Scenes, network: Packed, designs: Designs, threads: int) -> None:
    """Walk all layers on a batch of channels; ``designs`` is written."""
    batch, _, antennas = scenes.h.shape
    # Plain tuples: the compiled code is then the same whatever these classes are called.
    parts = tuple(scenes), tuple(network), tuple(designs)
    cost = batch * antennas * network.weights.size * 3e-11
    loop = compiled(_walk, (*parts, 0, batch), network.weights.dtype.char)

    def work(first: int, last: int) -> None:
        loop(*parts, first, last)

    spread(work, batch, cost, threads)
