"""Statistics of comparisons against closed forms and simulation."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from holobeam.errors import ShapeError
from holobeam.studies import estimate, outage, paired_difference, starved_share


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
