"""What the compiled loops share: link, power, weights, digital step, quadratic, sweep.

One channel, narrowband, one power budget; NumPy arrays in, changed in place. The torch versions in
``digital/`` and ``analog/`` are the oracles.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from holobeam.kernels.copying import assign
from holobeam.kernels.cpu import sweep_one
from holobeam.kernels.options import EXACT, FAST

_RIDGE = 1e-14


@njit(**FAST)
def link(h: Any, feed: Any, q: Any, e: Any, g: Any, radiated: bool) -> None:
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


@njit(**FAST, inline="always")
def scaled(factor: float, z: complex) -> complex:
    """``factor z``: numba takes a real factor for a complex one, twice the work."""
    return complex(factor * z.real, factor * z.imag)


@njit(**FAST)
def spent(g: Any, v: Any) -> float:
    """Power counted, ``tr(V^H G V)``."""
    total = 0.0
    chains, users = v.shape
    for r in range(chains):
        for s in range(r + 1):
            re, im = 0.0, 0.0
            for k in range(users):
                x, y = v[r, k], v[s, k]
                re += x.real * y.real + x.imag * y.imag
                im += x.real * y.imag - x.imag * y.real
            # G is Hermitian: what is off its diagonal counts twice.
            twice = 1.0 if r == s else 2.0
            total += twice * (re * g[r, s].real - im * g[r, s].imag)
    return max(total, 0.0)


@njit(**FAST)
def rescale(g: Any, v: Any, power: float) -> None:
    """Scale V so that the budget is met with equality."""
    load = spent(g, v) / power
    if load > 2.3e-308:
        v *= 1.0 / np.sqrt(load)


@njit(**FAST)
def hear(e: Any, v: Any, t: Any) -> None:
    """``T = E V`` in place: what each user hears of each stream."""
    for k in range(e.shape[0]):
        for j in range(v.shape[1]):
            re, im = 0.0, 0.0
            for r in range(v.shape[0]):
                x, y = e[k, r], v[r, j]
                re += x.real * y.real - x.imag * y.imag
                im += x.real * y.imag + x.imag * y.real
            t[k, j] = complex(re, im)


@njit(**FAST)
def _signal(t: Any, k: int) -> tuple[float, float]:
    """Power that user k hears of its own stream, and of the others'."""
    own, others = 0.0, 0.0
    for j in range(t.shape[1]):
        power = t[k, j].real * t[k, j].real + t[k, j].imag * t[k, j].imag
        if j == k:
            own = power
        else:
            others += power
    return own, others


@njit(**FAST)
def weigh_heard(t: Any, noise: Any, alpha: Any, load: float, factor: float, u: Any, w: Any) -> None:
    """Receivers and weights in place, from what is heard and the power over the budget."""
    if load <= 0.0:
        load = 1.0
    for k in range(t.shape[0]):
        signal, others = _signal(t, k)
        others += noise[k] * factor * load
        total = max(signal + others, 2.3e-308)
        u[k] = scaled(1.0 / total, t[k, k])
        w[k] = alpha[k] * total / (others if others > 0.0 else total)


@njit(**FAST)
def weigh(
    e: Any, g: Any, v: Any, noise: Any, alpha: Any, power: float, factor: float, u: Any, w: Any
) -> None:
    """Receivers and weights in place."""
    t = np.empty((e.shape[0], v.shape[1]), dtype=np.complex128)
    hear(e, v, t)
    weigh_heard(t, noise, alpha, spent(g, v) / power, factor, u, w)


@njit(**FAST)
def rate_heard(t: Any, noise: Any, alpha: Any, load: float) -> float:
    """Weighted sum rate in bits/s/Hz, from what is heard and the power over the budget."""
    if load <= 0.0:
        load = 1.0
    total = 0.0
    for k in range(t.shape[0]):
        signal, others = _signal(t, k)
        if signal != 0.0:
            total += alpha[k] * np.log1p(signal / (others + noise[k] * load))
    return float(total / np.log(2.0))


@njit(**FAST)
def rate(e: Any, g: Any, v: Any, noise: Any, alpha: Any, power: float) -> float:
    """Weighted sum rate in bits/s/Hz, with the budget folded into the noise."""
    t = np.empty((e.shape[0], v.shape[1]), dtype=np.complex128)
    hear(e, v, t)
    return rate_heard(t, noise, alpha, spent(g, v) / power)


