"""One phase after the other at a ratio of two quadratic forms, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from holobeam.kernels.compiling import compiled
from holobeam.kernels.cpu import spread
from holobeam.kernels.options import FAST, KEPT


@njit(**FAST)
def _best(z_b: float, z_c: float, b: complex, c: complex) -> complex:
    """Unit number that maximises ``(z_b + 2 Re(x* b)) / (1 + z_c + 2 Re(x* c))``; 0 for none."""
    g = (1.0 + z_c) * b - z_b * c
    size = np.sqrt(g.real * g.real + g.imag * g.imag)
    if not size > 0.0:
        return 0j
    turn = 2.0 * (b.real * c.imag - b.imag * c.real) / size
    turn = np.arcsin(min(max(turn, -1.0), 1.0))
    lean = np.arctan2(g.imag, g.real)
    best, found = -np.inf, 0j
    for angle in (lean - turn, lean - np.pi + turn):
        x = complex(np.cos(angle), np.sin(angle))
        top = z_b + 2.0 * (x.real * b.real + x.imag * b.imag)
        low = 1.0 + z_c + 2.0 * (x.real * c.real + x.imag * c.imag)
        if low > 0.0 and top / low > best:
            best, found = top / low, x
    return found


@njit(**FAST, **KEPT)
def _sweep(u: Any, w: Any, f: Any, first: int, last: int) -> None:
    """Sweep the columns of channels ``first`` to ``last``; see :func:`sweep_column`."""
    users, antennas = u.shape[1], u.shape[2]
    y, z = np.empty(users, dtype=np.complex128), np.empty(users, dtype=np.complex128)
    for channel in range(first, last):
        y[:] = 0.0
        z[:] = 0.0
        for n in range(antennas):
            for k in range(users):
                y[k] += u[channel, k, n] * f[channel, n]
                z[k] += w[channel, k, n] * f[channel, n]
        for n in range(antennas):
            old = f[channel, n]
            b, c, z_b, z_c = 0j, 0j, 1e-300, 0.0
            own_b, own_c = 0.0, 0.0
            for k in range(users):
                # What the other elements make.
                p, q = u[channel, k, n], w[channel, k, n]
                y[k] -= p * old
                z[k] -= q * old
                b += p.conjugate() * y[k]
                c += q.conjugate() * z[k]
                z_b += y[k].real * y[k].real + y[k].imag * y[k].imag
                z_c += z[k].real * z[k].real + z[k].imag * z[k].imag
                own_b += p.real * p.real + p.imag * p.imag
                own_c += q.real * q.real + q.imag * q.imag
            new = _best(z_b + own_b, z_c + own_c, b, c)
            if new == 0j or not np.isfinite(new.real + new.imag):
                new = old
            f[channel, n] = new
            for k in range(users):
                y[k] += u[channel, k, n] * new
                z[k] += w[channel, k, n] * new


def sweep_column(u: Any, w: Any, f: Any, threads: int) -> None:
    """Set each phase of a column to its best, in place: maximise ``|U f|^2 / (1 + |W f|^2)``.

    Parameters
    ----------
    u, w
        ``(B, K, N)`` complex128.
    f
        ``(B, N)`` of modulus 1; changed.
    threads
        At most.
    """
    sweep = compiled(_sweep, (u, w, f, 0, f.shape[0]))

    def work(first: int, last: int) -> None:
        sweep(u, w, f, first, last)

    spread(work, f.shape[0], f.size * u.shape[1] * 20e-9, threads)
