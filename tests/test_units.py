"""Decibels, milliwatts, noise power, wavelength."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from holobeam import units
from holobeam.errors import InputError


@given(st.floats(-200, 200))
def test_decibels_round_trip(decibels):
    assert units.linear_to_db(units.db_to_linear(decibels)) == pytest.approx(decibels, abs=1e-9)
    assert units.mw_to_dbm(units.dbm_to_mw(decibels)) == pytest.approx(decibels, abs=1e-9)


@given(st.floats(-80, 80), st.floats(-80, 80))
def test_decibels_turn_products_into_sums(a, b):
    product = units.db_to_linear(a) * units.db_to_linear(b)
    assert product == pytest.approx(units.db_to_linear(a + b), rel=1e-9)


def test_anchors_of_the_scale():
    assert units.db_to_linear(10.0) == 10.0
    assert units.db_to_linear(0.0) == 1.0
    assert units.linear_to_db(0.0) == -math.inf
    assert units.linear_to_db(2.0) == pytest.approx(3.0103, abs=1e-4)


def test_tensors_follow_numbers():
    values = torch.tensor([-30.0, 0.0, 27.5], dtype=torch.float64)
    linear = units.db_to_linear(values)
    assert linear.tolist() == pytest.approx([units.db_to_linear(v) for v in values.tolist()])
    assert torch.allclose(units.linear_to_db(linear), values)


def test_noise_of_the_munich_scenario():
    assert units.noise_power_dbm(100e6, 9.0) == pytest.approx(-85.0)
    assert units.noise_power_dbm(1.0) == pytest.approx(-174.0)


def test_wavelength_at_28_ghz():
    assert units.wavelength(28e9) == pytest.approx(10.707e-3, rel=1e-4)


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: units.linear_to_db(-1.0), "ratio"),
        (lambda: units.noise_power_dbm(0.0), "bandwidth"),
        (lambda: units.noise_power_dbm(float("nan")), "bandwidth"),
        (lambda: units.wavelength(-1.0), "frequency"),
    ],
)
def test_bad_input_is_named(call, argument):
    with pytest.raises(InputError) as caught:
        call()
    assert caught.value.argument == argument