@njit(**EXACT)
def solve(system: Any, right: Any, ridge: float) -> bool:
    """Solve a Hermitian system (lower half given) by Cholesky, both arrays in place.

    The ridge is relative to the mean diagonal. False, and ``right`` untouched, where the system is
    not positive definite.
    """
    chains, users = right.shape
    level = 0.0
    for r in range(chains):
        level += system[r, r].real
    level = level / chains if level > 0.0 else 1.0
    for r in range(chains):
        system[r, r] += ridge * level
    # The diagonal holds reciprocals: a complex division costs a call, a product does not.
    for r in range(chains):
        for s in range(r + 1):
            value = system[r, s]
            for t in range(s):
                value -= system[r, t] * system[s, t].conjugate()
            if s < r:
                system[r, s] = scaled(system[s, s].real, value)
            elif value.real > 0.0:
                system[r, r] = 1.0 / np.sqrt(value.real)
            else:
                return False
    for k in range(users):
        for r in range(chains):
            value = right[r, k]
            for s in range(r):
                value -= system[r, s] * right[s, k]
            right[r, k] = scaled(system[r, r].real, value)
        for i in range(chains):
            r = chains - 1 - i
            value = right[r, k]
            for s in range(r + 1, chains):
                value -= system[s, r].conjugate() * right[s, k]
            right[r, k] = scaled(system[r, r].real, value)
    return True


@njit(**FAST)
def keep_finite(new: Any, v: Any) -> None:
    """Take ``new`` for V where it is finite and not all zero."""
    size = 0.0
    for r in range(v.shape[0]):
        for k in range(v.shape[1]):
            size += new[r, k].real ** 2 + new[r, k].imag ** 2
    if np.isfinite(size) and size > 0.0:
        assign(v, new)


@njit(**FAST)
def digital(
    e: Any, g: Any, u: Any, w: Any, noise: Any, power: float, factor: float, v: Any
) -> None:
    """Folded digital step in place; V stays as it is where the new one is not finite or zero."""
    users, chains = e.shape
    system = np.empty((chains, chains), dtype=np.complex128)
    new = np.empty((chains, users), dtype=np.complex128)
    digital_within(e, g, u, w, noise, power, factor, v, (system, new))


@njit(**FAST)
def digital_within(
    e: Any, g: Any, u: Any, w: Any, noise: Any, power: float, factor: float, v: Any, room: Any
) -> None:
    """:func:`digital` with room for the system (R x R) and the new V (R x K)."""
    users, chains = e.shape
    system, new = room
    system[:] = 0.0
    price = 0.0
    for k in range(users):
        cost = w[k] * (u[k].real * u[k].real + u[k].imag * u[k].imag)
        price += cost * noise[k] * factor
        for r in range(chains):
            back = e[k, r].conjugate()
            new[r, k] = back * scaled(w[k], u[k])
            back = scaled(cost, back)
            for s in range(r + 1):
                system[r, s] += back * e[k, s]
    price /= power
    for r in range(chains):
        for s in range(r + 1):
            system[r, s] += scaled(price, g[r, s])
    if solve(system, new, _RIDGE):
        keep_finite(new, v)


@njit(**FAST)
def sweep(y: Any, residual: Any, d: Any, rho: Any, z: Any, q: Any, kind: int, levels: Any) -> None:
    """One exact sweep over the controls of one channel, arrays as in :func:`sweep_one`."""
    sizes = (y.shape[0], y.shape[1], d.shape[2], d.shape[3])
    sweep_one(y, residual, d, rho, z, q, kind, levels, 1, sizes)


@njit(**FAST)
def normalise(q: Any, v: Any) -> None:
    """Divide amplitudes by their maximum and let V make up for it."""
    top = q.real.max()
    if top > 0.0:
        q /= top
        v *= top


@njit(**FAST)
def branches(feed: Any, v: Any, d: Any) -> None:
    """D of the quadratic, ``(N, C, K)`` in place: what each control lets through."""
    controls, chains = d.shape[1], v.shape[0]
    for n in range(d.shape[0]):
        for j in range(v.shape[1]):
            inner = 0j
            for r in range(chains):
                through = feed[n, r] * v[r, j]
                if controls > 1:
                    d[n, r, j] = through
                inner += through
            if controls == 1:
                d[n, 0, j] = inner


@njit(**FAST)
def price_of(u: Any, w: Any, noise: Any, power: float, factor: float) -> float:
    """Price of a unit of power, ``sum_k w_k |u_k|^2 sigma_k^2 / P``."""
    price = 0.0
    for k in range(u.shape[0]):
        price += w[k] * (u[k].real * u[k].real + u[k].imag * u[k].imag) * noise[k] * factor
    return price / power


@njit(**FAST)
def quadratic(
    h: Any, feed: Any, e: Any, v: Any, u: Any, w: Any, y: Any, d: Any, residual: Any
) -> None:
    """Y, D and the residual ``Y X - T`` of the quadratic in the controls, in place."""
    users, antennas = h.shape
    chains = v.shape[0]
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
    branches(feed, v, d)
