"""What a user would write or pick instead, one channel at a time: judges of speed and optimum."""

from __future__ import annotations

import math

import numpy as np


def gradient_ascent(h, power, *, inner=10, iterations=30, mu=0.01, lam=1e-4):
    """Projected gradient ascent of one channel as the formulas are printed, with N x N matrices."""
    users = h.shape[0]
    outer = [np.outer(h[k].conj(), h[k]) for k in range(users)]
    f = np.exp(1j * np.angle(h.conj().T))
    w = np.linalg.pinv(f) @ np.linalg.pinv(h)
    w *= math.sqrt(power) / np.linalg.norm(f @ w)

    def parts(f, w):
        for k in range(users):
            rest = w.copy()
            rest[:, k] = 0
            form = f.conj().T @ outer[k] @ f
            total = np.trace(w.conj().T @ form @ w).real + 1.0
            others = np.trace(rest.conj().T @ form @ rest).real + 1.0
            yield k, rest, form, total, others

    for _ in range(iterations):
        for _ in range(inner):
            gradient = np.zeros_like(f)
            for k, rest, _, total, others in parts(f, w):
                gradient += outer[k] @ f @ w @ w.conj().T / total
                gradient -= outer[k] @ f @ rest @ rest.conj().T / others
            f = f + mu * gradient / math.log(2)
            f /= np.abs(f)
        gradient = np.zeros_like(w)
        for _, rest, form, total, others in parts(f, w):
            gradient += form @ w / total - form @ rest / others
        w = w + lam * gradient / math.log(2)
        w *= math.sqrt(power) / np.linalg.norm(f @ w)
    received = np.abs(h @ f @ w) ** 2
    own = np.diag(received)
    return float(np.log2(1 + own / (received.sum(axis=1) - own + 1.0)).sum())


def cone_data(e, phi):
    """Data of the SCA surrogate for Clarabel: objective, sparse rows, right side, cones.

    Real variables: Re W, Im W, SINRs g, amplitudes b, t = log(1 + g).
    """
    import clarabel
    from scipy import sparse

    users, chains = e.shape
    size = users * chains
    g0, b0, t0 = 2 * size, 2 * size + users, 2 * size + 2 * users
    count = 2 * size + 3 * users
    rows, right, cones = [], [], []

    def row(constant, entries):
        """Entry ``constant + sum value x`` of a cone: Clarabel wants b - A x."""
        line = np.zeros(count)
        for index, value in entries:
            line[index] -= value
        rows.append(line)
        right.append(constant)

    def heard(k, column, part):
        real, imag = e[k].real, e[k].imag
        at = [(r * users + column) for r in range(chains)]
        if part == "real":
            first, second = real, -imag
        else:
            first, second = imag, real
        return [
            *zip(at, first, strict=True),
            *((size + i, v) for i, v in zip(at, second, strict=True)),
        ]

    for k in range(users):
        row(0.0, heard(k, k, "imag"))
    cones.append(clarabel.ZeroConeT(users))
    for k in range(users):
        row(0.0, [(b0 + k, 1.0)])
        for j in range(users):
            if j != k:
                row(0.0, heard(k, j, "real"))
                row(0.0, heard(k, j, "imag"))
        row(1.0, [])
        cones.append(clarabel.SecondOrderConeT(2 * users))
        scaled = [(i, 2 / phi[k] * v) for i, v in heard(k, k, "real")]
        scaled.append((g0 + k, -1 / phi[k] ** 2))
        row(1.0, scaled)
        row(0.0, [(b0 + k, 2.0)])
        row(-1.0, scaled)
        cones.append(clarabel.SecondOrderConeT(3))
    row(1.0, [])
    for i in range(2 * size):
        row(0.0, [(i, 1.0)])
    cones.append(clarabel.SecondOrderConeT(2 * size + 1))
    for k in range(users):
        row(0.0, [(t0 + k, 1.0)])
        row(1.0, [])
        row(1.0, [(g0 + k, 1.0)])
        cones.append(clarabel.ExponentialConeT())
    objective = np.zeros(count)
    objective[t0:] = -1.0
    nothing = sparse.csc_matrix((count, count))
    return nothing, objective, sparse.csc_matrix(np.array(rows)), np.array(right), cones


def solve_cone_data(data):
    """Maximum of ``sum log(1 + g)`` by Clarabel."""
    import clarabel

    settings = clarabel.DefaultSettings()
    settings.verbose = False
    solution = clarabel.DefaultSolver(*data, settings).solve()
    return -solution.obj_val


def manifold_factorisation(x, f, outer=30, inner=10):
    """``||X - F W||`` of one channel by pymanopt's conjugate gradients; needs pymanopt."""
    import pymanopt
    from pymanopt.manifolds import ComplexCircle
    from pymanopt.optimizers import ConjugateGradient

    antennas, chains = f.shape
    manifold = ComplexCircle(antennas * chains)
    optimizer = ConjugateGradient(max_iterations=inner, verbosity=0, min_gradient_norm=0)
    for _ in range(outer):
        w = np.linalg.pinv(f) @ x

        @pymanopt.function.numpy(manifold)
        def cost(point, w=w):
            return np.linalg.norm(point.reshape(antennas, chains) @ w - x) ** 2

        @pymanopt.function.numpy(manifold)
        def slope(point, w=w):
            return (2 * (point.reshape(antennas, chains) @ w - x) @ w.conj().T).ravel()

        problem = pymanopt.Problem(manifold, cost, euclidean_gradient=slope)
        f = optimizer.run(problem, initial_point=f.ravel()).point.reshape(antennas, chains)
    return f
