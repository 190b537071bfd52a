"""L-BFGS of one problem, compiled: its pairs lie in a ring, ``head`` the place of the oldest.

``analog/limited_memory.py`` is the oracle.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from holobeam.kernels.copying import assign
from holobeam.kernels.options import FAST


@njit(**FAST)
def dot(a: Any, b: Any) -> float:
    """Inner product."""
    total = 0.0
    for i in range(a.shape[0]):
        total += a[i] * b[i]
    return total


@njit(**FAST)
def direct(gradient: Any, pairs: Any, head: int, used: int, scale: float, way: Any) -> None:
    """Two-loop recursion: the direction of the next step, in place."""
    moves, turns, inverse = pairs
    size = inverse.shape[0]
    shares = np.zeros(size)
    assign(way, gradient)
    for back in range(used):
        i = (head + size - 1 - back) % size
        if inverse[i] == 0.0:
            continue
        shares[i] = inverse[i] * dot(moves[i], way)
        for d in range(way.shape[0]):
            way[d] -= shares[i] * turns[i, d]
    for d in range(way.shape[0]):
        way[d] *= scale
    for on in range(used):
        i = (head + size - used + on) % size
        if inverse[i] == 0.0:
            continue
        share = shares[i] - inverse[i] * dot(turns[i], way)
        for d in range(way.shape[0]):
            way[d] += share * moves[i, d]
    for d in range(way.shape[0]):
        way[d] = -way[d]


@njit(**FAST)
def unroll(pairs: Any, head: int) -> None:
    """Put the ring back in order, the oldest pair first."""
    if head == 0:
        return
    moves, turns, inverse = pairs
    size = inverse.shape[0]
    old_moves, old_turns, old_inverse = moves.copy(), turns.copy(), inverse.copy()
    for i in range(size):
        j = (head + i) % size
        assign(moves[i], old_moves[j])
        assign(turns[i], old_turns[j])
        inverse[i] = old_inverse[j]
