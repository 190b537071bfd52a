"""The SNR of long strips: exact optima against exhaustive and numerical search; their limits."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from holobeam.analog import scaling_law as law
from holobeam.errors import InputError, ShapeError
from holobeam.frontends import microstrips

WAVELENGTH = 299_792_458.0 / 28e9


def _wave(elements, seed=0, loss=0.05):
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 2 * math.pi, elements)
    return torch.as_tensor(np.exp(-loss * np.arange(elements) + 1j * phase))


def _lorentzian(phase):
    return 0.5 * (1j + np.exp(1j * phase))


@pytest.mark.parametrize("reading", ["fixed", "radiated"])
@pytest.mark.parametrize("seed", range(20))
def test_binary_optimum_is_that_of_all_patterns(reading, seed):
    wave = _wave(9, seed, loss=0.1 * (seed % 6))
    patterns = torch.tensor(list(itertools.product((0.0, 1.0), repeat=9))[1:]).to(wave.dtype)
    best = float(law.snr_gain(wave.expand(511, 9), patterns, reading).max())
    found = law.best_gain(wave, "binary", reading)
    assert float(found.gain) == pytest.approx(best, rel=1e-10)
    assert float(law.snr_gain(wave, found.control, reading)) == pytest.approx(best, rel=1e-10)
    assert set(found.control.tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("reading", ["fixed", "radiated"])
@pytest.mark.parametrize("seed", range(4))
def test_lorentzian_optimum_is_that_of_a_numerical_search(reading, seed):
    wave = _wave(5, seed, loss=0.3 * seed)

    def loss(phase):
        control = torch.as_tensor(_lorentzian(phase))
        return -float(law.snr_gain(wave, control, reading))

    rng = np.random.default_rng(seed)
    best = max(
        -minimize(loss, rng.uniform(0, 2 * math.pi, 5), method="BFGS", options={"gtol": 1e-10}).fun
        for _ in range(25)
    )
    found = law.best_gain(wave, "lorentzian", reading)
    assert float(found.gain) == pytest.approx(best, rel=1e-9)
    assert torch.allclose((found.control - 0.5j).abs(), torch.tensor(0.5, dtype=torch.float64))


def test_lorentzian_amplitude_has_its_closed_form():
    wave = _wave(40, 1)
    amplitude = (float(wave.abs().sum()) + abs(complex(wave.sum()))) / 2
    gain = float(law.best_gain(wave, "lorentzian").gain)
    assert gain == pytest.approx(amplitude**2 / 40, rel=1e-10)


def test_phase_shifters_add_everything_up():
    wave = _wave(30, 2, loss=0.0)
    for reading in ("fixed", "radiated"):
        assert float(law.best_gain(wave, "phase-shifters", reading).gain) == pytest.approx(30.0)


def _strips(elements, feeding="left"):
    """Strips at a fifth of a wavelength, towards 41 angles."""
    feed = microstrips(1, elements, 0.2 * WAVELENGTH, feeding)[:, 0]
    sine = torch.linspace(-0.95, 0.95, 41, dtype=torch.float64)
    ramp = torch.arange(elements) * 0.4 * math.pi * sine[:, None]
    return feed * torch.polar(torch.ones_like(ramp), ramp)


def test_long_strips_reach_their_limits():
    """Published indicator: 1/4 and 1/pi^2 of N; at 128 elements within a few per cent."""
    wave = _strips(128)
    strip = law.attenuated_sum(128, 0.2 * WAVELENGTH, 0.6)
    assert strip == pytest.approx(float(wave[0].abs().sum()), rel=1e-12)
    for control, low, high in (("lorentzian", 0.500, 0.515), ("binary", 0.318, 0.335)):
        share = (law.best_gain(wave, control).gain * 128).sqrt() / strip
        assert low <= float(share.mean()) <= high
        limit = law.limit_gain(control, 128, 0.2 * WAVELENGTH, 0.6)
        assert float(law.best_gain(wave, control).gain.mean()) == pytest.approx(limit, rel=0.07)


def test_the_radiated_reading_doubles_what_the_fixed_designs_get_and_allows_better_ones():
    assert law.limit_coefficient("binary", "radiated") == pytest.approx(0.2307, abs=1e-4)
    assert law.limit_coefficient("lorentzian", "radiated") == pytest.approx(0.5977, abs=1e-4)
    wave = torch.polar(torch.ones(400), 2 * math.pi * torch.arange(400) * 0.381966).to(
        torch.complex128
    )
    for control in ("lorentzian", "binary"):
        plain = law.best_gain(wave, control).control
        naive = float(law.snr_gain(wave, plain, "radiated")) / 400
        assert naive == pytest.approx(2 * law.limit_coefficient(control), rel=0.03)
    tuned = float(law.best_gain(wave[:100], "binary", "radiated").gain) / 100
    assert tuned == pytest.approx(law.limit_coefficient("binary", "radiated"), rel=0.05)
    tuned = float(law.best_gain(wave, "lorentzian", "radiated").gain) / 400
    assert tuned == pytest.approx(law.limit_coefficient("lorentzian", "radiated"), rel=0.02)


@pytest.mark.parametrize(("feeding", "most"), [("left", 3000), ("centre", 6000)])
def test_attenuation_puts_an_end_to_the_growth(feeding, most):
    spacing = 0.2 * WAVELENGTH
    gains = [law.limit_gain("lorentzian", n, spacing, 0.6, feeding) for n in range(2, most)]
    peak = 2 + int(np.argmax(gains))
    assert law.peak_elements(0.6, spacing, feeding) == pytest.approx(peak, rel=0.01)
    assert law.peak_elements(0.0, spacing) == math.inf


@pytest.mark.parametrize("feeding", ["left", "centre"])
@pytest.mark.parametrize("elements", [1, 2, 7, 16])
def test_attenuated_sum_is_that_of_the_feed(feeding, elements):
    for loss in (0.0, 3.0):
        feed = microstrips(1, elements, 0.01, feeding, attenuation=loss)
        assert law.attenuated_sum(elements, 0.01, loss, feeding) == pytest.approx(
            float(feed.abs().sum()), rel=1e-12
        )


def test_batches_and_bad_input():
    waves = torch.stack([_wave(8, s) for s in range(3)])
    for control, reading in itertools.product(("binary", "lorentzian"), ("fixed", "radiated")):
        together = law.best_gain(waves, control, reading).gain
        alone = torch.stack([law.best_gain(w, control, reading).gain for w in waves])
        assert torch.allclose(together, alone, rtol=1e-12)
    with pytest.raises(ShapeError, match="wave"):
        law.best_gain(torch.ones(4), "binary")
    with pytest.raises(InputError, match="control"):
        law.best_gain(waves, "analogue")
    with pytest.raises(InputError, match="spacing"):
        law.attenuated_sum(4, 0.0, 0.6)
