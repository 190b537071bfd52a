"""The plain start, compiled: chains pointed at users, users at equal powers.

One channel after the other, narrowband, one power budget; arrays in, arrays out. It does what
``matched_control`` and ``digital_start`` of ``solvers/starts.py`` do in torch, its oracle.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from holobeam.kernels.blocks import link, rate, rescale, solve
from holobeam.kernels.compiling import compiled
from holobeam.kernels.copying import assign
from holobeam.kernels.cpu import CIRCLE, project, spread
from holobeam.kernels.options import FAST, FAST_QUIET, KEPT

_RIDGE = 1e-14


@njit(**FAST)
def _strongest_first(h: Any, noise: Any, order: Any) -> None:
    """Users by falling SNR in place; equals stay in their order."""
    users, antennas = h.shape
    gain = np.empty(users)
    for k in range(users):
        total = 0.0
        for n in range(antennas):
            total += h[k, n].real * h[k, n].real + h[k, n].imag * h[k, n].imag
        gain[k] = total / noise[k]
        at = k
        while at > 0 and gain[order[at - 1]] < gain[k]:
            order[at] = order[at - 1]
            at -= 1
        order[at] = k


@njit(**FAST)
def _direction(z: complex) -> Any:
    """``z / |z|``, and 0 for 0."""
    size = np.sqrt(z.real * z.real + z.imag * z.imag)
    if size > 1e-150:
        return z * (1.0 / size)
    # Squares of what is this small are nothing.
    largest = max(abs(z.real), abs(z.imag))
    if largest == 0.0:
        return complex(0.0)
    re, im = z.real / largest, z.imag / largest
    size = np.sqrt(re * re + im * im)
    return complex(re / size, im / size)


@njit(**FAST)
def _towards(kind: int, levels: Any, wanted: complex) -> Any:
    """Member of an element set that lies furthest in a direction; that nearest to 0 for none."""
    way = _direction(wanted)
    if kind == CIRCLE and levels[0] == 0.0 and way != 0.0:
        return way * levels[1].real
    # Far outside every bounded set, so that its projection depends on the direction alone.
    re, im = project(kind, levels, 1e6 * way.real, 1e6 * way.imag)
    return complex(re, im)


@njit(**FAST_QUIET)
def _turned(beam: Any, feed: Any, r: int, radius: float, line: Any, q: Any) -> bool:
    """Point chain r along ``conj(beam feed)`` on a circle around 0, in place, all elements at once.

    False, and nothing done, where a number is too small to be squared.
    """
    re, im, size = line
    least = np.inf
    for n in range(beam.shape[0]):
        x, y = beam[n], feed[n, r]
        re[n] = x.real * y.real - x.imag * y.imag
        im[n] = x.real * y.imag + x.imag * y.real
        size[n] = re[n] * re[n] + im[n] * im[n]
    for n in range(beam.shape[0]):
        least = min(least, size[n])
        size[n] = radius / np.sqrt(size[n])
    if not least > 1e-290:
        return False
    for n in range(beam.shape[0]):
        q[n, r] = complex(size[n] * re[n], -size[n] * im[n])
    return True


@njit(**FAST, **KEPT)
def _points(
    h: Any, feed: Any, noise: Any, spare: Any, q: Any, kind: int, levels: Any, first: int, last: int
) -> None:
    """Point the chains of channels ``first`` to ``last``; see :func:`point`."""
    users, antennas = h.shape[1:]
    chains, controls = feed.shape[1], q.shape[2]
    order = np.empty(users, dtype=np.int64)
    line = np.empty(antennas), np.empty(antennas), np.empty(antennas)
    circle = kind == CIRCLE and levels[0] == 0.0 and controls > 1
    for b in range(first, last):
        _strongest_first(h[b], noise[b], order)
        done = 0  # chains that have a user and every entry of a sensible size
        while circle and done < min(users, chains):
            if not _turned(h[b, order[done]], feed, done, levels[1].real, line, q[b]):
                break
            done += 1
        for n in range(antennas if done < chains else 0):
            together = 0j
            for r in range(done, chains):
                beam = spare[n, r - users] if r >= users else h[b, order[r], n].conjugate()
                back = feed[n, r].conjugate()
                if controls > 1:
                    q[b, n, r] = _towards(kind, levels, beam * back)
                else:
                    together += _direction(beam) * back
            if controls == 1:
                q[b, n, 0] = _towards(kind, levels, together)


def point(
    h: Any, feed: Any, noise: Any, spare: Any, controls: int, kind: int, levels: Any, threads: int
) -> Any:
    """Controls that point chain r at the r-th strongest user.

    ``h`` is ``(B, K, N)``, ``feed`` ``(N, R)``, ``noise`` ``(B, K)``; ``spare`` ``(N, R - K)`` is
    where the chains point that no user is left for; ``controls`` an element, 1 or R. Element set as
    in :func:`holobeam.kernels.cpu.coordinate_sweep`.

    Returns
    -------
    array
        ``(B, N, C)``.
    """
    batch, _, antennas = h.shape
    q = np.empty((batch, antennas, controls), dtype=complex)
    arguments = (h, feed, noise, spare, q, kind, levels)
    points = compiled(_points, (*arguments, 0, batch))

    def work(first: int, last: int) -> None:
        points(*arguments, first, last)

    spread(work, batch, q.size * feed.shape[1] * 1e-8, threads)
    return q


@njit(**FAST)
def _definite(system: Any, right: Any, work: Any) -> None:
    """Solve a Hermitian system, with a ridge that grows until it is definite."""
    ridge = _RIDGE
    while ridge < 1e-3:
        assign(work, system)
        if solve(work, right, ridge):
            return
        ridge *= 100.0


@njit(**FAST)
def equal_power(e: Any, g: Any, noise: Any, power: float, v: Any) -> None:
    """Regularised zero forcing with every user at the same power, in place.

    ``V = (E^H E + load G)^-1 E^H`` with rows of E scaled to equal noise: in its R x R form, or in
    the K x K form where users are fewer than chains.
    """
    users, chains = e.shape
    level = noise.sum() / (users * power)
    load = users * level
    for k in range(users):
        scale = np.sqrt(level * power / noise[k])
        for r in range(chains):
            v[r, k] = scale * e[k, r].conjugate()
    if users < chains:
        back = v.copy()
        _definite(g, v, np.empty_like(g))
        inner = np.empty((users, users), dtype=np.complex128)
        for k in range(users):
            for j in range(users):
                total = 0j
                for r in range(chains):
                    total += back[r, k].conjugate() * v[r, j]
                inner[k, j] = total
            inner[k, k] += load
        unit = np.eye(users).astype(np.complex128)
        _definite(inner, unit, np.empty_like(inner))
        _times(v, unit)
    else:
        system = np.empty((chains, chains), dtype=np.complex128)
        for r in range(chains):
            for s in range(chains):
                total = load * g[r, s]
                for k in range(users):
                    total += v[r, k] * v[s, k].conjugate()
                system[r, s] = total
        _definite(system, v, np.empty_like(system))
    _same_power(g, v)


@njit(**FAST)
def _times(v: Any, right: Any) -> None:
    """``V right`` in place."""
    row = np.empty(right.shape[0], dtype=np.complex128)
    for r in range(v.shape[0]):
        assign(row, v[r])
        for k in range(right.shape[1]):
            total = 0j
            for j in range(right.shape[0]):
                total += row[j] * right[j, k]
            v[r, k] = total


@njit(**FAST)
def _same_power(g: Any, v: Any) -> None:
    """Scale every user's column to power 1; columns of next to nothing become nothing."""
    chains, users = v.shape
    size = np.empty(users)
    for k in range(users):
        total = 0.0
        for r in range(chains):
            inner = 0j
            for s in range(chains):
                inner += g[r, s] * v[s, k]
            total += v[r, k].real * inner.real + v[r, k].imag * inner.imag
        size[k] = np.sqrt(max(total, 0.0))
    largest = size.max()
    for k in range(users):
        scale = 0.0 if size[k] <= 1e-12 * largest else 1.0 / size[k]
        for r in range(chains):
            v[r, k] = scale * v[r, k] if scale > 0.0 else complex(0.0)


