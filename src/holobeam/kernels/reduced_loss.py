"""The reduced loss of one channel, compiled: what phases and a K x K matrix are worth.

In double precision; real and imaginary parts are apart and elements come last, so that every pass
over elements is vectorised. ``Reduced`` in ``solvers/reduced.py`` is the oracle.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from holobeam.kernels.blocks import solve
from holobeam.kernels.options import FAST

_HALF_PI, _INVERSE = np.pi / 2, 2 / np.pi


@njit(**FAST)
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


@njit(**FAST)
def beams(model: Any, x: Any, room: Any) -> None:
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


@njit(**FAST)
def gram_of(model: Any, room: Any) -> bool:
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


@njit(**FAST)
def _multiply(a: Any, b: Any, out: Any) -> None:
    """``out = a b`` of small matrices."""
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            total = 0j
            for k in range(a.shape[1]):
                total += a[i, k] * b[k, j]
            out[i, j] = total


@njit(**FAST)
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


@njit(**FAST)
def _mixed(model: Any, x: Any, room: Any) -> float:
    """T and ``Y = G T`` of a point, in place; returns the factor c that makes the power 1."""
    rows, stride, base = model[6], model[7], model[12]
    gram, inverse, _, mix, t, y = room[5:11]
    users, size = gram.shape[0], room[0].shape[0] * room[0].shape[1]
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
    return 1.0 / np.sqrt(power) if power > 2.3e-308 else 1.0


@njit(**FAST)
def evaluate(model: Any, x: Any, room: Any, gradient: Any) -> float:
    """Loss and gradient of a point; infinite where it is not finite."""
    rows, stride = model[6], model[7]
    a_re, _, _, _, q, gram, inverse, _, mix, t, y, w, ahead, loaded = room
    users, chains, antennas = gram.shape[0], a_re.shape[0], a_re.shape[1]
    size = chains * antennas
    beams(model, x, room)
    if not gram_of(model, room):
        return np.inf
    scale = _mixed(model, x, room)
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


@njit(**FAST)
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


@njit(**FAST)
def equal_rows(model: Any, x: Any, room: Any) -> None:
    """Rows of X at which RZF gives every user the same power, their mean 1; in place."""
    rows = model[6]
    gram, inverse, mix, t = room[5], room[6], room[8], room[9]
    users = rows.shape[0]
    beams(model, x, room)
    rows[:] = 0.0
    if not gram_of(model, room):
        return
    _multiply(inverse, gram, mix)
    _multiply(mix, inverse, t)
    top, mean, present = 0.0, 0.0, 0
    for k in range(users):
        top = max(top, t[k, k].real)
    for k in range(users):
        if t[k, k].real > 1e-12 * top:
            rows[k] = 1.0 / np.sqrt(t[k, k].real)
            mean += rows[k]
            present += 1
    if mean > 0.0:
        rows *= present / mean


@njit(**FAST)
def answer(model: Any, x: Any, room: Any, control: Any, digital: Any) -> None:
    """Controls ``(N, R)`` of modulus 1 and the precoder ``c Q T`` of power 1, in place."""
    plain, phases = model[4], model[5]
    a_re, a_im, q, t = room[0], room[1], room[4], room[9]
    chains, antennas = a_re.shape
    users = t.shape[0]
    beams(model, x, room)
    sane = gram_of(model, room)
    scale = _mixed(model, x, room)
    for r in range(chains):
        for j in range(users):
            total = 0j
            for k in range(users):
                total += q[r, k] * t[k, j]
            digital[r, j] = scale * total if sane else 0j
        if not plain:
            _turn(phases[r], x[r * antennas : (r + 1) * antennas], a_re[r], a_im[r])
        for n in range(antennas):
            control[n, r] = complex(a_re[r, n], a_im[r, n])


@njit(**FAST)
def make_room(users: int, chains: int, antennas: int) -> Any:
    """Room for one evaluation after the other."""
    return (
        np.empty((chains, antennas)),
        np.empty((chains, antennas)),
        np.empty((users, chains), dtype=np.complex128),
        np.empty((chains, chains), dtype=np.complex128),
        np.empty((chains, users), dtype=np.complex128),
        np.empty((users, users), dtype=np.complex128),
        np.empty((users, users), dtype=np.complex128),
        np.empty((users, users), dtype=np.complex128),
        np.empty((users, users), dtype=np.complex128),
        np.empty((users, users), dtype=np.complex128),
        np.empty((users, users), dtype=np.complex128),
        np.empty((users, users), dtype=np.complex128),
        np.empty((users, chains), dtype=np.complex128),
        np.empty((chains, chains), dtype=np.complex128),
    )
