from __future__ import annotations

import cmath
import math

import pytest
import torch

from holobeam import channels
from holobeam.arrays import Array, direction, steering_vector, ula, upa
from holobeam.channels.base import complex_normal, uniform
from holobeam.channels.pathwise import _laplace, phase_ramp


@pytest.mark.parametrize(
    ("model", "gain"),
    [
        (channels.Rayleigh(antennas=8), 1.0),
        (channels.path_wise(), 1.0),
        (channels.sparse_paths(), 0.505),
        (channels.SalehValenzuela(), 1.0),
        (channels.SalehValenzuela(normalization="paper"), 10 / 32),
        (channels.LaplacianClusters(antennas=16), 1.0),
        (channels.SphericalWave(ula(8, 0.01), distance=(2.0, 9.0), scatterers=5), 1.0),
    ],
    ids=str,
)
def test_mean_gain(model, gain):
    assert model.mean_gain == pytest.approx(gain)
    # Users are independent, the entries of a user are not.
    power = model.sample(1024, seed=1).abs().square().mean(dim=-1).flatten()
    error = power.std() / math.sqrt(power.numel())
    assert abs(float(power.mean()) - gain) < 5 * float(error)


def test_planar_paths_are_the_formula():
    model = channels.PlanarPaths(shape=(3, 2), users=2, spacing=0.3, path_variances=(1.0, 0.01))
    h = model.draw(2, torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    alpha = complex_normal((2, 2, 2), generator) * torch.tensor([1.0, 0.1], dtype=torch.float64)
    theta = uniform((2, 2, 2), -math.pi / 2, math.pi / 2, generator)
    phi = uniform((2, 2, 2), -math.pi / 2, math.pi / 2, generator)
    for b, k, i, m in [(0, 0, 0, 0), (1, 0, 2, 1), (0, 1, 1, 1), (1, 1, 2, 0)]:
        entry = 0j
        for p in range(2):
            sine = math.sin(theta[b, k, p])
            reach = i * sine * math.cos(phi[b, k, p]) + m * sine * math.sin(phi[b, k, p])
            entry += complex(alpha[b, k, p]) * cmath.exp(2j * math.pi * 0.3 * reach)
        row = (entry / math.sqrt(2)).conjugate()
        assert complex(h[b, 0, k, i * 2 + m]) == pytest.approx(row, abs=1e-14)


def test_saleh_valenzuela_is_the_formula_and_both_scales_agree():
    sizes = {"antennas": 5, "users": 2, "paths": 3}
    h = channels.SalehValenzuela(**sizes).draw(1, torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    alpha = complex_normal((1, 2, 3), generator)
    phi = uniform((1, 2, 3), 0.0, 2 * math.pi, generator)
    n = torch.arange(5, dtype=torch.float64)
    steering = torch.exp(1j * math.pi * n * phi.sin()[..., None]) / math.sqrt(5)
    columns = math.sqrt(5 / 3) * (alpha[..., None] * steering).sum(dim=2)
    torch.testing.assert_close(h[:, 0], columns.conj().resolve_conj())
    paper = channels.SalehValenzuela(**sizes, normalization="paper")
    scaled = paper.draw(1, torch.Generator().manual_seed(5))
    torch.testing.assert_close(scaled * math.sqrt(5 / 3), h)


def test_saleh_valenzuela_delays_turn_paths_over_the_band():
    sizes = {"antennas": 6, "users": 2, "paths": 4}
    flat = channels.SalehValenzuela(**sizes).draw(3, torch.Generator().manual_seed(5))
    wide = channels.SalehValenzuela(**sizes, subcarriers=8)
    h = wide.draw(3, torch.Generator().manual_seed(5))
    assert h.shape == (3, 8, 2, 6)
    # Gains and angles are drawn first: subcarrier 0 is the narrowband channel.
    torch.testing.assert_close(h[:, :1], flat)
    no_delay = channels.SalehValenzuela(**sizes, subcarriers=8, longest_delay=0.0)
    torch.testing.assert_close(
        no_delay.draw(3, torch.Generator().manual_seed(5)), flat.expand(-1, 8, -1, -1)
    )
    # Delays lie in the first quarter of the symbol: so does the impulse response.
    one = channels.SalehValenzuela(antennas=1, users=1, paths=1, subcarriers=64).sample(50, seed=0)
    taps = torch.fft.ifft(one[:, :, 0, 0].conj(), dim=1).abs().argmax(dim=1)
    assert int(taps.max()) <= 16
    assert taps.unique().numel() > 5


def test_one_path_is_of_unit_rank_in_every_model():
    one = channels.PlanarPaths(shape=(4, 3), users=1, path_variances=(1.0,)).sample(4, seed=0)
    surface = one.reshape(4, 4, 3)
    assert torch.linalg.svdvals(surface)[:, 1].max() < 1e-12
    single = channels.SalehValenzuela(antennas=9, users=1, paths=1).sample(4, seed=0)[:, 0, 0]
    steps = single[:, 1:] / single[:, :-1]
    assert (steps - steps[:, :1]).abs().max() < 1e-12


def test_no_spread_makes_a_cluster_one_path():
    model = channels.LaplacianClusters(antennas=9, users=1, clusters=1, spread_deg=0.0)
    row = model.sample(1, seed=0)[0, 0, 0]
    steps = row[1:] / row[:-1]
    assert (steps - steps[0]).abs().max() < 1e-12


def test_laplace_moments():
    values = _laplace((400_000,), torch.Generator().manual_seed(0))
    assert abs(float(values.mean())) < 0.01
    assert float(values.std()) == pytest.approx(1.0, abs=0.01)
    assert float(values.pow(4).mean()) == pytest.approx(6.0, abs=0.5)


def test_phase_ramp_by_loop():
    ramp = phase_ramp(torch.tensor([0.1, -0.7], dtype=torch.float64), 4)
    for i, turns in enumerate([0.1, -0.7]):
        for n in range(4):
            expected = cmath.exp(2j * math.pi * turns * n)
            assert complex(ramp[i, n]) == pytest.approx(expected, abs=1e-14)


def _direct(array, distance, azimuth=(-60.0, 60.0)):
    return channels.SphericalWave(array, users=3, distance=distance, azimuth_deg=azimuth)


def _plane_waves(model, batch):
    """Plane waves towards the users that the model drew."""
    points = model._points((batch, model.users, 1), torch.Generator().manual_seed(2))[:, :, 0]
    unit = points / points.norm(dim=-1, keepdim=True)
    return steering_vector(model.array, unit)


def _match(model):
    h = model.draw(20, torch.Generator().manual_seed(2))[:, 0]
    plane = _plane_waves(model, 20)
    return (h * plane.conj()).sum(dim=-1).abs() / (h.norm(dim=-1) * plane.norm(dim=-1))


def test_spherical_waves_become_plane_beyond_the_fraunhofer_distance():
    array = upa((16, 16), wavelength=0.01, spacing=0.5)
    limit = array.fraunhofer_distance
    assert _match(_direct(array, (limit, 2 * limit))).min() > 0.97
    assert _match(_direct(array, (1e4 * limit, 1e4 * limit))).min() > 1 - 1e-8
    assert _match(_direct(array, (limit / 30, limit / 20))).max() < 0.8


def test_phase_is_gathered_from_element_to_user():
    array = ula(4, wavelength=0.1, spacing=0.5)
    model = channels.SphericalWave(
        array, 1, distance=(3.0, 3.0), azimuth_deg=(30.0, 30.0), elevation_deg=(0.0, 0.0)
    )
    row = model.sample(1, seed=0)[0, 0, 0]
    user = 3.0 * direction(torch.tensor(math.pi / 2), torch.tensor(math.pi / 6)).double()
    for n in range(4):
        far = float((user - array.positions[n]).norm())
        near = float((user - array.positions[0]).norm())
        expected = cmath.exp(-2j * math.pi * (far - near) / 0.1) * near / far
        assert complex(row[n] / row[0]) == pytest.approx(expected, abs=1e-5)


def test_turning_array_and_users_together_changes_nothing():
    flat = upa((3, 3), wavelength=0.05)
    turn = channels.Panel(flat, azimuth_deg=25.0)
    turned = Array(turn.to_global(flat.positions), flat.wavelength, flat.spacing, flat.shape)
    here = channels.SphericalWave(flat, distance=(1.0, 2.0), azimuth_deg=(-10.0, 30.0))
    there = channels.SphericalWave(turned, distance=(1.0, 2.0), azimuth_deg=(15.0, 55.0))
    torch.testing.assert_close(here.sample(8, seed=0), there.sample(8, seed=0))
