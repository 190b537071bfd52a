"""Proportional fairness around the sum-rate solvers."""

import math

import pytest
import torch

import holobeam as hb
from holobeam import Downlink, frontends
from holobeam.problems.rates import proportional_fairness
from holobeam.solvers import ProportionalFair
from holobeam.testing import gaussian


def _problems(weights=None, batch=6):
    """Users 20 dB apart, at low power: the sum rate starves the weakest."""
    gains = torch.tensor([1.0, 0.3, 0.1], dtype=torch.float64)[:, None]
    h = gaussian((batch, 1, 3, 12), 0) * gains
    frontend = frontends.phase_shifters(12, 3)
    return tuple(
        Downlink(h, frontend, snr_db=3.0, utility=utility, weights=weights)
        for utility in ("sum_rate", "proportional_fair")
    )


def test_utility_is_the_weighted_sum_of_logarithms_with_a_floor():
    rates = torch.tensor([[1.0, math.e, 0.0]])
    weights = torch.tensor([[1.0, 2.0, 1.0]])
    assert float(proportional_fairness(rates, weights)[0]) == pytest.approx(2 + math.log(0.01))


@pytest.mark.parametrize("method", ["vp", "mmse", "wmmse-cd"])
def test_fairness_helps_the_worst_user_and_costs_sum_rate(method):
    greedy, fair = _problems()
    a, b = hb.solve(greedy, method), hb.solve(fair, method)
    assert (b.utility >= fair.utility(fair.link(a.control), a.digital) - 1e-6).all()
    assert float(b.rates.amin(dim=1).mean()) > 2 * float(a.rates.amin(dim=1).mean()) + 0.1
    assert float(b.sum_rate.mean()) < float(a.sum_rate.mean())
    assert b.violation.max() < 1e-9


def test_weights_count_in_fairness():
    weights = torch.tensor([1.0, 1.0, 6.0])
    plain, heavy = (hb.solve(_problems(w)[1], "vp") for w in (None, weights))
    assert float(heavy.rates[:, 2].mean()) > 1.5 * float(plain.rates[:, 2].mean())
    problem = _problems(weights)[1]
    of_plain = problem.utility(problem.link(plain.control), plain.digital)
    assert float((heavy.utility - of_plain).mean()) > 0


def test_a_user_of_no_weight_is_ignored():
    solution = hb.solve(_problems(torch.tensor([1.0, 1.0, 0.0]))[1], "vp")
    assert (solution.rates[:, 2] < 0.05).all()
    assert torch.isfinite(solution.utility).all()


def test_it_never_ends_below_its_start():
    _, fair = _problems()
    first = hb.solve(fair, "vp")
    again = ProportionalFair(max_iterations=3)(fair, start=first)
    assert (again.utility >= first.utility - 1e-9).all()


def test_wrapped_solvers_keep_their_refusals():
    _, fair = _problems()
    with pytest.raises(hb.errors.UnsupportedError):
        hb.solve(fair, "wmmse-hbf")
    assert hb.solve(fair, "zf").utility.isfinite().all()


# -- many cells ----


def _cells(utility="sum_rate", users=(2, 2, 2), **options):
    """Users at the edge of three cells."""
    model = hb.channels.CellularDrops(users_per_cell=users, radius=(100.0, 100.0))
    feed = frontends.microstrips(4, 8, 0.2 * model.wavelength)
    return hb.MultiCell(
        model.sample(6, seed=0), frontends.dma(feed), power_per_rf_chain=100.0 / 32,
        utility=utility, **options,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["wmmse-cd", "vp"])
def test_fairness_keeps_the_cell_edge_alive(name):
    greedy = hb.solve(_cells(), name)
    fair = hb.solve(_cells("proportional_fair"), name)
    at = fair.problem
    assert (fair.utility >= at.utility(at.link(greedy.control), greedy.digital) - 0.1).all()
    assert float(torch.quantile(fair.rates, 0.05)) > float(torch.quantile(greedy.rates, 0.05)) + 0.5
    assert float(fair.sum_rate.mean()) > 0.85 * float(greedy.sum_rate.mean())
    assert fair.violation.max() < 1e-9


def test_the_suffix_is_the_utility():
    a = hb.solve(_cells("proportional_fair"), "wmmse-cd")
    b = hb.solve(_cells(), "wmmse-cd+fair")
    assert torch.equal(a.rates, b.rates)
    assert b.solver == "wmmse-cd+fair"
    blind = hb.solve(_cells(), "wmmse-cd+fair+blind")
    assert torch.equal(blind.rates, hb.solve(_cells(), "wmmse-cd+blind+fair").rates)
    with pytest.raises(hb.errors.UnsupportedError, match="closed form"):
        hb.solve(_problems()[0], "rzf+fair")


def test_users_that_pad_a_cell_count_for_nothing():
    problem = _cells("proportional_fair", users=(2, 1, 0))
    solution = hb.solve(problem, "wmmse-cd")
    present = problem.present.flatten(1)
    assert (solution.rates[present] > 0.5).all()
    logs = torch.where(present, solution.rates.clamp(min=0.01).log(), 0.0).sum(dim=1)
    assert torch.allclose(solution.utility, logs, atol=1e-9)


def test_weights_count_among_cells():
    weights = torch.ones(3, 2)
    weights[0, 0] = 6.0
    plain, heavy = (
        hb.solve(_cells("proportional_fair", weights=w), "wmmse-cd") for w in (None, weights)
    )
    assert float((heavy.rates - plain.rates)[:, 0].mean()) > 0.5
