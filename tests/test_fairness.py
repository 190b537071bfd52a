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
