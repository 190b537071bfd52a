"""Independent judges: cone programming, quasi-Newton from many starts, exhaustive search."""

import itertools
import math

import cvxpy as cp
import numpy as np
import pytest
import torch
from scipy.optimize import minimize

import holobeam as hb
from holobeam import Downlink, frontends
from holobeam.arrays import upa
from holobeam.channels import path_wise
from holobeam.testing import gaussian


def _least_power(e, g, noise, target):
    """Smallest tr(V^H G V) that reaches the SINR targets: a second-order cone program."""
    users, chains = e.shape
    root = np.linalg.cholesky(g).conj().T
    v = cp.Variable((chains, users), complex=True)
    conditions = []
    for k in range(users):
        heard = e[k] @ v
        rest = cp.hstack([*(heard[j] for j in range(users) if j != k), math.sqrt(noise)])
        conditions += [
            cp.imag(heard[k]) == 0,
            cp.norm(rest) <= cp.real(heard[k]) / math.sqrt(target[k]),
        ]
    program = cp.Problem(cp.Minimize(cp.norm(root @ v, "fro")), conditions)
    program.solve(solver="CLARABEL")
    assert program.status == "optimal"
    return program.value**2


@pytest.mark.parametrize("name", ["digital", "rhs", "phase-shifters", "dma"])
@pytest.mark.parametrize("place", ["radiated", "feeds"])
def test_converged_wmmse_spends_the_least_power_for_its_rates(name, place):
    """No precoder reaches the same rates with less: WMMSE's rates are Pareto-efficient."""
    h = gaussian((3, 1, 3, 12), 0)
    hardware = frontends.build(name, upa((4, 3)), 4)
    problem = Downlink(h, hardware, snr_db=10.0, power_at=place)
    method = "wmmse-digital" if name == "digital" else "random"
    solution = hb.solve(problem, method, max_iterations=3000, tolerance=1e-13, seed=1)
    link = problem.link(solution.control)
    for b in range(3):
        target = (2.0 ** solution.rates[b] - 1.0).numpy()
        if target.min() < 1e-3:
            # A user switched off has no cone; the others' conditions still stand.
            continue
        e = link.e[b, 0].numpy()
        g = np.eye(e.shape[1]) if link.g is None else link.g[b, 0].numpy()
        least = _least_power(e, g, float(problem.noise_power[b, 0]), target)
        assert least >= 1 - 1e-4
        assert least <= 1 + 1e-4, "WMMSE spends its budget, no more"


def test_row_updates_reach_the_optimum_of_their_convex_step():
    """Fixed receivers and weights under per-chain limits: a convex quadratic program."""
    h = gaussian((2, 1, 3, 12), 0)
    limit = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    problem = Downlink(h, frontends.phase_shifters(12, 4), noise_power=10.0, power=limit,
                       power_at="per_rf_chain")  # fmt: skip
    solution = hb.solve(problem, "mmse", max_iterations=5)
    link = problem.link(solution.control)
    weights = problem.weights(link, solution.digital)
    digital = solution.digital
    for _ in range(2000):
        digital = problem.digital_step(link, weights, digital)
    for b in range(2):
        e, w, u = (
            link.e[b, 0].numpy(),
            weights.mse_weights[b, 0].numpy(),
            weights.decoders[b, 0].numpy(),
        )
        v = cp.Variable((4, 3), complex=True)
        gap = cp.multiply(np.conj(u)[:, None], e @ v) - np.eye(3)
        value = cp.sum_squares(cp.multiply(np.sqrt(w)[:, None], gap))
        rows = [cp.norm(v[r]) <= math.sqrt(float(limit[r])) for r in range(4)]
        cp.Problem(cp.Minimize(value), rows).solve(solver="CLARABEL")
        mine = np.conj(u)[:, None] * (e @ digital[b, 0].numpy()) - np.eye(3)
        mine = float((w[:, None] * np.abs(mine) ** 2).sum())
        assert value.value > 0.1, "with every limit slack the optimum is 0: nothing is compared"
        assert mine <= value.value * (1 + 1e-6)


