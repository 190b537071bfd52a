"""The work behind :func:`minimize_binary`, on double-precision arrays that lead with the batch."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

_BLOCKS = 2**25
"""Eigenvector entries held at once for the norm bound: 256 MiB."""

Array = np.ndarray[Any, Any]
Answer = tuple[Array, Array, Array, Array]


@dataclass(frozen=True)
class Options:
    """Choices of :func:`minimize_binary`, checked."""

    method: str
    shift: str
    order: str
    pre_decision: bool
    hc_bound: bool
    local_search: bool
    tabu_steps: int | None
    node_budget: int
    time_budget: float | None


def solve_arrays(q: Array, c: Array, x: Array, options: Options) -> Answer:
    """Scale every problem to entries of at most 1, solve, and judge on the problem as given."""
    size = np.maximum(np.abs(q).max(axis=(1, 2), initial=0.0), np.abs(c).max(axis=1, initial=0.0))
    size = np.where(size > 0.0, size, 1.0)
    q, c, x = q / size[:, None, None], c / size[:, None], np.array(x)
    first = _values(q, c, x)
    if options.pre_decision and options.method == "sd":
        found, value, bound, nodes = _reduced(q, c, x, options)
    else:
        found, value, bound, nodes = _dispatch(q, c, x.copy(), options)
    worse = value > first
    found[worse] = x[worse]
    value = np.minimum(value, first)
    return found, value * size, np.minimum(bound, value) * size, nodes


def _values(q: Array, c: Array, x: Array) -> Array:
    values: Array = np.einsum("bi,bij,bj->b", x, q, x) - 2.0 * np.einsum("bi,bi->b", c, x)
    return values


def _dispatch(q: Array, c: Array, x: Array, options: Options) -> Answer:
    """One group of problems of equal size; x is the start and may be overwritten."""
    from holobeam.kernels import binary as kernel

    if options.method == "sd":
        return _search(q, c, x, options)
    if options.method == "hc":
        x, value, bound, _ = hidden_convexity(q, c, x, options.local_search)
        return x, value, bound, np.zeros(len(c), dtype=np.int64)
    n = c.shape[1]
    kinds = {
        "1-opt": (kernel.ONE_OPT, 0, 30.0 * n * n),
        "2-opt": (kernel.TWO_OPT, 0, 30.0 * n**3),
        "tabu": (
            kernel.TABU,
            options.tabu_steps or 10 * n,
            4.0 * n * (options.tabu_steps or 10 * n),
        ),
        "brute": (kernel.BRUTE, 0, 2.0 ** min(n, 60) * n),
    }
    kind, steps, work = kinds[options.method]
    value = np.empty(len(c))
    _spread(len(c), work, kernel.local_batch, q, c, x, value, kind, steps)
    brute = options.method == "brute"
    bound = value if brute else np.full(len(c), -np.inf)
    return x, value, bound, np.full(len(c), 2**n if brute else 0, dtype=np.int64)


def _spread(batch: int, work: float, kernel: Any, *arguments: Any) -> None:
    """Share the problems of a batch among threads; ``work`` is operations a problem."""
    from holobeam.kernels.compiling import compiled
    from holobeam.kernels.cpu import available_threads, spread

    run = compiled(kernel, (*arguments, (0, batch)))
    spread(lambda a, b: run(*arguments, (a, b)), batch, 1e-9 * work * batch, available_threads())


def hidden_convexity(
    q: Array, c: Array, x: Array, local_search: bool
) -> tuple[Array, Array, Array, Array]:
    """Signs of the norm relaxation, then 1-opt: signs, values, lower bounds and multipliers.

    ``x`` is kept where it is better.
    """
    from holobeam.kernels import binary as kernel
    from holobeam.kernels import relaxation

    batch, n = c.shape
    mu, basis = (t.numpy() for t in torch.linalg.eigh(torch.from_numpy(q)))
    ct = np.ascontiguousarray(np.einsum("bij,bi->bj", basis, c))
    z, low, lam, value = (np.empty(s) for s in ((batch, n), batch, batch, batch))
    rows = (np.ascontiguousarray(mu), ct, float(n), z, low, lam)
    _spread(batch, 100.0 * n, relaxation.sphere_batch, *rows)
    relaxed = np.einsum("bij,bj->bi", basis, z)
    signs = np.where(relaxed >= 0.0, 1.0, -1.0)
    better = _values(q, c, x) < _values(q, c, signs)
    signs[better] = x[better]
    if local_search:
        _spread(batch, 30.0 * n * n, kernel.local_batch, q, c, signs, value, 0, 0)
    else:
        value = _values(q, c, signs)
    return signs, value, np.minimum(low, value), lam


def _reduced(q: Array, c: Array, x: Array, options: Options) -> Answer:
    """Pre-decide entries, then search over the rest, problems with equally many left together."""
    from holobeam.kernels import binary as kernel
    from holobeam.kernels.compiling import compiled

    batch, n = c.shape
    known = np.zeros((batch, n))
    compiled(kernel.pre_decide_batch, (q, c, known))(q, c, known)
    left = (known == 0.0).sum(axis=1)
    order = np.argsort(known != 0.0, axis=1, kind="stable")
    value, bound, nodes = np.empty(batch), np.empty(batch), np.zeros(batch, dtype=np.int64)
    constant = _values(q, c, known)
    linear = c - np.einsum("bij,bj->bi", q, known)
    found = known.copy()
    for k in np.unique(left):
        rows = np.flatnonzero(left == k)
        if k == 0:
            value[rows] = bound[rows] = constant[rows]
            continue
        free = order[rows, :k]
        column = rows[:, None]
        part = np.ascontiguousarray(q[column[:, :, None], free[:, :, None], free[:, None, :]])
        signs, v, low, count = _dispatch(
            part, linear[column, free], x[column, free], replace(options, pre_decision=False)
        )
        found[column, free] = signs
        value[rows], bound[rows], nodes[rows] = v + constant[rows], low + constant[rows], count
        proven = low >= v
        bound[rows[proven]] = value[rows[proven]]
    return found, value, bound, nodes


def _search(q: Array, c: Array, x: Array, options: Options) -> Answer:
    """Exact search, with its incumbent and its shift."""
    from holobeam.kernels import branch, sphere

    batch, n = c.shape
    value, bound, nodes = np.empty(batch), np.empty(batch), np.zeros(batch, dtype=np.int64)
    limit = options.node_budget
    if options.order == "adaptive":
        arguments = (q, c, x, value, bound, nodes, limit)
        _timed(batch, options.time_budget, branch.branch_batch, *arguments)
        return x, value, bound, nodes
    x, _, relaxed, lam = hidden_convexity(q, c, x, True)
    s = _diagonal(q, c, x, lam, options.shift)
    group = max(1, _BLOCKS // n**3) if options.hc_bound else batch
    for first in range(0, batch, max(group, 1)):
        part = slice(first, first + group)
        mu, basis = _blocks(q[part], s[part], options.hc_bound)
        rows = (q[part], c[part], s[part], mu, basis, x[part])
        found = (value[part], bound[part], nodes[part], limit)
        _timed(len(c[part]), options.time_budget, sphere.sphere_batch, *rows, *found)
    return x, value, np.maximum(bound, np.minimum(relaxed, value)), nodes


def _timed(batch: int, budget: float | None, kernel: Any, *arguments: Any) -> None:
    """Run the problems: as one batch, or one by one, each with a timer that stops its search."""
    from holobeam.kernels.compiling import compiled

    stop = np.zeros(1, dtype=np.int64)
    if budget is None:
        _spread(batch, 1e6, kernel, *arguments, stop)
        return
    # Before the clock starts: compiling takes longer than many a search.
    run = compiled(kernel, (*arguments, stop, (0, batch)))
    for b in range(batch):
        stop[0] = 0
        timer = threading.Timer(budget, stop.__setitem__, (0, 1))
        timer.daemon = True
        timer.start()
        try:
            run(*arguments, stop, (b, b + 1))
        finally:
            timer.cancel()
            timer.join()


def _diagonal(q: Array, c: Array, x: Array, lam: Array, shift: str) -> Array:
    """Diagonal that makes ``Q + diag(s)`` positive definite, (B, n)."""
    from holobeam.kernels import barrier, relaxation

    batch, n = c.shape
    s = np.zeros((batch, n))
    if shift == "mixing":
        _spread(batch, 200.0 * 16 * n * n, relaxation.shift_batch, q, c, s)
        return s
    if shift == "sdp":
        _spread(batch, 30.0 * n**3, barrier.barrier_batch, q, c, x, 0.02, s)
        return s
    mu = torch.linalg.eigvalsh(torch.from_numpy(q)).numpy()
    low, high = mu[:, 0], np.maximum(np.abs(mu).max(axis=1), 1e-300)
    level = np.maximum(lam, 1e-9 * high - low) if shift == "hc" else 1e-6 * high - low
    if shift == "minimal":
        level = np.maximum(level, 0.0)
    return np.repeat(level[:, None], n, axis=1)


def _blocks(q: Array, s: Array, wanted: bool) -> tuple[Array, Array]:
    """Eigenpairs of all leading blocks of ``Q + diag(s)``; nothing where they aren't wanted."""
    if not wanted:
        return np.empty((0, 0, 0)), np.empty((0, 0, 0, 0))
    batch, n = s.shape
    m = torch.from_numpy(q + s[:, :, None] * np.eye(n))
    mu, basis = np.zeros((batch, n, n)), np.zeros((batch, n, n, n))
    for k in range(1, n):
        values, vectors = torch.linalg.eigh(m[:, :k, :k])
        mu[:, k, :k] = values.numpy()
        basis[:, k, :k, :k] = vectors.mT.numpy()
    return mu, basis
