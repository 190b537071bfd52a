"""Where elements are, and what waves do to them."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from holobeam import arrays
from holobeam.errors import InputError, ShapeError

WIDE = torch.float64


def test_positions_are_a_centred_grid_in_the_yz_plane():
    array = arrays.upa((4, 3), wavelength=2.0, spacing=0.25)
    assert array.antennas == 12
    assert array.spacing == 0.5
    assert torch.equal(array.positions[:, 0], torch.zeros(12, dtype=WIDE))
    assert array.positions.mean(dim=0).abs().max() < 1e-15
    step_z, step_y = (
        array.positions[1] - array.positions[0],
        array.positions[3] - array.positions[0],
    )
    assert step_z.tolist() == [0.0, 0.0, 0.5]
    assert step_y.tolist() == [0.0, 0.5, 0.0]


def test_linear_array_is_a_planar_one_of_one_row():
    assert torch.equal(arrays.ula(5).positions, arrays.upa((5, 1)).positions)


def test_directions_are_unit_vectors_with_z_up():
    zenith, azimuth = torch.rand(2, 50, dtype=WIDE) * math.pi
    assert (arrays.direction(zenith, azimuth).norm(dim=1) - 1).abs().max() < 1e-14
    up = arrays.direction(torch.tensor(0.0, dtype=WIDE), torch.tensor(0.3, dtype=WIDE))
    assert up.tolist() == pytest.approx([0, 0, 1])
    ahead = arrays.direction(torch.tensor(math.pi / 2, dtype=WIDE), torch.tensor(0.0, dtype=WIDE))
    assert ahead.tolist() == pytest.approx([1, 0, 0], abs=1e-15)


def test_broadside_wave_is_in_phase_and_endfire_half_wave_alternates():
    array = arrays.ula(6)
    axes = torch.eye(3, dtype=WIDE)
    broadside, left = arrays.steering_vector(array, axes[:2])
    assert (broadside - 1).abs().max() < 1e-14
    assert (left[1:] / left[:-1] + 1).abs().max() < 1e-14


@settings(max_examples=25, deadline=None)
@given(st.floats(0.05, 3.0), st.floats(-3.0, 3.0))
def test_steering_vectors_are_matched_by_their_own_direction(zenith, azimuth):
    array = arrays.upa((4, 4))
    towards = arrays.direction(torch.tensor(zenith, dtype=WIDE), torch.tensor(azimuth, dtype=WIDE))
    own = arrays.steering_vector(array, towards)
    assert (own.abs() - 1).abs().max() < 1e-14
    others = arrays.steering_vector(
        array, torch.nn.functional.normalize(torch.randn(40, 3).double())
    )
    assert (others @ own.conj()).abs().max() <= 16 + 1e-9


def test_spherical_waves_become_plane_far_away():
    array = arrays.upa((5, 5), wavelength=0.01)
    towards = arrays.direction(torch.tensor(1.1, dtype=WIDE), torch.tensor(0.4, dtype=WIDE))
    gaps = []
    for far in (1.0, 10.0, 100.0):
        point = towards * far * array.fraunhofer_distance
        gap = arrays.near_field_vector(array, point) - arrays.steering_vector(array, towards)
        gaps.append(float(gap.abs().max()))
    assert gaps[2] < 5e-3
    assert gaps[0] > 5 * gaps[1] > 25 * gaps[2]


def test_amplitude_of_a_spherical_wave_falls_with_distance():
    array = arrays.ula(3, wavelength=1.0)
    point = torch.tensor([0.0, 2.0, 0.0], dtype=WIDE)
    amplitude = arrays.near_field_vector(array, point).abs()
    assert amplitude.tolist() == pytest.approx([2 / 2.5, 1.0, 2 / 1.5])


def test_a_point_on_an_element_is_refused():
    array = arrays.ula(3)
    with pytest.raises(InputError, match="points"):
        arrays.near_field_vector(array, array.positions[:1])


def test_gain_follows_area_and_nothing_is_heard_behind():
    axes = torch.tensor([[1.0, 0, 0], [-1.0, 0, 0], [0, 1.0, 0]], dtype=WIDE)
    dense, sparse = (arrays.upa((4, 4), spacing=s) for s in (0.25, 0.5))
    ratio = arrays.element_pattern(sparse, axes)[0] / arrays.element_pattern(dense, axes)[0]
    assert float(ratio) == pytest.approx(2.0)
    assert arrays.element_pattern(dense, axes)[1:].tolist() == [0.0, 0.0]
    assert dense.element_gain == pytest.approx(4 * math.pi / 16)


def test_energy_of_the_cell_pattern_is_conserved():
    # The pattern is a directivity only for cells of lambda^2 / pi; its mean over the sphere is
    # d^2 pi / lambda^2 there: the share of an isotropic radiator that the cell takes up.
    array = arrays.upa((2, 2), spacing=math.sqrt(1 / math.pi))
    towards = torch.nn.functional.normalize(torch.randn(200_000, 3, dtype=WIDE), dim=1)
    mean = arrays.element_pattern(array, towards).square().mean()
    assert float(mean) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(
    ("call", "argument", "kind"),
    [
        (lambda: arrays.upa((0, 3)), "shape", InputError),
        (lambda: arrays.ula(2.5), "antennas", InputError),
        (lambda: arrays.upa((2, 2), wavelength=0.0), "wavelength", InputError),
        (lambda: arrays.upa((2, 2), spacing=-1.0), "spacing", InputError),
        (lambda: arrays.Array(torch.zeros(4, 2), 1.0, 0.5, (4, 1)), "positions", ShapeError),
        (lambda: arrays.Array(torch.zeros(4, 3), 1.0, 0.5, (3, 1)), "shape", ShapeError),
        (
            lambda: arrays.Array(torch.full((1, 3), math.nan), 1.0, 0.5, (1, 1)),
            "positions",
            InputError,
        ),
    ],
)
def test_bad_input_is_named(call, argument, kind):
    with pytest.raises(kind) as caught:
        call()
    assert caught.value.argument == argument