def _rate_and_slope(flat, problem):
    """Minus the rate of (amplitudes, V) and its gradient, for scipy."""
    x = torch.tensor(flat, requires_grad=True)
    antennas, users = problem.frontend.antennas, problem.users
    control = x[:antennas].to(torch.complex128)[None, :, None]
    parts = x[antennas:].reshape(2, problem.chains, users)
    digital = torch.complex(parts[0], parts[1])[None, None]
    value = -problem.utility(problem.link(control), digital).sum()
    value.backward()
    return float(value.detach()), x.grad.numpy()


def _joint_optimum(problem, starts=12):
    """Best of many L-BFGS-B runs over amplitudes in [0, 1] and V together."""
    antennas, size = problem.frontend.antennas, 2 * problem.chains * problem.users
    bounds = [(0.0, 1.0)] * antennas + [(None, None)] * size
    rng = np.random.default_rng(0)
    best = -math.inf
    for _ in range(starts):
        first = np.concatenate([rng.uniform(0, 1, antennas), rng.normal(size=size)])
        result = minimize(_rate_and_slope, first, (problem,), "L-BFGS-B", True, bounds=bounds,
                          options={"maxiter": 300})  # fmt: skip
        best = max(best, -result.fun)
    return best


@pytest.mark.parametrize(
    ("place", "channels"),
    [ pytest.param("feeds", 3, marks=pytest.mark.slow),
     pytest.param("radiated", 2, marks=pytest.mark.slow)],
)  # fmt: skip
def test_tiny_surfaces_against_quasi_newton(place, channels):
    """mmse paper, measured: N = 6, K = R = 2, eight starts reach .994-1.000 of the best known."""
    h = path_wise((3, 2), users=2).sample(channels, seed=5)
    hardware = frontends.build("rhs", upa((3, 2), wavelength=0.01, spacing=1 / 3), 2)
    ratios = []
    for snr in (0.0, 10.0, 20.0):
        problem = Downlink(h, hardware, snr_db=snr, power_at=place)
        mine = hb.solve(problem, "mmse-fast", starts=8, max_iterations=150).sum_rate
        for b in range(channels):
            known = _joint_optimum(problem.take(torch.tensor([b])))
            ratios.append(float(mine[b]) / known)
    print(f"{place}: mean {np.mean(ratios):.4f}, worst {min(ratios):.4f}")
    assert np.mean(ratios) >= 0.97


def test_tiny_on_off_surfaces_against_all_patterns():
    """N = 6: every one of the 63 patterns that radiate, V by WMMSE on each."""
    h = path_wise((3, 2), users=2).sample(6, seed=6)
    hardware = frontends.build("rhs-binary", upa((3, 2), wavelength=0.01, spacing=1 / 3), 2)
    problem = Downlink(h, hardware, snr_db=10.0)
    patterns = torch.tensor(list(itertools.product((0.0, 1.0), repeat=6))[1:])
    control = patterns.to(torch.complex128).repeat_interleave(6, dim=0).unsqueeze(2)
    every = Downlink(h.repeat(63, 1, 1, 1), hardware, snr_db=10.0)
    held = hb.solver("random", max_iterations=300)
    best = torch.full((63 * 6,), -math.inf, dtype=torch.float64)
    for first in (every.link(control).e.mH, gaussian((63 * 6, 1, 2, 2), 0)):
        ended = held(every, start=hb.solvers.make_state(every, control, first))
        assert torch.equal(ended.control, control)
        best = torch.maximum(best, ended.utility)
    best = best.reshape(63, 6).amax(dim=0)
    mine = hb.solve(problem, "wmmse-cd", starts=12).sum_rate
    assert (mine <= best * (1 + 1e-3)).all()
    assert float((mine / best).mean()) >= 0.97
