"""Digital steps of sixteen channels at once against those of one channel, their oracle."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from holobeam.kernels import blocks, vectors
from holobeam.kernels.lanes import conditions, improve, matrices

LANES = vectors.LANES


def drawn(users, chains, seed):
    """E, G, V, noise, weights and budget of sixteen channels."""
    rng = np.random.default_rng(seed)

    def matrix(*shape):
        return rng.standard_normal((LANES, *shape)) + 1j * rng.standard_normal((LANES, *shape))

    root = matrix(chains + 2, chains)
    return (
        matrix(users, chains), root.conj().transpose(0, 2, 1) @ root, matrix(chains, users),
        rng.uniform(0.01, 2.0, (LANES, users)), rng.uniform(0.5, 2.0, (LANES, users)),
        rng.uniform(0.5, 4.0, LANES),
    )  # fmt: skip


def together(problem, steps):
    """V and utilities after some steps, all channels at once."""
    e, g, v, noise, alpha, power = problem
    users, chains = e.shape[1:]
    small, given_ = matrices(users, chains), conditions(users)
    for pair, matrix in zip(small, (e, g, v), strict=False):
        flat = matrix.reshape(LANES, -1).T
        pair[0][:], pair[1][:] = flat.real.ravel(), flat.imag.ravel()
    given_[0][:], given_[1][:], given_[2][:] = noise.T.ravel(), alpha.T.ravel(), power
    rates = np.empty(LANES)
    improve(small, given_, users, chains, steps, rates)
    found = (small[2][0] + 1j * small[2][1]).reshape(-1, LANES).T.reshape(v.shape)
    return found, rates


def alone(problem, steps):
    """The same, one channel after the other."""
    e, g, v, noise, alpha, power = problem
    out, rates = v.copy(), np.empty(LANES)
    for b in range(LANES):
        u, w = np.empty(e.shape[1], complex), np.empty(e.shape[1])
        for _ in range(steps):
            blocks.weigh(e[b], g[b], out[b], noise[b], alpha[b], power[b], 1.0, u, w)
            blocks.digital(e[b], g[b], u, w, noise[b], power[b], 1.0, out[b])
        blocks.rescale(g[b], out[b], power[b])
        rates[b] = blocks.rate(e[b], g[b], out[b], noise[b], alpha[b], power[b])
    return out, rates


@settings(max_examples=30, deadline=None)
@given(users=st.integers(1, 6), chains=st.integers(1, 6), seed=st.integers(0, 10**6))
def test_steps_are_those_of_one_channel(users, chains, seed):
    problem = drawn(users, chains, seed)
    (v, rates), (slow, expected) = together(problem, 3), alone(problem, 3)
    assert np.allclose(rates, expected, rtol=1e-9)
    if chains <= users:  # else V is free outside of what anybody hears, up to the ridge
        assert np.allclose(v, slow, rtol=1e-6, atol=1e-8)


def test_a_lane_does_not_depend_on_its_mates():
    problem = drawn(3, 4, 0)
    v, rates = together(problem, 2)
    problem[0][3], problem[0][5] = np.nan, 0.0
    broken, changed = together(problem, 2)
    rest = [lane for lane in range(LANES) if lane not in {3, 5}]
    assert np.array_equal(broken[rest], v[rest])
    assert np.array_equal(changed[rest], rates[rest])
    assert np.isnan(changed[3])
    assert changed[5] == 0.0
    assert np.isfinite(broken[5]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logarithm_and_sigmoid_to_their_rounding(dtype):
    @njit
    def apply(x, logarithms, shares):
        for i in range(0, x.size, vectors.LANES):
            vectors.store(logarithms, i, vectors.log(vectors.load(x, i)))
            vectors.store(shares, i, vectors.sigmoid(vectors.load(x, i)))

    def both(x):
        out = np.empty_like(x), np.empty_like(x)
        apply(x, *out)
        return out

    eps = np.finfo(dtype).eps
    x = np.concatenate([np.logspace(-36, 36, 16 * 999), np.linspace(0.5, 2.0, 1600)]).astype(dtype)
    exact = np.log(x.astype(np.longdouble))
    assert np.max(np.abs(both(x)[0] - exact) / np.maximum(np.abs(exact), eps)) < 4 * eps
    x = np.linspace(-80, 80, 16 * 999).astype(dtype)
    exact = 1 / (1 + np.exp(-x.astype(np.longdouble)))
    assert np.max(np.abs(both(x)[1] - exact) / exact) < 4 * eps
    assert np.isnan(both(np.full(LANES, np.nan, dtype))[1]).all()
