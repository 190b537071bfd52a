"""Signs that minimise ``x' Q x - 2 c' x``: enumeration, descent and tabu search, compiled.

Arrays in, arrays out. Every loop over problems of a batch is in here; a problem's numbers depend on
nothing but the problem.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from holobeam.kernels.options import EXACT, KEPT

SLACK = 1e-13
"""A flip must gain this much of the terms it is the difference of: rounding must not cycle."""


@njit(**EXACT)
def value_of(q: Any, c: Any, x: Any) -> float:
    """Objective of one sign vector."""
    total = 0.0
    for i in range(x.size):
        inner = -2.0 * c[i]
        for j in range(x.size):
            inner += q[i, j] * x[j]
        total += x[i] * inner
    return total


@njit(**EXACT)
def fill_gradient(q: Any, c: Any, x: Any, g: Any) -> None:
    """Half the gradient, ``Q x - c``, into ``g``."""
    for i in range(x.size):
        total = -c[i]
        for j in range(x.size):
            total += q[i, j] * x[j]
        g[i] = total


@njit(**EXACT)
def flip(q: Any, x: Any, g: Any, i: int) -> None:
    """Change sign ``i`` and keep the gradient: O(n)."""
    step = -2.0 * x[i]
    x[i] = -x[i]
    for j in range(x.size):
        g[j] += step * q[i, j]


@njit(**EXACT)
def one_opt(q: Any, c: Any, x: Any, g: Any) -> None:
    """Flip in turn whatever lowers the objective, until nothing does: x and g in place."""
    fill_gradient(q, c, x, g)
    moved = True
    while moved:
        moved = False
        for i in range(x.size):
            pull = x[i] * g[i]
            if q[i, i] - pull < -SLACK * (abs(q[i, i]) + abs(pull)):
                flip(q, x, g, i)
                moved = True


@njit(**EXACT)
def two_opt(q: Any, c: Any, x: Any, g: Any) -> None:
    """Take the best of all single and pair flips until none lowers the objective."""
    fill_gradient(q, c, x, g)
    n = x.size
    gain = np.empty(n)
    while True:
        best, first, second = 0.0, -1, -1
        for i in range(n):
            gain[i] = q[i, i] - x[i] * g[i]
        for i in range(n):
            floor = SLACK * (abs(q[i, i]) + abs(x[i] * g[i]))
            if gain[i] < best - floor:
                best, first, second = gain[i], i, -1
            for j in range(i):
                pair = gain[i] + gain[j] + 2.0 * x[i] * x[j] * q[i, j]
                if pair < best - floor - SLACK * (abs(q[j, j]) + abs(x[j] * g[j])):
                    best, first, second = pair, i, j
        if first < 0:
            return
        flip(q, x, g, first)
        if second >= 0:
            flip(q, x, g, second)


@njit(**EXACT)
def _draw(state: Any) -> int:
    """Uniform draw from 0..4 by xorshift: the same on every machine and thread."""
    word = state[0]
    word ^= word << np.uint64(13)
    word ^= word >> np.uint64(7)
    word ^= word << np.uint64(17)
    state[0] = word
    return int((word >> np.uint64(33)) % np.uint64(5))


@njit(**EXACT)
def tabu(q: Any, c: Any, x: Any, g: Any, steps: int) -> float:
    """Tabu search from the 1-opt point of ``x``; x becomes the best point met, returns its value.

    Each step flips the best entry that is not tabu, or that beats the best value so far; the
    flipped entry stays tabu for ``max(3, n // 8) + U{0..4}`` steps.
    """
    n = x.size
    one_opt(q, c, x, g)
    value = value_of(q, c, x)
    best, kept = value, x.copy()
    until = np.zeros(n, dtype=np.int64)
    state = np.empty(1, dtype=np.uint64)
    state[0] = np.uint64(0x9E3779B97F4A7C15)
    tenure = max(3, n // 8)
    for step in range(steps):
        chosen, change = -1, np.inf
        for i in range(n):
            delta = 4.0 * (q[i, i] - x[i] * g[i])
            if delta < change and (until[i] <= step or value + delta < best):
                chosen, change = i, delta
        if chosen < 0:
            continue
        flip(q, x, g, chosen)
        value += change
        until[chosen] = step + 1 + tenure + _draw(state)
        if value < best:
            best = value
            kept[:] = x
    x[:] = kept
    # The end of a tabu walk need not be a local minimum in exact arithmetic.
    one_opt(q, c, x, g)
    return float(value_of(q, c, x))


@njit(**EXACT)
def _enumerate(q: Any, c: Any, x: Any, g: Any) -> None:
    """Visit all ``2^n`` sign vectors along a Gray code, O(n) each; the best ends in ``x``."""
    n = x.size
    x[:] = -1.0
    fill_gradient(q, c, x, g)
    value, best, kept = value_of(q, c, x), np.inf, x.copy()
    for word in range(1 << n):
        if value < best:
            best = value
            kept[:] = x
        bit, rest = 0, word + 1
        while rest & 1 == 0:
            rest >>= 1
            bit += 1
        if bit < n:
            value += 4.0 * (q[bit, bit] - x[bit] * g[bit])
            flip(q, x, g, bit)
    x[:] = kept


ONE_OPT, TWO_OPT, TABU, BRUTE = 0, 1, 2, 3


@njit(**EXACT, **KEPT)
def local_batch(q: Any, c: Any, x: Any, value: Any, kind: int, steps: int, span: Any) -> None:
    """Improve x (B, n) in place by the method ``kind``; values (B,); ``span`` is (first, last)."""
    g = np.empty(x.shape[1])
    for b in range(span[0], span[1]):
        if kind == ONE_OPT:
            one_opt(q[b], c[b], x[b], g)
        elif kind == TWO_OPT:
            two_opt(q[b], c[b], x[b], g)
        elif kind == TABU:
            tabu(q[b], c[b], x[b], g, steps)
        else:
            _enumerate(q[b], c[b], x[b], g)
        value[b] = value_of(q[b], c[b], x[b])


@njit(**EXACT)
def _pre_decide(q: Any, c: Any, x: Any) -> None:
    """Entries that every minimiser shares: x becomes their sign, 0 elsewhere.

    ``x_i = sign(c_i)`` where ``|c_i| > sum_(j != i) |Q_ij|``; decided entries are substituted and
    the test is repeated until it decides nothing more.
    """
    n = x.size
    x[:] = 0.0
    moved = True
    while moved:
        moved = False
        for i in range(n):
            if x[i] != 0.0:
                continue
            pull, rest = c[i], 0.0
            for j in range(n):
                if j != i:
                    pull -= q[i, j] * x[j]
                    rest += abs(q[i, j]) * (1.0 - abs(x[j]))
            if abs(pull) > rest:
                x[i] = 1.0 if pull > 0.0 else -1.0
                moved = True


@njit(**EXACT, **KEPT)
def pre_decide_batch(q: Any, c: Any, x: Any) -> None:
    """Entries that every minimiser of a problem shares, for a batch: x (B, n), 0 where open."""
    for b in range(x.shape[0]):
        _pre_decide(q[b], c[b], x[b])
