"""The coordinate sweep of one subcarrier and one control an element, on the factor's rows.

Then the quadratic is ``|Z' q - t|^2 + sum_n price_n |q_n|^2`` with one row ``Z_n = y_n D_n`` of
``J S`` entries an element: forming the rows once makes a visit one dot product and one update of
contiguous vectors, whatever the split into J and S.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import njit

from holobeam.kernels.cpu import project, spread
from holobeam.kernels.options import FAST, KEPT

WIDEST = 64
"""Rows of more entries than this gain nothing from a loop that is unrolled."""

LANES = 4
"""Rows are padded with zeros to whole vector registers."""


@njit(**FAST)
def rooms(antennas: int, size: int) -> Any:
    """Arrays that :func:`sweep_rows` works in, for rows of ``size`` entries."""
    return (
        np.zeros((antennas, size)), np.zeros((antennas, size)),
        np.empty(antennas), np.empty(antennas), np.empty(antennas),
        np.empty(antennas), np.empty(antennas),
        np.zeros(size), np.zeros(size),
    )  # fmt: skip


@njit(**FAST, inline="always")
def sweep_rows(
    y: Any, t: Any, d: Any, rho: float, q: Any, kind: int, levels: Any, sweeps: int, room: Any,
    size: int,
) -> None:  # fmt: skip
    """Sweep one channel in place: y (J, N), t (J, S), d (N, S), q (N,), rows padded to ``size``.

    Inlined into its callers, so that a length that they know at compile time unrolls the loops.
    """
    n_j, n = y.shape
    n_s = d.shape[1]
    row_re, row_im, curvature, inverse, price, cross_re, cross_im, e_re, e_im = room
    for i in range(n):
        energy, own = 0.0, 0.0
        for j in range(n_j):
            path = y[j, i]
            energy += path.real**2 + path.imag**2
            for s in range(n_s):
                entry = path * d[i, s]
                row_re[i, j * n_s + s] = entry.real
                row_im[i, j * n_s + s] = entry.imag
        for s in range(n_s):
            own += d[i, s].real ** 2 + d[i, s].imag ** 2
        price[i] = rho * own
        curvature[i] = energy * own + price[i]
        inverse[i] = 1.0 / curvature[i] if curvature[i] > 0.0 else 0.0
    for j in range(n_j):
        for s in range(n_s):
            e_re[j * n_s + s] = -t[j, s].real
            e_im[j * n_s + s] = -t[j, s].imag
    for i in range(n):
        weight = q[i]
        for a in range(size):
            e_re[a] += row_re[i, a] * weight.real - row_im[i, a] * weight.imag
            e_im[a] += row_re[i, a] * weight.imag + row_im[i, a] * weight.real
    for i in range(n):
        after = i + 1 if i + 1 < n else 0
        total_re, total_im = 0.0, 0.0
        for a in range(size):
            total_re += row_re[after, a] * row_re[i, a] + row_im[after, a] * row_im[i, a]
            total_im += row_re[after, a] * row_im[i, a] - row_im[after, a] * row_re[i, a]
        cross_re[i], cross_im[i] = total_re, total_im
    # The next element's product with the residual is taken one step early and put right
    # by <next, this> step: so it doesn't wait for this element's root and division.
    early_re, early_im, step_re, step_im = 0.0, 0.0, 0.0, 0.0
    for a in range(size):
        early_re += row_re[0, a] * e_re[a] + row_im[0, a] * e_im[a]
        early_im += row_re[0, a] * e_im[a] - row_im[0, a] * e_re[a]
    before = n - 1
    for _ in range(sweeps):
        for i in range(n):
            old = q[i]
            slope_re = early_re + cross_re[before] * step_re - cross_im[before] * step_im
            slope_im = early_im + cross_re[before] * step_im + cross_im[before] * step_re
            re, im = row_re[before], row_im[before]
            after = i + 1 if i + 1 < n else 0
            next_re, next_im = row_re[after], row_im[after]
            early_re, early_im = 0.0, 0.0
            for a in range(size):
                up = e_re[a] + (re[a] * step_re - im[a] * step_im)
                side = e_im[a] + (re[a] * step_im + im[a] * step_re)
                e_re[a], e_im[a] = up, side
                early_re += next_re[a] * up + next_im[a] * side
                early_im += next_re[a] * side - next_im[a] * up
            before = i
            step_re, step_im = 0.0, 0.0
            if not curvature[i] > 0.0:
                continue
            slope_re += price[i] * old.real
            slope_im += price[i] * old.imag
            scale = inverse[i]
            new_re, new_im = project(
                kind, levels, old.real - slope_re * scale, old.imag - slope_im * scale
            )
            step_re, step_im = new_re - old.real, new_im - old.imag
            q[i] = complex(new_re, new_im)


@cache
def _kernel(width: int) -> Any:
    """Compile the sweep for one padded row length, so that its loops unroll."""
    size = width

    @njit(**FAST, **KEPT)
    def sweep(
        y: Any,
        t: Any,
        d: Any,
        rho: Any,
        q: Any,
        kind: int,
        levels: Any,
        sweeps: int,
        first: int,
        last: int,
    ) -> None:
        room = rooms(y.shape[2], size)
        for b in range(first, last):
            sweep_rows(y[b], t[b], d[b], rho[b], q[b], kind, levels, sweeps, room, size)

    return sweep


def serves(subcarriers: int, rows: int, antennas: int, controls: int, streams: int) -> bool:
    """Whether a shape goes through this kernel: judged on one channel's shape alone."""
    plain = subcarriers == 1 and controls == 1 and antennas >= 64
    return plain and rows != streams and 0 < rows * streams <= WIDEST


def factored_sweep(
    y: Any,
    t: Any,
    d: Any,
    rho: Any,
    q: Any,
    kind: int,
    levels: Any,
    sweeps: int,
    threads: int,
) -> None:
    """Sweep a batch in place: q (B, N, 1); the other shapes as in :func:`cpu.coordinate_sweep`.

    There is no target Z, F = 1 and C = 1; the wanted streams t (B, 1, J, S) replace the residual.
    """
    batch, _, rows, antennas = y.shape
    width = rows * d.shape[4]
    sweep = _kernel(width + -width % LANES)
    cost = batch * antennas * (sweeps + 2) * width * 3e-9

    def work(first: int, last: int) -> None:
        sweep(
            y[:, 0],
            t[:, 0],
            d[:, 0, :, 0],
            rho[:, 0],
            q[:, :, 0],
            kind,
            levels,
            sweeps,
            first,
            last,
        )

    spread(work, batch, cost, threads)
