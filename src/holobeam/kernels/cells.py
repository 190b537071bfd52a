"""What compiled code knows of many cells: whitened rows, and rows of V under limits per RF chain.

Arrays of one channel: channels behind the chains ``(L, U, M, R)``, receivers ``(U, M, S)``, roots
of the weights ``(U, S, S)``, precoders ``(L, R, K S)``. ``digital/cell_rows.py`` does the same in
torch, and is the oracle.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from holobeam.kernels.blocks import scaled
from holobeam.kernels.compiling import compiled
from holobeam.kernels.cpu import spread
from holobeam.kernels.options import FAST, KEPT


@njit(**FAST)
def filters(decoders: Any, root: Any, out: Any) -> None:
    """``W^(1/2) U^H`` of every user, ``(U, S, M)`` in place."""
    users, receivers, streams = decoders.shape
    for u in range(users):
        for s in range(streams):
            for m in range(receivers):
                total = 0j
                for t in range(streams):
                    total += root[u, s, t] * decoders[u, m, t].conjugate()
                out[u, s, m] = total


@njit(**FAST)
def whiten(filtered: Any, paths: Any, out: Any) -> None:
    """``filter @ paths`` of every user under one another, ``(U S, width)`` in place."""
    users, streams, receivers = filtered.shape
    for u in range(users):
        for s in range(streams):
            row = out[u * streams + s]
            row[:] = 0.0
            for m in range(receivers):
                gain = filtered[u, s, m]
                for n in range(row.shape[0]):
                    row[n] += gain * paths[u, m, n]


@njit(**FAST)
def normal_equations(y: Any, root: Any, cell: int, c: Any, d: Any) -> None:
    """``C = Y^H Y`` and ``D = Y^H Z``, Z the roots at the streams of the cell's own users."""
    rows, chains = y.shape
    streams = root.shape[1]
    c[:] = 0.0
    for j in range(rows):
        for r in range(chains):
            back = y[j, r].conjugate()
            for i in range(r + 1):
                c[r, i] += back * y[j, i]
    for r in range(chains):
        for i in range(r):
            c[i, r] = c[r, i].conjugate()
    first = cell * (d.shape[1] // streams)
    for column in range(d.shape[1]):
        u, s = first + column // streams, column % streams
        for r in range(chains):
            total = 0j
            for t in range(streams):
                total += y[u * streams + t, r].conjugate() * root[u, t, s]
            d[r, column] = total


@njit(**FAST, inline="always")
def _settle(t: Any, inverse: float, limit: float, v: Any) -> float:
    """Put one row where it belongs, ``t / C_rr`` within its limit; returns how far it went."""
    size = 0.0
    for s in range(t.shape[0]):
        size += t[s].real * t[s].real + t[s].imag * t[s].imag
    scale = inverse
    # Roots and divisions are what a visit waits for: only full rows need them.
    if size * inverse * inverse > limit:
        scale = np.sqrt(limit / size)
    moved = 0.0
    for s in range(t.shape[0]):
        new = scaled(scale, t[s])
        step = new - v[s]
        moved += step.real * step.real + step.imag * step.imag
        v[s] = new
        t[s] = step
    return moved


@njit(**FAST)
def visit_rows(c: Any, d: Any, inverse: Any, limit: Any, v: Any, t: Any) -> float:
    """One visit to each row on the normal equations; returns how far they went, squared.

    The diagonal of C is zero here and its reciprocal in ``inverse`` (0 where there is nothing).
    """
    chains, columns = v.shape
    moved = 0.0
    for r in range(chains):
        for s in range(columns):
            t[s] = d[r, s]
        for i in range(chains):
            gain = c[r, i]
            for s in range(columns):
                t[s] -= gain * v[i, s]
        moved += _settle(t, inverse[r], limit[r], v[r])
    return moved


@njit(**FAST)
def visit_rows_few(
    paths: Any, size: Any, inverse: Any, away: Any, limit: Any, v: Any, t: Any
) -> float:
    """Do the same on ``away = (Z - Y V)^T``, kept up to date: cheaper with many chains.

    ``paths`` is ``Y^T``, so that what one chain does lies together; ``size`` the diagonal of C.
    """
    chains, rows = paths.shape
    columns = v.shape[1]
    moved = 0.0
    for r in range(chains):
        for s in range(columns):
            re, im = 0.0, 0.0
            for j in range(rows):
                back, left = paths[r, j], away[s, j]
                re += back.real * left.real + back.imag * left.imag
                im += back.real * left.imag - back.imag * left.real
            t[s] = scaled(size[r], v[r, s]) + complex(re, im)
        moved += _settle(t, inverse[r], limit[r], v[r])
        for s in range(columns):
            step = t[s]
            for j in range(rows):
                away[s, j] -= paths[r, j] * step
    return moved


@njit(**FAST)
def wanted(root: Any, cell: int, out: Any) -> None:
    """Z: the roots at the streams of the cell's own users, 0 elsewhere, ``(U S, K S)`` in place."""
    rows, columns = out.shape
    streams = root.shape[1]
    per_cell = columns // streams
    out[:] = 0.0
    for j in range(rows):
        u = j // streams
        if u // per_cell == cell:
            for s in range(streams):
                out[j, (u - cell * per_cell) * streams + s] = root[u, j % streams, s]


@njit(**FAST)
def residual(y: Any, root: Any, cell: int, v: Any, away: Any) -> None:
    """``Z - Y V`` in place."""
    wanted(root, cell, away)
    for j in range(y.shape[0]):
        for r in range(y.shape[1]):
            gain = y[j, r]
            for s in range(v.shape[1]):
                away[j, s] -= gain * v[r, s]


@njit(**FAST)
def energy(v: Any) -> float:
    """``||V||^2``."""
    total = 0.0
    for r in range(v.shape[0]):
        for s in range(v.shape[1]):
            total += v[r, s].real * v[r, s].real + v[r, s].imag * v[r, s].imag
    return total


@njit(**FAST)
def rows_of_cell(
    y: Any, root: Any, cell: int, limit: Any, v: Any, visits: int, tolerance: float
) -> None:
    """Visit the rows of one cell's V until a visit moves it by less than ``tolerance ||V||``."""
    rows, chains = y.shape
    columns = v.shape[1]
    t = np.empty(columns, dtype=np.complex128)
    size, inverse = np.zeros(chains), np.zeros(chains)
    for j in range(rows):
        for r in range(chains):
            size[r] += y[j, r].real * y[j, r].real + y[j, r].imag * y[j, r].imag
    for r in range(chains):
        if size[r] > 0.0:
            inverse[r] = 1.0 / size[r]
    bound = tolerance * tolerance
    # What a visit costs decides, not the numbers: the same shape always goes the same way.
    if chains <= 2 * rows:
        c = np.empty((chains, chains), dtype=np.complex128)
        d = np.empty((chains, columns), dtype=np.complex128)
        normal_equations(y, root, cell, c, d)
        for r in range(chains):
            c[r, r] = 0.0
        for _ in range(visits):
            moved = visit_rows(c, d, inverse, limit, v, t)
            if bound > 0.0 and moved <= bound * energy(v):
                break
        return
    left = np.empty((rows, columns), dtype=np.complex128)
    residual(y, root, cell, v, left)
    away, paths = left.T.copy(), y.T.copy()
    for _ in range(visits):
        moved = visit_rows_few(paths, size, inverse, away, limit, v, t)
        if bound > 0.0 and moved <= bound * energy(v):
            break


@njit(**FAST)
def rows_of_channel(
    e: Any, decoders: Any, root: Any, limit: Any, v: Any, visits: int, tolerance: float
) -> None:
    """The rows of all cells of one channel, in place."""
    cells, users, receivers, chains = e.shape
    streams = root.shape[1]
    filtered = np.empty((users, streams, receivers), dtype=np.complex128)
    y = np.empty((users * streams, chains), dtype=np.complex128)
    filters(decoders, root, filtered)
    for cell in range(cells):
        whiten(filtered, e[cell], y)
        rows_of_cell(y, root, cell, limit[cell], v[cell], visits, tolerance)


@njit(**FAST, **KEPT)
def _rows_batch(
    e: Any, decoders: Any, root: Any, limit: Any, v: Any, visits: int, tolerance: float,
    first: int, last: int,
) -> None:  # fmt: skip
    for b in range(first, last):
        rows_of_channel(e[b], decoders[b], root[b], limit[b], v[b], visits, tolerance)


def cell_rows(
    e: Any, decoders: Any, root: Any, limit: Any, v: Any, visits: int, tolerance: float,
    threads: int,
) -> None:  # fmt: skip
    """Rows of the precoders of a batch, in place.

    Parameters
    ----------
    e, decoders, root, limit, v
        ``(B, L, U, M, R)``, ``(B, U, M, S)``, ``(B, U, S, S)``, ``(B, L, R)`` and
        ``(B, L, R, K S)``; complex128, the limits float64.
    visits, tolerance
        Passes over the rows at most; a cell is done once a pass moves V by no more than
        ``tolerance ||V||``.
    threads
        Threads at most.
    """
    batch, cells, users, receivers, chains = e.shape
    rows, columns = users * root.shape[2], v.shape[3]
    work_of_visit = min(chains, 2 * rows) * chains * columns
    once = rows * chains * (receivers + min(chains, columns))
    cost = batch * cells * (visits * work_of_visit + once) * 2e-9
    arguments = (e, decoders, root, limit, v, visits, tolerance)
    update = compiled(_rows_batch, (*arguments, 0, batch))

    def work(first: int, last: int) -> None:
        update(*arguments, first, last)

    spread(work, batch, cost, threads)
