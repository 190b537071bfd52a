"""Variable projection, compiled: a normalised gradient step on the controls, then V.

One channel after the other, narrowband, one power budget; arrays in, arrays out. It does what
``solvers/gradient.py`` does step by step in torch, which is its oracle.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from holobeam.kernels.alternating import Best, Channels
from holobeam.kernels.blocks import digital, link, price_of, quadratic, rescale, weigh
from holobeam.kernels.cpu import CIRCLE, FAST, INTERVAL, compiled, project, spread


@njit(cache=True, nogil=True, fastmath=FAST)
def _direction(q: Any, room: Any, rho: float, kind: int, levels: Any, step: Any) -> None:
    """Negative gradient of the quadratic along the element set, unit mean square, in place."""
    y, d, residual = room
    users, antennas = y.shape
    controls, streams = d.shape[1], d.shape[2]
    pull = np.empty(streams, dtype=np.complex128)
    total = 0.0
    for n in range(antennas):
        pull[:] = 0.0
        for j in range(users):
            back = y[j, n].conjugate()
            for s in range(streams):
                pull[s] += back * residual[j, s]
        if rho > 0.0:
            for c in range(controls):
                for s in range(streams):
                    pull[s] += rho * (q[n, c] * d[n, c, s])
        for c in range(controls):
            slope = 0j
            for s in range(streams):
                slope -= pull[s] * d[n, c, s].conjugate()
            if kind == INTERVAL:
                slope = complex(slope.real, 0.0)
            elif kind == CIRCLE:
                radial = (q[n, c] - levels[0]) / levels[1].real
                slope -= (slope.real * radial.real + slope.imag * radial.imag) * radial
            step[n, c] = slope
            total += slope.real * slope.real + slope.imag * slope.imag
    if total > 0.0:
        step *= np.sqrt(antennas * controls) / np.sqrt(total)
    else:
        step *= total  # zero, or NaN where a number went wrong


@njit(cache=True, nogil=True, fastmath=FAST)
def _ascend(
    channel: Any, point: Any, at: Any, room: Any, step: Any, size: float, momentum: float, sets: Any
) -> None:
    """Move the controls of one channel along the gradient of its rate, in place."""
    h, feed, noise, alpha, power, radiated = channel
    q, latent, velocity, v = point
    e, g, u, w = at
    kind, levels, wide_kind, wide_levels = sets
    weigh(e, g, v, noise, alpha, power, 1.0, u, w)
    quadratic(h, feed, e, v, u, w, room[0], room[1], room[2])
    rho = price_of(u, w, noise, power, 1.0) if radiated else 0.0
    _direction(q, room, rho, wide_kind, wide_levels, step)
    for n in range(q.shape[0]):
        for c in range(q.shape[1]):
            velocity[n, c] = step[n, c] + momentum * velocity[n, c]
            goal = latent[n, c] + size * velocity[n, c]
            re, im = project(wide_kind, wide_levels, goal.real, goal.imag)
            latent[n, c] = complex(re, im)
            re, im = project(kind, levels, re, im)
            q[n, c] = complex(re, im)
    link(h, feed, q, e, g, radiated)


@njit(cache=True, nogil=True, fastmath=FAST)
def _loop(
    channels: Any, state: Any, record: Any, plan: Any, steps: Any, first: int, last: int
) -> None:
    """Iterate on channels ``first`` to ``last``; see :func:`climb`."""
    h, feed, noise, alpha, power, radiated = channels
    q, v, latent, velocity, utility = state
    best_q, best_v, best_utility, idle = record
    sizes, momentum, digital_steps, kind, levels, wide_kind, wide_levels, tolerance, patience = plan
    users, antennas, chains, controls = h.shape[1], h.shape[2], feed.shape[1], q.shape[2]
    e = np.empty((users, chains), dtype=np.complex128)
    g = np.empty((chains, chains), dtype=np.complex128)
    u, w = np.empty(users, dtype=np.complex128), np.empty(users)
    step = np.empty((antennas, controls), dtype=np.complex128)
    room = (
        np.empty((users, antennas), dtype=np.complex128),
        np.empty((antennas, controls, users), dtype=np.complex128),
        np.empty((users, users), dtype=np.complex128),
    )
    sets = (kind, levels, wide_kind, wide_levels)
    for b in range(first, last):
        channel = (h[b], feed, noise[b], alpha[b], power[b], radiated)
        point, at = (q[b], latent[b], velocity[b], v[b]), (e, g, u, w)
        link(h[b], feed, q[b], e, g, radiated)
        for i in range(sizes.shape[0]):
            before = utility[b]
            _ascend(channel, point, at, room, step, sizes[i], momentum, sets)
            for _ in range(digital_steps):
                weigh(e, g, v[b], noise[b], alpha[b], power[b], 1.0, u, w)
                digital(e, g, u, w, noise[b], power[b], 1.0, v[b])
            rescale(g, v[b], power[b])
            utility[b] = weigh(e, g, v[b], noise[b], alpha[b], power[b], 1.0, u, w)
            steps[b] += 1
            if not np.isfinite(utility[b]):
                break
            idle[b] += 1
            if utility[b] > best_utility[b]:
                best_q[b], best_v[b], best_utility[b], idle[b] = q[b], v[b], utility[b], 0
            if abs(utility[b] - before) <= tolerance * max(abs(utility[b]), 1e-12):
                steps[b] = -steps[b]
                break
            if idle[b] >= patience:
                break


class Point(NamedTuple):
    """Where the loop stands, changed in place.

    ``control`` ``(B, N, C)``, ``digital`` ``(B, R, K)``, ``latent`` controls on the continuous set
    behind them, ``velocity`` of those, ``utility`` ``(B,)``: the weighted sum rate in bits/s/Hz.
    """

    control: Any
    digital: Any
    latent: Any
    velocity: Any
    utility: Any


class Plan(NamedTuple):
    """How to iterate.

    ``sizes``: step of each iteration; ``momentum``: share of the last direction that is kept;
    ``digital_steps`` after each move; ``kind``, ``levels``: element set as in
    :func:`holobeam.kernels.cpu.coordinate_sweep`, ``wide_kind``, ``wide_levels`` the continuous set
    around it; ``tolerance``, ``patience``: when a channel stops.
    """

    sizes: Any
    momentum: float
    digital_steps: int
    kind: int
    levels: Any
    wide_kind: int
    wide_levels: Any
    tolerance: float
    patience: int


def climb(channels: Channels, point: Point, best: Best, plan: Plan, threads: int) -> Any:
    """Run ``len(plan.sizes)`` iterations on a batch, in place.

    Returns
    -------
    array
        ``(B,)`` iterations done; negative where the channel converged at the last of them.
    """
    batch, users, antennas = channels.h.shape
    steps = np.zeros(batch, dtype=np.int64)
    terms = users * (4 * channels.feed.shape[1] + 6 * point.control.shape[2] + 8)
    cost = batch * antennas * len(plan.sizes) * terms * 2e-9
    # Plain tuples: the compiled code is then the same whatever these classes are called.
    parts = tuple(channels), tuple(point), tuple(best), tuple(plan)
    loop = compiled(_loop, (*parts, steps, 0, batch))

    def work(first: int, last: int) -> None:
        loop(*parts, steps, first, last)

    spread(work, batch, cost, threads)
    return steps
