"""The whole alternating loop, compiled: receivers, digital precoder, sweep, extrapolation.

One channel after the other, narrowband, one power budget; arrays in, arrays out. It does what
``solvers/alternating.py`` does step by step in torch, which is its oracle.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from holobeam.kernels.cpu import FAST, project, spread, sweep_one

_RIDGE = 1e-14


@njit(cache=True, nogil=True, fastmath=FAST)
def _link(h: Any, feed: Any, q: Any, e: Any, g: Any, radiated: bool) -> None:
    """``E = H A`` and, where radiated power counts, ``G = A^H A``, else the identity."""
    n_k, n_r, n_c = h.shape[0], feed.shape[1], q.shape[1]
    e[:] = 0.0
    g[:] = 0.0
    row = np.empty(n_r, dtype=np.complex128)
    for n in range(h.shape[1]):
        for r in range(n_r):
            row[r] = q[n, r if n_c > 1 else 0] * feed[n, r]
        for k in range(n_k):
            path = h[k, n]
            for r in range(n_r):
                e[k, r] += path * row[r]
        if radiated:
            for r in range(n_r):
                back = row[r].conjugate()
                for s in range(r, n_r):
                    g[r, s] += back * row[s]
    for r in range(n_r):
        if not radiated:
            g[r, r] = 1.0
        for s in range(r):
            g[r, s] = g[s, r].conjugate()


@njit(cache=True, nogil=True, fastmath=FAST)
def _power(g: Any, v: Any) -> float:
    total = 0.0
    chains, users = v.shape
    for k in range(users):
        for r in range(chains):
            inner = 0j
            for s in range(chains):
                inner += g[r, s] * v[s, k]
            total += v[r, k].real * inner.real + v[r, k].imag * inner.imag
    return max(total, 0.0)


@njit(cache=True, nogil=True, fastmath=FAST)
def _rescale(g: Any, v: Any, power: float) -> None:
    load = _power(g, v) / power
    if load > 2.3e-308:
        v *= 1.0 / np.sqrt(load)


@njit(cache=True, nogil=True, fastmath=FAST)
def _weigh(
    e: Any, g: Any, v: Any, noise: Any, alpha: Any, power: float, factor: float, u: Any, w: Any
) -> float:
    """Receivers and weights in place; returns the weighted sum rate in bits/s/Hz."""
    users, chains = e.shape
    load = _power(g, v) / power
    if load <= 0.0:
        load = 1.0
    rate = 0.0
    for k in range(users):
        signal, others, own = 0.0, noise[k] * factor * load, 0j
        for j in range(users):
            heard = 0j
            for r in range(chains):
                heard += e[k, r] * v[r, j]
            size = heard.real * heard.real + heard.imag * heard.imag
            if j == k:
                own, signal = heard, size
            else:
                others += size
        total = max(signal + others, 2.3e-308)
        u[k] = own / total
        w[k] = alpha[k] * total / (others if others > 0.0 else total)
        if signal != 0.0:
            rate += alpha[k] * np.log1p(signal / others)
    return float(rate / np.log(2.0))


@njit(cache=True, nogil=True, fastmath=FAST)
def _digital(
    e: Any, g: Any, u: Any, w: Any, noise: Any, power: float, factor: float, v: Any
) -> None:
    """Folded digital step in place; V stays as it is where the new one is not finite or zero."""
    users, chains = e.shape
    system = np.zeros((chains, chains), dtype=np.complex128)
    new = np.empty((chains, users), dtype=np.complex128)
    price = 0.0
    for k in range(users):
        cost = w[k] * (u[k].real * u[k].real + u[k].imag * u[k].imag)
        price += cost * noise[k] * factor
        for r in range(chains):
            back = e[k, r].conjugate()
            new[r, k] = back * (w[k] * u[k])
            for s in range(r + 1):
                system[r, s] += cost * back * e[k, s]
    price /= power
    level = 0.0
    for r in range(chains):
        for s in range(r + 1):
            system[r, s] += price * g[r, s]
        level += system[r, r].real
    level = level / chains if level > 0.0 else 1.0
    for r in range(chains):
        system[r, r] += _RIDGE * level
    # Cholesky in place, then both substitutions.
    for r in range(chains):
        for s in range(r + 1):
            value = system[r, s]
            for t in range(s):
                value -= system[r, t] * system[s, t].conjugate()
            if s < r:
                system[r, s] = value / system[s, s].real
            elif value.real > 0.0:
                system[r, r] = np.sqrt(value.real)
            else:
                return
    size = 0.0
    for k in range(users):
        for r in range(chains):
            value = new[r, k]
            for s in range(r):
                value -= system[r, s] * new[s, k]
            new[r, k] = value / system[r, r].real
        for i in range(chains):
            r = chains - 1 - i
            value = new[r, k]
            for s in range(r + 1, chains):
                value -= system[s, r].conjugate() * new[s, k]
            new[r, k] = value / system[r, r].real
            size += new[r, k].real ** 2 + new[r, k].imag ** 2
    if np.isfinite(size) and size > 0.0:
        v[:] = new


@njit(cache=True, nogil=True, fastmath=FAST)
def _ahead(q: Any, previous: Any, stride: float, free: bool, kind: int, levels: Any) -> Any:
    """Controls further along their last change, on the element set."""
    ratio = 1.0
    if free:
        total, before = 0.0, 0.0
        for n in range(q.shape[0]):
            total += q[n, 0].real
            before += previous[n, 0].real
        if before > 0.0:
            ratio = total / before
    out = np.empty_like(q)
    for n in range(q.shape[0]):
        for c in range(q.shape[1]):
            goal = q[n, c] + stride * (q[n, c] - ratio * previous[n, c])
            re, im = project(kind, levels, goal.real, goal.imag)
            out[n, c] = complex(re, im)
    return out


@njit(cache=True, nogil=True, fastmath=FAST)
def _leap(channel: Any, q: Any, v: Any, ahead: Any, reached: float, e: Any, g: Any) -> float:
    """Move to the controls ``ahead`` if they gain after two digital steps; returns the rate."""
    h, feed, noise, alpha, power, radiated = channel
    e_ahead, g_ahead = np.empty_like(e), np.empty_like(g)
    u, w = np.empty(e.shape[0], dtype=np.complex128), np.empty(e.shape[0])
    _link(h, feed, ahead, e_ahead, g_ahead, radiated)
    leapt = v.copy()
    for _ in range(2):
        _weigh(e_ahead, g_ahead, leapt, noise, alpha, power, 1.0, u, w)
        _digital(e_ahead, g_ahead, u, w, noise, power, 1.0, leapt)
    _rescale(g_ahead, leapt, power)
    found = _weigh(e_ahead, g_ahead, leapt, noise, alpha, power, 1.0, u, w)
    if not found > reached:
        return reached
    q[:], v[:], e[:], g[:] = ahead, leapt, e_ahead, g_ahead
    return found


@njit(cache=True, nogil=True, fastmath=FAST)
def _quadratic(
    h: Any, feed: Any, e: Any, v: Any, u: Any, w: Any, y: Any, d: Any, residual: Any
) -> None:
    """Y, D and the residual ``Y X - T`` of the quadratic in the controls, in place."""
    users, antennas = h.shape
    controls, chains = d.shape[1], v.shape[0]
    for k in range(users):
        root = np.sqrt(w[k])
        gain = root * u[k].conjugate()
        for n in range(antennas):
            y[k, n] = gain * h[k, n]
        for j in range(users):
            heard = 0j
            for r in range(chains):
                heard += e[k, r] * v[r, j]
            residual[k, j] = gain * heard - (root if j == k else 0.0)
    for n in range(antennas):
        for j in range(users):
            inner = 0j
            for r in range(chains):
                through = feed[n, r] * v[r, j]
                if controls > 1:
                    d[n, r, j] = through
                inner += through
            if controls == 1:
                d[n, 0, j] = inner


@njit(cache=True, nogil=True, fastmath=FAST)
def _move(
    channel: Any, factor: float, e: Any, v: Any, u: Any, w: Any, q: Any, room: Any, elements: Any
) -> None:
    """Sweep the controls of one channel; a free scale goes from the amplitudes into V."""
    h, feed, noise, _, power, radiated = channel
    y, d, residual, none, rho = room
    kind, levels, free = elements
    rho[0] = 0.0
    if radiated:
        for k in range(h.shape[0]):
            cost = w[k] * (u[k].real * u[k].real + u[k].imag * u[k].imag)
            rho[0] += cost * noise[k] * factor / power
    _quadratic(h, feed, e, v, u, w, y[0], d[0], residual[0])
    sizes = (1, y.shape[1], d.shape[2], d.shape[3])
    sweep_one(y, residual, d, rho, none, q, kind, levels, 1, sizes)
    if free:
        top = q.real.max()
        if top > 0.0:
            q /= top
            v *= top


@njit(cache=True, nogil=True, fastmath=FAST)
def _loop(channels: Any, state: Any, plan: Any, steps: Any, first: int, last: int) -> None:
    """Iterate on channels ``first`` to ``last``; see :func:`alternate`."""
    h, feed, noise, alpha, power, radiated = channels
    q, v, previous, stride, utility = state
    factors, noisy, extrapolate, kind, levels, free, tolerance = plan
    users, antennas, chains, controls = h.shape[1], h.shape[2], feed.shape[1], q.shape[2]
    e = np.empty((users, chains), dtype=np.complex128)
    g = np.empty((chains, chains), dtype=np.complex128)
    u, w = np.empty(users, dtype=np.complex128), np.empty(users)
    room = (
        np.empty((1, users, antennas), dtype=np.complex128),
        np.empty((1, antennas, controls, users), dtype=np.complex128),
        np.empty((1, users, users), dtype=np.complex128),
        np.empty((0, antennas, users), dtype=np.complex128),
        np.zeros(1),
    )
    for b in range(first, last):
        channel = (h[b], feed, noise[b], alpha[b], power[b], radiated)
        _link(h[b], feed, q[b], e, g, radiated)
        for step in range(factors.shape[0]):
            factor, before = factors[step], utility[b]
            if extrapolate and step >= noisy:
                ahead = _ahead(q[b], previous[b], stride[b], free, kind, levels)
                previous[b] = q[b]
                accepted = _leap(channel, q[b], v[b], ahead, before, e, g) > before
                stride[b] = min(1.5 * stride[b], 50.0) if accepted else max(0.5 * stride[b], 0.5)
            elif extrapolate:
                previous[b] = q[b]
            _weigh(e, g, v[b], noise[b], alpha[b], power[b], factor, u, w)
            _digital(e, g, u, w, noise[b], power[b], factor, v[b])
            _weigh(e, g, v[b], noise[b], alpha[b], power[b], factor, u, w)
            _move(channel, factor, e, v[b], u, w, q[b], room, (kind, levels, free))
            _link(h[b], feed, q[b], e, g, radiated)
            _rescale(g, v[b], power[b])
            utility[b] = _weigh(e, g, v[b], noise[b], alpha[b], power[b], 1.0, u, w)
            steps[b] += 1
            if not np.isfinite(utility[b]):
                break
            gain = abs(utility[b] - before)
            if step >= noisy and gain <= tolerance * max(abs(utility[b]), 1e-12):
                steps[b] = -steps[b]
                break


class Channels(NamedTuple):
    """What the loop solves for: ``(B, K, N)`` channels and the rest of the problem.

    ``feed`` is ``(N, R)``, ``noise`` and ``user_weights`` ``(B, K)``, ``power`` ``(B,)``;
    ``radiated`` says whether radiated power counts (else power at the feeds).
    """

    h: Any
    feed: Any
    noise: Any
    user_weights: Any
    power: Any
    radiated: bool


class Point(NamedTuple):
    """Where the loop stands, changed in place.

    ``control`` ``(B, N, C)``, ``digital`` ``(B, R, K)``, ``previous`` controls, ``stride`` of the
    next leap ``(B,)``, ``utility`` ``(B,)``: the weighted sum rate in bits/s/Hz.
    """

    control: Any
    digital: Any
    previous: Any
    stride: Any
    utility: Any


class Plan(NamedTuple):
    """How to iterate.

    ``factors``: noise factor of each iteration, the first ``noisy`` of them a schedule's;
    ``extrapolate``: whether to leap; ``kind``, ``levels``: element set as in
    :func:`holobeam.kernels.cpu.coordinate_sweep`; ``free``: whether amplitudes have a free scale;
    ``tolerance``: relative gain below which a channel stops.
    """

    factors: Any
    noisy: int
    extrapolate: bool
    kind: int
    levels: Any
    free: bool
    tolerance: float


def alternate(channels: Channels, point: Point, plan: Plan, threads: int) -> Any:
    """Run ``len(plan.factors)`` iterations of the loop on a batch, in place.

    Returns
    -------
    array
        ``(B,)`` iterations done; negative where the channel converged at the last of them.
    """
    batch, users, antennas = channels.h.shape
    steps = np.zeros(batch, dtype=np.int64)
    terms = users * (4 * channels.feed.shape[1] + 8)
    cost = batch * antennas * len(plan.factors) * terms * 2e-9
    # Plain tuples: the compiled code is then the same whatever these classes are called.
    parts = tuple(channels), tuple(point), tuple(plan)

    def work(first: int, last: int) -> None:
        _loop(*parts, steps, first, last)

    spread(work, batch, cost, threads)
    return steps
