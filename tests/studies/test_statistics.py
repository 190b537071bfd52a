"""Statistics of comparisons against closed forms and simulation."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from holobeam.errors import ShapeError
from holobeam.studies import (
    estimate,
    outage,
    paired_difference,
    paired_ratio,
    starved_share,
    wilson,
    win_rate,
)


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=40))
def test_estimate_is_the_textbook_one(values):
    found = estimate(torch.tensor(values, dtype=torch.float64))
    mean = sum(values) / len(values)
    variance = sum((v - mean) ** 2 for v in values) / (len(values) - 1)
    assert found.mean == pytest.approx(mean, abs=1e-9)
    assert found.standard_error == pytest.approx(math.sqrt(variance / len(values)), abs=1e-9)
    assert found.half_width == pytest.approx(1.96 * found.standard_error, rel=1e-4)


def test_confidence_intervals_cover_as_often_as_they_say():
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(2000, 100, generator=generator, dtype=torch.float64) + 3.0
    covered = [abs(e.mean - 3.0) <= e.half_width for e in map(estimate, sample)]
    assert 0.93 <= sum(covered) / len(covered) <= 0.97


def test_pairing_removes_what_channels_share():
    generator = torch.Generator().manual_seed(1)
    channel = 10.0 * torch.randn(200, generator=generator, dtype=torch.float64)
    better = channel + 0.1 + 0.01 * torch.randn(200, generator=generator, dtype=torch.float64)
    difference = paired_difference(better, channel)
    assert abs(difference.mean - 0.1) < 4 * difference.standard_error
    assert difference.standard_error < 0.01 * estimate(channel).standard_error


def test_paired_difference_needs_pairs():
    with pytest.raises(ShapeError, match="second"):
        paired_difference(torch.zeros(3), torch.zeros(4))


def test_single_channel_has_no_error():
    assert math.isnan(estimate(torch.ones(1)).standard_error)


def test_starved_and_outage():
    rates = torch.tensor([[0.0, 1.0], [0.05, 2.0]])
    assert starved_share(rates) == 0.5
    assert outage(torch.arange(101.0)) == pytest.approx(5.0)


@given(st.integers(1, 400), st.data())
def test_wilson_interval_is_that_of_scipy(count, data):
    wins = data.draw(st.integers(0, count))
    found = wilson(wins, count)
    expected = binomtest(wins, count).proportion_ci(0.95, method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert 0.0 <= found.low <= found.share <= found.high <= 1.0


def test_no_trials_no_share():
    assert math.isnan(wilson(0, 0).share)


def test_wins_and_ties_are_counted():
    first = torch.tensor([1.0, 2.0, 3.0, 4.0])
    second = torch.tensor([0.0, 2.0, 4.0, 1.0])
    assert win_rate(first, second).share == pytest.approx(2.5 / 4)
    assert win_rate(second, first).share == pytest.approx(1.5 / 4)
    with pytest.raises(ShapeError, match="second"):
        win_rate(first, second[:2])


def test_ratio_of_paired_means():
    generator = torch.Generator().manual_seed(2)
    base = 5.0 + torch.rand(4000, generator=generator, dtype=torch.float64)
    found = paired_ratio(1.2 * base, base)
    assert found.mean == pytest.approx(1.2)
    assert found.standard_error == pytest.approx(0.0, abs=1e-12)
    assert math.isnan(paired_ratio(base, 0.0 * base).mean)


def test_interval_of_a_ratio_covers_as_often_as_it_says():
    generator = torch.Generator().manual_seed(3)
    base = 4.0 + torch.randn(1000, 100, generator=generator, dtype=torch.float64)
    noise = torch.randn(1000, 100, generator=generator, dtype=torch.float64)
    found = [paired_ratio(a, b) for a, b in zip(0.9 * base + 0.5 * noise, base, strict=True)]
    covered = [abs(e.mean - 0.9) <= e.half_width for e in found]
    assert 0.92 <= sum(covered) / len(covered) <= 0.975
