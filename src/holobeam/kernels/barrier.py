"""The best diagonal shift of a binary quadratic, the dual of its SDP, by a barrier method.

For every diagonal s with ``M = Q + diag(s)`` positive definite, ``-c' M^-1 c - sum(s)`` bounds
``x' Q x - 2 c' x`` from below on {-1, 1}^n. Newton steps climb that bound plus ``mu logdet M``:
with ``m = M^-1 c`` its gradient is ``m_i^2 - 1 + mu (M^-1)_ii``, its curvature the element-wise
product ``M^-1 * (2 m m' + mu M^-1)``. Every iterate is feasible, so one may stop at any of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from holobeam.kernels.binary import value_of
from holobeam.kernels.options import EXACT, FAST, INLINED, KEPT


@njit(**FAST)
def factor(m: Any, n: int) -> bool:
    """Lower Cholesky factor of the leading block, in place; False where it is not definite."""
    for j in range(n):
        row = m[j]
        for t in range(j):
            other = m[t]
            total = row[t]
            for a in range(t):
                total -= row[a] * other[a]
            row[t] = total / other[t]
        pivot = row[j]
        for a in range(j):
            pivot -= row[a] * row[a]
        if not pivot > 0.0:
            return False
        row[j] = np.sqrt(pivot)
    return True


@njit(**FAST)
def invert(m: Any, n: int, work: Any, out: Any) -> bool:
    """Inverse of the leading block of ``m`` (destroyed) into ``out``; False if not definite."""
    if not factor(m, n):
        return False
    # Rows of the factor's inverse: row i of W satisfies L W = I.
    for i in range(n):
        scale = 1.0 / m[i, i]
        target = work[i]
        target[:n] = 0.0
        for t in range(i):
            weight = m[i, t]
            source = work[t]
            for a in range(t + 1):
                target[a] -= weight * source[a]
        for a in range(i):
            target[a] *= scale
        target[i] = scale
    for i in range(n):
        out[i, :n] = 0.0
    for t in range(n):
        source = work[t]
        for i in range(t + 1):
            weight = source[i]
            target = out[i]
            for a in range(t + 1):
                target[a] += weight * source[a]
    return True


@njit(**FAST)
def solve_factored(m: Any, n: int, b: Any) -> None:
    """Solve with the lower factor, ``b`` in place."""
    for i in range(n):
        row = m[i]
        total = b[i]
        for t in range(i):
            total -= row[t] * b[t]
        b[i] = total / row[i]
    for i in range(n - 1, -1, -1):
        b[i] /= m[i, i]
        row = m[i]
        for t in range(i):
            b[t] -= row[t] * b[i]


@njit(**FAST)
def newton_direction(inverse: Any, mean: Any, n: int, mu: float, h: Any, step: Any) -> bool:
    """Newton direction of the barrier function at the given inverse and mean."""
    for i in range(n):
        source, target = inverse[i], h[i]
        twice = 2.0 * mean[i]
        for j in range(n):
            target[j] = source[j] * (twice * mean[j] + mu * source[j])
        step[i] = mean[i] * mean[i] - 1.0 + mu * source[i]
    if not factor(h, n):
        return False
    solve_factored(h, n, step)
    return True


@njit(**FAST)
def evaluate(
    q: Any, s: Any, c: Any, n: int, m: Any, work: Any, inverse: Any, mean: Any
) -> tuple[bool, float, float]:
    """Inverse, mean, bound and logdet at a diagonal; False where the matrix is not definite."""
    for i in range(n):
        source, target = q[i], m[i]
        for j in range(n):
            target[j] = source[j]
        target[i] += s[i]
    if not invert(m, n, work, inverse):
        return False, 0.0, 0.0
    bound, volume = 0.0, 0.0
    for i in range(n):
        source = inverse[i]
        total = 0.0
        for j in range(n):
            total += source[j] * c[j]
        mean[i] = total
        bound -= c[i] * total + s[i]
        volume += 2.0 * np.log(m[i, i])
    return True, bound, volume


@njit(**INLINED)
def climb(
    q: Any,
    c: Any,
    n: int,
    s: Any,
    inverse: Any,
    mean: Any,
    best: float,
    accuracy: float,
    floor: float,
    shrink: float,
    steps: int,
    mu: float,
    room: Any,
) -> tuple[float, float, int]:
    """Newton steps on the barrier from a feasible diagonal: s, inverse and mean in place.

    Stops once ``n mu``, how far the bound is from its optimum on the central path, is below
    ``accuracy`` of the gap to ``best``; or when the gap is closed. ``room`` is scratch, (5, n, n).

    Returns
    -------
    tuple
        Bound, last mu and steps taken.
    """
    h, work, m, other = room[0], room[1], room[2], room[3]
    step, trial, centre = room[4, 0], room[4, 1], room[4, 2]
    _, bound, volume = evaluate(q, s, c, n, m, work, inverse, mean)
    for count in range(steps):
        if bound >= best:
            return bound, mu, count
        if not newton_direction(inverse, mean, n, mu, h, step):
            return bound, mu, count
        ascent = 0.0
        for i in range(n):
            ascent += step[i] * (mean[i] * mean[i] - 1.0 + mu * inverse[i, i])
        # Near the central path: there the bound is n mu from its optimum, and mu may shrink.
        if ascent <= mu:
            if n * mu <= max(accuracy * (best - bound), floor):
                return bound, mu, count
            mu *= shrink
            continue
        size, reached, larger, done = 1.0, bound, volume, False
        for _ in range(40):
            for i in range(n):
                trial[i] = s[i] + size * step[i]
            good, reached, larger = evaluate(q, trial, c, n, m, work, other, centre)
            gain = reached - bound + mu * (larger - volume)
            if good and gain >= 0.1 * size * ascent:
                done = True
                break
            size *= 0.5
        if not done:
            return bound, mu, count
        bound, volume = reached, larger
        for i in range(n):
            s[i] = trial[i]
            mean[i] = centre[i]
            for j in range(n):
                inverse[i, j] = other[i, j]
    return bound, mu, steps


@njit(**EXACT)
def safe_start(q: Any, c: Any, n: int, s: Any) -> None:
    """Diagonal that makes ``Q + diag(s)`` diagonally dominant, means within [-1, 1]."""
    top = 0.0
    for i in range(n):
        total = abs(c[i])
        for j in range(n):
            if j != i:
                total += abs(q[i, j])
        s[i] = total
        top = max(top, total)
    for i in range(n):
        s[i] = 1.01 * s[i] + 0.01 * top + 1e-12 - q[i, i]


@njit(**EXACT, **KEPT)
def barrier_batch(q: Any, c: Any, x: Any, accuracy: float, s: Any, span: Any) -> None:
    """Best diagonals of the problems of a span, to ``accuracy`` of the gap to the signs ``x``."""
    n = c.shape[1]
    room, inverse, mean = np.empty((5, n, n)), np.empty((n, n)), np.empty(n)
    for b in range(span[0], span[1]):
        best = value_of(q[b], c[b], x[b])
        safe_start(q[b], c[b], n, s[b])
        evaluate(q[b], s[b], c[b], n, room[0], room[1], inverse, mean)
        spread, trace = 0.1, 0.0
        for i in range(n):
            spread += 1.0 - mean[i] ** 2
            trace += inverse[i, i]
        floor = 1e-7 * (abs(best) + np.sqrt(n * (q[b] * q[b]).sum()))
        climb(
            q[b],
            c[b],
            n,
            s[b],
            inverse,
            mean,
            best,
            accuracy,
            floor,
            0.2,
            60,
            spread / trace,
            room,
        )
