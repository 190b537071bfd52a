"""The coordinate sweep, compiled: NumPy arrays in, NumPy arrays out, nothing of the house.

One kernel serves every front-end. It minimises, entry by entry and exactly,

    sum_f ||Y_f X_f - T_f||^2 + rho_f ||X_f - Z_f||^2,    X_f[n] = sum_c q[n, c] D_f[n, c],

over controls q that live on an interval, on a circle or on a list of points. Only the residual
``E_f = Y_f X_f - T_f`` (J x S) is kept; an element costs O(J S + C S), whatever N.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
from numba import njit

from holobeam.kernels.compiling import compiled
from holobeam.kernels.options import EXACT, FAST, KEPT

INTERVAL, CIRCLE, POINTS = 0, 1, 2

SPECIAL_FROM = 64
"""Elements from which on a kernel is compiled for the very shape (seconds, once per machine)."""


@njit(**FAST, inline="always")
def project(kind: int, levels: Any, re: float, im: float) -> tuple[float, float]:
    """Nearest member of an element set."""
    if kind == INTERVAL:
        return min(max(re, levels[0].real), levels[1].real), 0.0
    if kind == CIRCLE:
        off_re, off_im = re - levels[0].real, im - levels[0].imag
        size = np.sqrt(off_re * off_re + off_im * off_im)
        radius = levels[1].real
        if size == 0.0:
            return levels[0].real + radius, levels[0].imag
        return (
            levels[0].real + radius * off_re / size,
            levels[0].imag + radius * off_im / size,
        )
    best, index = np.inf, 0
    for i in range(levels.shape[0]):
        away = (re - levels[i].real) ** 2 + (im - levels[i].imag) ** 2
        if away < best:
            best, index = away, i
    return levels[index].real, levels[index].imag


@njit(**FAST, inline="always")
def sweep_one(
    y: Any,
    residual: Any,
    d: Any,
    rho: Any,
    z: Any,
    q: Any,
    kind: int,
    levels: Any,
    sweeps: int,
    sizes: Any,
) -> None:
    """Sweep one channel in place: y (F, J, N), residual (F, J, S), d (F, N, C, S), q (N, C).

    ``sizes`` is (F, J, C, S). Inlined into its callers, so that lengths that they know at compile
    time unroll the inner loops.
    """
    n_f, n_j, n_c, n_s = sizes
    targeted = z.shape[0] > 0
    pull = np.empty((n_f, n_s), dtype=np.complex128)
    moved = np.empty((n_f, n_s), dtype=np.complex128)
    stiffness = np.empty(n_f)
    for _ in range(sweeps):
        for n in range(y.shape[2]):
            # pull_f = y_n^H E_f + rho_f (X_f[n] - Z_f[n]): the gradient with respect to X_f[n].
            for f in range(n_f):
                energy = 0.0
                for s in range(n_s):
                    pull[f, s] = 0.0
                    moved[f, s] = 0.0
                for j in range(n_j):
                    column = y[f, j, n]
                    re, im = column.real, column.imag
                    energy += re * re + im * im
                    for s in range(n_s):
                        e = residual[f, j, s]
                        pull[f, s] += complex(re * e.real + im * e.imag, re * e.imag - im * e.real)
                price = rho[f]
                stiffness[f] = energy + price
                if price > 0.0:
                    for c in range(n_c):
                        weight = q[n, c] * price
                        for s in range(n_s):
                            pull[f, s] += weight * d[f, n, c, s]
                    if targeted:
                        for s in range(n_s):
                            pull[f, s] -= price * z[f, n, s]
            changed = False
            for c in range(n_c):
                curvature, slope_re, slope_im = 0.0, 0.0, 0.0
                for f in range(n_f):
                    size = 0.0
                    for s in range(n_s):
                        up, way = pull[f, s], d[f, n, c, s]
                        size += way.real * way.real + way.imag * way.imag
                        slope_re += up.real * way.real + up.imag * way.imag
                        slope_im += up.imag * way.real - up.real * way.imag
                    curvature += stiffness[f] * size
                if not curvature > 0.0:
                    continue
                old = q[n, c]
                new_re, new_im = project(
                    kind, levels, old.real - slope_re / curvature, old.imag - slope_im / curvature
                )
                step = complex(new_re - old.real, new_im - old.imag)
                if step.real == 0.0 and step.imag == 0.0:
                    continue
                changed = True
                q[n, c] = complex(new_re, new_im)
                for f in range(n_f):
                    for s in range(n_s):
                        shift = step * d[f, n, c, s]
                        moved[f, s] += shift
                        pull[f, s] += stiffness[f] * shift
            if changed:
                for f in range(n_f):
                    for j in range(n_j):
                        column = y[f, j, n]
                        for s in range(n_s):
                            residual[f, j, s] += column * moved[f, s]


@cache
def _sweep_kernel(rows: int, streams: int, subcarriers: int, controls: int) -> Any:
    """Compile the sweep for one shape; 0 stands for an axis that is read from the arrays.

    Known lengths let the compiler unroll the inner loops: 1.5 to 2 times faster at four users.
    """
    known_j, known_s, known_f, known_c = rows, streams, subcarriers, controls

    @njit(**FAST, **KEPT)
    def sweep(
        y: Any,
        residual: Any,
        d: Any,
        rho: Any,
        z: Any,
        q: Any,
        kind: int,
        levels: Any,
        sweeps: int,
        first: int,
        last: int,
    ) -> None:
        n_f = known_f if known_f > 0 else y.shape[1]
        n_j = known_j if known_j > 0 else y.shape[2]
        n_c = known_c if known_c > 0 else d.shape[3]
        n_s = known_s if known_s > 0 else d.shape[4]
        for b in range(first, last):
            target = z[b] if z.shape[0] > 0 else z.reshape((0, z.shape[2], z.shape[3]))
            sweep_one(
                y[b],
                residual[b],
                d[b],
                rho[b],
                target,
                q[b],
                kind,
                levels,
                sweeps,
                (n_f, n_j, n_c, n_s),
            )

    return sweep


@njit(**FAST, **KEPT)
def _rows_batch(
    e: Any, c: Any, target: Any, limit: Any, v: Any, joint: bool, sweeps: int, first: int, last: int
) -> None:
    """Row updates under a power limit a row: e (B, F, K, R), v (B, F, R, S), limit (B, R).

    Minimises ``sum_f sum_k c |(E V)_k|^2 - 2 Re tr(target^H E V)``, one row of V after the other.
    """
    _, subcarriers, users, chains = e.shape
    streams = v.shape[3]
    got = np.empty((subcarriers, users, streams), dtype=np.complex128)
    want = np.empty((subcarriers, streams), dtype=np.complex128)
    stiffness = np.empty(subcarriers)
    for b in range(first, last):
        for f in range(subcarriers):
            for k in range(users):
                for s in range(streams):
                    total = 0j
                    for r in range(chains):
                        total += e[b, f, k, r] * v[b, f, r, s]
                    got[f, k, s] = total
        for _ in range(sweeps):
            for r in range(chains):
                for f in range(subcarriers):
                    stiffness[f] = 0.0
                    for s in range(streams):
                        want[f, s] = 0.0
                    for k in range(users):
                        path = e[b, f, k, r]
                        back = path.conjugate()
                        size = c[b, f, k] * (path.real**2 + path.imag**2)
                        stiffness[f] += size
                        for s in range(streams):
                            want[f, s] += (
                                back * (target[b, f, k, s] - c[b, f, k] * got[f, k, s])
                                + size * v[b, f, r, s]
                            )
                groups = 1 if joint else subcarriers
                for g in range(groups):
                    start = 0 if joint else g
                    stop = subcarriers if joint else g + 1
                    budget = limit[b, r] * (stop - start)
                    price = _row_price(want, stiffness, start, stop, budget)
                    for f in range(start, stop):
                        scale = stiffness[f] + price
                        for s in range(streams):
                            new = want[f, s] / scale if scale > 0.0 else 0j
                            step = new - v[b, f, r, s]
                            v[b, f, r, s] = new
                            for k in range(users):
                                got[f, k, s] += e[b, f, k, r] * step


@njit(**EXACT)
def _row_price(want: Any, stiffness: Any, start: int, stop: int, budget: float) -> float:
    """Smallest price >= 0 at which ``sum_f |want_f|^2 / (stiffness_f + price)^2 <= budget``."""
    price = 0.0
    for _ in range(60):
        power, slope = 0.0, 0.0
        for f in range(start, stop):
            size = 0.0
            for s in range(want.shape[1]):
                size += want[f, s].real ** 2 + want[f, s].imag ** 2
            if size == 0.0:
                continue
            scale = stiffness[f] + price
            if scale <= 0.0:
                power = np.inf
                break
            power += size / scale**2
            slope += 2.0 * size / scale**3
        if power == np.inf:
            price = 1e-300
            continue
        if power <= budget * (1.0 + 1e-14):
            return price
        # Newton on 1/sqrt(power): concave in the price, so it comes from the left and stays there;
        # with one subcarrier it is exact at once.
        price += 2.0 * (power / slope) * (np.sqrt(power / budget) - 1.0)
    return price


def available_threads() -> int:
    """Threads for a batch of channels: ``OMP_NUM_THREADS`` where set, else the cores we may use.

    Not torch's own setting: a thread here carries whole channels and never waits for another, so
    it pays even where torch's small tensors are best left to one.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) > 0 else (os.cpu_count() or 1)


