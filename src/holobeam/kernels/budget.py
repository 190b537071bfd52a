"""Feasible points, compiled: controls onto their set, precoders scaled to one radiated budget.

One channel after the other, narrowband; arrays in, changed in place. ``Downlink.feasible`` does the
same in torch, and is the oracle.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from holobeam.kernels.compiling import compiled
from holobeam.kernels.copying import stretch
from holobeam.kernels.cpu import project, spread
from holobeam.kernels.options import FAST, KEPT

_TINY = 2.3e-308


@njit(**FAST)
def _rounded(array: Any) -> None:
    """Round complex numbers to single precision, in place."""
    for i in range(array.shape[0]):
        for j in range(array.shape[1]):
            value = array[i, j]
            array[i, j] = complex(np.float32(value.real), np.float32(value.imag))


@njit(**FAST)
def _controls(feed: Any, q: Any, a: Any, kind: int, levels: Any, single: bool) -> None:
    """Controls onto their set, in place, and the analog beamformer that they make."""
    for n in range(q.shape[0]):
        for c in range(q.shape[1]):
            re, im = project(kind, levels, q[n, c].real, q[n, c].imag)
            q[n, c] = complex(re, im)
    if single:
        _rounded(q)
    shared = q.shape[1] == 1
    for n in range(q.shape[0]):
        for r in range(feed.shape[1]):
            a[n, r] = q[n, 0 if shared else r] * feed[n, r]


@njit(**FAST)
def _radiated(a: Any, v: Any) -> float:
    """``||A V||^2``."""
    total = 0.0
    chains, users = v.shape
    for n in range(a.shape[0]):
        for k in range(users):
            re, im = 0.0, 0.0
            for r in range(chains):
                x, y = a[n, r], v[r, k]
                re += x.real * y.real - x.imag * y.imag
                im += x.real * y.imag + x.imag * y.real
            total += re * re + im * im
    return total


@njit(**FAST)
def _gross(a: Any, v: Any) -> float:
    """Power that the chains would radiate one by one: what cancels is missing from the true one."""
    total = 0.0
    for r in range(a.shape[1]):
        size, drive = 0.0, 0.0
        for n in range(a.shape[0]):
            size += a[n, r].real * a[n, r].real + a[n, r].imag * a[n, r].imag
        for k in range(v.shape[1]):
            drive += v[r, k].real * v[r, k].real + v[r, k].imag * v[r, k].imag
        total += size * drive
    return total


@njit(**FAST, **KEPT)
def _settles(
    feed: Any, q: Any, v: Any, power: Any, kind: int, levels: Any, single: bool, off: Any,
    first: int, last: int,
) -> None:  # fmt: skip
    """Settle channels ``first`` to ``last``; see :func:`settle`."""
    step = 1.1920929e-07 if single else 2.220446049250313e-16
    a = np.empty(feed.shape, dtype=np.complex128)
    for b in range(first, last):
        _controls(feed, q[b], a, kind, levels, single)
        load = _radiated(a, v[b]) / power[b]
        if load <= 0.0:
            v[b][:] = 1.0
            load = _radiated(a, v[b]) / power[b]
        if load > _TINY:
            stretch(v[b], 1.0 / np.sqrt(load))
        if single:
            _rounded(v[b])
        # Rounding moves the power by 2 t + t^2 at most: a second look is for beams that cancel.
        share = _gross(a, v[b]) / power[b]
        t = step * np.sqrt(feed.shape[1] * share)
        off[b] = False
        if not 2.0 * t + t * t < 0.25 * step**0.6:
            load = _radiated(a, v[b]) / power[b]
            off[b] = abs(load - 1.0) > step**0.6 and load > 0.0


def settle(
    feed: Any, q: Any, v: Any, power: Any, kind: int, levels: Any, single: bool, threads: int
) -> Any:
    """Project controls ``(B, N, C)`` and scale precoders ``(B, R, K)`` to the budget, in place.

    ``feed`` is ``(N, R)``, ``power`` ``(B,)``; ``single``: whether the numbers will be rounded to
    single precision. An all-zero precoder becomes one of ones. Element set as in
    :func:`holobeam.kernels.cpu.coordinate_sweep`.

    Returns
    -------
    array
        ``(B,)``: channels whose power is not held, because beams cancel to too many digits.
    """
    batch, antennas, _ = q.shape
    chains, users = v.shape[1:]
    off = np.zeros(batch, dtype=np.bool_)
    arguments = (feed, q, v, power, kind, levels, single, off)
    settles = compiled(_settles, (*arguments, 0, batch))

    def work(first: int, last: int) -> None:
        settles(*arguments, first, last)

    spread(work, batch, batch * antennas * chains * (users + 4) * 2e-9, threads)
    return off
