"""Branch and bound over signs, compiled: the order of the signs is chosen node by node.

The bound is that of sphere decoding, the unconstrained minimum of a shifted quadratic; what is kept
is the inverse of the free block and the conditional mean. With both, the metric that either sign of
*every* free entry would reach is known for O(1) each: entries whose worse sign is already too dear
are fixed at once, and the search branches where the cheaper child costs most.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from holobeam.kernels.barrier import climb, evaluate, safe_start
from holobeam.kernels.binary import tabu, value_of
from holobeam.kernels.options import EXACT, FAST, INLINED, KEPT

ACCURACY = 0.3
"""How far from its optimum the root's diagonal may stay, as a share of the gap.

Not smaller: at the optimum the shifted matrix is singular, and then fixing one sign costs nothing
anywhere. The search wants a bound that grows as signs are fixed.
"""

PROVEN = 1e-10
"""A proof leaves this much room, relative to ``|f| + sqrt(n) ||Q||``."""

RESOLVED = 1e-7
"""Gaps below this (same scale) are left to the search: the inverse must stay well-conditioned."""

FAR_WEIGHT = 0.3
"""What an entry's dearer sign counts, beside its cheaper one, when choosing where to branch."""


@njit(**FAST)
def _drop(inverse: Any, free: int, i: int, out: Any, shift: Any) -> None:
    """Inverse of the block without entry ``i`` (the last takes its place) and the mean shifts."""
    last = free - 1
    pivot = 1.0 / inverse[i, i]
    for a in range(last):
        row = inverse[last if a == i else a]
        shift[a] = row[i] * pivot
    for a in range(last):
        row = inverse[last if a == i else a]
        scale = row[i] * pivot
        target = out[a]
        source = inverse[i]
        for b in range(last):
            target[b] = row[b] - scale * source[b]
        # Entry i's own column holds the moved last one.
        target[i] = row[last] - scale * source[last]


@njit(**EXACT)
def _choose(
    inverse: Any, mean: Any, free: int, room: float, weight: float
) -> tuple[int, float, float]:
    """Entry to fix next, with what its nearer and its farther sign cost.

    An entry with a sign that costs ``room`` or more comes first; otherwise the best mix of the two.
    """
    best, chosen, nearer, farther = -1.0, 0, 0.0, 0.0
    top, topped, top_near = -1.0, 0, 0.0
    for i in range(free):
        here = abs(mean[i])
        stiff = 1.0 / inverse[i, i]
        near = (1.0 - here) * (1.0 - here) * stiff
        far = (1.0 + here) * (1.0 + here) * stiff
        if near >= room:
            return i, near, far
        if far > top:
            top, topped, top_near = far, i, near
        score = near + weight * far
        if score > best:
            best, chosen, nearer, farther = score, i, near, far
    if top >= room:
        return topped, top_near, top
    return chosen, nearer, farther


