"""Two relaxations of the signs, compiled: the sphere ``|x|^2 = n`` and unit vectors (the SDP)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from holobeam.kernels.options import EXACT, KEPT

CLUSTER = 1e-12
"""Eigenvalues this near to the smallest one (relative to the largest) count as equal to it."""


@njit(**EXACT)
def secular_root(mu: Any, ct: Any, size: float) -> float:
    """Root ``t = lam + mu_min`` of ``sum ct_i^2 / (mu_i + lam)^2 = size``; 0 in the hard case.

    ``mu`` is ascending. Newton on ``1/|z|`` inside the bracket ``[|P_min ct|, |ct|] / sqrt(size)``.
    """
    n = mu.size
    bottom = mu[0]
    near = CLUSTER * max(abs(mu[n - 1]), abs(bottom))
    low, high, far = 0.0, 0.0, 0.0
    for i in range(n):
        square = ct[i] * ct[i]
        high += square
        gap = mu[i] - bottom
        if gap <= near:
            low += square
        else:
            far += square / (gap * gap)
    if low <= 1e-30 * high and far <= size:
        return 0.0
    low, high = np.sqrt(low / size), np.sqrt(high / size)
    goal = 1.0 / np.sqrt(size)
    t = max(low, 1e-3 * high)
    for _ in range(80):
        power, slope = 0.0, 0.0
        for i in range(n):
            gap = mu[i] - bottom
            scale = (0.0 if gap <= near else gap) + t
            square = (ct[i] / scale) ** 2
            power += square
            slope += square / scale
        if power > size:
            low = t
        else:
            high = t
        inverse = 1.0 / np.sqrt(power)
        # 1/|z| has the slope  sum ct^2/(.)^3 / |z|^3.
        new = t - (inverse - goal) / (slope * inverse**3)
        if not (low < new < high):
            new = 0.5 * (low + high)
        if abs(new - t) <= 1e-14 * new or high - low <= 1e-15 * high:
            return float(new)
        t = new
    return float(t)


@njit(**EXACT)
def dual(mu: Any, ct: Any, size: float, lam: float) -> float:
    """Lower bound on ``z' diag(mu) z - 2 ct' z`` over ``|z|^2 = size``, for every lam > -mu_min."""
    total = -lam * size
    for i in range(mu.size):
        if ct[i] != 0.0:
            total -= ct[i] * ct[i] / (mu[i] + lam)
    return total


@njit(**EXACT)
def sphere_minimum(mu: Any, ct: Any, size: float, z: Any) -> tuple[float, float]:
    """Minimise ``z' diag(mu) z - 2 ct' z`` over the sphere ``|z|^2 = size``: z in place.

    Returns
    -------
    tuple of float
        The minimum and the multiplier ``lam``.
    """
    n = mu.size
    t = secular_root(mu, ct, size)
    near = CLUSTER * max(abs(mu[n - 1]), abs(mu[0]))
    power, value = 0.0, (mu[0] - t) * size
    for i in range(n):
        gap = mu[i] - mu[0]
        scale = (0.0 if gap <= near else gap) + t
        z[i] = ct[i] / scale if scale > 0.0 else 0.0
        power += z[i] * z[i]
        value -= ct[i] * z[i]
    if t == 0.0:
        # Hard case: what the sphere still asks for goes along the lowest eigenvector, free of cost.
        z[0] += np.sqrt(max(size - power, 0.0))
    elif power > 0.0:
        z *= np.sqrt(size / power)
    return value, t - mu[0]


@njit(**EXACT, **KEPT)
def sphere_batch(mu: Any, ct: Any, size: float, z: Any, value: Any, lam: Any, span: Any) -> None:
    """Run :func:`sphere_minimum` for the problems of a span; everything leads with the batch."""
    for b in range(span[0], span[1]):
        value[b], lam[b] = sphere_minimum(mu[b], ct[b], size, z[b])


@njit(**EXACT)
def mixing(cost: Any, v: Any, sweeps: int, tolerance: float, size: Any) -> int:
    """Minimise ``sum cost_ij v_i' v_j`` over unit rows, one row after the other, v in place.

    ``cost`` is symmetric with a zero diagonal. ``size`` becomes the row norms ``l_i``, whose
    ``cost + diag(l)`` is positive semidefinite at the optimum. Returns the sweeps done.
    """
    n, rank = v.shape
    g = np.empty(rank)
    square_tolerance = tolerance * tolerance
    for sweep in range(sweeps):
        moved = 0.0
        for i in range(n):
            g[:] = 0.0
            for j in range(n):
                weight = cost[i, j]
                for t in range(rank):
                    g[t] += weight * v[j, t]
            length = 0.0
            for t in range(rank):
                length += g[t] * g[t]
            length = np.sqrt(length)
            size[i] = length
            if length == 0.0:
                continue
            away = 0.0
            for t in range(rank):
                new = -g[t] / length
                away += (new - v[i, t]) ** 2
                v[i, t] = new
            moved = max(moved, away)
        if moved < square_tolerance:
            return sweep + 1
    return sweeps


@njit(**EXACT)
def unit_rows(n: int, rank: int) -> Any:
    """Rows in general position, the same for every problem of this size."""
    v = np.empty((n, rank))
    word = np.uint64(0x2545F4914F6CDD1D)
    for i in range(n):
        length = 0.0
        for t in range(rank):
            word ^= word << np.uint64(13)
            word ^= word >> np.uint64(7)
            word ^= word << np.uint64(17)
            v[i, t] = float(word >> np.uint64(11)) / 2.0**52 - 1.0
            length += v[i, t] ** 2
        length = np.sqrt(length)
        for t in range(rank):
            v[i, t] /= length
    return v


@njit(**EXACT)
def cholesky(m: Any, r: Any) -> bool:
    """Lower factor of ``m`` into ``r``; False where a pivot is not positive."""
    n = m.shape[0]
    for j in range(n):
        pivot = m[j, j]
        for t in range(j):
            pivot -= r[j, t] * r[j, t]
        if not pivot > 0.0:
            return False
        root = np.sqrt(pivot)
        r[j, j] = root
        for i in range(j + 1, n):
            total = m[i, j]
            for t in range(j):
                total -= r[i, t] * r[j, t]
            r[i, j] = total / root
    return True


@njit(**EXACT)
def sdp_shift(q: Any, c: Any, x: Any, floor: float, sweeps: int, tolerance: float, s: Any) -> None:
    """Diagonal ``s`` of the SDP dual by the mixing method, made safe: ``Q + diag(s) >= floor``.

    ``x`` becomes the signs of the relaxed solution, relative to the row of the linear term.
    """
    n = c.size
    rank = int(np.ceil(np.sqrt(2.0 * (n + 1)))) + 1
    rank += -rank % 4  # whole vector registers
    v = unit_rows(n + 1, rank)
    cost = np.zeros((n + 1, n + 1))
    size = np.zeros(n + 1)
    for i in range(n):
        for j in range(n):
            if i != j:
                cost[i, j] = q[i, j]
        cost[i, n] = -c[i]
        cost[n, i] = -c[i]
    mixing(cost, v, sweeps, tolerance, size)
    for i in range(n):
        s[i] = size[i] - q[i, i]
        inner = 0.0
        for t in range(rank):
            inner += v[i, t] * v[n, t]
        x[i] = 1.0 if inner >= 0.0 else -1.0
    # The rows are close to, not at, the optimum: lift the diagonal until a Cholesky factor proves
    # that the matrix is positive definite with the floor to spare.
    m = np.empty((n, n))
    r = np.zeros((n, n))
    lift = 0.0
    while True:
        for i in range(n):
            for j in range(n):
                m[i, j] = q[i, j]
            m[i, i] += s[i] + lift
        if cholesky(m, r):
            break
        lift = max(2.0 * lift, floor)
    for i in range(n):
        s[i] += lift + floor


@njit(**EXACT, **KEPT)
def shift_batch(q: Any, c: Any, s: Any, span: Any) -> None:
    """Run :func:`sdp_shift` for the problems of a span, <= 200 sweeps, until no row moves 1e-4."""
    x = np.empty(c.shape[1])
    for b in range(span[0], span[1]):
        floor = 1e-6 * np.trace(q[b]) / c.shape[1]
        sdp_shift(q[b], c[b], x, max(floor, 1e-12), 200, 1e-4, s[b])
