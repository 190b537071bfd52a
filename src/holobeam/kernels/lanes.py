"""Digital steps of sixteen channels at once, compiled: a channel a lane, in double precision.

What ``kernels/blocks.py`` does for one channel, which is the oracle: at three or four chains the
loops around a small matrix cost more than what is in it. A matrix of sixteen channels is a pair of
flat arrays, real and imaginary parts; entry ``(i, j)`` begins at ``LANES (i columns + j)``. What is
computed for a channel doesn't depend on its mates, which may be silent or not finite.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from holobeam.kernels.options import QUIET
from holobeam.kernels.vectors import LANES, above, at_least, constant, fma, load, root, store

_TINY = 2.3e-308

RIDGE = 1e-14
"""Of digital steps, relative to the mean diagonal: as in ``kernels/blocks.py``."""


@njit(**QUIET)
def sixteen(rows: int, columns: int) -> tuple[Any, Any]:
    """Room for a matrix of every channel."""
    return np.zeros(rows * columns * LANES), np.zeros(rows * columns * LANES)


@njit(**QUIET)
def matrices(users: int, chains: int) -> Any:
    """Link E (K x R), metric G (R x R, lower half), V (R x K), what is heard T, u, w, and room.

    Room: for a system, its right side, weighted rows of E, and a number for every user.
    """
    return (
        sixteen(users, chains), sixteen(chains, chains), sixteen(chains, users),
        sixteen(users, users), sixteen(users, 1), np.zeros(users * LANES),
        (sixteen(chains, chains), sixteen(chains, users), sixteen(users, chains),
         np.zeros(users * LANES)),
    )  # fmt: skip


@njit(**QUIET)
def conditions(users: int) -> Any:
    """Noise and weight of every user, budget, all 1 at first."""
    return np.ones(users * LANES), np.ones(users * LANES), np.ones(LANES)


@njit(**QUIET)
def put(pair: Any, place: int, lane: int, value: complex) -> None:
    """Write an entry of one channel."""
    pair[0][place * LANES + lane] = value.real
    pair[1][place * LANES + lane] = value.imag


@njit(**QUIET)
def get(pair: Any, place: int, lane: int) -> complex:
    """Read an entry of one channel."""
    return complex(pair[0][place * LANES + lane], pair[1][place * LANES + lane])


@njit(**QUIET)
def sums(a: Any, i: int, over: int, b: Any, j: int, through: int, count: int) -> Any:
    """``sum a b`` along two lines of entries, by parts: re re, im im, re im and im re."""
    zero = constant(load(a[0], 0), 0.0)
    rr, ii, ri, ir = zero, zero, zero, zero
    for _ in range(count):
        x, y = load(a[0], i * LANES), load(a[1], i * LANES)
        c, d = load(b[0], j * LANES), load(b[1], j * LANES)
        rr, ii, ri, ir = fma(x, c, rr), fma(y, d, ii), fma(x, d, ri), fma(y, c, ir)
        i, j = i + over, j + through
    return rr, ii, ri, ir


@njit(**QUIET)
def hear(small: Any, users: int, chains: int) -> None:
    """``T = E V`` in place."""
    e, v, t = small[0], small[2], small[3]
    for k in range(users):
        for j in range(users):
            rr, ii, ri, ir = sums(e, k * chains, 1, v, j, users, chains)
            at = (k * users + j) * LANES
            store(t[0], at, rr - ii)
            store(t[1], at, ri + ir)


@njit(**QUIET)
def spent(small: Any, users: int, chains: int) -> Any:
    """Power counted, ``tr(V^H G V)``, a vector."""
    g, v = small[1], small[2]
    power = constant(load(v[0], 0), 0.0)
    for r in range(chains):
        for s in range(r + 1):
            rr, ii, ri, ir = sums(v, r * users, 1, v, s * users, 1, users)
            at = (r * chains + s) * LANES
            part = (rr + ii) * load(g[0], at) - (ri - ir) * load(g[1], at)
            # G is Hermitian: what is off its diagonal counts twice.
            power = power + part if r == s else power + part + part
    return at_least(power, constant(power, 0.0))


@njit(**QUIET)
def rescale(small: Any, power: Any, users: int, chains: int) -> None:
    """Scale V so that the budget is met with equality; next to nothing stays as it is."""
    v = small[2]
    spending = spent(small, users, chains) / load(power, 0)
    one = constant(spending, 1.0)
    scale = above(spending, constant(one, _TINY), one / root(spending), one)
    for i in range(0, chains * users * LANES, LANES):
        store(v[0], i, scale * load(v[0], i))
        store(v[1], i, scale * load(v[1], i))


@njit(**QUIET)
def _signal(t: Any, k: int, users: int) -> Any:
    """Power that user k hears of its own stream, and of the others'."""
    own = constant(load(t[0], 0), 0.0)
    others = own
    for j in range(users):
        at = (k * users + j) * LANES
        x, y = load(t[0], at), load(t[1], at)
        if j == k:
            own = fma(x, x, y * y)
        else:
            others = fma(x, x, fma(y, y, others))
    return own, others


