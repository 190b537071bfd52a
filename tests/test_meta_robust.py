"""ggml on worst-case channels: its loss, its invariance, what it refuses."""

import math

import pytest
import torch

import holobeam as hb
from holobeam.channels import LaplacianClusters, RelativeError
from holobeam.digital.rate_gradient import product_loss
from holobeam.errors import InputError, UnsupportedError
from holobeam.solvers.meta import MetaPrecoding
from holobeam.solvers.meta_robust import RobustMetaPrecoding
from holobeam.testing import gaussian


def observed(count=3, antennas=16, users=3, delta=0.1):
    h = LaplacianClusters(antennas=antennas, users=users).sample(count, seed=0)
    seen = RelativeError(delta).observe(h, seed=1)
    frontend = hb.frontends.phase_shifters(antennas, users)
    return hb.Downlink(seen.h, frontend, snr_db=10.0, true_h=h, error_variance=seen.error_variance)


@pytest.mark.parametrize("beta", [0.0, 0.2])
@pytest.mark.parametrize("users", [1, 3])
def test_slope_of_the_product_loss(users, beta):
    g = gaussian((4, users, users), 0).requires_grad_()
    noise, alpha = gaussian((4, users), 1).abs() + 0.1, gaussian((4, users), 2).abs()
    power = g.abs().square()
    signal = power.diagonal(dim1=1, dim2=2)
    errors = 1.0 - signal / (power.sum(dim=2) + noise)
    spread = errors.var(dim=1) if users > 1 else torch.zeros_like(errors[:, 0])
    judge = (errors ** (alpha / users)).prod(dim=1) + beta * spread
    judge.sum().backward()
    value, slope = product_loss(g.detach(), noise, alpha, beta)
    assert (value - judge).abs().max() < 1e-12
    assert (slope - g.grad).abs().max() < 1e-10 * g.grad.abs().max()


def test_a_radius_that_annihilates_the_channel_is_refused():
    problem = observed(antennas=64)
    with pytest.raises(InputError, match="annihilate"):
        hb.solve(problem, "ggml-imcsi", delta=0.21, reading="vector", max_iterations=1)
    hb.solve(problem, "ggml-imcsi", delta=0.2, reading="vector", max_iterations=1)
    hb.solve(problem, "ggml-imcsi", delta=0.4, max_iterations=1)
    plain = problem.with_(error_variance=None)
    with pytest.raises(UnsupportedError, match="error_variance"):
        hb.solve(plain, "ggml-imcsi")
    with pytest.raises(InputError, match="delta"):
        hb.solve(plain, "ggml-imcsi", delta=-0.1)


@pytest.mark.parametrize("reading", ["vector", "element"])
def test_shrinking_is_a_design_for_more_noise(reading):
    # s h with noise sigma^2 is h with noise sigma^2 / s^2: same draws, same run.
    problem = observed()
    worst = RobustMetaPrecoding(reading=reading)._worst(problem)
    scale = worst.h.abs().square().sum((1, 3)) / problem.h.abs().square().sum((1, 3))
    assert bool((scale < 1).all())
    noisier = problem.with_(noise_power=problem.noise_power / scale)
    options = {"max_iterations": 30, "delta": 0.0}
    whole = hb.solve(problem, "ggml-imcsi", reading=reading, max_iterations=30)
    other = hb.solve(noisier, "ggml-imcsi", **options)
    assert torch.allclose(whole.precoder, other.precoder, atol=1e-6)


def test_the_best_iterate_is_chosen_on_the_design_objective():
    problem = observed()
    solution = hb.solve(problem, "ggml-imcsi", max_iterations=40, history=True)
    assert float(solution.history.diff(dim=1).min()) >= 0
    # Another true channel changes what is judged, not what is designed.
    other = problem.with_(true_h=problem.true_h.roll(1, dims=3))
    again = hb.solve(other, "ggml-imcsi", max_iterations=40)
    assert torch.equal(again.precoder, solution.precoder)
    worst = RobustMetaPrecoding()._worst(problem)
    heard = (worst.h @ solution.precoder)[:, 0]
    value, _ = product_loss(heard, problem.noise_power, problem.user_weights, 0.2)
    assert torch.allclose(-value, solution.history[:, -1], atol=1e-9)


def test_it_learns():
    problem = observed(4, 32)
    short, long = (
        hb.solve(problem, "ggml-imcsi", max_iterations=i).sum_rate.mean() for i in (5, 150)
    )
    assert float(long) > 1.5 * float(short)
    exact = hb.Downlink(problem.true_h, problem.frontend, snr_db=10.0)
    plain = hb.solve(exact, MetaPrecoding(max_iterations=150)).sum_rate.mean()
    loss = hb.solve(exact, "ggml-imcsi", delta=0.0, max_iterations=150).sum_rate.mean()
    assert math.isclose(float(plain), float(loss), rel_tol=0.1)
