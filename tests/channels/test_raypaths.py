from __future__ import annotations

import cmath
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from holobeam.arrays import direction, element_pattern, steering_vector, ula, upa
from holobeam.channels import (
    Panel,
    RayPaths,
    draw_drops,
    munich,
    munich_drops,
    munich_panel,
    subcarrier_offsets,
    surface_benchmark,
)
from holobeam.errors import FileError, HolobeamError, InputError
from holobeam.units import SPEED_OF_LIGHT, wavelength

NOISE_DBM = -85.0
PATHS, PANEL = munich(), munich_panel()
angles = st.floats(-400.0, 400.0)


def one_path(azimuth_deg=0.0, delay=1e-6, gain=1e-5, frequency=28e9):
    """A single path that leaves horizontally."""
    user = (
        SPEED_OF_LIGHT
        * delay
        * torch.tensor(
            [[math.cos(math.radians(azimuth_deg)), math.sin(math.radians(azimuth_deg)), 0.0]]
        )
    )
    return RayPaths(
        gain=torch.tensor([[complex(gain)]]),
        delay=torch.tensor([[delay]], dtype=torch.float64),
        zenith=torch.tensor([[math.pi / 2]], dtype=torch.float64),
        azimuth=torch.tensor([[math.radians(azimuth_deg)]], dtype=torch.float64),
        user_position=user,
        bs_position=torch.zeros(3),
        frequency=frequency,
    )


@given(angles, angles)
def test_frame_is_orthonormal_and_right_handed(azimuth, tilt):
    panel = Panel(ula(2), azimuth, tilt)
    frame = panel.frame
    torch.testing.assert_close(frame @ frame.mT, torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(torch.linalg.cross(frame[0], frame[1]), frame[2])
    vector = torch.tensor([0.3, -0.2, 0.9], dtype=torch.float64)
    torch.testing.assert_close(panel.to_global(panel.to_local(vector)), vector)


def test_left_is_left_and_tilt_is_down():
    frame = Panel(ula(2), azimuth_deg=90.0, tilt_deg=10.0).frame
    assert frame[0, 1] > 0.98  # faces north
    torch.testing.assert_close(frame[1], torch.tensor([-1.0, 0.0, 0.0], dtype=torch.float64))
    assert frame[0, 2] < 0 < frame[2, 2]


def test_line_of_sight_is_friis():
    sighted = PATHS.select(PATHS.line_of_sight.nonzero()[:, 0])
    detour = (SPEED_OF_LIGHT * sighted.delay - sighted.distance[:, None]).abs()
    gain = sighted.gain.gather(1, detour.argmin(dim=1, keepdim=True))[:, 0]
    friis = wavelength(28e9) / (4 * math.pi * sighted.distance)
    assert (20 * (gain.abs() / friis).log10()).abs().max() < 1e-4
    assert gain.angle().abs().max() < 1e-3  # no propagation phase in the file
    assert float(PATHS.line_of_sight.double().mean()) == pytest.approx(0.72, abs=0.005)


def test_path_gains_are_those_of_the_survey():
    quantiles = torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)
    for chosen, expected in [
        (PATHS.line_of_sight, [-101.6, -99.1, -92.5]),
        (~PATHS.line_of_sight, [-125.5, -114.9, -108.1]),
    ]:
        found = PATHS.path_gain_db[chosen].quantile(quantiles)
        torch.testing.assert_close(found, torch.tensor(expected).double(), atol=0.1, rtol=0)


def test_kept_users_and_drops_are_those_of_the_scenario():
    kept = PATHS.keep_users(PANEL)
    assert int(PATHS.visible(PANEL).sum()) == 1602
    assert kept.numel() == 1594
    assert torch.equal(kept, kept.sort().values)
    behind = one_path(azimuth_deg=180.0)
    assert behind.keep_users(Panel(ula(2, wavelength(28e9)))).numel() == 0
    assert torch.equal(draw_drops(kept, 64, 4, seed=1), munich_drops())
    rng = np.random.default_rng(1)
    by_hand = [rng.choice(kept.numpy(), 4, replace=False) for _ in range(64)]
    assert np.array_equal(munich_drops().numpy(), np.stack(by_hand))


