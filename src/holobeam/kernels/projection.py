"""Variable projection, compiled: a normalised gradient step on the controls, then V.

One channel after the other, narrowband, one power budget; arrays in, arrays out. It does what
``solvers/gradient.py`` does step by step in torch, which is its oracle.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from holobeam.kernels.alternating import Best, Channels
from holobeam.kernels.blocks import (
    digital_within,
    hear,
    price_of,
    rate_heard,
    rescale,
    scaled,
    spent,
    weigh_heard,
)
from holobeam.kernels.cpu import CIRCLE, FAST, INTERVAL, POINTS, compiled, project, spread


@njit(cache=True, nogil=True, fastmath=FAST)
def _parts(rows: int, antennas: int) -> tuple[Any, Any]:
    """Room for real and imaginary parts, elements last: every pass over them is vectorised."""
    return np.empty((rows, antennas)), np.empty((rows, antennas))


@njit(cache=True, nogil=True, fastmath=FAST)
def _load(array: Any, parts: Any) -> None:
    """Take a complex array apart."""
    re, im = parts
    for r in range(array.shape[0]):
        for n in range(array.shape[1]):
            re[r, n] = array[r, n].real
            im[r, n] = array[r, n].imag


@njit(cache=True, nogil=True, fastmath=FAST)
def _store(parts: Any, array: Any) -> None:
    """Put real and imaginary parts together again."""
    re, im = parts
    for r in range(array.shape[0]):
        for n in range(array.shape[1]):
            array[r, n] = complex(re[r, n], im[r, n])


@njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def _link(h: Any, feed: Any, q: Any, a: Any, e: Any, g: Any, radiated: bool) -> None:
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
            e[k, r] = complex(re, im)
        for s in range(r + 1):
            re, im = 0.0, 0.0
            if radiated:
                for n in range(antennas):
                    re += a_re[s, n] * a_re[r, n] + a_im[s, n] * a_im[r, n]
                    im += a_re[s, n] * a_im[r, n] - a_im[s, n] * a_re[r, n]
            elif s == r:
                re = 1.0
            g[s, r] = complex(re, im)
            g[r, s] = complex(re, -im)


@njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def _pulls(t: Any, v: Any, u: Any, w: Any, rho: float, ahead: Any, loaded: Any) -> None:
    """What the gradient takes from each user's channel and from each chain's wave, in place.

    With ``Y = diag(sqrt w conj(u)) H`` and ``T = E V`` the gradient in A is ``H^H ahead +
    A loaded``, where ``ahead = diag(w |u|^2) T V^H - diag(w u) V^H`` (K x R) and
    ``loaded = rho V V^H`` (R x R).
    """
    chains, users = v.shape
    for k in range(users):
        cost = w[k] * (u[k].real * u[k].real + u[k].imag * u[k].imag)
        wanted = scaled(w[k], u[k])
        for r in range(chains):
            re, im = 0.0, 0.0
            for j in range(users):
                x, y = t[k, j], v[r, j]
                re += x.real * y.real + x.imag * y.imag
                im += x.imag * y.real - x.real * y.imag
            ahead[k, r] = complex(cost * re, cost * im) - wanted * v[r, k].conjugate()
    for r in range(chains):
        for s in range(r + 1):
            re, im = 0.0, 0.0
            for j in range(users):
                x, y = v[s, j], v[r, j]
                re += x.real * y.real + x.imag * y.imag
                im += x.imag * y.real - x.real * y.imag
            loaded[s, r] = complex(rho * re, rho * im)
            loaded[r, s] = complex(rho * re, -rho * im)


@njit(cache=True, nogil=True, fastmath=FAST, inline="always")
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


@njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def _combine(parts: Any, weights: Any, r: int, back: float, line: Any) -> None:
    """Add ``sum_k weights[k, r] parts[k]`` to a line, two rows at a time."""
    rows = weights.shape[0]
    for k in range(0, rows - 1, 2):
        _gather(parts, weights[k, r], weights[k + 1, r], back, line, (k, k + 1))
    if rows % 2:
        _gather(parts, weights[rows - 1, r], 0j, back, line, (rows - 1, rows - 1))


@njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def _descent(
    h: Any, feed: Any, a: Any, ahead: Any, loaded: Any, step: Any, line: Any, priced: bool
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
        _combine(h, ahead, r, -1.0, line)
        if priced:
            _combine(a, loaded, r, 1.0, line)
        c = 0 if shared else r
        for n in range(antennas):
            s_re[c, n] -= re[n] * f_re[r, n] + im[n] * f_im[r, n]
            s_im[c, n] -= im[n] * f_re[r, n] - re[n] * f_im[r, n]


@njit(cache=True, nogil=True, fastmath=FAST, inline="always")
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


@njit(cache=True, nogil=True, fastmath=FAST, inline="always")
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


@njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def _ascend(
    channel: Any, point: Any, at: Any, room: Any, size: float, momentum: float, sets: Any
) -> None:
    """Move the controls of one channel along the gradient of its rate, in place.

    What is heard, ``t``, belongs to the point and a full budget.
    """
    h, feed, noise, alpha, power, radiated = channel
    q, latent, velocity, v = point
    e, g, t, u, w = at
    a, step, line, ahead, loaded = room
    kind, levels, wide_kind, wide_levels = sets
    weigh_heard(t, noise, alpha, 1.0, 1.0, u, w)
    rho = price_of(u, w, noise, power, 1.0) if radiated else 0.0
    _pulls(t, v, u, w, rho, ahead, loaded)
    _descent(h, feed, a, ahead, loaded, step, line, rho != 0.0)
    scale = _along(q, wide_kind, wide_levels, step)
    for part in range(2):
        moves, speeds, places = step[part], velocity[part], latent[part]
        for c in range(moves.shape[0]):
            for n in range(moves.shape[1]):
                speeds[c, n] = scale * moves[c, n] + momentum * speeds[c, n]
                places[c, n] += size * speeds[c, n]
    _to_set(wide_kind, wide_levels, latent, latent)
    if kind == wide_kind and kind != POINTS:
        q[0][:], q[1][:] = latent
    else:
        _to_set(kind, levels, latent, q)
    _link(h, feed, q, a, e, g, radiated)


@njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def _iterate(channel: Any, point: Any, at: Any, room: Any, small: Any, plan: Any, i: int) -> float:
    """One iteration on one channel, in place; returns its utility."""
    _, _, noise, alpha, power, _ = channel
    sizes, momenta, digital_steps, kind, levels, wide_kind, wide_levels, _, _ = plan
    e, g, t, u, w = at
    v = point[3]
    _ascend(channel, point, at, room, sizes[i], momenta[i], (kind, levels, wide_kind, wide_levels))
    for _ in range(digital_steps):
        hear(e, v, t)
        weigh_heard(t, noise, alpha, spent(g, v) / power, 1.0, u, w)
        digital_within(e, g, u, w, noise, power, 1.0, v, small)
    rescale(g, v, power)
    hear(e, v, t)
    return float(rate_heard(t, noise, alpha, 1.0))


@njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def _channel(
    channel: Any, parts: Any, at: Any, room: Any, small: Any, numbers: Any, best_v: Any, plan: Any
) -> tuple[float, float, int, int, bool]:
    """Iterate on one channel: utility, best utility, idle count, steps, and whether the best moved.

    Steps are negative where it converged at the last of them.
    """
    now, behind, speed, v, top = parts
    utility, best_utility, idle = numbers
    sizes, tolerance, patience = plan[0], plan[7], plan[8]
    steps, found = 0, False
    for i in range(sizes.shape[0]):
        before = utility
        utility = _iterate(channel, (now, behind, speed, v), at, room, small, plan, i)
        steps += 1
        if not np.isfinite(utility):
            break
        idle += 1
        if utility > best_utility:
            top[0][:], top[1][:] = now
            best_v[:] = v
            best_utility, idle, found = utility, 0, True
        if abs(utility - before) < tolerance * max(abs(utility), 1e-12):
            steps = -steps
            break
        if idle >= patience:
            break
    return utility, best_utility, idle, steps, found


@njit(cache=True, nogil=True, fastmath=FAST)
def _loop(
    channels: Any, state: Any, record: Any, plan: Any, steps: Any, first: int, last: int
) -> None:
    """Iterate on channels ``first`` to ``last``; see :func:`climb`."""
    h, feed, noise, alpha, power, radiated = channels
    q, v, latent, velocity, utility = state
    best_q, best_v, best_utility, idle = record
    users, antennas, chains, controls = h.shape[1], h.shape[2], feed.shape[1], q.shape[2]
    e = np.empty((users, chains), dtype=np.complex128)
    g = np.empty((chains, chains), dtype=np.complex128)
    t = np.empty((users, users), dtype=np.complex128)
    at = (e, g, t, np.empty(users, dtype=np.complex128), np.empty(users))
    small = np.empty_like(g), np.empty((chains, users), dtype=np.complex128)
    a = _parts(chains, antennas)
    room = (
        a,
        _parts(controls, antennas),
        (np.empty(antennas), np.empty(antennas)),
        np.empty((users, chains), dtype=np.complex128),
        np.empty((chains, chains), dtype=np.complex128),
    )
    paths, waves = _parts(users, antennas), _parts(chains, antennas)
    now, behind = _parts(controls, antennas), _parts(controls, antennas)
    speed, top = _parts(controls, antennas), _parts(controls, antennas)
    _load(feed.T, waves)
    for b in range(first, last):
        _load(h[b], paths)
        _load(q[b].T, now)
        _load(latent[b].T, behind)
        _load(velocity[b].T, speed)
        channel = (paths, waves, noise[b], alpha[b], power[b], radiated)
        _link(paths, waves, now, a, e, g, radiated)
        if (
            abs(spent(g, v[b]) / power[b] - 1.0) > 1e-9
        ):  # else one by one is all at once, bit by bit
            rescale(g, v[b], power[b])
        hear(e, v[b], t)
        utility[b], best_utility[b], idle[b], steps[b], found = _channel(
            channel,
            (now, behind, speed, v[b], top),
            at,
            room,
            small,
            (utility[b], best_utility[b], idle[b]),
            best_v[b],
            plan,
        )
        if found:
            _store(top, best_q[b].T)
        _store(now, q[b].T)
        _store(behind, latent[b].T)
        _store(speed, velocity[b].T)


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
    steps = np.zeros(batch, dtype=np.int64)
    cost = (
        batch * antennas * len(plan.sizes) * (chains * (2 * users + chains) + 8 * controls) * 1e-9
    )
    # Plain tuples: the compiled code is then the same whatever these classes are called.
    parts = tuple(channels), tuple(point), tuple(best), tuple(plan)
    loop = compiled(_loop, (*parts, steps, 0, batch))

    def work(first: int, last: int) -> None:
        loop(*parts, steps, first, last)

    spread(work, batch, cost, threads)
    return steps
