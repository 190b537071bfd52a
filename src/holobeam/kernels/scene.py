"""What a network on a surface sees of one channel, compiled: link, receivers, streams, features.

What ``learned/scene.py`` and the functions of ``learned/unrolled.py`` do in torch, which are the
oracles. Whatever runs over the elements has sixteen of them in a vector, padded by silent ones, in
the precision of the problem; the small systems are in double precision. Pairs of flat arrays are
real and imaginary parts, user after user or chain after chain.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from holobeam.kernels.lanes import get, put
from holobeam.kernels.options import QUIET, WITHIN
from holobeam.kernels.perceptron import padded
from holobeam.kernels.vectors import (
    LANES,
    at_least,
    at_most,
    constant,
    entry,
    fma,
    load,
    log,
    store,
    total,
)

CLIP = 3.0
EDGE_CLIP = 10.0
RIDGE = 1e-6
FAINTEST = 1e8


@njit(**QUIET)
def look(h: Any, noise: Any, power: float, columns: Any) -> float:
    """Columns of one channel at mean power 1, in place; returns the noise on that scale."""
    users, antennas = h.shape
    gain = 0.0
    for k in range(users):
        for n in range(antennas):
            size = float(h[k, n].real) ** 2 + float(h[k, n].imag) ** 2
            gain += size * power / noise[k]
    gain /= users * antennas
    if gain == 0.0:
        gain = 1.0
    stride = padded(antennas)
    for k in range(users):
        scale = math.sqrt(power / noise[k] / gain)
        for n in range(antennas):
            columns[0][k * stride + n] = h[k, n].real * scale
            columns[1][k * stride + n] = -h[k, n].imag * scale
    return min(1.0 / gain, FAINTEST)


@njit(**QUIET)
def spread_feed(like: Any, basis: Any) -> Any:
    """The feed ``(N, R)`` as a pair of flat arrays of the type of another one."""
    antennas, chains = basis.shape
    size = padded(antennas)
    re, im = np.zeros(chains * size, dtype=like.dtype), np.zeros(chains * size, dtype=like.dtype)
    for n in range(antennas):
        for r in range(chains):
            re[r * size + n], im[r * size + n] = basis[n, r].real, basis[n, r].imag
    return re, im


@njit(**QUIET)
def deliver(back: Any, v: Any, lane: int, precoder: Any) -> None:
    """Precoder of the hardware of one channel, ``back V``, in place."""
    chains, users = precoder.shape
    for r in range(chains):
        for k in range(users):
            value = 0j
            for s in range(chains):
                value += back[r, s] * get(v, s * users + k, lane)
            precoder[r, k] = value


@njit(**WITHIN)
def link(columns: Any, feed: Any, amplitudes: Any, scaled: Any, small: Any, lane: int) -> None:
    """``E = H^H diag(a) M`` and ``S = M^H diag(a)^2 M`` of one channel in place.

    ``small`` are the matrices of ``kernels/lanes.py``.
    """
    size = amplitudes.shape[0]
    users, chains = columns[0].shape[0] // size, feed[0].shape[0] // size
    column_re, column_im, scaled_re, scaled_im = columns[0], columns[1], scaled[0], scaled[1]
    for r in range(chains):
        for i in range(0, size, LANES):
            j = r * size + i
            store(scaled_re, j, load(amplitudes, i) * load(feed[0], j))
            store(scaled_im, j, load(amplitudes, i) * load(feed[1], j))
    for r in range(chains):
        for k in range(users):
            re = constant(load(amplitudes, 0), 0.0)
            im = re
            for i in range(0, size, LANES):
                a, b = load(column_re, k * size + i), load(column_im, k * size + i)
                c, d = load(scaled_re, r * size + i), load(scaled_im, r * size + i)
                re = fma(a, c, fma(b, d, re))
                im = fma(a, d, im) - b * c
            put(small[0], k * chains + r, lane, complex(total(re), total(im)))
        for s in range(r + 1):
            re = constant(load(amplitudes, 0), 0.0)
            im = re
            for i in range(0, size, LANES):
                a, b = load(scaled_re, r * size + i), load(scaled_im, r * size + i)
                c, d = load(scaled_re, s * size + i), load(scaled_im, s * size + i)
                re = fma(a, c, fma(b, d, re))
                im = fma(a, d, im) - b * c
            put(small[1], r * chains + s, lane, complex(total(re), total(im)))


@njit(**WITHIN)
def spell(matrices: Any, lane: int, small: Any) -> float:
    """Small matrices of one channel as reals in the precision of the elements; the summed cost."""
    _, _, v, received, u, w, _ = matrices
    (v_re, v_im), (t_re, t_im), cost, (pull_re, pull_im) = small
    users = cost.shape[0]
    price = 0.0
    for i in range(v_re.shape[0]):
        v_re[i], v_im[i] = v[0][i * LANES + lane], v[1][i * LANES + lane]
    for i in range(users * users):
        t_re[i], t_im[i] = received[0][i * LANES + lane], received[1][i * LANES + lane]
    for k in range(users):
        at = k * LANES + lane
        size = w[at] * (u[0][at] * u[0][at] + u[1][at] * u[1][at])
        price += size
        cost[k] = size
        pull_re[k], pull_im[k] = w[at] * u[0][at], -w[at] * u[1][at]
    return price


@njit(**WITHIN)
def streams(columns: Any, feed: Any, small: Any, price: float, fields: Any) -> float:
    """What every element sends, its power and curvature, in place; returns their mean."""
    sent, power, curvature = fields
    (v_re, v_im), _, cost, _ = small
    users, chains, size = cost.shape[0], feed[0].shape[0] // power.shape[0], power.shape[0]
    total_curvature = 0.0
    for i in range(0, size, LANES):
        loud, curved = constant(load(power, i), 0.0), constant(load(power, i), price)
        for k in range(users):
            re = constant(load(power, i), 0.0)
            im = re
            for r in range(chains):
                a, b = load(feed[0], r * size + i), load(feed[1], r * size + i)
                c, d = entry(v_re, r * users + k), entry(v_im, r * users + k)
                re = fma(a, c, re) - b * d
                im = fma(a, d, fma(b, c, im))
            store(sent[0], k * size + i, re)
            store(sent[1], k * size + i, im)
            loud = fma(re, re, fma(im, im, loud))
            c, d = load(columns[0], k * size + i), load(columns[1], k * size + i)
            curved = fma(entry(cost, k), fma(c, c, d * d), curved)
        store(power, i, loud)
        store(curvature, i, curved * loud)
        total_curvature += total(curved * loud)
    return total_curvature


@njit(**WITHIN)
def features(
    columns: Any, small: Any, price: float, mean: float, amplitudes: Any, fields: Any, seen: Any
) -> None:
    """What a layer sees of every edge and every element, in place.

    The curvature becomes its logarithm, relative to the ``mean``.
    """
    sent, power, curvature = fields
    wanted, echo, own, move, gradient = seen
    _, (t_re, t_im), cost, (pull_re, pull_im) = small
    size, users = power.shape[0], cost.shape[0]
    ridge = 1e-12 * mean + 1e-30
    for i in range(0, size, LANES):
        loud = load(power, i)
        one = constant(loud, 1.0)
        curved = load(curvature, i) + constant(loud, ridge)
        store(curvature, i, log(curved * constant(loud, 1.0 / (mean + ridge))))
        inverse = one / curved
        rise, fall = one - one, one - one
        for k in range(users):
            at = k * size + i
            a, b = load(columns[0], at), load(columns[1], at)
            c, d = load(sent[0], at), load(sent[1], at)
            goal = fma(a, c, b * d) * entry(pull_re, k) - (a * d - b * c) * entry(pull_im, k)
            back_re, back_im = one - one, one - one
            for j in range(users):
                c, d = load(sent[0], j * size + i), load(sent[1], j * size + i)
                p, q = entry(t_re, k * users + j), entry(t_im, k * users + j)
                back_re = fma(c, p, fma(d, q, back_re))
                back_im = fma(d, p, back_im) - c * q
            price_k = entry(cost, k)
            heard = price_k * fma(a, back_re, b * back_im)
            rise, fall = rise + goal, fall + heard
            low, high = constant(loud, -EDGE_CLIP), constant(loud, EDGE_CLIP)
            store(wanted, at, at_most(at_least(goal * inverse, low), high))
            store(echo, at, at_most(at_least(heard * inverse, low), high))
            store(own, at, price_k * fma(a, a, b * b) * loud * inverse)
        slope = rise - fall - constant(loud, price) * loud * load(amplitudes, i)
        low, high = constant(loud, -CLIP), constant(loud, CLIP)
        store(move, i, at_most(at_least(slope * inverse, low), high))
        store(gradient, i, at_most(at_least(rise * inverse, low), high))
