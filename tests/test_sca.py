"""Digital SCA: its dual against cone programming, monotone rates, weights, several subcarriers."""

import math
from dataclasses import replace

import cvxpy as cp
import numpy as np
import pytest
import torch

import holobeam as hb
from holobeam import Downlink, frontends
from holobeam.channels import SalehValenzuela
from holobeam.digital.cone import solve_cone
from holobeam.digital.sca import Surrogate, expand, maximise
from holobeam.testing import degenerate_channels, gaussian


def _surrogate(seed, tones=1, users=3, antennas=5, scale=3.0, joint=True, alpha=None):
    e = scale * gaussian((4, tones, users, antennas), seed)
    v = gaussian((4, tones, antennas, users), seed + 1)
    size = v.abs().square().sum(dim=(2, 3), keepdim=True)
    size = size.mean(dim=1, keepdim=True) if joint else size
    alpha = torch.ones(4, users, dtype=torch.float64) if alpha is None else alpha
    v = v / size.sqrt()
    return expand(e, v, alpha, joint=joint), v


def _judge(surrogate, index):
    """The concave program written out over all subcarriers of a channel, by cvxpy."""
    e = surrogate.e[index].numpy()
    phi, alpha = surrogate.phi[index].numpy(), surrogate.weights[index].numpy()
    tones, users, antennas = e.shape
    ws = [cp.Variable((antennas, users), complex=True) for _ in range(tones)]
    bounds, below = cp.Variable((tones, users)), []
    for f in range(tones):
        heard = e[f] @ ws[f]
        for k in range(users):
            rest = cp.hstack([*(heard[k, j] for j in range(users) if j != k), 1.0])
            signal = 2 * phi[f, k] * cp.real(heard[k, k])
            below.append(bounds[f, k] <= signal - phi[f, k] ** 2 * cp.sum_squares(rest))
    goal = cp.sum(cp.multiply(alpha, cp.log(1 + bounds)))
    if surrogate.joint:
        budget = [sum(cp.sum_squares(w) for w in ws) <= tones]
    else:
        budget = [cp.sum_squares(w) <= 1 for w in ws]
    program = cp.Problem(cp.Maximize(goal), budget + below)
    program.solve(solver="CLARABEL")
    return program.value


@pytest.mark.parametrize("scale", [0.3, 3.0, 30.0])
@pytest.mark.parametrize(("tones", "joint"), [(1, True), (2, True), (2, False)])
def test_the_dual_reaches_the_optimum_of_the_surrogate(tones, joint, scale):
    surrogate, old = _surrogate(0, tones=tones, joint=joint, scale=scale)
    new, gap = maximise(surrogate)
    power = new.abs().square().sum(dim=(2, 3))
    power = power.mean(dim=1) if joint else power
    assert (power - 1).abs().max() < 1e-9
    assert gap.max() < 1e-6
    value = surrogate.value(new)
    assert (value >= surrogate.value(old)).all()
    for index in range(2):
        optimum = _judge(surrogate, index)
        assert float(value[index]) == pytest.approx(optimum, abs=1e-5 * max(1, abs(optimum)))


def test_weights_and_more_users_than_antennas():
    alpha = torch.tensor([[1.0, 2.0, 0.5, 0.0]] * 4, dtype=torch.float64)
    surrogate, _ = _surrogate(3, users=4, antennas=2, alpha=alpha)
    new, _ = maximise(surrogate)
    assert float(surrogate.value(new)[0]) == pytest.approx(_judge(surrogate, 0), abs=1e-5)


def test_the_gap_bounds_the_distance_to_the_optimum():
    """Stopped early, value + gap is above the optimum that a long run finds."""
    surrogate, _ = _surrogate(5)
    best = surrogate.value(maximise(surrogate, 1e-14, 2000)[0])
    for steps in (0, 1, 2, 4):
        new, gap = maximise(surrogate, iterations=steps)
        value = surrogate.value(new)
        finite = torch.isfinite(value)
        assert (value <= best + 1e-9)[finite].all()
        assert (value + gap >= best - 1e-9)[finite].all()


