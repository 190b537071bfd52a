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

from holobeam.kernels.cpu import FAST, project, spread

WIDEST = 64
"""Rows of more entries than this gain nothing from a loop that is unrolled."""

LANES = 4
"""Rows are padded with zeros to whole vector registers."""


@cache
def _kernel(width: int) -> Any:
    """Compile the sweep for one padded row length, so that its loops unroll."""
    size = width

    @njit(cache=True, nogil=True, fastmath=FAST)
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
        _, n_j, n = y.shape
        n_s = d.shape[2]
        row_re, row_im = np.zeros((n, size)), np.zeros((n, size))
        curvature, inverse, price = np.empty(n), np.empty(n), np.empty(n)
        e_re, e_im = np.zeros(size), np.zeros(size)
        for b in range(first, last):
            for i in range(n):
                energy, own = 0.0, 0.0
                for j in range(n_j):
                    path = y[b, j, i]
                    energy += path.real**2 + path.imag**2
                    for s in range(n_s):
                        entry = path * d[b, i, s]
                        row_re[i, j * n_s + s] = entry.real
                        row_im[i, j * n_s + s] = entry.imag
                for s in range(n_s):
                    own += d[b, i, s].real ** 2 + d[b, i, s].imag ** 2
                price[i] = rho[b] * own
                curvature[i] = energy * own + price[i]
                inverse[i] = 1.0 / curvature[i] if curvature[i] > 0.0 else 0.0
            for j in range(n_j):
                for s in range(n_s):
                    e_re[j * n_s + s] = -t[b, j, s].real
                    e_im[j * n_s + s] = -t[b, j, s].imag
            for i in range(n):
                weight = q[b, i]
                for a in range(size):
                    e_re[a] += row_re[i, a] * weight.real - row_im[i, a] * weight.imag
                    e_im[a] += row_re[i, a] * weight.imag + row_im[i, a] * weight.real
            for _ in range(sweeps):
                for i in range(n):
                    if not curvature[i] > 0.0:
                        continue
                    re, im = row_re[i], row_im[i]
                    slope_re, slope_im = 0.0, 0.0
                    for a in range(size):
                        slope_re += re[a] * e_re[a] + im[a] * e_im[a]
                        slope_im += re[a] * e_im[a] - im[a] * e_re[a]
                    old = q[b, i]
                    slope_re += price[i] * old.real
                    slope_im += price[i] * old.imag
                    scale = inverse[i]
                    new_re, new_im = project(
                        kind, levels, old.real - slope_re * scale, old.imag - slope_im * scale
                    )
                    step_re, step_im = new_re - old.real, new_im - old.imag
                    q[b, i] = complex(new_re, new_im)
                    for a in range(size):
                        e_re[a] += re[a] * step_re - im[a] * step_im
                        e_im[a] += re[a] * step_im + im[a] * step_re

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
