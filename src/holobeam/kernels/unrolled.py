"""The whole of the network ``unrolled-mmse``, compiled: sixteen channels at a time.

Networks take one channel after the other, the small systems of a group are solved together.

Arrays in, arrays out; ``learned/unrolled.py`` is the oracle, whose layers these are.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from holobeam.kernels.compiling import compiled
from holobeam.kernels.cpu import spread
from holobeam.kernels.lanes import (
    conditions,
    digital,
    hear,
    matrices,
    rates,
    refresh,
    rescale,
    spent,
    weigh,
)
from holobeam.kernels.options import KEPT, QUIET, WITHIN
from holobeam.kernels.perceptron import affine, messages, padded
from holobeam.kernels.scene import (
    RIDGE,
    deliver,
    features,
    link,
    look,
    spell,
    spread_feed,
    streams,
)
from holobeam.kernels.vectors import LANES, at_least, constant, fma, load, sigmoid, store

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


@njit(**WITHIN)
def _inputs(
    layer: Any, place: Any, loudness: float, weights: Any, amplitudes: Any, antennas: int,
    seen: Any, curvature: Any, room: Any,
) -> None:  # fmt: skip
    """What elements and users bring into the networks of a layer, in place."""
    rows, by_user = room[0], room[2]
    w, lane, users = weights
    width, apart = by_user.shape[0] // users, rows.shape[0] // antennas
    for n in range(antennas):
        at = n * apart + width
        rows[at] = seen[3][n]
        rows[at + 1] = curvature[n]
        rows[at + 2] = seen[4][n]
        rows[at + 3] = loudness
        rows[at + 4] = amplitudes[n]
    first, second = place[1] + 3 * width, place[1] + 4 * width
    for k in range(users):
        excess = math.log(w[k * LANES + lane]) / 3.0
        for i in range(0, width, LANES):
            one, two = load(layer, first + i), load(layer, second + i)
            value = fma(one, constant(one, excess), two * constant(two, loudness))
            store(by_user, k * width + i, value)


@njit(**WITHIN)
def _network(
    layer: Any, widths: Any, place: Any, antennas: int, users: int, seen: Any, room: Any,
    ends: tuple[bool, bool],
) -> None:  # fmt: skip
    """Both networks of a layer: outputs of every element and the new state, in place.

    ``ends``: whether it is the first, whose state is zero, or the last, whose state nobody needs.
    """
    hidden, edge, node = widths
    rows, by_element, by_user, sums, pooled, best, base, inner, out = room
    e, h, n, o = padded(edge), padded(hidden), padded(node), padded(hidden + 2)
    apart, inputs = e + NODES + o, e + NODES + hidden
    amplitude = e + NODES - 1
    state = 0 if ends[0] else hidden
    affine(rows, amplitude, apart, antennas, (1 + hidden, 1 + state), (0, e), layer, place[0],
           layer, place[2], by_element, False)  # fmt: skip
    messages((seen[0], seen[1], seen[2]), layer, place[1], (by_element, by_user),
             (antennas, users, seen[3].shape[0], e, apart), rows, sums)  # fmt: skip
    affine(sums, 0, e, users, (edge, edge), (0, h), layer, place[3], layer, place[4], pooled,
           False)  # fmt: skip
    for i in range(hidden):
        best[i] = pooled[i]
        for k in range(1, users):
            if not pooled[k * h + i] <= best[i]:
                best[i] = pooled[k * h + i]
    affine(best, 0, 0, 1, (hidden, hidden), (0, n), layer, place[7], layer, place[6], base,
           False)  # fmt: skip
    affine(rows, 0, apart, antennas, (inputs, e + NODES + state), (0, n), layer, place[5], base, 0,
           inner, True)  # fmt: skip
    since = hidden // LANES * LANES if ends[1] else 0
    affine(inner, 0, n, antennas, (node, node), (since, o), layer, place[8], layer, place[9], out,
           False)  # fmt: skip
    for row in range(0 if ends[1] else antennas):
        state = row * apart + e + NODES
        # The last lanes gather what is no state; nobody reads them.
        for i in range(0, o, LANES):
            store(rows, state + i, load(rows, state + i) + load(out, row * o + i))


@njit(**WITHIN)
def _move(amplitudes: Any, antennas: int, seen: Any, out: Any, hidden: int) -> None:
    """Amplitudes after a layer, in place, the largest of them 1."""
    width, top, move = padded(hidden + 2), 0.0, seen[3]
    steps, corrections = seen[4], seen[0]  # room that is free by now
    for n in range(antennas):
        steps[n] = out[n * width + hidden]
        corrections[n] = out[n * width + hidden + 1]
    for i in range(0, amplitudes.shape[0], LANES):
        half = constant(load(move, i), 0.5) * load(move, i)
        goal = fma(half, sigmoid(load(steps, i)), load(amplitudes, i) + load(corrections, i))
        # What is not a number stays so.
        store(amplitudes, i, at_least(goal, constant(goal, 0.0)) + constant(goal, FLOOR))
    for n in range(antennas):
        if not amplitudes[n] <= top:
            top = amplitudes[n]
    for i in range(0, amplitudes.shape[0], LANES):
        goal = load(amplitudes, i)
        store(amplitudes, i, goal / constant(goal, top))
    # What pads a vector stays silent: left as it came, the walk took twice as long (measured).
    for n in range(antennas, amplitudes.shape[0]):
        amplitudes[n] = 0.0


@njit(**QUIET)
def _pair(like: Any, length: int) -> Any:
    return _flat(like, length), _flat(like, length)


@njit(**QUIET)
def _flat(like: Any, length: int) -> Any:
    return np.zeros(length, dtype=like.dtype)


@njit(**QUIET)
def _room(like: Any, sizes: Any, widths: Any) -> Any:
    """Arrays of one channel: fields of the elements, small matrices as reals, of the networks."""
    antennas, users, chains = sizes
    hidden, edge, node = widths
    size, e, o = padded(antennas), padded(edge), padded(hidden + 2)
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
        _flat(like, antennas * e), _flat(like, users * e), _flat(like, users * e),
        _flat(like, users * padded(hidden)), _flat(like, hidden), _flat(like, padded(node)),
        _flat(like, antennas * padded(node)), _flat(like, antennas * o),
    )  # fmt: skip
    return fields, seen, small, network, _pair(like, chains * size)


@njit(**QUIET)
def _settle(small: Any, given: Any, users: int, chains: int, updates: int) -> None:
    """Exact updates of V at the amplitudes of a link; at last the receivers and weights."""
    if updates == 1:
        small[2][0][:], small[2][1][:] = 0.0, 0.0
        small[4][0][:], small[4][1][:], small[5][:] = 1.0, 0.0, 1.0
        digital(small, given, users, chains, RIDGE)
        rescale(small, given[2], users, chains)
    for _ in range(updates):
        refresh(small, given, users, chains, RIDGE)
        rescale(small, given[2], users, chains)
    hear(small, users, chains)
    weigh(small, given, spent(small, users, chains), users)


@njit(**WITHIN)
def _layer(
    layer: Any, network: Any, noise: float, place: Any, small: Any, lane: int, amplitudes: Any,
    room: Any, rows: Any, ends: tuple[bool, bool],
) -> None:  # fmt: skip
    """Move the amplitudes of one channel by one layer, in place."""
    widths, places, antennas = network
    columns, feed = place
    fields, seen, reals, own, scaled = room
    users = reals[2].shape[0]
    loudness = -0.5 * math.log10(noise)
    price = noise * spell(small, lane, reals)
    mean = streams(columns, feed, reals, price, fields) / antennas
    features(columns, reals, price, mean, amplitudes, fields, seen)
    own = (rows, *own)
    _inputs(layer, places, loudness, (small[5], lane, users), amplitudes, antennas, seen,
            fields[2], own)  # fmt: skip
    _network(layer, widths, places, antennas, users, seen, own, ends)
    _move(amplitudes, antennas, seen, own[8], widths[0])
    link(columns, feed, amplitudes, scaled, small, lane)


@njit(**QUIET)
def _pass(
    network: Any, group: Any, feed: Any, small: Any, given: Any, sizes: Any, room: Any,
    rates_of: Any, every: bool,
) -> None:  # fmt: skip
    """Walk all layers on a group of channels, from their amplitudes.

    ``every``: whether to rate all layers, not just the last.
    """
    weights, widths, places = network
    columns, amplitudes, rows = group
    count, antennas, users, chains = sizes
    for lane in range(count):
        rows[lane][:] = 0.0
        link((columns[0][lane], columns[1][lane]), feed, amplitudes[lane], room[4], small, lane)
    _settle(small, given, users, chains, 1)
    for t in range(weights.shape[0]):
        for lane in range(count):
            _layer(weights[t], (widths, places, antennas), given[0][lane],
                   ((columns[0][lane], columns[1][lane]), feed), small, lane, amplitudes[lane],
                   room, rows[lane], (t == 0, t == weights.shape[0] - 1))  # fmt: skip
        _settle(small, given, users, chains, 2)
        if every or t == weights.shape[0] - 1:
            rates(small, given, spent(small, users, chains), users, rates_of[t])


@njit(**QUIET, **KEPT)
def _walk(problem: Any, network: Any, answer: Any, passes: int, first: int, last: int) -> None:
    """Walk all layers on channels ``first`` to ``last``; see :func:`walk`."""
    h, noise_power, power, start, basis, back = problem
    weights, widths, _ = network
    control, precoder, rates_of = answer
    users, antennas, chains = h.shape[1], h.shape[2], basis.shape[1]
    size, most = padded(antennas), min(LANES, last - first)
    feed, room = spread_feed(weights, basis), _room(weights, (antennas, users, chains), widths)
    kind = weights.dtype
    columns = np.zeros((most, users * size), kind), np.zeros((most, users * size), kind)
    amplitudes = np.zeros((most, size), kind)
    apart = padded(widths[1]) + NODES + padded(widths[0] + 2)
    rows = np.zeros((most, antennas * apart), kind)
    small, given = matrices(users, chains), conditions(users)
    found, best = np.zeros((weights.shape[0], LANES)), np.empty(LANES)
    for begin in range(first, last, LANES):
        count = min(LANES, last - begin)
        for lane in range(count):
            b = begin + lane
            noise = look(
                h[b], noise_power[b], float(power[b]), (columns[0][lane], columns[1][lane])
            )
            for k in range(users):
                given[0][k * LANES + lane] = noise
            for n in range(antennas):
                amplitudes[lane, n] = start[b, n, 0].real
        for again in range(passes):
            _pass(network, (columns, amplitudes, rows), feed, small, given,
                  (count, antennas, users, chains), room, found, passes == 1)  # fmt: skip
            for lane in range(count):
                b = begin + lane
                rates_of[:, b] = found[:, lane]
                if again and not found[-1, lane] > best[lane]:
                    continue
                best[lane] = found[-1, lane]
                for n in range(antennas):
                    control[b, n, 0] = amplitudes[lane, n]
                deliver(back, small[2], lane, precoder[b, 0])
        if passes > 1:
            for lane in range(count):
                rates_of[-1, begin + lane] = best[lane]


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

    Precoders are those of the hardware, at a scale of their own; rates are in bits/s/Hz. After
    several passes the last rate is the best pass's, as are controls and precoder.
    """

    control: Any
    digital: Any
    rates: Any


def walk(scenes: Scenes, network: Packed, designs: Designs, passes: int, threads: int) -> None:
    """Walk all layers on a batch of channels, ``passes`` times; ``designs`` is written.

    A pass begins where the last one ended.
    """
    batch, _, antennas = scenes.h.shape
    # Plain tuples: the compiled code is then the same whatever these classes are called.
    parts = tuple(scenes), tuple(network), tuple(designs)
    cost = batch * antennas * network.weights.size * passes * 3e-11
    loop = compiled(_walk, (*parts, passes, 0, batch), network.weights.dtype.char)

    def work(first: int, last: int) -> None:
        loop(*parts, passes, first, last)

    spread(work, batch, cost, threads)
