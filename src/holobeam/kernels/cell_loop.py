"""The whole alternating loop of many cells under limits per RF chain, compiled.

One channel after the other: receivers and weights, rows of V, sweeps over the controls of every
cell, extrapolation. It does what ``solvers/alternating.py`` does step by step in torch, its oracle.
Arrays of one channel as in ``kernels/cells.py``, with ``h`` ``(L, U, M, N)``, controls
``(L, N, C)``, feeds ``(1 or L, N, R)``, noise and user weights ``(U,)``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from holobeam.kernels import cells
from holobeam.kernels.blocks import branches, scaled, solve, sweep
from holobeam.kernels.copying import assign, stretch
from holobeam.kernels.cpu import project, run_loop
from holobeam.kernels.factored import LANES, rooms, sweep_rows
from holobeam.kernels.options import EXACT, FAST, KEPT
from holobeam.kernels.record import passed


@njit(**FAST)
def links(h: Any, feed: Any, q: Any, a: Any, e: Any) -> None:
    """``E = H A`` of every cell, in place; ``a`` ``(R, N)`` is room for one analog beamformer."""
    n_l, users, receivers, antennas = h.shape
    chains = feed.shape[2]
    for cell in range(n_l):
        own = feed[cell if feed.shape[0] > 1 else 0]
        for r in range(chains):
            # A strip reaches a few elements only: the others are skipped.
            first, last = antennas, 0
            for n in range(antennas):
                a[r, n] = q[cell, n, r if q.shape[2] > 1 else 0] * own[n, r]
                if own[n, r].real != 0.0 or own[n, r].imag != 0.0:
                    first, last = min(first, n), n + 1
            for u in range(users):
                for m in range(receivers):
                    total = 0j
                    for n in range(first, last):
                        total += h[cell, u, m, n] * a[r, n]
                    e[cell, u, m, r] = total


@njit(**EXACT)
def hear(e: Any, v: Any, u: int, noise: float, own: Any, others: Any) -> None:
    """Own streams of user u ``(M, S)``, and the covariance of what disturbs it (lower half)."""
    n_l, users, receivers, chains = e.shape
    columns, streams = v.shape[2], own.shape[1]
    per_cell = users // n_l
    mine = (u % per_cell) * streams
    t = np.empty(receivers, dtype=np.complex128)
    others[:] = 0.0
    for cell in range(n_l):
        for s in range(columns):
            for m in range(receivers):
                total = 0j
                for r in range(chains):
                    total += e[cell, u, m, r] * v[cell, r, s]
                t[m] = total
            if cell == u // per_cell and mine <= s < mine + streams:
                assign(own[:, s - mine], t)
                continue
            for m in range(receivers):
                for i in range(m + 1):
                    others[m, i] += t[m] * t[i].conjugate()
    for m in range(receivers):
        others[m, m] += noise


@njit(**EXACT)
def factor_of(own: Any, others: Any, filtered: Any, lower: Any) -> float:
    """``Q^-1 own``, the Cholesky factor of ``I + own^H Q^-1 own``, and the rate in nats."""
    receivers, streams = own.shape
    assign(filtered, own)
    solve(others, filtered, 0.0)
    nats = 0.0
    for i in range(streams):
        for j in range(i + 1):
            value = 1.0 + 0j if i == j else 0j
            for m in range(receivers):
                value += own[m, i].conjugate() * filtered[m, j]
            for t in range(j):
                value -= lower[i, t] * lower[j, t].conjugate()
            if i > j:
                lower[i, j] = scaled(1.0 / lower[j, j].real, value)
            else:
                lower[i, i] = np.sqrt(value.real)
                nats += 2.0 * np.log(lower[i, i].real)
    return max(nats, 0.0)


@njit(**EXACT)
def weigh(e: Any, v: Any, noise: Any, alpha: Any, factor: float, decoders: Any, root: Any) -> None:
    """Receivers ``(U, M, S)`` and roots of the weights ``(U, S, S)`` of all users, in place."""
    users, receivers, streams = decoders.shape
    own = np.empty((receivers, streams), dtype=np.complex128)
    filtered = np.empty_like(own)
    others = np.empty((receivers, receivers), dtype=np.complex128)
    lower = np.empty((streams, streams), dtype=np.complex128)
    for u in range(users):
        hear(e, v, u, noise[u] * factor, own, others)
        factor_of(own, others, filtered, lower)
        size = np.sqrt(alpha[u])
        for i in range(streams):
            for j in range(streams):
                back = lower[j, i].conjugate()
                root[u, i, j] = scaled(size, back) if j >= i else 0j
        # filtered (L L^H)^-1, one receive antenna after the other.
        for m in range(receivers):
            for j in range(streams):
                value = filtered[m, j]
                for t in range(j):
                    value -= decoders[u, m, t] * lower[j, t].conjugate()
                decoders[u, m, j] = scaled(1.0 / lower[j, j].real, value)
            for i in range(streams):
                j = streams - 1 - i
                value = decoders[u, m, j]
                for t in range(j + 1, streams):
                    value -= decoders[u, m, t] * lower[t, j]
                decoders[u, m, j] = scaled(1.0 / lower[j, j].real, value)


@njit(**EXACT)
def rate(e: Any, v: Any, noise: Any, alpha: Any, streams: int) -> float:
    """Weighted sum rate of all cells in bits/s/Hz."""
    users, receivers = e.shape[1], e.shape[2]
    own = np.empty((receivers, streams), dtype=np.complex128)
    filtered = np.empty_like(own)
    others = np.empty((receivers, receivers), dtype=np.complex128)
    lower = np.empty((streams, streams), dtype=np.complex128)
    total = 0.0
    for u in range(users):
        hear(e, v, u, noise[u], own, others)
        total += alpha[u] * factor_of(own, others, filtered, lower)
    return float(total / np.log(2.0))


@njit(**FAST)
def within_limits(v: Any, limit: Any) -> None:
    """Scale the precoder of every cell down until its fullest chain keeps its limit."""
    n_l, chains, columns = v.shape
    for cell in range(n_l):
        load = 1.0
        for r in range(chains):
            spent = 0.0
            for s in range(columns):
                spent += v[cell, r, s].real ** 2 + v[cell, r, s].imag ** 2
            load = max(load, spent / limit[cell, r])
        stretch(v[cell], 1.0 / np.sqrt(load))


@njit(**FAST)
def _move(h: Any, feed: Any, e: Any, v: Any, q: Any, weights: Any, room: Any, plan: Any) -> None:
    """Sweep the controls of every cell, given receivers and weights."""
    decoders, root = weights
    filtered, behind, y, d, residual, rho, none, lanes = room
    kind, levels, sweeps = plan
    cells.filters(decoders, root, filtered)
    for cell in range(h.shape[0]):
        cells.whiten(filtered, h[cell], y[0])
        branches(feed[cell if feed.shape[0] > 1 else 0], v[cell], d[0])
        if q.shape[2] == 1:
            cells.wanted(root, cell, residual[0])
            sweep_rows(
                y[0], residual[0], d[0, :, 0], 0.0, q[cell, :, 0], kind, levels, sweeps, lanes,
                lanes[7].shape[0],
            )  # fmt: skip
            continue
        cells.whiten(filtered, e[cell], behind)
        cells.residual(behind, root, cell, v[cell], residual[0])
        stretch(residual, -1.0)
        for _ in range(sweeps):
            sweep(y, residual, d, rho, none, q[cell], kind, levels)


@njit(**FAST)
def _ahead(q: Any, previous: Any, stride: float, kind: int, levels: Any, out: Any) -> None:
    """Controls further along their last change, on the element set."""
    for cell in range(q.shape[0]):
        for n in range(q.shape[1]):
            for c in range(q.shape[2]):
                old = q[cell, n, c]
                goal = old + scaled(stride, old - previous[cell, n, c])
                re, im = project(kind, levels, goal.real, goal.imag)
                out[cell, n, c] = complex(re, im)


@njit(**FAST)
def _leap(
    channel: Any, ahead: Any, q: Any, v: Any, e: Any, a: Any, weights: Any, rows: Any,
    reached: float,
) -> float:  # fmt: skip
    """Move to the controls ``ahead`` if they gain after two digital steps; returns the rate."""
    h, feed, noise, alpha, limit = channel
    decoders, root = weights
    visits, still = rows
    e_ahead, leapt = np.empty_like(e), v.copy()
    links(h, feed, ahead, a, e_ahead)
    for _ in range(2):
        weigh(e_ahead, leapt, noise, alpha, 1.0, decoders, root)
        cells.rows_of_channel(e_ahead, decoders, root, limit, leapt, visits, still)
    within_limits(leapt, limit)
    found = rate(e_ahead, leapt, noise, alpha, root.shape[1])
    if not found > reached:
        return reached
    assign(q, ahead)
    assign(v, leapt)
    assign(e, e_ahead)
    return found


@njit(**FAST)
def _rooms(
    users: int, receivers: int, streams: int, antennas: int, chains: int, controls: int,
    columns: int,
) -> Any:  # fmt: skip
    rows = users * streams
    width = rows * columns
    return (
        np.empty((users, streams, receivers), dtype=np.complex128),
        np.empty((rows, chains), dtype=np.complex128),
        np.empty((1, rows, antennas), dtype=np.complex128),
        np.empty((1, antennas, controls, columns), dtype=np.complex128),
        np.empty((1, rows, columns), dtype=np.complex128),
        np.zeros(1),
        np.empty((0, antennas, columns), dtype=np.complex128),
        rooms(antennas if controls == 1 else 0, width + -width % LANES),
    )


@njit(**FAST, **KEPT)
def _loop(
    channels: Any, state: Any, record: Any, plan: Any, steps: Any, first: int, last: int
) -> None:
    """Iterate on channels ``first`` to ``last``; see :func:`alternate`."""
    h, feed, noise, alpha, limit, streams = channels
    q, v, previous, stride, utility = state
    factors, noisy, extrapolate, kind, levels, sweeps, visits, still, tolerance, patience = plan
    n_l, users, receivers, antennas = h.shape[1:]
    chains, controls, columns = feed.shape[2], q.shape[3], v.shape[3]
    e = np.empty((n_l, users, receivers, chains), dtype=np.complex128)
    a = np.empty((chains, antennas), dtype=np.complex128)
    ahead = np.empty((n_l, antennas, controls), dtype=np.complex128)
    decoders = np.empty((users, receivers, streams), dtype=np.complex128)
    root = np.empty((users, streams, streams), dtype=np.complex128)
    room = _rooms(users, receivers, streams, antennas, chains, controls, columns)
    weights, rows = (decoders, root), (visits, still)
    for b in range(first, last):
        channel = (h[b], feed, noise[b], alpha[b], limit[b])
        links(h[b], feed, q[b], a, e)
        for step in range(factors.shape[0]):
            factor, before = factors[step], utility[b]
            if extrapolate and step >= noisy:
                _ahead(q[b], previous[b], stride[b], kind, levels, ahead)
                assign(previous[b], q[b])
                found = _leap(channel, ahead, q[b], v[b], e, a, weights, rows, before)
                accepted = found > before
                stride[b] = min(1.5 * stride[b], 50.0) if accepted else max(0.5 * stride[b], 0.5)
            elif extrapolate:
                assign(previous[b], q[b])
            weigh(e, v[b], noise[b], alpha[b], factor, decoders, root)
            cells.rows_of_channel(e, decoders, root, limit[b], v[b], visits, still)
            weigh(e, v[b], noise[b], alpha[b], factor, decoders, root)
            _move(h[b], feed, e, v[b], q[b], weights, room, (kind, levels, sweeps))
            links(h[b], feed, q[b], a, e)
            within_limits(v[b], limit[b])
            utility[b] = rate(e, v[b], noise[b], alpha[b], streams)
            if passed(b, step < noisy, before, q, v, utility, record, steps, tolerance, patience):
                break


class Channels(NamedTuple):
    """What the loop solves for.

    ``h`` ``(B, L, U, M, N)``, ``feed`` ``(1 or L, N, R)``, ``noise`` and ``user_weights``
    ``(B, U)``, ``limit`` ``(B, L, R)``, streams of each user.
    """

    h: Any
    feed: Any
    noise: Any
    user_weights: Any
    limit: Any
    streams: int


class Plan(NamedTuple):
    """How to iterate: as in :class:`holobeam.kernels.alternating.Plan`.

    ``sweeps`` passes over the controls; ``visits`` and ``still`` as in
    :func:`holobeam.kernels.cells.cell_rows`.
    """

    factors: Any
    noisy: int
    extrapolate: bool
    kind: int
    levels: Any
    sweeps: int
    visits: int
    still: float
    tolerance: float
    patience: int


def alternate(channels: Channels, point: Any, best: Any, plan: Plan, threads: int) -> Any:
    """Run ``len(plan.factors)`` iterations of the loop on a batch, in place.

    ``point`` and ``best`` as in :mod:`holobeam.kernels.alternating`, controls ``(B, L, N, C)`` and
    precoders ``(B, L, R, K S)``.

    Returns
    -------
    array
        ``(B,)`` iterations done; negative where the channel converged at the last of them.
    """
    batch, n_l, users, _, antennas = channels.h.shape
    columns = users * channels.streams
    cost = batch * len(plan.factors) * n_l * antennas * plan.sweeps * columns * columns * 2e-9
    parts = tuple(channels), tuple(point), tuple(best), tuple(plan)
    return run_loop(_loop, parts, batch, cost, threads)
