"""The whole alternating loop, compiled: receivers, digital precoder, sweep, extrapolation.

One channel after the other, narrowband, one power budget; arrays in, arrays out. It does what
``solvers/alternating.py`` does step by step in torch, which is its oracle.
"""

from __future__ import annotations

from typing import Any

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
def _leap(
    h: Any,
    feed: Any,
    noise: Any,
    alpha: Any,
    power: float,
    q: Any,
    v: Any,
    ahead: Any,
    reached: float,
    e: Any,
    g: Any,
    radiated: bool,
) -> float:
    """Move to the controls ``ahead`` if they gain after two digital steps; returns the rate."""
    users = e.shape[0]
    e_ahead, g_ahead = np.empty_like(e), np.empty_like(g)
    u, w = np.empty(users, dtype=np.complex128), np.empty(users)
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
def _sweep(
    y: Any, residual: Any, d: Any, rho: Any, none: Any, q: Any, kind: int, levels: Any
) -> None:
    """One sweep over the elements of one channel."""
    sizes = (1, y.shape[1], d.shape[2], d.shape[3])
    sweep_one(y, residual, d, rho, none, q, kind, levels, 1, sizes)


@njit(cache=True, nogil=True, fastmath=FAST)
def _loop(
    h: Any,
    feed: Any,
    noise: Any,
    alpha: Any,
    power: Any,
    q: Any,
    v: Any,
    previous: Any,
    stride: Any,
    utility: Any,
    steps: Any,
    factors: Any,
    noisy: int,
    extrapolate: bool,
    radiated: bool,
    free: bool,
    kind: int,
    levels: Any,
    tolerance: float,
    first: int,
    last: int,
) -> None:
    """Iterate on channels ``first`` to ``last``; see :func:`alternate`."""
    users, antennas, chains, controls = h.shape[1], h.shape[2], feed.shape[1], q.shape[2]
    e = np.empty((users, chains), dtype=np.complex128)
    g = np.empty((chains, chains), dtype=np.complex128)
    u, w = np.empty(users, dtype=np.complex128), np.empty(users)
    y = np.empty((1, users, antennas), dtype=np.complex128)
    d = np.empty((1, antennas, controls, users), dtype=np.complex128)
    residual = np.empty((1, users, users), dtype=np.complex128)
    none = np.empty((0, antennas, users), dtype=np.complex128)
    rho = np.zeros(1)
    for b in range(first, last):
        _link(h[b], feed, q[b], e, g, radiated)
        for step in range(factors.shape[0]):
            before = utility[b]
            if extrapolate and step >= noisy:
                ahead = _ahead(q[b], previous[b], stride[b], free, kind, levels)
                previous[b] = q[b]
                reached = _leap(
                    h[b],
                    feed,
                    noise[b],
                    alpha[b],
                    power[b],
                    q[b],
                    v[b],
                    ahead,
                    before,
                    e,
                    g,
                    radiated,
                )
                accepted = reached > before
                stride[b] = min(1.5 * stride[b], 50.0) if accepted else max(0.5 * stride[b], 0.5)
            elif extrapolate:
                previous[b] = q[b]
            _weigh(e, g, v[b], noise[b], alpha[b], power[b], factors[step], u, w)
            _digital(e, g, u, w, noise[b], power[b], factors[step], v[b])
            _weigh(e, g, v[b], noise[b], alpha[b], power[b], factors[step], u, w)
            if radiated:
                rho[0] = 0.0
                for k in range(users):
                    cost = w[k] * (u[k].real * u[k].real + u[k].imag * u[k].imag)
                    rho[0] += cost * noise[b, k] * factors[step] / power[b]
            _quadratic(h[b], feed, e, v[b], u, w, y[0], d[0], residual[0])
            _sweep(y, residual, d, rho, none, q[b], kind, levels)
            top = q[b].real.max() if free else 1.0
            if top > 0.0:
                q[b] /= top
                v[b] *= top
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


def alternate(
    h: Any,
    feed: Any,
    noise: Any,
    alpha: Any,
    power: Any,
    q: Any,
    v: Any,
    previous: Any,
    stride: Any,
    utility: Any,
    *,
    factors: Any,
    noisy: int,
    extrapolate: bool,
    radiated: bool,
    free: bool,
    kind: int,
    levels: Any,
    tolerance: float,
    threads: int,
) -> Any:
    """Run some iterations of the loop on a batch, in place.

    Parameters
    ----------
    h, feed
        ``(B, K, N)`` and ``(N, R)``.
    noise, alpha, power
        ``(B, K)``, ``(B, K)`` user weights, ``(B,)`` budgets.
    q, v
        ``(B, N, C)`` and ``(B, R, K)``, changed.
    previous, stride, utility
        ``(B, N, C)``, ``(B,)``, ``(B,)``, changed: where the controls were, how far to leap, and
        the weighted sum rate.
    factors
        Noise factor of each iteration; the first ``noisy`` of them belong to a schedule.
    extrapolate, radiated, free
        Whether to leap; whether radiated power counts; whether amplitudes have a free scale.
    kind, levels
        Element set, as in :func:`holobeam.kernels.cpu.coordinate_sweep`.
    tolerance, threads
        Relative gain below which a channel stops; threads at most.

    Returns
    -------
    array
        ``(B,)`` iterations done; negative where the channel converged at the last of them.
    """
    batch, users, antennas = h.shape
    chains = feed.shape[1]
    steps = np.zeros(batch, dtype=np.int64)
    cost = batch * antennas * len(factors) * users * (4 * chains + 8) * 2e-9

    def work(first: int, last: int) -> None:
        _loop(
            h,
            feed,
            noise,
            alpha,
            power,
            q,
            v,
            previous,
            stride,
            utility,
            steps,
            factors,
            noisy,
            extrapolate,
            radiated,
            free,
            kind,
            levels,
            tolerance,
            first,
            last,
        )

    spread(work, batch, cost, threads)
    return steps