@njit(**QUIET)
def weigh(small: Any, given: Any, load_of: Any, users: int) -> None:
    """Receivers and weights in place, from what is heard and the power over the budget."""
    t, u, w = small[3], small[4], small[5]
    noise, alpha, _ = given
    zero = constant(load_of, 0.0)
    one = constant(load_of, 1.0)
    folded = load_of + above(load_of, zero, zero, one)
    for k in range(users):
        at, own = k * LANES, (k * users + k) * LANES
        signal, others = _signal(t, k, users)
        others = fma(load(noise, at), folded, others)
        everything = at_least(signal + others, constant(zero, _TINY))
        inverse = one / everything
        store(u[0], at, inverse * load(t[0], own))
        store(u[1], at, inverse * load(t[1], own))
        heard = above(others, zero, others, everything)
        store(w, at, load(alpha, at) * everything / heard)


@njit(**QUIET)
def solve(system: Any, right: Any, chains: int, users: int, ridge: float) -> None:
    """Solve Hermitian systems (lower halves given) by Cholesky, both arrays in place.

    The ridge is relative to the mean diagonal. What is not positive definite gives no finite
    answer.
    """
    level = constant(load(system[0], 0), 0.0)
    one = constant(level, 1.0)
    for r in range(chains):
        level = level + load(system[0], r * (chains + 1) * LANES)
    level = above(level, one - one, level * constant(level, 1.0 / chains), one)
    for r in range(chains):
        for s in range(r + 1):
            at = (r * chains + s) * LANES
            rr, ii, ri, ir = sums(system, s * chains, 1, system, r * chains, 1, s)
            re, im = load(system[0], at) - (rr + ii), load(system[1], at) - (ri - ir)
            if s < r:
                inverse = load(system[0], s * (chains + 1) * LANES)
                store(system[0], at, inverse * re)
                store(system[1], at, inverse * im)
            else:  # the diagonal holds reciprocals
                store(system[0], at, one / root(fma(level, constant(level, ridge), re)))
                store(system[1], at, one - one)
    for k in range(users):
        for r in range(chains):
            rr, ii, ri, ir = sums(system, r * chains, 1, right, k, users, r)
            _divide(
                right, r * users + k, rr - ii, ri + ir, load(system[0], r * (chains + 1) * LANES)
            )
        for i in range(chains):
            r = chains - 1 - i
            below = r + 1
            rr, ii, ri, ir = sums(
                system, below * chains + r, chains, right, below * users + k, users, i
            )
            _divide(
                right, r * users + k, rr + ii, ri - ir, load(system[0], r * (chains + 1) * LANES)
            )


@njit(**QUIET)
def _divide(right: Any, place: int, re: Any, im: Any, inverse: Any) -> None:
    """An entry less what is known by now, over the diagonal."""
    store(right[0], place * LANES, inverse * (load(right[0], place * LANES) - re))
    store(right[1], place * LANES, inverse * (load(right[1], place * LANES) - im))


@njit(**QUIET)
def assemble(small: Any, users: int, chains: int, price: Any) -> None:
    """``E^H diag(costs) E + price G``, its lower half, in the room for a system."""
    e, g = small[0], small[1]
    system, _, back, costs = small[6]
    for k in range(users):
        cost = load(costs, k * LANES)
        for i in range(k * chains * LANES, (k + 1) * chains * LANES, LANES):
            store(back[0], i, cost * load(e[0], i))
            store(back[1], i, cost * load(e[1], i))
    for r in range(chains):
        for s in range(r + 1):
            rr, ii, ri, ir = sums(back, r, chains, e, s, chains, users)
            at = (r * chains + s) * LANES
            store(system[0], at, fma(price, load(g[0], at), rr + ii))
            store(system[1], at, fma(price, load(g[1], at), ri - ir))


@njit(**QUIET)
def digital(small: Any, given: Any, users: int, chains: int, ridge: float) -> None:
    """Folded digital step in place; V stays as it is where the new one is not finite or zero."""
    e, _, v, _, u, w, (system, new, _, costs) = small
    price = constant(load(w, 0), 0.0)
    for k in range(users):
        at = k * LANES
        x, y, weight = load(u[0], at), load(u[1], at), load(w, at)
        cost = weight * fma(x, x, y * y)
        store(costs, at, cost)
        price = fma(cost, load(given[0], at), price)
        x, y = weight * x, weight * y
        for r in range(chains):
            a, b = load(e[0], (k * chains + r) * LANES), load(e[1], (k * chains + r) * LANES)
            to = (r * users + k) * LANES
            store(new[0], to, fma(a, x, b * y))
            store(new[1], to, a * y - b * x)
    assemble(small, users, chains, price / load(given[2], 0))
    solve(system, new, chains, users, ridge)
    _keep_finite(new, v, chains * users * LANES)


