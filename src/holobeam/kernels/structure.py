"""Both ends of a plain network, compiled: channels as features, and the optimal structure.

What it sees are columns and loudness; its amplitudes and two numbers a user become a design,
sixteen channels at a time. ``learned/scene.py`` and ``learned/heads.py`` are the oracles.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from holobeam.kernels.compiling import compiled
from holobeam.kernels.cpu import spread
from holobeam.kernels.lanes import assemble, conditions, hear, matrices, rates, solve, spent
from holobeam.kernels.options import KEPT, QUIET
from holobeam.kernels.perceptron import padded
from holobeam.kernels.scene import RIDGE, deliver, link, look, spread_feed
from holobeam.kernels.vectors import LANES, at_least, constant, fma, load, root, store

LEAST_AMPLITUDE = 1e-6
LEAST_POWER = 1e-20


@njit(**QUIET)
def _lift(shares: Any, amplitudes: Any) -> None:
    """Amplitudes of one channel in place, the largest of them 1."""
    top = 0.0
    for n in range(shares.shape[0]):
        if not shares[n] <= top:
            top = shares[n]
    for n in range(shares.shape[0]):
        amplitudes[n] = (shares[n] + LEAST_AMPLITUDE) / (top + LEAST_AMPLITUDE)


@njit(**QUIET)
def _softmax(logits: Any, out: Any, lane: int) -> None:
    """Shares of one channel's users, into its lane."""
    top, total = -math.inf, 0.0
    for k in range(logits.shape[0]):
        top = max(top, logits[k])
    for k in range(logits.shape[0]):
        out[k * LANES + lane] = math.exp(logits[k] - top)
        total += out[k * LANES + lane]
    for k in range(logits.shape[0]):
        out[k * LANES + lane] /= total


@njit(**QUIET)
def _structured(small: Any, given: Any, powers: Any, prices: Any, users: int, chains: int) -> None:
    """V of every channel in place, from shares of powers and prices of the users."""
    e, g, v = small[0], small[1], small[2]
    system, _, _, costs = small[6]
    noise = load(given[0], 0)
    one = constant(noise, 1.0)
    # Over 1 + n0, so that beams keep a size of about 1 however faint the channel is.
    weight = one / (one + noise)
    for k in range(users):
        store(costs, k * LANES, weight * load(prices, k * LANES))
        for r in range(chains):
            at, to = (k * chains + r) * LANES, (r * users + k) * LANES
            store(v[0], to, load(e[0], at))
            store(v[1], to, constant(one, 0.0) - load(e[1], at))
    assemble(small, users, chains, noise * weight)
    solve(system, v, chains, users, RIDGE)
    for k in range(users):
        power = constant(one, 0.0)
        for r in range(chains):
            a, b = load(v[0], (r * users + k) * LANES), load(v[1], (r * users + k) * LANES)
            for s in range(r + 1):
                c, d = load(v[0], (s * users + k) * LANES), load(v[1], (s * users + k) * LANES)
                at = (r * chains + s) * LANES
                part = fma(a, c, b * d) * load(g[0], at) - (a * d - b * c) * load(g[1], at)
                power = power + part if r == s else power + part + part
        power = at_least(power, constant(power, LEAST_POWER))
        scale = root(load(powers, k * LANES) / power)
        for r in range(chains):
            at = (r * users + k) * LANES
            store(v[0], at, scale * load(v[0], at))
            store(v[1], at, scale * load(v[1], at))


@njit(**QUIET, **KEPT)
def _designs(scenes: Any, shares: Any, logits: Any, answer: Any, first: int, last: int) -> None:
    """Design channels ``first`` to ``last``; see :func:`design`."""
    h, noise_power, power, basis, back = scenes
    control, precoder, rates_of = answer
    users, antennas, chains = h.shape[1], h.shape[2], basis.shape[1]
    size = padded(antennas)
    feed = spread_feed(rates_of, basis)
    amplitudes = np.zeros(size, dtype=rates_of.dtype)
    columns = (
        np.zeros(users * size, dtype=rates_of.dtype),
        np.zeros(users * size, dtype=rates_of.dtype),
    )
    scaled = np.zeros_like(feed[0]), np.zeros_like(feed[0])
    small, given = matrices(users, chains), conditions(users)
    powers, prices, found = np.ones(users * LANES), np.ones(users * LANES), np.empty(LANES)
    for begin in range(first, last, LANES):
        count = min(LANES, last - begin)
        for lane in range(count):
            b = begin + lane
            noise = look(h[b], noise_power[b], float(power[b]), columns)
            for k in range(users):
                given[0][k * LANES + lane] = noise
            _lift(shares[b], amplitudes)
            link(columns, feed, amplitudes, scaled, small, lane)
            _softmax(logits[b, :, 0], powers, lane)
            _softmax(logits[b, :, 1], prices, lane)
            for n in range(antennas):
                control[b, n, 0] = amplitudes[n]
        _structured(small, given, powers, prices, users, chains)
        hear(small, users, chains)
        rates(small, given, spent(small, users, chains), users, found)
        for lane in range(count):
            rates_of[begin + lane] = found[lane]
            deliver(back, small[2], lane, precoder[begin + lane, 0])


def design(
    scenes: tuple[Any, ...], shares: Any, logits: Any, answer: tuple[Any, ...], threads: int
) -> None:
    """Design a batch of channels; ``answer`` is written.

    Parameters
    ----------
    scenes
        As :class:`holobeam.kernels.unrolled.Scenes`, without a start.
    shares, logits
        ``(B, N)`` amplitudes up to scale and ``(B, K, 2)``, in the precision of the channels.
    answer
        ``(B, N, 1)`` controls, ``(B, 1, R, K)`` precoders of the hardware, ``(B,)`` rates in
        bits/s/Hz.
    threads
        At most.
    """
    batch, users, antennas = scenes[0].shape
    arguments = (scenes, shares, logits, answer)
    run = compiled(_designs, (*arguments, 0, batch), shares.dtype.char)

    def work(first: int, last: int) -> None:
        run(*arguments, first, last)

    spread(work, batch, batch * antennas * users * 2e-8, threads)


@njit(**QUIET, **KEPT)
def _tells(scenes: Any, out: Any, first: int, last: int) -> None:
    """Features of channels ``first`` to ``last``; see :func:`tell`."""
    h, noise_power, power = scenes
    users, antennas = h.shape[1], h.shape[2]
    stride = padded(antennas)
    columns = np.zeros(users * stride, out.dtype), np.zeros(users * stride, out.dtype)
    for b in range(first, last):
        noise = look(h[b], noise_power[b], float(power[b]), columns)
        for n in range(antennas):
            for k in range(users):
                out[b, 2 * (n * users + k)] = columns[0][k * stride + n]
                out[b, 2 * (n * users + k) + 1] = columns[1][k * stride + n]
        out[b, 2 * antennas * users] = -0.5 * math.log10(noise)


def tell(scenes: tuple[Any, ...], out: Any, threads: int) -> None:
    """Columns and loudness of a batch of channels, ``(B, 2 N K + 1)`` in place.

    ``scenes``: channels ``(B, K, N)``, noise ``(B, K)`` and budget ``(B,)``. Columns lie element
    after element, user after user, real part before imaginary part.
    """
    batch = len(out)
    run = compiled(_tells, (scenes, out, 0, batch), out.dtype.char)

    def work(first: int, last: int) -> None:
        run(scenes, out, first, last)

    spread(work, batch, out.size * 4e-9, threads)
