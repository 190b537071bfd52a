"""The start of the surface solver, compiled: fully digital WMMSE target and fit to it.

One channel after the other, narrowband, one power budget; arrays in, arrays out. It does what
``digital_target`` and ``fit_to_target`` of ``solvers/starts.py`` do in torch, its oracle.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from holobeam.kernels.blocks import branches, digital, normalise, rescale, solve, sweep, weigh
from holobeam.kernels.compiling import compiled
from holobeam.kernels.copying import assign
from holobeam.kernels.cpu import spread
from holobeam.kernels.matched import equal_power
from holobeam.kernels.options import FAST, KEPT

_RIDGE = 1e-14


@njit(**FAST)
def _target(
    h: Any, basis: Any, noise: Any, alpha: Any, power: float, iterations: int, wanted: Any
) -> None:
    """Fully digital WMMSE precoder ``(N, K)`` in place, in the span of the channel."""
    users, antennas = h.shape
    chains = basis.shape[1]
    e = np.zeros((users, chains), dtype=np.complex128)
    for k in range(users):
        for n in range(antennas):
            path = h[k, n]
            for r in range(chains):
                e[k, r] += path * basis[n, r]
    g = np.eye(chains).astype(np.complex128)
    v = np.empty((chains, users), dtype=np.complex128)
    u, w = np.empty(users, dtype=np.complex128), np.empty(users)
    equal_power(e, g, noise, power, v)
    rescale(g, v, power)
    for _ in range(iterations):
        weigh(e, g, v, noise, alpha, power, 1.0, u, w)
        digital(e, g, u, w, noise, power, 1.0, v)
    rescale(g, v, power)
    for n in range(antennas):
        for k in range(users):
            total = 0j
            for r in range(chains):
                total += basis[n, r] * v[r, k]
            wanted[n, k] = total


@njit(**FAST)
def _least_squares(feed: Any, q: Any, wanted: Any, v: Any) -> None:
    """``(A^H A)^-1 A^H F`` in place, with a ridge that grows until the system is definite."""
    antennas, chains = feed.shape
    users, shared = wanted.shape[1], q.shape[1] == 1
    gram = np.zeros((chains, chains), dtype=np.complex128)
    right = np.zeros((chains, users), dtype=np.complex128)
    row = np.empty(chains, dtype=np.complex128)
    for n in range(antennas):
        for r in range(chains):
            row[r] = (q[n, 0 if shared else r] * feed[n, r]).conjugate()
            for s in range(r + 1):
                gram[r, s] += row[r] * row[s].conjugate()
            for k in range(users):
                right[r, k] += row[r] * wanted[n, k]
    ridge = _RIDGE
    while ridge < 1e-3:
        assign(v, right)
        if solve(gram.copy(), v, ridge):
            return
        ridge *= 100.0
    v[:] = 0.0


@njit(**FAST)
def _fit(
    feed: Any, wanted: Any, q: Any, v: Any, kind: int, levels: Any, free: bool, passes: int
) -> None:
    """Alternate least squares over V and over the controls, both in place."""
    antennas, users = wanted.shape
    y = np.empty((1, 0, antennas), dtype=np.complex128)
    residual = np.empty((1, 0, users), dtype=np.complex128)
    d = np.empty((1, antennas, q.shape[1], users), dtype=np.complex128)
    z = np.empty((1, antennas, users), dtype=np.complex128)
    z[0] = wanted
    price = np.ones(1)
    for _ in range(passes):
        _least_squares(feed, q, wanted, v)
        branches(feed, v, d[0])
        sweep(y, residual, d, price, z, q, kind, levels)
        if free:
            normalise(q, v)


@njit(**FAST, **KEPT)
def _starts(channels: Any, q: Any, v: Any, plan: Any, first: int, last: int) -> None:
    """Start channels ``first`` to ``last``; see :func:`fitted_start`."""
    h, basis, feed, noise, alpha, power = channels
    iterations, passes, kind, levels, free = plan
    wanted = np.empty((h.shape[2], h.shape[1]), dtype=np.complex128)
    for b in range(first, last):
        _target(h[b], basis[b], noise[b], alpha[b], power[b], iterations, wanted)
        _fit(feed, wanted, q[b], v[b], kind, levels, free, passes)


class Channels(NamedTuple):
    """What to start: ``h`` ``(B, K, N)``, an orthonormal ``basis`` ``(B, N, D)`` of its span.

    ``feed`` is ``(N, R)``, ``noise`` and ``user_weights`` ``(B, K)``, ``power`` ``(B,)``.
    """

    h: Any
    basis: Any
    feed: Any
    noise: Any
    user_weights: Any
    power: Any


class Plan(NamedTuple):
    """Digital ``iterations``, ``passes`` of the fit, and the element set of the controls.

    ``kind`` and ``levels`` as in :func:`holobeam.kernels.cpu.coordinate_sweep`; ``free``: whether
    amplitudes are fitted over [0, inf) and divided by their maximum.
    """

    iterations: int
    passes: int
    kind: int
    levels: Any
    free: bool


def fitted_start(channels: Channels, control: Any, digital: Any, plan: Plan, threads: int) -> None:
    """Fit ``control`` ``(B, N, C)`` and ``digital`` ``(B, R, K)`` in place to the target."""
    batch, users, antennas = channels.h.shape
    chains = channels.feed.shape[1]
    cost = batch * antennas * plan.passes * users * (2 * chains + 4) * 2e-9
    arguments = (tuple(channels), control, digital, tuple(plan))
    start = compiled(_starts, (*arguments, 0, batch))

    def work(first: int, last: int) -> None:
        start(*arguments, first, last)

    spread(work, batch, cost, threads)