@njit(**FAST, **KEPT)
def _firsts(
    channels: Any, q: Any, v: Any, utility: Any, kind: int, levels: Any, first: int, last: int
) -> None:
    """Begin channels ``first`` to ``last``; see :func:`begin`."""
    h, feed, noise, alpha, power, radiated = channels
    users, chains = h.shape[1], feed.shape[1]
    e = np.empty((users, chains), dtype=np.complex128)
    g = np.empty((chains, chains), dtype=np.complex128)
    for b in range(first, last):
        for n in range(q.shape[1]):
            for c in range(q.shape[2]):
                re, im = project(kind, levels, q[b, n, c].real, q[b, n, c].imag)
                q[b, n, c] = complex(re, im)
        link(h[b], feed, q[b], e, g, radiated)
        equal_power(e, g, noise[b], power[b], v[b])
        rescale(g, v[b], power[b])
        utility[b] = rate(e, g, v[b], noise[b], alpha[b], power[b])


def begin(channels: Any, q: Any, kind: int, levels: Any, threads: int) -> tuple[Any, Any]:
    """Project controls ``(B, N, C)`` onto an element set in place and fit the digital precoder.

    ``channels`` as in :class:`holobeam.kernels.alternating.Channels`.

    Returns
    -------
    tuple of arrays
        Equal-power precoder within the budget, ``(B, R, K)``, and its utility, ``(B,)``.
    """
    batch, users, antennas = channels.h.shape
    chains = channels.feed.shape[1]
    v = np.empty((batch, chains, users), dtype=complex)
    utility = np.empty(batch)
    cost = batch * antennas * chains * (users + chains) * 3e-9
    arguments = (tuple(channels), q, v, utility, kind, levels)
    firsts = compiled(_firsts, (*arguments, 0, batch))

    def work(first: int, last: int) -> None:
        firsts(*arguments, first, last)

    spread(work, batch, cost, threads)
    return v, utility