def test_channel_by_triple_loop():
    panel = Panel(upa((3, 2), wavelength(28e9), 0.25), 60.0, 15.0, position=(0.02, -0.3, 1.1))
    users, offsets = torch.tensor([[1075, 1784], [3, 1075]]), torch.tensor([-4e7, 0.0, 1e8])
    h = PATHS.channel(panel, users, subcarriers=offsets, noise_dbm=NOISE_DBM)
    assert h.shape == (2, 3, 2, 6)
    frame, places = panel.frame.numpy(), panel.element_positions().numpy()
    sigma = math.sqrt(10 ** (NOISE_DBM / 10))
    for b, f, k, n in [(0, 0, 0, 0), (0, 1, 1, 4), (1, 2, 1, 5), (1, 0, 0, 3)]:
        user, carrier, total = int(users[b, k]), 28e9 + float(offsets[f]), 0j
        for p in range(PATHS.gain.shape[1]):
            z, a = float(PATHS.zenith[user, p]), float(PATHS.azimuth[user, p])
            u = np.array([math.sin(z) * math.cos(a), math.sin(z) * math.sin(a), math.cos(z)])
            cell = math.sqrt(4 * math.pi / 16 * max(float(frame[0] @ u), 0.0))
            delay = float(PATHS.delay[user, p]) - float(places[n] @ u) / SPEED_OF_LIGHT
            turn = cmath.exp(-2j * math.pi * carrier * delay)
            total += complex(PATHS.gain[user, p]) * cell * turn
        assert complex(h[b, f, k, n]) == pytest.approx(total / sigma, rel=1e-8)


def test_batches_gather_the_same_rows():
    users = torch.tensor([[5, 9], [9, 5]])
    h = PATHS.channel(PANEL, users)
    assert torch.equal(h[0], h[1].flip(1))
    everyone = PATHS.select(torch.arange(12)).channel(PANEL)
    assert everyone.shape == (1, 1, 12, 256)
    torch.testing.assert_close(everyone[0, 0, [5, 9]], h[0, 0], rtol=1e-12, atol=0)
    assert PATHS.channel(PANEL, users, dtype=torch.complex64).dtype == torch.complex64


def test_carrier_phase_matters():
    """Adding the gains as they stand is off by -2 to +12 dB (5 to 95 %)."""
    seen = PATHS.line_of_sight.nonzero()[:200, 0]
    panel = Panel(upa((1, 1), wavelength(28e9), 0.25))
    right = PATHS.channel(panel, seen[None], element_pattern=False)[0, 0, :, 0].abs()
    naive = PATHS.gain[seen].sum(dim=-1).abs()
    assert (20 * (right / naive).log10()).abs().max() > 2


def test_a_single_path_is_a_steering_vector():
    array = upa((4, 3), wavelength(28e9), 0.5)
    panel, paths = Panel(array, azimuth_deg=20.0, tilt_deg=5.0), one_path(azimuth_deg=50.0)
    local = panel.to_local(direction(paths.zenith, paths.azimuth))[0]
    expected = 1e-5 * cmath.exp(-2j * math.pi * ((28e9 * 1e-6) % 1)) * steering_vector(array, local)
    expected = expected * element_pattern(array, local)[:, None]
    torch.testing.assert_close(paths.channel(panel)[0, 0], expected, rtol=1e-7, atol=1e-16)


def test_a_user_on_the_left_arrives_earlier_at_the_left_elements():
    panel = Panel(ula(3, wavelength(28e9), 0.25))
    h = one_path(azimuth_deg=40.0).channel(panel)[0, 0, 0]
    assert float((h[2] / h[1]).angle()) == pytest.approx(
        2 * math.pi * 0.25 * math.sin(math.radians(40.0)), rel=1e-6
    )


