"""The whole alternating loop, compiled: receivers, digital precoder, sweep, extrapolation.

One channel after the other, narrowband, one power budget; arrays in, arrays out. It does what
``solvers/alternating.py`` does step by step in torch, which is its oracle.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from holobeam.kernels.blocks import (
    digital,
    link,
    normalise,
    price_of,
    quadratic,
    rate,
    rescale,
    sweep,
    weigh,
)
from holobeam.kernels.copying import assign
from holobeam.kernels.cpu import project, run_loop
from holobeam.kernels.options import FAST, KEPT
from holobeam.kernels.record import passed


@njit(**FAST)
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


@njit(**FAST)
def _leap(channel: Any, q: Any, v: Any, ahead: Any, reached: float, e: Any, g: Any) -> float:
    """Move to the controls ``ahead`` if they gain after two digital steps; returns the rate."""
    h, feed, noise, alpha, power, radiated = channel
    e_ahead, g_ahead = np.empty_like(e), np.empty_like(g)
    u, w = np.empty(e.shape[0], dtype=np.complex128), np.empty(e.shape[0])
    link(h, feed, ahead, e_ahead, g_ahead, radiated)
    leapt = v.copy()
    for _ in range(2):
        weigh(e_ahead, g_ahead, leapt, noise, alpha, power, 1.0, u, w)
        digital(e_ahead, g_ahead, u, w, noise, power, 1.0, leapt)
    rescale(g_ahead, leapt, power)
    found = rate(e_ahead, g_ahead, leapt, noise, alpha, power)
    if not found > reached:
        return reached
    assign(q, ahead)
    assign(v, leapt)
    assign(e, e_ahead)
    assign(g, g_ahead)
    return found


@njit(**FAST)
def _move(
    channel: Any, factor: float, e: Any, v: Any, u: Any, w: Any, q: Any, room: Any, elements: Any
) -> None:
    """Sweep the controls of one channel; a free scale goes from the amplitudes into V."""
    h, feed, noise, _, power, radiated = channel
    y, d, residual, none, rho = room
    kind, levels, free = elements
    rho[0] = price_of(u, w, noise, power, factor) if radiated else 0.0
    quadratic(h, feed, e, v, u, w, y[0], d[0], residual[0])
    sweep(y, residual, d, rho, none, q, kind, levels)
    if free:
        normalise(q, v)


@njit(**FAST, **KEPT)
def _loop(
    channels: Any, state: Any, record: Any, plan: Any, steps: Any, first: int, last: int
) -> None:
    """Iterate on channels ``first`` to ``last``; see :func:`alternate`."""
    h, feed, noise, alpha, power, radiated = channels
    q, v, previous, stride, utility = state
    factors, noisy, extrapolate, kind, levels, free, tolerance, patience = plan
    users, antennas, chains, controls = h.shape[1], h.shape[2], feed.shape[1], q.shape[2]
    e = np.empty((users, chains), dtype=np.complex128)
    g = np.empty((chains, chains), dtype=np.complex128)
    u, w = np.empty(users, dtype=np.complex128), np.empty(users)
    room = (
        np.empty((1, users, antennas), dtype=np.complex128),
        np.empty((1, antennas, controls, users), dtype=np.complex128),
        np.empty((1, users, users), dtype=np.complex128),
        np.empty((0, antennas, users), dtype=np.complex128),
        np.zeros(1),
    )
    for b in range(first, last):
        channel = (h[b], feed, noise[b], alpha[b], power[b], radiated)
        link(h[b], feed, q[b], e, g, radiated)
        for step in range(factors.shape[0]):
            factor, before = factors[step], utility[b]
            if extrapolate and step >= noisy:
                ahead = _ahead(q[b], previous[b], stride[b], free, kind, levels)
                assign(previous[b], q[b])
                accepted = _leap(channel, q[b], v[b], ahead, before, e, g) > before
                stride[b] = min(1.5 * stride[b], 50.0) if accepted else max(0.5 * stride[b], 0.5)
            elif extrapolate:
                assign(previous[b], q[b])
            weigh(e, g, v[b], noise[b], alpha[b], power[b], factor, u, w)
            digital(e, g, u, w, noise[b], power[b], factor, v[b])
            weigh(e, g, v[b], noise[b], alpha[b], power[b], factor, u, w)
            _move(channel, factor, e, v[b], u, w, q[b], room, (kind, levels, free))
            link(h[b], feed, q[b], e, g, radiated)
            rescale(g, v[b], power[b])
            utility[b] = rate(e, g, v[b], noise[b], alpha[b], power[b])
            if passed(b, step < noisy, before, q, v, utility, record, steps, tolerance, patience):
                break


class Channels(NamedTuple):
    """What the loop solves for: ``(B, K, N)`` channels and the rest of the problem.

    ``feed`` is ``(N, R)``, ``noise`` and ``user_weights`` ``(B, K)``, ``power`` ``(B,)``;
    ``radiated`` says whether radiated power counts (else power at the feeds).
    """

    h: Any
    feed: Any
    noise: Any
    user_weights: Any
    power: Any
    radiated: bool


class Point(NamedTuple):
    """Where the loop stands, changed in place.

    ``control`` ``(B, N, C)``, ``digital`` ``(B, R, K)``, ``previous`` controls, ``stride`` of the
    next leap ``(B,)``, ``utility`` ``(B,)``: the weighted sum rate in bits/s/Hz.
    """

    control: Any
    digital: Any
    previous: Any
    stride: Any
    utility: Any


class Best(NamedTuple):
    """The best point met, changed in place: as in :class:`Point`.

    ``idle`` ``(B,)`` counts the iterations since it was met.
    """

    control: Any
    digital: Any
    utility: Any
    idle: Any


class Plan(NamedTuple):
    """How to iterate.

    ``factors``: noise factor of each iteration, the first ``noisy`` of them a schedule's;
    ``extrapolate``: whether to leap; ``kind``, ``levels``: element set as in
    :func:`holobeam.kernels.cpu.coordinate_sweep`; ``free``: whether amplitudes have a free scale;
    ``tolerance``: relative gain below which a channel stops, as it does after ``patience``
    iterations without a better point.
    """

    factors: Any
    noisy: int
    extrapolate: bool
    kind: int
    levels: Any
    free: bool
    tolerance: float
    patience: int


def alternate(channels: Channels, point: Point, best: Best, plan: Plan, threads: int) -> Any:
    """Run ``len(plan.factors)`` iterations of the loop on a batch, in place.

    Returns
    -------
    array
        ``(B,)`` iterations done; negative where the channel converged at the last of them.
    """
    batch, users, antennas = channels.h.shape
    terms = users * (4 * channels.feed.shape[1] + 8)
    cost = batch * antennas * len(plan.factors) * terms * 2e-9
    parts = tuple(channels), tuple(point), tuple(best), tuple(plan)
    return run_loop(_loop, parts, batch, cost, threads)
