"""Designs in single precision whose entries cancel in the air: their rates are those of the numbers
that were returned, to single precision."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import holobeam as hb
from holobeam.testing import gaussian


def _surface(side, chains):
    array = hb.arrays.upa((side, side), wavelength=0.01, spacing=0.25)
    feeds = hb.frontends.feed_positions(array, chains, "edge-far")
    return hb.frontends.rhs(hb.frontends.reference_wave(array.positions, feeds, 0.01))


def _by_hand(problem, control, digital):
    """Sum rates in double precision from y = h A V, the power radiated exactly P."""
    feed = problem.frontend.scaled_feed()[0].to(problem.h.dtype).numpy().astype(complex)
    h, noise = problem.h[:, 0].numpy().astype(complex), problem.noise_power.double().numpy()
    found = []
    for b in range(problem.batch):
        radiated = control[b].numpy() * feed @ digital[b, 0].numpy().astype(complex)
        load = np.sum(np.abs(radiated) ** 2) / float(problem.power[b])
        heard = np.abs(h[b] @ radiated) ** 2
        signal = np.diag(heard)
        found.append(np.log2(1 + signal / (heard.sum(1) - signal + noise[b] * load)).sum())
    return torch.tensor(np.array(found))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.0, 4.0))
def test_cancelling_beams_have_the_rate_of_what_is_left(seed, digits):
    surface = _surface(6, 7)
    problem = hb.Downlink(gaussian((3, 1, 5, 36), seed).to(torch.complex64), surface, snr_db=0.0)
    control = gaussian((3, 36, 1), seed + 1).abs().clamp(max=1.0).to(torch.complex64)
    metric = problem.measured_link(control).g[:, 0]
    weakest = torch.linalg.eigh(metric)[1][:, :, :1].to(torch.complex64)
    digital = gaussian((3, 7, 5), seed + 2).to(torch.complex64)
    digital = (digital + 10.0**digits * weakest).unsqueeze(1)
    true = _by_hand(problem, control, digital)
    rates = problem.true_rates(control, digital)
    assert rates.dtype == torch.float32
    assert torch.allclose(rates.sum(dim=1).double(), true, rtol=1e-5, atol=1e-6)
    power = problem.link(control).power(digital)[:, 0].double()
    exact = problem.measured_link(control).power(digital)[:, 0]
    assert torch.allclose(power, exact, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "hardware", "options"),
    [
        ("blind-ceiling", "rhs", {"tries": 4, "steps": 40, "polish": 60}),
        ("mmse-fast", "rhs", {"max_iterations": 30}),
        ("wmmse-projection", "phase-shifters", {"max_iterations": 30}),
    ],
)
def test_single_precision_costs_no_rate(name, hardware, options):
    # Directions that are hardly radiated were dropped, and what is rounded off was inverted.
    surface = hb.frontends.build(hardware, hb.arrays.upa((4, 4), spacing=0.25), 4)
    h = hb.channels.sparse_paths((4, 4), 2).sample(6, seed=5)
    wide = hb.solve(hb.Downlink(h, surface, snr_db=0.0), name, **options)
    narrow = hb.solve(hb.Downlink(h.to(torch.complex64), surface, snr_db=0.0), name, **options)
    assert float(narrow.sum_rate.mean()) > 0.98 * float(wide.sum_rate.mean())
    # What single precision leaves alone: 7e-5, its step to the power of 0.6.
    assert narrow.violation.max() < 1.2e-7**0.6
    assert narrow.radiated_power.min() > 0.99 * float(narrow.problem.power[0])


@pytest.mark.parametrize("name", ["mmse-fast", "wmmse-cd"])
def test_best_of_many_starts_wins_by_no_rounding(name):
    # The best of many is where a rate that was read too high ends up: 7.0 instead of 5.4 bits.
    h = hb.channels.sparse_paths((6, 6), 5).sample(12, seed=77)
    surface = _surface(6, 7)
    problem = hb.Downlink(h.to(torch.complex64), surface, snr_db=0.0)
    found = hb.solve(problem, name, starts=16, max_iterations=100)
    true = _by_hand(problem, found.control, found.digital)
    assert torch.allclose(found.sum_rate.double(), true, rtol=1e-4)
    assert torch.allclose(found.utility.double(), true, rtol=1e-4)
    assert torch.allclose(found.design_rate.double(), true, rtol=1e-4)
    assert torch.allclose(found.radiated_power, problem.power, rtol=1e-3)
    wide = hb.solve(hb.Downlink(h, surface, snr_db=0.0), name, starts=16, max_iterations=100)
    assert float(found.sum_rate.mean()) == pytest.approx(float(wide.sum_rate.mean()), rel=5e-3)