def test_nothing_is_heard_through_the_back():
    panel = Panel(ula(4, wavelength(28e9), 0.25))
    behind = one_path(azimuth_deg=170.0)
    assert behind.channel(panel).abs().max() == 0
    assert behind.channel(panel, element_pattern=False).abs().max() > 0
    assert not bool(behind.visible(panel))
    assert bool(behind.visible(Panel(panel.array, azimuth_deg=-170.0)))


def test_gain_follows_area_not_density():
    power = []
    for side, spacing in [(8, 0.5), (16, 0.25)]:
        h = PATHS.channel(munich_panel((side, side), spacing), torch.tensor([[1075]]))
        power.append(float(h.abs().square().sum()))
    assert power[0] == pytest.approx(power[1], rel=0.02)


@settings(max_examples=20, deadline=None)
@given(st.floats(-60.0, 60.0), st.integers(-30, 30))
def test_moving_along_the_path_by_wavelengths_changes_nothing(azimuth, steps):
    paths, array = one_path(azimuth_deg=azimuth), ula(3, wavelength(28e9), 0.25)
    towards = direction(paths.zenith, paths.azimuth)[0, 0] * wavelength(28e9)
    whole = Panel(array, position=tuple((steps * towards).tolist()))
    half = Panel(array, position=tuple(((steps + 0.5) * towards).tolist()))
    here = paths.channel(Panel(array))
    torch.testing.assert_close(paths.channel(whole), here, rtol=1e-7, atol=1e-16)
    torch.testing.assert_close(paths.channel(half), -here, rtol=1e-7, atol=1e-16)


@settings(max_examples=20, deadline=None)
@given(st.floats(-60.0, 60.0), angles)
def test_turning_panel_and_world_together_changes_nothing(azimuth, turn):
    array = upa((3, 2), wavelength(28e9), 0.25)
    here = one_path(azimuth_deg=azimuth).channel(Panel(array, 0.0, 15.0))
    there = one_path(azimuth_deg=azimuth + turn).channel(Panel(array, turn, 15.0))
    torch.testing.assert_close(there, here, rtol=1e-7, atol=1e-16)


def test_two_halves_of_a_panel_are_the_panel():
    step = wavelength(28e9) / 4
    whole, half = munich_panel((4, 2)), munich_panel((2, 2))
    shift = [tuple((s * step * half.frame[1]).tolist()) for s in (-1, 1)]
    parts = [Panel(half.array, half.azimuth_deg, half.tilt_deg, s) for s in shift]
    users = torch.tensor([[1075, 618]])
    joined = torch.cat([PATHS.channel(part, users) for part in parts], dim=-1)
    torch.testing.assert_close(joined, PATHS.channel(whole, users), rtol=1e-8, atol=1e-14)


def test_delay_is_where_the_inverse_transform_peaks():
    tones, band = 32, 100e6
    panel = Panel(ula(1, wavelength(28e9), 0.25))
    h = one_path(delay=7 / band).channel(panel, subcarriers=subcarrier_offsets(tones, band))
    profile = torch.fft.ifft(h[0, :, 0, 0]).abs()
    assert int(profile.argmax()) == 7
    assert float(profile[7]) == pytest.approx(float(h.abs().max()), rel=1e-6)
    assert float(profile.sort().values[-2]) < 1e-6 * float(profile[7])


def test_power_over_the_band_is_that_of_the_delay_profile():
    users = torch.tensor([[1075]])
    h = PATHS.channel(PANEL, users, subcarriers=subcarrier_offsets(16, 100e6))
    impulse = torch.fft.ifft(h, dim=1, norm="ortho")
    torch.testing.assert_close(impulse.abs().square().sum(), h.abs().square().sum())


def test_squint_vanishes_at_the_carrier_and_with_the_aperture():
    users, far = torch.tensor([[618]]), torch.tensor([2e9])
    flat = {"squint": False}
    assert torch.equal(PATHS.channel(PANEL, users), PATHS.channel(PANEL, users, **flat))
    small = Panel(ula(1, wavelength(28e9), 0.25), 60.0)
    torch.testing.assert_close(
        PATHS.channel(small, users, subcarriers=far),
        PATHS.channel(small, users, subcarriers=far, **flat),
    )
    bent = PATHS.channel(PANEL, users, subcarriers=far)
    assert not torch.allclose(bent, PATHS.channel(PANEL, users, subcarriers=far, **flat), rtol=0.1)