@njit(**QUIET)
def _keep_finite(new: Any, v: Any, length: int) -> None:
    """Take ``new`` for V where it is finite and not all zero."""
    size = constant(load(v[0], 0), 0.0)
    most = constant(size, math.inf)
    for i in range(0, length, LANES):
        size = fma(load(new[0], i), load(new[0], i), fma(load(new[1], i), load(new[1], i), size))
    for part in range(2):
        old, fresh = v[part], new[part]
        for i in range(0, length, LANES):
            kept = load(old, i)
            chosen = above(size, size - size, load(fresh, i), kept)
            store(old, i, above(most, size, chosen, kept))


@njit(**QUIET)
def refresh(small: Any, given: Any, users: int, chains: int, ridge: float) -> None:
    """Matched receivers and weights at V, then a digital step."""
    hear(small, users, chains)
    weigh(small, given, spent(small, users, chains) / load(given[2], 0), users)
    digital(small, given, users, chains, ridge)


@njit(**QUIET)
def rates(small: Any, given: Any, load_of: Any, users: int, out: Any) -> None:
    """Weighted sum rates in bits/s/Hz of all channels in place, from what is heard."""
    t, ratio = small[3], small[6][3]
    noise, alpha, _ = given
    zero = constant(load_of, 0.0)
    folded = load_of + above(load_of, zero, zero, constant(zero, 1.0))
    for k in range(users):
        signal, others = _signal(t, k, users)
        store(ratio, k * LANES, signal / fma(load(noise, k * LANES), folded, others))
    for lane in range(LANES):
        total = 0.0
        for k in range(users):
            if ratio[k * LANES + lane] != 0.0:
                total += alpha[k * LANES + lane] * math.log1p(ratio[k * LANES + lane])
        out[lane] = total / math.log(2.0)


@njit(**QUIET)
def fill(small: Any, lane: int, v: Any) -> None:
    """V of one channel into its lane."""
    for r in range(v.shape[0]):
        for k in range(v.shape[1]):
            put(small[2], r * v.shape[1] + k, lane, v[r, k])


@njit(**QUIET)
def drain(small: Any, lane: int, v: Any) -> None:
    """V of one channel out of its lane."""
    for r in range(v.shape[0]):
        for k in range(v.shape[1]):
            v[r, k] = get(small[2], r * v.shape[1] + k, lane)


@njit(**QUIET)
def fill_budget(small: Any, given: Any, users: int, chains: int) -> None:
    """Meet the budget where that is missed by more than rounding.

    Where it is met, V stays to the last bit: one by one must be all at once.
    """
    load_of = np.empty(LANES)
    store(load_of, 0, spent(small, users, chains) / load(given[2], 0))
    for lane in range(LANES):
        if abs(load_of[lane] - 1.0) > 1e-9 and load_of[lane] > _TINY:
            scale = 1.0 / np.sqrt(load_of[lane])
            for i in range(chains * users):
                put(small[2], i, lane, get(small[2], i, lane) * scale)


@njit(**QUIET)
def improve(small: Any, given: Any, users: int, chains: int, count: int, out: Any) -> None:
    """Digital steps of all channels at their controls; their utilities in place."""
    for _ in range(count):
        refresh(small, given, users, chains, RIDGE)
    rescale(small, given[2], users, chains)
    hear(small, users, chains)
    one = np.ones(LANES)
    rates(small, given, load(one, 0), users, out)


@njit(**QUIET)
def pull(small: Any, given: Any, users: int, chains: int, radiated: bool, pulls: Any) -> None:
    """What the gradient takes from each user's channel and from each chain's wave, in place.

    With ``Y = diag(sqrt w conj(u)) H`` and ``T = E V`` the gradient in A is ``H^H ahead +
    A loaded``, where ``ahead = diag(w |u|^2) T V^H - diag(w u) V^H`` (K x R) and
    ``loaded = rho V V^H`` (R x R), rho the price of radiated power.
    """
    _, _, v, t, u, w, _ = small
    ahead, loaded = pulls
    rho = constant(load(w, 0), 0.0)
    for k in range(users):
        x, y, weight = load(u[0], k * LANES), load(u[1], k * LANES), load(w, k * LANES)
        cost = weight * fma(x, x, y * y)
        rho = fma(cost, load(given[0], k * LANES), rho)
        x, y = weight * x, weight * y
        for r in range(chains):
            rr, ii, ri, ir = sums(v, r * users, 1, t, k * users, 1, users)
            at, own = (k * chains + r) * LANES, (r * users + k) * LANES
            a, b = load(v[0], own), load(v[1], own)
            store(ahead[0], at, cost * (rr + ii) - fma(x, a, y * b))
            store(ahead[1], at, cost * (ri - ir) - (y * a - x * b))
    rho = rho / load(given[2], 0) if radiated else rho - rho
    for r in range(chains):
        for s in range(r + 1):
            rr, ii, ri, ir = sums(v, r * users, 1, v, s * users, 1, users)
            at, other = (s * chains + r) * LANES, (r * chains + s) * LANES
            store(loaded[0], at, rho * (rr + ii))
            store(loaded[1], at, rho * (ri - ir))
            store(loaded[0], other, rho * (rr + ii))
            store(loaded[1], other, rho * (ir - ri))
