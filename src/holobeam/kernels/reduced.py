"""The reduced search, compiled: phases and a K x K matrix by L-BFGS, one channel after the other.

Arrays in, arrays out, in double precision. It does what ``solvers/reduced.py`` does step by step in
torch, which is its oracle. Real and imaginary parts are apart and elements come last, so that
every pass over elements is vectorised.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from holobeam.kernels.blocks import solve
from holobeam.kernels.cpu import FAST, compiled, spread
from holobeam.kernels.limited_memory import direct, dot, unroll

_SUFFICIENT, _SHRINK, _TRIES, _FLAT = 1e-4, 0.3, 6, 1e-12
_HALF_PI, _INVERSE = np.pi / 2, 2 / np.pi


@njit(cache=True, nogil=True, fastmath=FAST)
def _turn(phase: Any, shift: Any, re: Any, im: Any) -> None:
    """Cosine and sine of ``phase + shift``: Taylor series about the nearest quarter turn.

    Written out because the library's functions are not vectorised; right to 4e-16 for phases of a
    few turns.
    """
    for n in range(phase.shape[0]):
        x = phase[n] + shift[n]
        quarter = np.rint(x * _INVERSE)
        x -= quarter * _HALF_PI
        quarter -= 4.0 * np.floor(0.25 * quarter)
        y = x * x
        s = 1.0 - y / 210.0 * (1.0 - y / 272.0)
        s = 1.0 - y / 72.0 * (1.0 - y / 110.0 * (1.0 - y / 156.0 * s))
        s = x * (1.0 - y / 6.0 * (1.0 - y / 20.0 * (1.0 - y / 42.0 * s)))
        c = 1.0 - y / 182.0 * (1.0 - y / 240.0)
        c = 1.0 - y / 56.0 * (1.0 - y / 90.0 * (1.0 - y / 132.0 * c))
        c = 1.0 - y / 2.0 * (1.0 - y / 12.0 * (1.0 - y / 30.0 * c))
        odd = abs(quarter - 2.0) == 1.0
        sign_c = -1.0 if abs(quarter - 1.5) < 1.0 else 1.0
        sign_s = -1.0 if quarter >= 2.0 else 1.0
        re[n] = sign_c * (s if odd else c)
        im[n] = sign_s * (c if odd else s)


@njit(cache=True, nogil=True, fastmath=FAST)
def _beams(model: Any, x: Any, room: Any) -> None:
    """Analog beamformer of a point, in place."""
    f_re, f_im, plain, phases = model[2], model[3], model[4], model[5]
    a_re, a_im = room[0], room[1]
    chains, antennas = phases.shape
    for r in range(chains):
        _turn(phases[r], x[r * antennas : (r + 1) * antennas], a_re[r], a_im[r])
        if plain:
            continue
        for n in range(antennas):
            re, im = a_re[r, n], a_im[r, n]
            a_re[r, n] = re * f_re[r, n] - im * f_im[r, n]
            a_im[r, n] = re * f_im[r, n] + im * f_re[r, n]


@njit(cache=True, nogil=True, fastmath=FAST)
def _gram(model: Any, room: Any) -> bool:
    """``E``, ``Q``, ``R`` and ``S`` of the beams in the room, in place; False where singular."""
    h_re, h_im, noise, ridge = model[0], model[1], model[8], model[11]
    a_re, a_im, e, metric, q, gram, inverse, system = room[:8]
    users, antennas = h_re.shape
    chains = a_re.shape[0]
    for r in range(chains):
        for k in range(users):
            re, im = 0.0, 0.0
            for n in range(antennas):
                re += h_re[k, n] * a_re[r, n] - h_im[k, n] * a_im[r, n]
                im += h_re[k, n] * a_im[r, n] + h_im[k, n] * a_re[r, n]
            e[k, r] = complex(re, im)
            q[r, k] = complex(re, -im)
        for s in range(r + 1):
            re, im = 0.0, 0.0
            for n in range(antennas):
                re += a_re[r, n] * a_re[s, n] + a_im[r, n] * a_im[s, n]
                im += a_re[r, n] * a_im[s, n] - a_im[r, n] * a_re[s, n]
            metric[r, s] = complex(re, im)
    if not solve(metric, q, ridge):
        return False
    for k in range(users):
        for j in range(k + 1):
            total = 0j
            for r in range(chains):
                total += e[k, r] * q[r, j]
            gram[k, j] = total
            gram[j, k] = total.conjugate()
        gram[k, k] = complex(gram[k, k].real, 0.0)
    for k in range(users):
        for j in range(users):
            system[k, j] = gram[k, j]
            inverse[k, j] = 0.0
        system[k, k] += users * noise
        inverse[k, k] = 1.0
    return bool(solve(system, inverse, 1e-14))


@njit(cache=True, nogil=True, fastmath=FAST)
def _multiply(a: Any, b: Any, out: Any) -> None:
    """``out = a b`` of small matrices."""
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            total = 0j
            for k in range(a.shape[1]):
                total += a[i, k] * b[k, j]
            out[i, j] = total


@njit(cache=True, nogil=True, fastmath=FAST)
def _loss(model: Any, y: Any, scale: float, w: Any) -> float:
    """``-mean(alpha r) + beta Var(r)`` at ``scale y``, and its gradient there, in place."""
    noise, alpha, beta = model[8], model[9], model[10]
    users = y.shape[0]
    rates, signals, others = np.empty(users), np.empty(users), np.empty(users)
    mean, value = 0.0, 0.0
    for k in range(users):
        total = noise
        for j in range(users):
            size = scale * scale * (y[k, j].real ** 2 + y[k, j].imag ** 2)
            if j == k:
                signals[k] = size
            else:
                total += size
        others[k] = total
        rates[k] = np.log1p(signals[k] / total) / np.log(2.0)
        mean += rates[k] / users
        value -= alpha[k] * rates[k] / users
    fair = beta / (users - 1) if users > 1 else 0.0
    for k in range(users):
        value += fair * (rates[k] - mean) ** 2
        along = (2.0 * fair * (rates[k] - mean) - alpha[k] / users) * (2.0 / np.log(2.0))
        whole = along / (signals[k] + others[k])
        for j in range(users):
            factor = whole if j == k else whole - along / others[k]
            w[k, j] = factor * scale * y[k, j]
    return value


@njit(cache=True, nogil=True, fastmath=FAST)
def _evaluate(model: Any, x: Any, room: Any, gradient: Any) -> float:
    """Loss and gradient of a point; infinite where it is not finite."""
    rows, stride, base = model[6], model[7], model[12]
    a_re, _, _, _, q, gram, inverse, _, mix, t, y, w, ahead, loaded = room
    users, chains, antennas = gram.shape[0], a_re.shape[0], a_re.shape[1]
    size = chains * antennas
    _beams(model, x, room)
    if not _gram(model, room):
        return np.inf
    for k in range(users):
        for j in range(users):
            place = size + 2 * (k * users + j)
            mix[k, j] = rows[k] * (base[k, j] + stride * complex(x[place], x[place + 1]))
    _multiply(inverse, mix, t)
    _multiply(gram, t, y)
    power = 0.0
    for k in range(users):
        for j in range(users):
            power += t[k, j].real * y[k, j].real + t[k, j].imag * y[k, j].imag
    scale = 1.0 / np.sqrt(power) if power > 2.3e-308 else 1.0
    value = _loss(model, y, scale, w)
    pull = 0.0
    for k in range(users):
        for j in range(users):
            pull += y[k, j].real * w[k, j].real + y[k, j].imag * w[k, j].imag
    pull *= -0.5 * scale**3
    # g_y + 2 pull T, through R and S to X; then what is left of it for R.
    for k in range(users):
        for j in range(users):
            w[k, j] = scale * w[k, j] + 2.0 * pull * t[k, j]
    _multiply(gram, w, y)
    _multiply(inverse, y, mix)
    total = value
    for k in range(users):
        for j in range(users):
            place = size + 2 * (k * users + j)
            gradient[place] = stride * rows[k] * mix[k, j].real
            gradient[place + 1] = stride * rows[k] * mix[k, j].imag
            w[k, j] -= mix[k, j] + pull * t[k, j]
    for k in range(users):
        for j in range(users):
            found = 0j
            for i in range(users):
                found += w[k, i] * t[j, i].conjugate() + (w[j, i] * t[k, i].conjugate()).conjugate()
            y[k, j] = found
    for r in range(chains):
        for k in range(users):
            found = 0j
            for j in range(users):
                found += y[k, j] * q[r, j].conjugate()
            ahead[k, r] = found
    _multiply(q, ahead, loaded)
    total += _back(model, room, gradient)
    return float(value) if np.isfinite(total) else np.inf


@njit(cache=True, nogil=True, fastmath=FAST)
def _back(model: Any, room: Any, gradient: Any) -> float:
    """Gradient in the phases, ``Im(conj(F) (H^H ahead - F loaded))``; its squared size."""
    h_re, h_im = model[0], model[1]
    a_re, a_im, ahead, loaded = room[0], room[1], room[12], room[13]
    chains, antennas = a_re.shape
    re, im = np.empty(antennas), np.empty(antennas)
    total = 0.0
    for r in range(chains):
        re[:] = 0.0
        im[:] = 0.0
        for k in range(h_re.shape[0]):
            x, y = ahead[k, r].real, ahead[k, r].imag
            for n in range(antennas):
                re[n] += h_re[k, n] * x + h_im[k, n] * y
                im[n] += h_re[k, n] * y - h_im[k, n] * x
        for s in range(chains):
            x, y = loaded[s, r].real, loaded[s, r].imag
            for n in range(antennas):
                re[n] -= a_re[s, n] * x - a_im[s, n] * y
                im[n] -= a_re[s, n] * y + a_im[s, n] * x
        for n in range(antennas):
            slope = a_re[r, n] * im[n] - a_im[r, n] * re[n]
            gradient[r * antennas + n] = slope
            total += slope * slope
    return total


@njit(cache=True, nogil=True, fastmath=FAST)
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
        found = _evaluate(model, trial, room, turned)
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
    x[:] = trial
    gradient[:] = turned
    return found, scale, head, True


@njit(cache=True, nogil=True, fastmath=FAST)
def _loop(
    channels: Any, point: Any, record: Any, plan: Any, steps: Any, begin: int, end: int
) -> None:
    """Iterate on channels ``begin`` to ``end``; see :func:`search`."""
    h_re, h_im, f_re, f_im, phases, rows, stride, noise, alpha, base = channels
    x, value, gradient, moves, turns, inverse, scale, stuck = point
    best, idle = record
    count, iterations, plain, beta, ridge, first, tolerance, patience = plan
    users, antennas, chains = h_re.shape[1], h_re.shape[2], phases.shape[1]
    small = (users, users)
    room = (
        np.empty((chains, antennas)),
        np.empty((chains, antennas)),
        np.empty((users, chains), dtype=np.complex128),
        np.empty((chains, chains), dtype=np.complex128),
        np.empty((chains, users), dtype=np.complex128),
        np.empty(small, dtype=np.complex128),
        np.empty(small, dtype=np.complex128),
        np.empty(small, dtype=np.complex128),
        np.empty(small, dtype=np.complex128),
        np.empty(small, dtype=np.complex128),
        np.empty(small, dtype=np.complex128),
        np.empty(small, dtype=np.complex128),
        np.empty((users, chains), dtype=np.complex128),
        np.empty((chains, chains), dtype=np.complex128),
    )
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
    """Where the searches stand, changed in place; as in ``analog/limited_memory.py``."""

    x: Any
    value: Any
    gradient: Any
    moves: Any
    turns: Any
    inverse: Any
    scale: Any
    stuck: Any


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
    steps = np.zeros(batch, dtype=np.int64)
    cost = batch * antennas * chains * plan.iterations * (4 * users + 4 * chains + 60) * 1e-9
    parts = tuple(channels), tuple(point), (best, idle), tuple(plan)
    loop = compiled(_loop, (*parts, steps, 0, batch))

    def work(first: int, last: int) -> None:
        loop(*parts, steps, first, last)

    spread(work, batch, cost, threads)
    return steps
