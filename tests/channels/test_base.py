from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from holobeam import channels
from holobeam.arrays import ula
from holobeam.errors import HolobeamError, InputError

MODELS = [
    channels.Rayleigh(antennas=6, users=2),
    channels.PlanarPaths(shape=(3, 2), users=2),
    channels.sparse_paths(),
    channels.SalehValenzuela(antennas=6, users=2, paths=3),
    channels.LaplacianClusters(antennas=6, users=2, clusters=2, rays=3),
    channels.SphericalWave(ula(6), users=2, distance=(20.0, 30.0), scatterers=2),
]
by_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)


@by_model
def test_shape_and_types(model):
    h = model.sample(3, seed=0)
    assert h.shape == (3, 1, model.users, model.antennas)
    assert h.dtype == torch.complex128
    half = model.sample(3, seed=0, dtype=torch.complex64)
    assert half.dtype == torch.complex64
    assert torch.equal(half, h.to(torch.complex64))
    assert model.sample(2, seed=0, device="meta").device.type == "meta"
    assert torch.isfinite(h).all()


@by_model
def test_a_channel_depends_on_seed_and_index_alone(model):
    whole = model.sample(256, seed=0)
    assert torch.equal(whole[:10], model.sample(10, seed=0))
    assert torch.equal(whole[5:15], model.sample(10, seed=0, start=5))
    assert not torch.equal(whole[:10], model.sample(10, seed=1))
    assert not torch.equal(whole[:64], whole[64:128])


@settings(max_examples=40, deadline=None)
@given(st.integers(-(2**70), 2**70), st.integers(0, 400), st.integers(1, 200))
def test_any_window_of_any_seed(seed, start, batch):
    model = channels.Rayleigh(antennas=2, users=1)
    window = model.sample(batch, seed, start=start)
    assert torch.equal(window, model.sample(start + batch, seed)[start:])


def test_a_far_start_draws_one_block_only():
    assert channels.Rayleigh().sample(1, seed=0, start=10**12).shape[0] == 1


@by_model
def test_a_generator_is_drawn_from_in_turn(model):
    generator = torch.Generator().manual_seed(3)
    first, second = model.sample(70, generator=generator), model.sample(70, generator=generator)
    again = model.sample(70, generator=torch.Generator().manual_seed(3))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    channels.LaplacianClusters().sample(2, seed=0)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    "arguments",
    [
        {"batch": 0, "seed": 0},
        {"batch": -1, "seed": 0},
        {"batch": 2.0, "seed": 0},
        {"batch": True, "seed": 0},
        {"batch": 2},
        {"batch": 2, "seed": 0, "generator": torch.Generator()},
        {"batch": 2, "seed": 0, "start": -1},
        {"batch": 2, "seed": 0.5},
        {"batch": 2, "seed": True},
        {"batch": 2, "generator": torch.Generator(), "start": 1},
        {"batch": 2, "seed": 0, "dtype": torch.float64},
    ],
)
def test_bad_calls_say_what_is_right(arguments):
    with pytest.raises(InputError, match="; "):
        channels.Rayleigh().sample(**arguments)


@pytest.mark.parametrize(
    "build",
    [
        lambda: channels.Rayleigh(antennas=0),
        lambda: channels.Rayleigh(users=1.5),
        lambda: channels.PlanarPaths(shape=(0, 3)),
        lambda: channels.PlanarPaths(spacing=0.0),
        lambda: channels.PlanarPaths(path_variances=()),
        lambda: channels.PlanarPaths(path_variances=(1.0, -1.0)),
        lambda: channels.SalehValenzuela(paths=0),
        lambda: channels.SalehValenzuela(normalization="papr"),
        lambda: channels.LaplacianClusters(spread_deg=-1.0),
        lambda: channels.SphericalWave(ula(4), distance=(0.0, 3.0)),
        lambda: channels.SphericalWave(ula(4), distance=(3.0, 2.0)),
        lambda: channels.SphericalWave(ula(4), distance=(3.0, float("inf"))),
        lambda: channels.SphericalWave(ula(4), elevation_deg=(-100.0, 0.0)),
        lambda: channels.SphericalWave(ula(4), scatterer_gain_db=float("nan")),
        lambda: channels.Panel(ula(4), azimuth_deg=float("nan")),
        lambda: channels.Panel(ula(4), position=(0.0, 0.0)),
    ],
)
def test_impossible_models_are_refused(build):
    with pytest.raises(HolobeamError, match="; "):
        build()


def test_importing_stays_light():
    code = (
        "import sys, holobeam.channels; "
        "heavy = {'scipy', 'h5py', 'matplotlib'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