def spread(work: Any, batch: int, cost: float, threads: int) -> None:
    """Run ``work(first, last)`` over the batch: serial for one channel or < 1 ms of work."""
    workers = min(threads, batch)
    if workers < 2 or cost < 1e-3:
        work(0, batch)
        return
    # More parts than workers: channels end at different times, and cores may be shared.
    parts = min(batch, 4 * workers)
    edges = [batch * i // parts for i in range(parts + 1)]
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, edges[:-1], edges[1:]))


def run_loop(
    loop: Any, parts: tuple[tuple[Any, ...], ...], batch: int, cost: float, threads: int
) -> Any:
    """Run a compiled ``loop(*parts, steps, first, last)`` over the batch, in place.

    ``parts`` are plain tuples: the compiled code is then the same whatever classes they come from.

    Returns
    -------
    array
        ``(B,)`` steps done, as the loop counts them.
    """
    steps = np.zeros(batch, dtype=np.int64)
    ready = compiled(loop, (*parts, steps, 0, batch))

    def work(first: int, last: int) -> None:
        ready(*parts, steps, first, last)

    spread(work, batch, cost, threads)
    return steps


def coordinate_sweep(
    y: Any,
    residual: Any,
    d: Any,
    rho: Any,
    z: Any,
    q: Any,
    kind: int,
    levels: Any,
    sweeps: int,
    threads: int,
) -> None:
    """Sweep a batch in place.

    Parameters
    ----------
    y, residual, d, rho, z, q
        ``(B, F, J, N)``, ``(B, F, J, S)``, ``(B, F, N, C, S)``, ``(B, F)``, ``(B, F, N, S)`` and
        ``(B, N, C)``; complex128 but rho, float64. ``z`` is empty on its batch axis where there is
        no target; ``residual`` and ``q`` are changed.
    kind, levels
        Element set: INTERVAL (low, high), CIRCLE (centre, radius) or POINTS (the levels).
    sweeps, threads
        Passes over all elements; threads at most.
    """
    batch, subcarriers, rows, antennas = y.shape
    controls, streams = d.shape[3], d.shape[4]
    # The choice looks at one channel's shape alone, so that its numbers don't depend on its mates.
    special = subcarriers == 1 and 1 <= rows == streams <= 8 and antennas >= SPECIAL_FROM
    shape = (rows, streams, 1, controls) if special else (0, 0, 0, 0)
    arguments = (y, residual, d, rho, z, q, kind, levels, sweeps)
    sweep = compiled(_sweep_kernel(*shape), (*arguments, 0, batch))
    cost = q.size * sweeps * subcarriers * (2 * rows + 4) * streams * 3e-9

    def work(first: int, last: int) -> None:
        sweep(*arguments, first, last)

    spread(work, batch, cost, threads)


def row_sweep(
    e: Any, c: Any, target: Any, limit: Any, v: Any, joint: bool, sweeps: int, threads: int
) -> None:
    """Update the rows of a batch of digital precoders in place; see :func:`_rows_batch`."""
    cost = v.size * e.shape[2] * sweeps * 6e-9
    arguments = (e, c, target, limit, v, joint, sweeps)
    update = compiled(_rows_batch, (*arguments, 0, e.shape[0]))

    def work(first: int, last: int) -> None:
        update(*arguments, first, last)

    spread(work, e.shape[0], cost, threads)
