"""Variable projection, compiled: a normalised gradient step on the controls, then V.

Sixteen channels at a time, narrowband, one power budget; arrays in, arrays out: controls move one
channel after the other, the small systems are solved together. It does what ``solvers/gradient.py``
does step by step in torch, which is its oracle.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from holobeam.kernels.alternating import Best, Channels
from holobeam.kernels.copying import assign
from holobeam.kernels.cpu import CIRCLE, INTERVAL, POINTS, project, run_loop
from holobeam.kernels.lanes import (
    conditions,
    drain,
    fill,
    fill_budget,
    get,
    hear,
    improve,
    matrices,
    pull,
    put,
    sixteen,
    weigh,
)
from holobeam.kernels.options import FAST, KEPT
from holobeam.kernels.vectors import LANES, load


@njit(**FAST)
def _parts(rows: int, antennas: int) -> tuple[Any, Any]:
    """Room for real and imaginary parts, elements last: every pass over them is vectorised."""
    return np.empty((rows, antennas)), np.empty((rows, antennas))


@njit(**FAST)
def _many(channels: int, rows: int, antennas: int) -> tuple[Any, Any]:
    """The same for some channels."""
    return np.empty((channels, rows, antennas)), np.empty((channels, rows, antennas))


@njit(**FAST, inline="always")
def _of(parts: Any, lane: int) -> tuple[Any, Any]:
    """Parts of one channel."""
    return parts[0][lane], parts[1][lane]


@njit(**FAST)
def _load(array: Any, parts: Any) -> None:
    """Take a complex array apart."""
    re, im = parts
    for r in range(array.shape[0]):
        for n in range(array.shape[1]):
            re[r, n] = array[r, n].real
            im[r, n] = array[r, n].imag


@njit(**FAST)
def _store(parts: Any, array: Any) -> None:
    """Put real and imaginary parts together again."""
    re, im = parts
    for r in range(array.shape[0]):
        for n in range(array.shape[1]):
            array[r, n] = complex(re[r, n], im[r, n])


@njit(**FAST, inline="always")
def _link(h: Any, feed: Any, q: Any, a: Any, small: Any, lane: int, radiated: bool) -> None:
    """``A = Q * Phi``, ``E = H A`` and the metric, from split real and imaginary parts."""
    (h_re, h_im), (f_re, f_im), (q_re, q_im), (a_re, a_im) = h, feed, q, a
    chains, antennas = f_re.shape
    shared = q_re.shape[0] == 1
    for r in range(chains):
        c = 0 if shared else r
        for n in range(antennas):
            a_re[r, n] = q_re[c, n] * f_re[r, n] - q_im[c, n] * f_im[r, n]
            a_im[r, n] = q_re[c, n] * f_im[r, n] + q_im[c, n] * f_re[r, n]
        for k in range(h_re.shape[0]):
            re, im = 0.0, 0.0
            for n in range(antennas):
                re += h_re[k, n] * a_re[r, n] - h_im[k, n] * a_im[r, n]
                im += h_re[k, n] * a_im[r, n] + h_im[k, n] * a_re[r, n]
            put(small[0], k * chains + r, lane, complex(re, im))
        for s in range(r + 1):
            re, im = 0.0, 0.0
            if radiated:
                for n in range(antennas):
                    re += a_re[s, n] * a_re[r, n] + a_im[s, n] * a_im[r, n]
                    im += a_re[s, n] * a_im[r, n] - a_im[s, n] * a_re[r, n]
            elif s == r:
                re = 1.0
            put(small[1], r * chains + s, lane, complex(re, -im))


@njit(**FAST, inline="always")
def _gather(
    parts: Any, first: Any, second: Any, back: float, line: Any, rows: tuple[int, int]
) -> None:
    """Add two rows of complex vectors times numbers to a line; ``back`` -1 conjugates the rows."""
    (p_re, p_im), (re, im), (i, j) = parts, line, rows
    x, y, z, w = first.real, first.imag, second.real, second.imag
    bx, bz, by, bw = back * x, back * z, back * y, back * w
    for n in range(re.shape[0]):
        re[n] += p_re[i, n] * x - p_im[i, n] * by + p_re[j, n] * z - p_im[j, n] * bw
        im[n] += p_re[i, n] * y + p_im[i, n] * bx + p_re[j, n] * w + p_im[j, n] * bz


@njit(**FAST, inline="always")
def _combine(
    parts: Any, weights: Any, lane: int, chains: int, r: int, back: float, line: Any
) -> None:
    """Add ``sum_k weights[k, r] parts[k]`` to a line, two rows at a time."""
    rows = parts[0].shape[0]
    for k in range(0, rows - 1, 2):
        first = get(weights, k * chains + r, lane)
        second = get(weights, (k + 1) * chains + r, lane)
        _gather(parts, first, second, back, line, (k, k + 1))
    if rows % 2:
        first = get(weights, (rows - 1) * chains + r, lane)
        _gather(parts, first, 0j, back, line, (rows - 1, rows - 1))


@njit(**FAST, inline="always")
def _descent(
    h: Any, feed: Any, a: Any, pulls: Any, lane: int, step: Any, line: Any, priced: bool
) -> None:
    """Negative gradient of the quadratic in the controls, in place."""
    (f_re, f_im), (s_re, s_im), (re, im) = feed, step, line
    chains, antennas = f_re.shape
    shared = s_re.shape[0] == 1
    s_re[:] = 0.0
    s_im[:] = 0.0
    for r in range(chains):
        re[:] = 0.0
        im[:] = 0.0
        _combine(h, pulls[0], lane, chains, r, -1.0, line)
        if priced:
            _combine(a, pulls[1], lane, chains, r, 1.0, line)
        c = 0 if shared else r
        for n in range(antennas):
            s_re[c, n] -= re[n] * f_re[r, n] + im[n] * f_im[r, n]
            s_im[c, n] -= im[n] * f_re[r, n] - re[n] * f_im[r, n]


@njit(**FAST, inline="always")
def _along(q: Any, kind: int, levels: Any, step: Any) -> float:
    """Keep what lies along the element set; returns the factor to unit mean square."""
    (q_re, q_im), (s_re, s_im) = q, step
    controls, antennas = q_re.shape
    total = 0.0
    if kind == CIRCLE:
        x, y, scale = levels[0].real, levels[0].imag, 1.0 / levels[1].real ** 2
        for c in range(controls):
            for n in range(antennas):
                out_re, out_im = q_re[c, n] - x, q_im[c, n] - y
                radial = scale * (s_re[c, n] * out_re + s_im[c, n] * out_im)
                s_re[c, n] -= radial * out_re
                s_im[c, n] -= radial * out_im
    elif kind == INTERVAL:
        s_im[:] = 0.0
    for c in range(controls):
        for n in range(antennas):
            total += s_re[c, n] * s_re[c, n] + s_im[c, n] * s_im[c, n]
    # Zero stays zero, and what is not a number stays so.
    return float(np.sqrt(antennas * controls) / np.sqrt(total)) if total > 0.0 else total


@njit(**FAST, inline="always")
def _to_set(kind: int, levels: Any, of: Any, out: Any) -> None:
    """Nearest members of an element set."""
    (g_re, g_im), (q_re, q_im) = of, out
    controls, antennas = g_re.shape
    if kind == CIRCLE:
        x, y, radius = levels[0].real, levels[0].imag, levels[1].real
        for c in range(controls):
            for n in range(antennas):
                out_re, out_im = g_re[c, n] - x, g_im[c, n] - y
                size = np.sqrt(out_re * out_re + out_im * out_im)
                scale = radius / size if size != 0.0 else 0.0
                q_re[c, n] = x + (scale * out_re if size != 0.0 else radius)
                q_im[c, n] = y + scale * out_im
        return
    for c in range(controls):
        for n in range(antennas):
            re, im = project(kind, levels, g_re[c, n], g_im[c, n])
            q_re[c, n] = re
            q_im[c, n] = im


@njit(**FAST, inline="always")
def _ascend(
    channel: Any, point: Any, small: Any, pulls: Any, lane: int, room: Any, stride: Any, sets: Any
) -> None:
    """Move the controls of one channel along the gradient of its rate, in place."""
    h, feed, radiated = channel
    q, latent, velocity, a = point
    step, line = room
    size, momentum = stride
    kind, levels, wide_kind, wide_levels = sets
    _descent(h, feed, a, pulls, lane, step, line, radiated)
    scale = _along(q, wide_kind, wide_levels, step)
    for part in range(2):
        moves, speeds, places = step[part], velocity[part], latent[part]
        for c in range(moves.shape[0]):
            for n in range(moves.shape[1]):
                speeds[c, n] = scale * moves[c, n] + momentum * speeds[c, n]
                places[c, n] += size * speeds[c, n]
    _to_set(wide_kind, wide_levels, latent, latent)
    if kind == wide_kind and kind != POINTS:
        assign(q[0], latent[0])
        assign(q[1], latent[1])
    else:
        _to_set(kind, levels, latent, q)
    _link(h, feed, q, a, small, lane, radiated)


@njit(**FAST, inline="always")
def _note(
    found: float, b: int, plan: Any, utility: Any, best_utility: Any, idle: Any, steps: Any
) -> tuple[bool, bool]:
    """Book an iteration of one channel: whether it is its best point, and whether it is over.

    Steps become negative where it converged.
    """
    before, tolerance, patience = utility[b], plan[7], plan[8]
    utility[b] = found
    steps[b] += 1
    if not np.isfinite(found):
        return False, True
    idle[b] += 1
    better = found > best_utility[b]
    if better:
        best_utility[b], idle[b] = found, 0
    if abs(found - before) < tolerance * max(abs(found), 1e-12):
        steps[b] = -steps[b]
        return better, True
    return better, idle[b] >= patience


@njit(**FAST, **KEPT)
def _loop(
    channels: Any, state: Any, record: Any, plan: Any, steps: Any, first: int, last: int
) -> None:
    """Iterate on channels ``first`` to ``last``; see :func:`climb`."""
    h, feed, noise, alpha, power, radiated = channels
    q, v, latent, velocity, utility = state
    best_q, best_v, best_utility, idle = record
    sizes, momenta, digital_steps, kind, levels, wide_kind, wide_levels, _, _ = plan
    users, antennas, chains, controls = h.shape[1], h.shape[2], feed.shape[1], q.shape[2]
    small, given = matrices(users, chains), conditions(users)
    pulls = sixteen(users, chains), sixteen(chains, chains)
    room = _parts(controls, antennas), (np.empty(antennas), np.empty(antennas))
    most = min(LANES, last - first)
    waves, paths = _parts(chains, antennas), _many(most, users, antennas)
    now, behind = _many(most, controls, antennas), _many(most, controls, antennas)
    speed, a = _many(most, controls, antennas), _many(most, chains, antennas)
    found, live = np.empty(LANES), np.empty(LANES, dtype=np.bool_)
    ones = np.ones(LANES)
    _load(feed.T, waves)
    for begin in range(first, last, LANES):
        count = min(LANES, last - begin)
        for lane in range(count):
            b = begin + lane
            _load(h[b], _of(paths, lane))
            _load(q[b].T, _of(now, lane))
            _load(latent[b].T, _of(behind, lane))
            _load(velocity[b].T, _of(speed, lane))
            fill(small, lane, v[b])
            for k in range(users):
                given[0][k * LANES + lane] = noise[b, k]
                given[1][k * LANES + lane] = alpha[b, k]
            given[2][lane], live[lane] = power[b], True
            _link(_of(paths, lane), waves, _of(now, lane), _of(a, lane), small, lane, radiated)
        fill_budget(small, given, users, chains)
        hear(small, users, chains)
        left = count
        for i in range(sizes.shape[0] if count > 0 else 0):
            weigh(small, given, load(ones, 0), users)
            pull(small, given, users, chains, radiated, pulls)
            for lane in range(count):
                if live[lane]:
                    _ascend((_of(paths, lane), waves, radiated),
                            (_of(now, lane), _of(behind, lane), _of(speed, lane), _of(a, lane)),
                            small, pulls, lane, room, (sizes[i], momenta[i]),
                            (kind, levels, wide_kind, wide_levels))  # fmt: skip
            improve(small, given, users, chains, digital_steps, found)
            for lane in range(count):
                if not live[lane]:
                    continue
                b = begin + lane
                better, over = _note(found[lane], b, plan, utility, best_utility, idle, steps)
                if better:
                    _store(_of(now, lane), best_q[b].T)
                    drain(small, lane, best_v[b])
                if over or i == sizes.shape[0] - 1:
                    _store(_of(now, lane), q[b].T)
                    _store(_of(behind, lane), latent[b].T)
                    _store(_of(speed, lane), velocity[b].T)
                    drain(small, lane, v[b])
                    live[lane] = False
                    left -= 1
            if left == 0:
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

    ``sizes``: step of each iteration; ``momenta``: share of the last direction that it keeps;
    ``digital_steps`` after each move; ``kind``, ``levels``: element set as in
    :func:`holobeam.kernels.cpu.coordinate_sweep`, ``wide_kind``, ``wide_levels`` the continuous set
    around it; ``tolerance``, ``patience``: when a channel stops.
    """

    sizes: Any
    momenta: Any
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
    chains, controls = channels.feed.shape[1], point.control.shape[2]
    cost = (
        batch * antennas * len(plan.sizes) * (chains * (2 * users + chains) + 8 * controls) * 1e-9
    )
    parts = tuple(channels), tuple(point), tuple(best), tuple(plan)
    return run_loop(_loop, parts, batch, cost, threads)
