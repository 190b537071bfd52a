"""Sphere decoding over signs, compiled: depth first in a fixed order, with a diagonal shift.

With a diagonal s that makes ``M = Q + diag(s) = R' R`` positive definite, and ``m = M^-1 c``,

    x' Q x - 2 c' x = |R (x - m)|^2 - c' m - sum(s)      for every x in {-1, 1}^n.

Signs are fixed from the last to the first. What is kept is the conditional mean of the free
entries, the minimiser over them once the others are fixed: fixing entry k at v adds
``R_kk^2 (v - m_k)^2`` to the metric and moves the means in front of it along one known vector.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from holobeam.kernels.binary import value_of
from holobeam.kernels.options import EXACT, KEPT
from holobeam.kernels.relaxation import dual, secular_root

PROVEN = 1e-10
"""A proof leaves this much room, relative to ``|f| + sqrt(n) ||Q||``."""


@njit(**EXACT)
def prepare(m: Any, c: Any, pivot: Any, gain: Any, mean: Any) -> float:
    """Conditional pivots ``R_kk^2``, mean shifts ``gain[k, :k]`` and ``mean = M^-1 c`` in place.

    Returns ``c' M^-1 c``. ``m`` must be positive definite.
    """
    n = c.size
    r = np.zeros((n, n))
    # R'R = M, R upper: rows of the lower factor's transpose, so columns of R are contiguous here.
    for j in range(n):
        for i in range(j + 1):
            total = m[i, j]
            for t in range(i):
                total -= r[i, t] * r[j, t]
            if i < j:
                r[j, i] = total / r[i, i]
            else:
                pivot[j] = total
                r[j, j] = np.sqrt(total)
    # r[j, i] = R_ij. The mean of the entries before k moves by -R11^-1 R_:k a unit of entry k.
    for k in range(n):
        for i in range(k - 1, -1, -1):
            total = -r[k, i]
            for t in range(i + 1, k):
                total -= r[t, i] * gain[k, t]
            gain[k, i] = total / r[i, i]
    y = np.empty(n)
    square = 0.0
    for i in range(n):
        total = c[i]
        for t in range(i):
            total -= r[i, t] * y[t]
        y[i] = total / r[i, i]
        square += y[i] * y[i]
    for i in range(n - 1, -1, -1):
        total = y[i]
        for t in range(i + 1, n):
            total -= r[t, i] * mean[t]
        mean[i] = total / r[i, i]
    return square


@njit(**EXACT)
def _sphere_prunes(mu: Any, basis: Any, mean: Any, room: float, last: Any, ct: Any) -> bool:
    """Whether the norm relaxation over the free entries already costs ``room``.

    ``min_(|x|^2 = k) (x - m)' M (x - m)`` with ``M = basis diag(mu) basis'``; ``last`` is the
    level's previous multiplier: tried first, since weak duality makes every multiplier a bound.
    """
    k = mu.size
    offset = 0.0
    for i in range(k):
        along = 0.0
        for j in range(k):
            along += basis[i, j] * mean[j]
        ct[i] = mu[i] * along
        offset += ct[i] * along
    if last[0] > -mu[0] and offset + dual(mu, ct[:k], float(k), last[0]) >= room:
        return True
    t = secular_root(mu, ct[:k], float(k))
    last[0] = t - mu[0]
    if t > 0.0:
        return offset + dual(mu, ct[:k], float(k), last[0]) >= room
    # The hard case: approach the pole from above, where the dual is finite.
    return offset + dual(mu, ct[:k], float(k), last[0] + 1e-12 * abs(mu[k - 1])) >= room


@njit(**EXACT)
def _walk(
    pivot: Any,
    gain: Any,
    mu: Any,
    basis: Any,
    mean: Any,
    kept: Any,
    best: float,
    slack: float,
    limit: int,
    stop: Any,
) -> tuple[float, int, float]:
    """Depth first until it ends, the node count reaches the limit or ``stop[0]`` is set.

    Metrics are above the root's bound. Returns the best one (its signs in ``kept``), the nodes
    evaluated and a bound on what is left to be found.
    """
    n = pivot.size
    bounded = mu.shape[0] > 0
    last = np.full((n + 1, 1), -np.inf)
    ct, metric, stage, x = np.empty(n), np.zeros(n), np.zeros(n, dtype=np.int64), kept.copy()
    level, nodes = n - 1, 0
    while level < n and nodes < limit and stop[0] == 0:
        if stage[level] > 1:
            level += 1
            continue
        here = mean[level, level]
        near = 1.0 if here >= 0.0 else -1.0
        sign = near if stage[level] == 0 else -near
        away = sign - here
        reached = metric[level] + away * away * pivot[level]
        nodes += 1
        stage[level] += 1
        if reached >= best - slack:
            stage[level] = 2  # the farther child is worse still
            continue
        x[level] = sign
        if level == 0:
            best = reached
            kept[:] = x
            continue
        below = mean[level - 1]
        for i in range(level):
            below[i] = mean[level, i] + gain[level, i] * away
        if bounded:
            room = best - slack - reached
            if _sphere_prunes(mu[level, :level], basis[level], below, room, last[level], ct):
                continue
        level -= 1
        metric[level] = reached
        stage[level] = 0
    bound = best
    for k in range(level, n):
        if stage[k] < 2:
            away = abs(mean[k, k]) + (1.0 if stage[k] == 1 else -1.0)
            bound = min(bound, metric[k] + away * away * pivot[k])
    return best, nodes, bound


@njit(**EXACT, **KEPT)
def sphere_batch(
    q: Any,
    c: Any,
    s: Any,
    mu: Any,
    basis: Any,
    x: Any,
    value: Any,
    bound: Any,
    nodes: Any,
    limit: int,
    stop: Any,
    span: Any,
) -> None:
    """Sphere decoding of the problems of a span: x (B, n) incumbents in, best signs out.

    ``s`` (B, n) is the diagonal shift; ``mu`` and ``basis`` hold at [b, k] the eigenvalues and the
    transposed eigenvectors of the leading k x k block of ``Q + diag(s)``, or have no entries where
    the norm bound is not wanted. ``value``, ``bound`` and ``nodes`` (B,) are written.
    """
    n = c.shape[1]
    m, pivot, gain, mean = np.empty((n, n)), np.empty(n), np.zeros((n, n)), np.empty((n, n))
    bounded = mu.shape[0] > 0
    for b in range(span[0], span[1]):
        m[:] = q[b]
        for i in range(n):
            m[i, i] += s[b, i]
        low = -prepare(m, c[b], pivot, gain, mean[n - 1]) - s[b].sum()
        start = value_of(q[b], c[b], x[b])
        slack = PROVEN * (abs(start) + np.sqrt(n * (q[b] * q[b]).sum()))
        spectrum = mu[b] if bounded else np.empty((0, 0))
        vectors = basis[b] if bounded else np.empty((0, 0, 0))
        best, nodes[b], left = _walk(
            pivot, gain, spectrum, vectors, mean, x[b], start - low, slack, limit, stop
        )
        value[b] = value_of(q[b], c[b], x[b])
        # Judged on the metric: with a tiny shift, low is huge and its sum with left is rounded.
        open_low = low + left - slack - 1e-13 * abs(low)
        bound[b] = value[b] if left >= best - slack else open_low