@njit(**INLINED)
def _walk(
    q: Any,
    c: Any,
    tree: Any,
    entry: Any,
    stage: Any,
    kept: Any,
    best: float,
    slack: float,
    limit: int,
    stop: Any,
) -> tuple[float, int, float]:
    """Depth first until it ends, the node count reaches the limit or ``stop[0]`` is set.

    ``tree`` is (inverse, mean, index, metric), a row a depth, its root filled in. Returns the best
    value (its signs in ``kept``), the nodes evaluated and a bound on what is left to be found.
    """
    inverse, mean, index, metric = tree
    n = kept.size
    x, shift = kept.copy(), np.zeros((n, n))
    depth, nodes = 0, 0
    stage[0] = 0
    while depth >= 0 and nodes < limit and stop[0] == 0:
        free = n - depth
        if stage[depth] == 0:
            room = best - slack - metric[depth]
            i, near, _ = _choose(inverse[depth], mean[depth], free, room, FAR_WEIGHT)
            if near >= room:
                nodes += 1
                depth -= 1
                continue
            entry[depth] = i
            stage[depth] = 1
            if free > 1:
                _drop(inverse[depth], free, i, inverse[depth + 1], shift[depth])
        elif stage[depth] > 2:
            depth -= 1
            continue
        i = entry[depth]
        here = mean[depth, i]
        sign = 1.0 if here >= 0.0 else -1.0
        if stage[depth] == 2:
            sign = -sign
        stage[depth] += 1
        away = sign - here
        reached = metric[depth] + away * away / inverse[depth, i, i]
        nodes += 1
        if reached >= best - slack:
            stage[depth] = 3
            continue
        x[index[depth, i]] = sign
        if free == 1:
            # The exact value: the metric has gathered rounding errors on its way.
            reached = value_of(q, c, x)
            if reached < best:
                best = reached
                kept[:] = x
            continue
        for a in range(free - 1):
            old = free - 1 if a == i else a
            index[depth + 1, a] = index[depth, old]
            mean[depth + 1, a] = mean[depth, old] + shift[depth, a] * away
        depth += 1
        metric[depth] = reached
        stage[depth] = 0
    bound = best
    for level in range(depth + 1):
        if stage[level] == 0:
            bound = min(bound, metric[level])
        elif stage[level] < 3:
            # Chosen, with the cheaper or the dearer sign still to come.
            i = entry[level]
            away = abs(mean[level, i]) + (1.0 if stage[level] == 2 else -1.0)
            bound = min(bound, metric[level] + away * away / inverse[level, i, i])
    return best, nodes, bound


@njit(**EXACT)
def _incumbent(q: Any, c: Any, x: Any, value: float, trial: Any, g: Any, steps: int) -> float:
    """Tabu search from ``trial``; x becomes its result where that is better."""
    found = tabu(q, c, trial, g, steps)
    if found < value:
        x[:] = trial
        return float(found)
    return value


@njit(**EXACT, **KEPT)
def branch_batch(
    q: Any, c: Any, x: Any, value: Any, bound: Any, nodes: Any, limit: int, stop: Any, span: Any
) -> None:
    """Solve the problems of a span: q (B, n, n), c (B, n), x (B, n) start in, best signs out.

    ``value``, ``bound`` and ``nodes`` (B,) are written. ``bound`` equals ``value`` where proven.
    """
    n = c.shape[1]
    inverse, mean = np.empty((n + 1, n, n)), np.empty((n + 1, n))
    index, metric = np.empty((n + 1, n), dtype=np.int64), np.empty(n + 1)
    entry, stage = np.zeros(n + 1, dtype=np.int64), np.zeros(n + 1, dtype=np.int64)
    room, s, g = np.empty((5, n, n)), np.empty(n), np.empty(n)
    for b in range(span[0], span[1]):
        matrix, linear = q[b], c[b]
        norm = np.sqrt(n * (matrix * matrix).sum())
        best = _incumbent(matrix, linear, x[b], value_of(matrix, linear, x[b]), x[b].copy(), g, n)
        slack = PROVEN * (abs(best) + norm)
        safe_start(matrix, linear, n, s)
        evaluate(matrix, s, linear, n, room[0], room[1], inverse[0], mean[0])
        spread, trace = 0.1, 0.0
        for i in range(n):
            spread += 1.0 - mean[0, i] ** 2
            trace += inverse[0, i, i]
        low, _, _ = climb(
            matrix,
            linear,
            n,
            s,
            inverse[0],
            mean[0],
            best - slack,
            ACCURACY,
            RESOLVED * (abs(best) + norm),
            0.2,
            60,
            spread / trace,
            room,
        )
        signs = np.where(mean[0] >= 0.0, 1.0, -1.0)
        best = _incumbent(matrix, linear, x[b], best, signs, g, 10 * n)
        for i in range(n):
            index[0, i] = i
        metric[0] = low
        value[b], nodes[b], left = _walk(
            matrix,
            linear,
            (inverse, mean, index, metric),
            entry,
            stage,
            x[b],
            best,
            slack,
            limit,
            stop,
        )
        bound[b] = value[b] if left >= value[b] - slack else max(left, low) - slack
