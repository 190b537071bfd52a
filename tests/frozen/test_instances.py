"""The instances are what was frozen, and a change of anything is discovered."""

from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
import torch

import holobeam as hb
from holobeam.errors import UnknownNameError
from holobeam.frozen import INSTANCES, FrozenError, describe, instance, instances, recipes, seal

NAMES = [one.name for one in INSTANCES]


@pytest.mark.parametrize("name", NAMES)
def test_hashes_hold(name):
    assert instance(name).name == name


def test_every_instance_has_its_own_name_and_seal():
    assert len(set(NAMES)) == len(NAMES)
    seals = instances._seals()
    assert set(seals) == set(NAMES)
    assert len(set(seals.values())) == len(NAMES)


@pytest.mark.parametrize("member", ["h", "feed_rhs"])
def test_one_bit_of_the_data_breaks_the_seal(monkeypatch, member):
    """What a drifting generator or a damaged file would do."""
    one = instance("rhs-8x8")
    expected = seal(one)
    members = {key: value.copy() for key, value in recipes.kept(one.channels).items()}
    entry = members[member].flat
    entry[3] = complex(np.nextafter(entry[3].real, np.inf), entry[3].imag)
    monkeypatch.setattr(instances, "kept", lambda _: members)
    with pytest.raises(FrozenError, match="no longer gives the frozen channels"):
        instances.check_seal(one, expected)


@pytest.mark.parametrize(
    "change",
    [
        {"points": (0.0, 10.0)},
        {"unit": "dBm"},
        {"power_at": "feeds"},
        {"weights": (1.0, 1.0, 1.0, 2.0)},
        {"noise": (1.0, 1.0, 1.0, 2.0)},
        {"hardware": "rhs-binary"},
        {"hardware": "dma"},
    ],
)
def test_a_changed_rule_breaks_the_seal(change):
    one = instance("rhs-8x8")
    with pytest.raises(FrozenError, match="rhs-8x8"):
        instances.check_seal(replace(one, **change), seal(one))


@pytest.mark.parametrize("name", sorted(recipes.RECIPES))
def test_generators_of_today_give_the_channels_to_single_precision(name):
    kept, drawn = recipes.kept(name), recipes.draw(name)
    assert set(kept) == set(drawn)
    for member, values in kept.items():
        assert values.shape == drawn[member].shape
        assert values.dtype == drawn[member].dtype
        # Against each user's own strength: Munich's users differ by tens of dB.
        size = np.abs(values).max(axis=-1, keepdims=True)
        assert np.all(np.abs(values - drawn[member]) <= 3e-6 * size)


@pytest.mark.parametrize("name", sorted(recipes.RECIPES))
def test_shared_arrays_cannot_be_changed(name):
    for values in recipes.kept(name).values():
        with pytest.raises(ValueError, match="read-only"):
            values[...] = 0


def test_data_are_small():
    folder = files("holobeam.frozen") / "data"
    assert sum(len(path.read_bytes()) for path in folder.iterdir() if path.is_file()) < 2e6
    records = folder / "records"
    assert sum(len(path.read_bytes()) for path in records.iterdir()) < 1e6


@pytest.mark.parametrize("name", NAMES)
def test_front_ends_are_those_of_the_house(name):
    """Same element set, controls and feed as the registered front-end of that name."""
    one = instance(name)
    b, f, k, n, r = one.sizes
    side = int(n**0.5)
    array = hb.arrays.upa((side, side)) if side * side == n else hb.arrays.ula(n)
    house = hb.frontends.build(one.hardware, array, r if not one.is_digital else k)
    assert (house.controls, house.is_digital) == (one.controls, one.is_digital)
    circle = torch.polar(torch.rand(40).double(), torch.linspace(0, 6.0, 40).double()) * 2
    torch.testing.assert_close(one.element_set.project(circle), house.project(circle))
    if one.hardware.startswith("phase-shifters"):
        np.testing.assert_array_equal(one.feed, house.feed.numpy())
    problem = one.problem(one.points)
    assert problem.batch == b * len(one.points)
    assert problem.h.shape[1:] == (f, k, n)
    assert problem.h.dtype == torch.complex128


def test_points_become_noise_and_power():
    one = instance("rhs-8x8-weighted")
    problem = one.problem((10.0,))
    assert problem.noise_power[0].tolist() == pytest.approx([0.05, 0.1, 0.2, 0.4])
    assert problem.user_weights[5].tolist() == [1.0, 1.0, 2.0, 4.0]
    munich = instance("munich-rhs").problem((20.0,))
    assert float(munich.power[0]) == pytest.approx(100.0)
    assert float(munich.noise_power[0, 0]) == 1.0
    chains = instance("phase-shifters-32-chains").problem((12.0,))
    assert chains.power[0].tolist() == [0.25] * 4


def test_unknown_names_and_sets():
    with pytest.raises(UnknownNameError, match="rhs-8x8"):
        instance("rhs-8x9")
    with pytest.raises(UnknownNameError, match="sparse-5x5"):
        recipes.draw("sparse-5x6")
    with pytest.raises(hb.HolobeamError, match="Interval"):
        describe(object())