@given(st.integers(1, 200), st.floats(1.0, 1e9))
def test_subcarriers_are_centred(count, band):
    offsets = subcarrier_offsets(count, band)
    assert abs(float(offsets.mean())) < 1e-9 * band
    if count > 1:
        torch.testing.assert_close(offsets.diff(), torch.full((count - 1,), band / count).double())


def test_noise_divides_amplitudes():
    users = torch.tensor([[3]])
    scaled = PATHS.channel(PANEL, users, noise_dbm=-80.0)
    torch.testing.assert_close(scaled * 1e-4, PATHS.channel(PANEL, users))


def test_separated_drops_are_separated():
    kept = PATHS.visible(PANEL).nonzero()[:150, 0]
    h = PATHS.channel(PANEL, kept[None])
    drops = draw_drops(kept, 12, 4, seed=0, h=h, max_correlation=0.3)
    assert torch.equal(drops, draw_drops(kept, 12, 4, seed=0, h=h, max_correlation=0.3))
    unit = torch.nn.functional.normalize(PATHS.channel(PANEL, drops)[:, 0], dim=-1)
    overlap = (unit @ unit.mH).abs() - torch.eye(4)
    assert overlap.max() <= 0.3 + 1e-9
    assert all(row.unique().numel() == 4 for row in drops)
    with pytest.raises(InputError, match="allow more correlation"):
        draw_drops(kept[:3], 1, 3, seed=0, h=h[:, :, [0, 0, 1]], max_correlation=0.3)


def test_benchmark_is_whole():
    bench = surface_benchmark()
    assert bench.h.shape == (256, 1, 3, 25)
    assert bench.feed.shape == (25, 3)
    torch.testing.assert_close(bench.feed.abs(), torch.ones(25, 3).double(), rtol=0, atol=1e-6)
    means = bench.best_known_sum_rate.mean(dim=1)
    torch.testing.assert_close(
        means, torch.tensor([3.508, 8.858, 16.921]).double(), atol=1e-3, rtol=0
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda: PATHS.channel(munich_panel(), torch.tensor([[2000]])),
        lambda: PATHS.channel(munich_panel(), torch.tensor([[-1]])),
        lambda: PATHS.channel(munich_panel(), torch.tensor([1, 2])),
        lambda: PATHS.channel(munich_panel(), torch.tensor([[0.5]])),
        lambda: PATHS.channel(Panel(upa((2, 2)))),
        lambda: PATHS.channel(PANEL, subcarriers=torch.zeros(0)),
        lambda: PATHS.channel(PANEL, subcarriers=torch.tensor([float("nan")])),
        lambda: PATHS.channel(PANEL, subcarriers=torch.tensor([-29e9])),
        lambda: PATHS.visible(PANEL, sector_deg=0.0),
        lambda: PATHS.select(torch.zeros(0, dtype=torch.int64)),
        lambda: one_path(delay=-1e-6),
        lambda: one_path(gain=float("nan")),
        lambda: one_path(frequency=0.0),
        lambda: subcarrier_offsets(0, 1e6),
        lambda: subcarrier_offsets(3, float("inf")),
        lambda: draw_drops(torch.arange(3), 1, 4, seed=0),
        lambda: draw_drops(torch.arange(9), 1, 4, seed=0, max_correlation=0.3),
    ],
)
def test_bad_calls_say_what_is_right(call):
    with pytest.raises(HolobeamError, match="; "):
        call()


def test_load_wants_every_array(tmp_path):
    path = tmp_path / "paths.npz"
    np.savez(path, gain=np.ones((2, 3), complex))
    with pytest.raises(FileError, match="lacks aod_azimuth"):
        RayPaths.load(path)
