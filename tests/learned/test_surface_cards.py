"""Shipped networks of surfaces reach on the frozen channels what their cards say."""

import pytest
import torch

import holobeam as hb
from holobeam.channels.bundled import surface_benchmark
from holobeam.errors import UnsupportedError
from holobeam.learned import zoo

from .surface_networks import channels, downlink, surface

NAMES = ("2dgnn", "fnn", "mb-dnn", "mb-dnn-blind", "mb-dnn-plus", "mb-dnn-unrolled")


def _problem(snr_db, dtype=torch.complex64):
    frozen = surface_benchmark()
    return hb.Downlink(frozen.h.to(dtype), hb.frontends.rhs(frozen.feed), snr_db=snr_db)


@pytest.mark.parametrize("name", NAMES)
def test_rates_are_those_of_the_card(name):
    said = zoo.card(name).about["surface_benchmark"]["scores"]
    best = surface_benchmark().best_known_sum_rate
    assert [score["label"] for score in said] == ["0 dB", "10 dB", "20 dB"]
    for score, snr_db, known in zip(said, (0.0, 10.0, 20.0), best, strict=True):
        single = hb.solve(_problem(snr_db), name)
        assert float(single.sum_rate.mean()) == pytest.approx(score["utility"], abs=2e-3)
        assert float(known.mean()) == pytest.approx(score["reference"], abs=1e-6)
        assert score["share"] == pytest.approx(score["utility"] / score["reference"])
        double = hb.solve(_problem(snr_db, torch.complex128), name)
        assert float(double.sum_rate.mean()) == pytest.approx(score["utility"], abs=1e-2)


def test_seeing_the_feed_pays():
    """In the order that was measured; the printed input is the worst."""
    problem = _problem(10.0)
    order = ("mb-dnn-blind", "mb-dnn", "mb-dnn-plus", "mb-dnn-unrolled")
    rates = [float(hb.solve(problem, name).sum_rate.mean()) for name in order]
    assert rates == sorted(rates)


@pytest.mark.parametrize("name", ["mb-dnn-plus", "mb-dnn-unrolled"])
def test_other_surfaces_are_served(name):
    """Trained on one surface, it carries over to more elements, users and chains."""
    h = channels(32, users=4, shape=(8, 8))
    problem = downlink(h, surface((8, 8), 4))
    learned = hb.solve(problem, name).sum_rate.mean()
    searched = hb.solve(problem, "mmse-fast").sum_rate.mean()
    assert learned > 0.85 * searched


@pytest.mark.parametrize("name", ["fnn", "mb-dnn", "2dgnn"])
def test_what_does_not_fit_is_refused(name):
    with pytest.raises(UnsupportedError, match=f"{name} can't serve this problem"):
        hb.solve(downlink(channels(2), surface(chains=2)), name)


def test_the_plain_network_says_what_it_was_trained_on():
    problem = downlink(channels(2, shape=(5, 5)), surface((5, 5)))
    with pytest.raises(UnsupportedError, match="another feed"):
        hb.solve(problem, "fnn")