def test_the_cone_program_is_the_same_surrogate():
    """With amplitudes and SINRs as variables, the published form has the same optimum."""
    surrogate, _ = _surrogate(7)
    new, _ = maximise(surrogate)
    for weights in (np.ones(3), np.array([1.0, 2.0, 3.0])):
        weighted = replace(
            surrogate, weights=torch.from_numpy(weights).expand_as(surrogate.weights)
        )
        new, _ = maximise(weighted)
        found = solve_cone(surrogate.e[0, 0].numpy(), surrogate.phi[0, 0].numpy(), weights)
        cone = weighted.value(torch.from_numpy(found)[None, None].expand_as(new))[0]
        assert float(cone) == pytest.approx(float(weighted.value(new)[0]), abs=1e-5)


def test_both_ways_end_at_the_same_rate():
    h = SalehValenzuela(antennas=8, users=3, paths=6).sample(3, seed=0)
    problem = Downlink(h, frontends.fully_digital(8), snr_db=8.0)
    dual, cone = (hb.solve(problem, "sca", surrogate=s) for s in ("dual", "cone"))
    assert (dual.sum_rate - cone.sum_rate).abs().max() < 2e-3


@pytest.mark.parametrize("snr_db", [-10.0, 0.0, 20.0])
@pytest.mark.parametrize("tones", [1, 3])
@pytest.mark.parametrize("budget", ["mean", "each"])
def test_no_step_lowers_the_rate(snr_db, tones, budget):
    h = gaussian((8, tones, 3, 6), 0)
    alpha = torch.tensor([1.0, 3.0, 0.5], dtype=torch.float64)
    problem = Downlink(h, frontends.fully_digital(6), snr_db=snr_db, budget=budget, weights=alpha)
    solver = hb.solver("sca")
    state = solver.init(problem, torch.Generator())
    for _ in range(15):
        after = solver.step(problem, state)
        assert (after.utility >= state.utility - 1e-8).all()
        state = after
    # Both end at local optima of a weighted rate: mostly the same, now and then not.
    converged = hb.solve(problem, "wmmse-digital")
    assert float((state.utility - converged.utility).median()) > -0.05


def test_the_digital_bound_by_two_methods():
    """12 and 20 dB, 64 channels: SCA, WMMSE and water-filled ZF agree where they should."""
    h = SalehValenzuela(antennas=32, users=4, paths=10).sample(64, seed=3)
    for snr_db, slack in ((0.0, 0.02), (12.0, 0.01), (20.0, 0.01)):
        problem = Downlink(h, frontends.fully_digital(32), snr_db=snr_db)
        rate = {n: hb.solve(problem, n).sum_rate.mean() for n in ("sca", "wmmse-digital")}
        assert abs(rate["sca"] - rate["wmmse-digital"]) < slack
        filled = hb.solve(problem, "zf-water-filling").sum_rate.mean()
        equal = hb.solve(problem, "zf-equal-power").sum_rate.mean()
        whole = hb.solve(problem, "zf").sum_rate.mean()
        assert whole < equal <= filled + 1e-9
        assert filled <= rate["sca"] + 1e-6


def test_equal_power_zero_forcing_gives_equal_powers_and_no_interference():
    problem = Downlink(gaussian((5, 1, 3, 8), 0), frontends.fully_digital(8), snr_db=10.0)
    solution = hb.solve(problem, "zf-equal-power")
    columns = solution.precoder.abs().square().sum(dim=2)
    assert (columns - 1 / 3).abs().max() < 1e-9
    heard = (problem.h @ solution.precoder).abs()
    own = torch.eye(3, dtype=torch.bool)
    assert heard.masked_fill(own, 0).max() < 1e-9 * heard.max()


def test_hostile_channels_converge_or_say_so():
    problem = Downlink(degenerate_channels(3, 8), frontends.fully_digital(8), snr_db=20.0)
    solution = hb.solve(problem, "sca")
    assert torch.isfinite(solution.rates).all()
    assert solution.violation.max() < 1e-9
    assert (solution.rates[0] == 0).all()
    # Twins: one of them at full power, or both sharing, is worth log2(1 + P |h|^2) at most.
    gain = problem.h[2, 0, 0].abs().square().sum() / problem.noise_power[2, 0]
    assert float(solution.sum_rate[2]) <= math.log2(1 + float(gain)) + 1e-6


def test_a_point_outside_the_domain_has_no_value():
    surrogate, v = _surrogate(0)
    assert isinstance(surrogate, Surrogate)
    assert (surrogate.value(-50 * v) == -math.inf).all()
