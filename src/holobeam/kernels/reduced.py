"""The reduced search, compiled: phases and a K x K matrix by L-BFGS, one channel after the other.

Arrays in, arrays out, in double precision. It does what ``solvers/reduced.py`` does step by step in
torch, which is its oracle.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from holobeam.kernels.compiling import compiled
from holobeam.kernels.copying import assign
from holobeam.kernels.cpu import run_loop, spread
from holobeam.kernels.limited_memory import direct, dot, unroll
from holobeam.kernels.options import FAST, KEPT
from holobeam.kernels.reduced_loss import answer, equal_rows, evaluate, make_room

_SUFFICIENT, _SHRINK, _TRIES, _FLAT = 1e-4, 0.3, 6, 1e-12


@njit(**FAST)
def _step(
    model: Any, point: Any, pairs: Any, state: Any, room: Any, spare: Any
) -> tuple[float, float, int, bool]:
    """One step of the search: value, scale, head of the ring, and whether the point moved."""
    x, gradient = point
    value, scale, head, count, first = state
    way, trial, turned = spare
    moves, turns, inverse = pairs
    size = inverse.shape[0]
    length = np.sqrt(max(dot(gradient, gradient), 2.3e-308))
    slope = 0.0
    if count > 0:
        direct(gradient, pairs, head, min(count, size), scale, way)
        slope = dot(way, gradient)
    if count == 0 or not slope < 0.0:
        reach = first if count == 0 else 0.1
        for d in range(x.shape[0]):
            way[d] = -reach / length * gradient[d]
        slope = -reach * length
    stride, found, moved = 1.0, value, False
    for _ in range(_TRIES):
        for d in range(x.shape[0]):
            trial[d] = x[d] + stride * way[d]
        found = evaluate(model, trial, room, turned)
        if found <= value + _SUFFICIENT * stride * slope:
            moved = True
            break
        stride *= _SHRINK
    if not moved:
        inverse[:] = 0.0
        return value, scale, head, False
    product, energy = 0.0, 0.0
    for d in range(x.shape[0]):
        turn = turned[d] - gradient[d]
        product += (trial[d] - x[d]) * turn
        energy += turn * turn
    if energy > 0.0 and product > _FLAT * energy:
        for d in range(x.shape[0]):
            moves[head, d] = trial[d] - x[d]
            turns[head, d] = turned[d] - gradient[d]
        inverse[head] = 1.0 / product
        scale = product / energy
        head = (head + 1) % size
    assign(x, trial)
    assign(gradient, turned)
    return found, scale, head, True


@njit(**FAST, **KEPT)
def _loop(
    channels: Any, point: Any, record: Any, plan: Any, steps: Any, begin: int, end: int
) -> None:
    """Iterate on channels ``begin`` to ``end``; see :func:`search`."""
    h_re, h_im, f_re, f_im, phases, rows, stride, noise, alpha, base = channels
    x, value, gradient, moves, turns, inverse, scale, stuck, control, digital = point
    best, idle = record
    count, iterations, plain, beta, ridge, first, tolerance, patience = plan
    room = make_room(h_re.shape[1], phases.shape[1], h_re.shape[2])
    length = x.shape[1]
    spare = (np.empty(length), np.empty(length), np.empty(length))
    for b in range(begin, end):
        feed = b if f_re.shape[0] > 1 else 0
        model = (
            h_re[b], h_im[b], f_re[feed], f_im[feed], plain, phases[b], rows[b], stride[b],
            noise[b], alpha[b], beta, ridge, base[b],
        )  # fmt: skip
        pairs = (moves[b], turns[b], inverse[b])
        head = 0
        for i in range(iterations):
            before = value[b]
            state = (before, scale[b], head, count + i, first)
            value[b], scale[b], head, moved = _step(
                model, (x[b], gradient[b]), pairs, state, room, spare
            )
            stuck[b] = 0 if moved else stuck[b] + 1
            steps[b] += 1
            idle[b] += 1
            if value[b] < best[b]:
                best[b] = value[b]
                idle[b] = 0
            if abs(value[b] - before) < tolerance * max(abs(value[b]), 1e-12):
                steps[b] = -steps[b]
                break
            if idle[b] >= patience:
                break
        unroll(pairs, head)
        answer(model, x[b], room, control[b], digital[b])


@njit(**FAST, **KEPT)
def _begin(channels: Any, point: Any, plan: Any, begin: int, end: int) -> None:
    """Start channels ``begin`` to ``end``; see :func:`start`."""
    h_re, h_im, f_re, f_im, phases, rows, stride, noise, alpha, base = channels
    x, value, gradient, _, _, _, _, _, control, digital = point
    _, _, plain, beta, ridge, _, _, _ = plan
    room = make_room(h_re.shape[1], phases.shape[1], h_re.shape[2])
    for b in range(begin, end):
        feed = b if f_re.shape[0] > 1 else 0
        model = (
            h_re[b], h_im[b], f_re[feed], f_im[feed], plain, phases[b], rows[b], stride[b],
            noise[b], alpha[b], beta, ridge, base[b],
        )  # fmt: skip
        equal_rows(model, x[b], room)
        value[b] = evaluate(model, x[b], room, gradient[b])
        answer(model, x[b], room, control[b], digital[b])


class Channels(NamedTuple):
    """The losses: ``(B, K, N)`` channels and ``(1 or B, R, N)`` feed in real and imaginary parts.

    Start ``phases`` ``(B, R, N)``, ``rows`` ``(B, K)``, ``stride`` and ``noise`` ``(B,)``,
    ``user_weights`` ``(B, K)``, ``base`` ``(B, K, K)``.
    """

    h_re: Any
    h_im: Any
    feed_re: Any
    feed_im: Any
    phases: Any
    rows: Any
    stride: Any
    noise: Any
    user_weights: Any
    base: Any


class Point(NamedTuple):
    """Where the searches stand, changed in place; as in ``analog/limited_memory.py``.

    ``control`` ``(B, N, R)`` and ``digital`` ``(B, R, K)`` are written: modulus 1, power 1.
    """

    x: Any
    value: Any
    gradient: Any
    moves: Any
    turns: Any
    inverse: Any
    scale: Any
    stuck: Any
    control: Any
    digital: Any


class Plan(NamedTuple):
    """How to iterate.

    ``made`` steps before, ``iterations`` to make at most; ``plain``: whether the feed is 1;
    ``beta``, ``ridge`` of the loss; ``first``: length of the very first step; ``tolerance`` and
    ``patience``: when a channel stops.
    """

    made: int
    iterations: int
    plain: bool
    beta: float
    ridge: float
    first: float
    tolerance: float
    patience: int


def search(channels: Channels, point: Point, best: Any, idle: Any, plan: Plan, threads: int) -> Any:
    """Run at most ``plan.iterations`` steps on a batch, in place.

    ``best`` ``(B,)`` is the least value so far, ``idle`` ``(B,)`` the steps since it was met.

    Returns
    -------
    array
        ``(B,)`` steps done; negative where the channel converged at the last of them.
    """
    batch, users, antennas = channels.h_re.shape
    chains = channels.phases.shape[1]
    cost = batch * antennas * chains * plan.iterations * (4 * users + 4 * chains + 60) * 1e-9
    parts = tuple(channels), tuple(point), (best, idle), tuple(plan)
    return run_loop(_loop, parts, batch, cost, threads)


def start(channels: Channels, point: Point, plan: Plan, threads: int) -> None:
    """Fill ``channels.rows``, and value, gradient, controls and precoder at ``point.x``."""
    batch, users, antennas = channels.h_re.shape
    cost = batch * antennas * channels.phases.shape[1] * (8 * users + 100) * 1e-9
    parts = tuple(channels), tuple(point), tuple(plan)
    begin = compiled(_begin, (*parts, 0, batch))

    def work(first: int, last: int) -> None:
        begin(*parts, first, last)

    spread(work, batch, cost, threads)
