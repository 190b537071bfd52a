"""Worst cases against an exact solution, and what is judged on which channel."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import holobeam as hb
from holobeam.channels import CellularDrops, LaplacianClusters, RelativeError, path_wise
from holobeam.errors import InputError, ShapeError
from holobeam.robust import outage_rate, robustness, worst_error
from holobeam.robust.adversary import clip_error
from holobeam.testing import gaussian


def observed(count=3, antennas=16, users=3, delta=0.1, snr_db=10.0, **options):
    h = LaplacianClusters(antennas=antennas, users=users).sample(count, seed=0)
    seen = RelativeError(delta).observe(h, seed=1)
    frontend = hb.frontends.phase_shifters(antennas, users)
    return hb.Downlink(
        seen.h, frontend, snr_db=snr_db, true_h=h, error_variance=seen.error_variance, **options
    )


def exact_worst_rate(row, precoder, user, noise, radius):
    """Smallest rate over a ball: a trust-region problem for every target SINR, then bisection."""
    own = precoder[:, user : user + 1]
    total = precoder @ precoder.mH

    def least(sinr):
        # min over |e| <= radius of (h + e) M (h + e)^H - sinr noise, M = own - sinr others.
        form = (1 + sinr) * (own @ own.mH) - sinr * total
        values, basis = torch.linalg.eigh(form)
        seen = (row @ basis).abs().square()
        low, high = max(0.0, -float(values[0])), max(0.0, -float(values[0])) + 1e6
        for _ in range(200):
            price = 0.5 * (low + high)
            length = (seen * (values / (values + price)).square()).sum()
            low, high = (price, high) if length > radius**2 else (low, price)
        moved = seen * (high / (values + high)).square()
        return float((values * moved).sum()) - sinr * noise

    low, high = 0.0, float((row @ own).abs().square().sum() / noise) * 10 + 1.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if least(middle) < 0 else (middle, high)
    return math.log2(1 + high)


@pytest.mark.parametrize("size", [0.3, 1.0])
@pytest.mark.parametrize("snr_db", [0.0, 20.0])
def test_the_adversary_finds_the_exact_worst_case(size, snr_db):
    problem = observed(snr_db=snr_db)
    solution = hb.solve(problem, "vpk")
    radius = size * torch.full((3, 3), 1.0, dtype=torch.float64)
    _, rates = worst_error(
        problem, solution.control, solution.digital, radius, iterations=200, starts=8
    )
    precoder = solution.precoder[:, 0]
    for b in range(3):
        for k in range(3):
            exact = exact_worst_rate(
                problem.h[b, :, k], precoder[b], k, float(problem.noise_power[b, k]), size
            )
            assert exact - 1e-6 <= float(rates[b, k]) <= exact + 2e-3


@given(st.integers(0, 50))
def test_the_worst_case_is_never_above_a_sampled_one(seed):
    problem = observed(count=2, antennas=8, users=2)
    solution = hb.solve(problem, "zf")
    radius = 0.8 * torch.ones(2, 2, dtype=torch.float64)
    errors = torch.stack(
        [clip_error(gaussian((2, 1, 2, 8), 10 * seed + i), radius) for i in range(5)]
    )
    found = robustness(solution, errors=errors, radius=radius, iterations=3, starts=1, seed=seed)
    assert bool((found.worst_rates <= found.rates.amin(dim=0) + 1e-12).all())
    assert bool((found.worst <= found.mean).all())
    size = (found.worst_h - problem.h).abs().square().sum(dim=(1, 3)).sqrt()
    assert bool((size <= radius * (1 + 1e-9)).all())
    at = problem.with_(true_h=found.worst_h).true_rates(solution.control, solution.digital)
    assert torch.allclose(at, found.worst_rates, atol=1e-9)


def test_longer_searches_and_larger_balls_are_worse():
    problem = observed()
    solution = hb.solve(problem, "vpk")
    point = solution.control, solution.digital
    radius = torch.ones(3, 3, dtype=torch.float64)
    worst = [
        worst_error(problem, *point, size * radius, iterations=count, starts=0)[1].sum(dim=1)
        for size, count in ((0.0, 5), (0.5, 5), (0.5, 50), (1.0, 50))
    ]
    assert torch.allclose(worst[0], solution.design_rate, atol=1e-9)
    for higher, lower in pairwise(worst):
        assert bool((lower <= higher + 1e-9).all())


def test_only_true_channels_count():
    problem = observed()
    solution = hb.solve(problem, "vpk")
    errors = torch.stack([problem.true_h - problem.h, torch.zeros_like(problem.h)])
    found = robustness(solution, errors=errors, iterations=1, starts=0)
    assert torch.allclose(found.rates[0].sum(dim=1), solution.sum_rate)
    assert torch.allclose(found.rates[1].sum(dim=1), solution.design_rate)


def test_outage_is_between_worst_and_mean():
    found = robustness(hb.solve(observed(), "vpk"), draws=40)
    assert bool((found.worst <= found.outage()).all())
    assert bool((found.outage() <= found.mean).all())
    assert bool((found.outage(0.05) <= found.outage(0.5)).all())
    assert outage_rate(torch.arange(101.0)[:, None]).tolist() == pytest.approx([5.0])


@pytest.mark.parametrize("power_at", ["radiated", "feeds", "per_rf_chain"])
@pytest.mark.parametrize("kind", ["rhs", "dma", "digital"])
def test_every_front_end_and_budget_is_judged(kind, power_at):
    h = path_wise((4, 4), users=2).sample(2, seed=0).expand(-1, 2, -1, -1).clone()
    seen = RelativeError(0.1).observe(h, seed=1)
    array = hb.arrays.upa((4, 4), 1.0, 1 / 3)
    frontend = hb.frontends.build(kind, array, rf_chains=2 if kind != "digital" else 16)
    problem = hb.Downlink(
        seen.h, frontend, snr_db=10.0, power_at=power_at, error_variance=seen.error_variance
    )
    found = robustness(hb.solve(problem, "vp", max_iterations=3), draws=10, iterations=5)
    assert bool((found.worst <= found.rates.sum(dim=2).amin(dim=0)).all())


def test_many_cells_have_a_ball_for_every_base_station():
    h = CellularDrops().sample(2, seed=0)
    seen = RelativeError(0.05).observe(h, seed=1)
    array = hb.frontends.dma(hb.frontends.microstrips(4, 8, 0.2 * CellularDrops().wavelength))
    cells = hb.MultiCell(
        seen.h, array, power_per_rf_chain=1.0, true_h=h, error_variance=seen.error_variance
    )
    found = robustness(hb.solve(cells, "wmmse-cd", max_iterations=3), draws=10, iterations=5)
    assert found.radius.shape == (2, 3, 3, 2)
    assert bool((found.worst_rates <= found.rates.amin(dim=0) + 1e-9).all())


def test_what_is_not_known_is_asked_for():
    h = gaussian((2, 1, 2, 8), 0)
    problem = hb.Downlink(h, hb.frontends.phase_shifters(8, 2), snr_db=0.0)
    solution = hb.solve(problem, "zf")
    with pytest.raises(InputError, match="error_variance"):
        robustness(solution)
    with pytest.raises(ShapeError, match="errors"):
        robustness(solution, errors=h, error_variance=0.1)
    with pytest.raises(ShapeError, match="radius"):
        robustness(solution, draws=2, error_variance=0.1, radius=torch.ones(2))
    with pytest.raises(InputError, match=">= 0"):
        hb.Downlink(h, problem.frontend, snr_db=0.0, error_variance=-0.1)


def test_single_precision_is_judged_alike():
    double = observed()
    single = hb.Downlink(
        double.h.to(torch.complex64),
        double.frontend,
        snr_db=10.0,
        error_variance=double.error_variance,
    )
    a = robustness(hb.solve(double, "zf"), draws=5, iterations=40)
    b = robustness(hb.solve(single, "zf"), draws=5, iterations=40)
    assert torch.allclose(a.mean, b.mean.double(), atol=1e-3)
    assert torch.allclose(a.worst, b.worst.double(), atol=2e-2)
