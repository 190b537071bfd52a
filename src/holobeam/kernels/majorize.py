"""Majorise-minimise steps of one subcarrier and one control an element, compiled.

The quadratic is ``|Z q - t|^2 + sum_n price_n |q_n|^2`` with a row of Z for each of the J S
pairs of a decoder and a stream: two passes over Z a step, along its contiguous rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from holobeam.kernels.compiling import compiled
from holobeam.kernels.copying import assign
from holobeam.kernels.cpu import project, spread
from holobeam.kernels.options import EXACT, FAST, INLINED, KEPT


@njit(**FAST)
def _value(z: Any, t: Any, price: Any, q: Any, e: Any) -> float:
    """Objective at q (2, N: real and imaginary parts), with the residual e (2, J S) in place."""
    n = q.shape[1]
    re, im = q[0], q[1]
    total = 0.0
    for i in range(n):
        total += price[i] * (re[i] * re[i] + im[i] * im[i])
    for a in range(e.shape[1]):
        row_re, row_im = z[0, a], z[1, a]
        up, side = -t[0, a], -t[1, a]
        for i in range(n):
            up += row_re[i] * re[i] - row_im[i] * im[i]
            side += row_re[i] * im[i] + row_im[i] * re[i]
        e[0, a] = up
        e[1, a] = side
        total += up * up + side * side
    return total


@njit(**FAST)
def _step(
    z: Any, price: Any, top: Any, q: Any, e: Any, kind: int, levels: Any, slope: Any, out: Any
) -> None:
    """One step from q with the residual e: ``out = project(q - gradient / top)``."""
    n = q.shape[1]
    down, side = slope[0], slope[1]
    for i in range(n):
        down[i] = price[i] * q[0, i]
        side[i] = price[i] * q[1, i]
    for a in range(e.shape[1]):
        row_re, row_im = z[0, a], z[1, a]
        e_re, e_im = e[0, a], e[1, a]
        for i in range(n):
            down[i] += row_re[i] * e_re + row_im[i] * e_im
            side[i] += row_re[i] * e_im - row_im[i] * e_re
    for i in range(n):
        if top[i] > 0.0:
            out[0, i], out[1, i] = project(
                kind, levels, q[0, i] - down[i] / top[i], q[1, i] - side[i] / top[i]
            )
        else:
            out[0, i], out[1, i] = q[0, i], q[1, i]


@njit(**INLINED)
def _squarem(
    z: Any, t: Any, price: Any, points: Any, goal: float, kind: int, levels: Any, e: Any
) -> float:
    """Extrapolate from three successive points (in ``points``); where it pays, into the third.

    Returns the value there; ``goal`` is the third point's own.
    """
    now, first, second, trial = points[0], points[1], points[2], points[3]
    n = now.shape[1]
    size, turn = 0.0, 0.0
    for p in range(2):
        for i in range(n):
            change = first[p, i] - now[p, i]
            size += change * change
            turn += (second[p, i] - first[p, i] - change) ** 2
    length = -max(1.0, np.sqrt(size / turn)) if turn > 0.0 else -1.0
    while length < -1.01:
        for i in range(n):
            for p in range(2):
                change = first[p, i] - now[p, i]
                bend = second[p, i] - first[p, i] - change
                trial[p, i] = now[p, i] - 2.0 * length * change + length * length * bend
            trial[0, i], trial[1, i] = project(kind, levels, trial[0, i], trial[1, i])
        value = _value(z, t, price, trial, e)
        if value <= goal:
            assign(second, trial)
            return value
        length = 0.5 * (length - 1.0)
    return goal


@njit(**INLINED)
def _run(
    z: Any,
    t: Any,
    price: Any,
    top: Any,
    points: Any,
    kind: int,
    levels: Any,
    steps: int,
    tolerance: float,
    accelerate: bool,
) -> None:
    """Take the steps of one problem; ``points[0]`` (2, N) is where it starts and ends."""
    now, first, second = points[0], points[1], points[2]
    e, slope = np.empty(t.shape), np.empty(now.shape)
    value = _value(z, t, price, now, e)
    for _ in range(steps):
        _step(z, price, top, now, e, kind, levels, slope, first)
        reached, ended = _value(z, t, price, first, e), first
        if accelerate:
            _step(z, price, top, first, e, kind, levels, slope, second)
            goal = _value(z, t, price, second, e)
            reached, ended = _squarem(z, t, price, points, goal, kind, levels, e), second
        # Rounding alone can make a step at a fixed point worse: then it rests as it is.
        if not reached <= value:
            return
        assign(now, ended)
        if not value - reached > tolerance * abs(value):
            return
        value = reached
        if accelerate:
            _value(z, t, price, now, e)


@njit(**EXACT, **KEPT)
def _batch(
    y: Any,
    t: Any,
    d: Any,
    rho: Any,
    top: Any,
    q: Any,
    kind: int,
    levels: Any,
    steps: int,
    tolerance: float,
    accelerate: bool,
    first: int,
    last: int,
) -> None:
    rows, n = y.shape[1:]
    streams = d.shape[2]
    z, wanted = np.empty((2, rows * streams, n)), np.empty((2, rows * streams))
    price, points = np.empty(n), np.empty((4, 2, n))
    for b in range(first, last):
        for j in range(rows):
            for s in range(streams):
                a = j * streams + s
                wanted[0, a], wanted[1, a] = t[b, j, s].real, t[b, j, s].imag
                for i in range(n):
                    entry = y[b, j, i] * d[b, i, s]
                    z[0, a, i], z[1, a, i] = entry.real, entry.imag
        for i in range(n):
            own = 0.0
            for s in range(streams):
                own += d[b, i, s].real ** 2 + d[b, i, s].imag ** 2
            price[i] = rho[b] * own
            points[0, 0, i], points[0, 1, i] = q[b, i].real, q[b, i].imag
        _run(z, wanted, price, top[b], points, kind, levels, steps, tolerance, accelerate)
        for i in range(n):
            q[b, i] = complex(points[0, 0, i], points[0, 1, i])


def majorize_batch(
    y: Any,
    t: Any,
    d: Any,
    rho: Any,
    top: Any,
    q: Any,
    element_set: tuple[int, Any],
    rule: tuple[int, float, bool],
    threads: int,
) -> None:
    """Take the steps of a batch: q (B, N) in place.

    y (B, J, N), t (B, J, S), d (B, N, S), rho (B,), top (B, N); ``element_set`` is (kind, levels)
    as in :func:`cpu.coordinate_sweep`, ``rule`` is (steps, tolerance, accelerate).
    """
    batch, rows, antennas = y.shape
    kind, levels = element_set
    steps, tolerance, accelerate = rule
    cost = batch * antennas * rows * d.shape[2] * steps * 4e-9
    arguments = (y, t, d, rho, top, q, kind, levels, steps, tolerance, accelerate)
    run = compiled(_batch, (*arguments, 0, batch))

    def work(first: int, last: int) -> None:
        run(*arguments, first, last)

    spread(work, batch, cost, threads)
