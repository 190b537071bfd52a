"""Feed networks: geometry, waves, wave-guides."""

import math

import pytest
import torch

from holobeam import frontends
from holobeam.arrays import upa
from holobeam.channels.bundled import surface_benchmark
from holobeam.errors import InputError, ShapeError, UnknownNameError

LAYOUTS = ("edge", "edge-far", "side-far", "line", "ring", "diagonal", "grid")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("chains", [1, 3, 4, 5])
def test_feeds_are_distinct_and_in_the_plane_of_the_surface(layout, chains):
    feeds = frontends.feed_positions(upa((6, 6)), chains, layout)
    assert feeds.shape == (chains, 3)
    assert torch.equal(feeds[:, 0], torch.zeros(chains, dtype=torch.float64))
    distance = torch.cdist(feeds, feeds) + torch.eye(chains) * 9
    assert distance.min() > 1e-3


def test_edge_feeds_match_the_spec_of_the_mmse_paper():
    """(-d/2, (r + .5)/R N_y d - d/2) outside the first row; ours are centred on the array."""
    array = upa((8, 8), wavelength=0.01, spacing=1 / 3)
    d = array.spacing
    feeds = frontends.feed_positions(array, 4, "edge")
    corner = array.positions.min(dim=0).values
    along = torch.tensor([(r + 0.5) / 4 * 8 * d - d / 2 for r in range(4)], dtype=torch.float64)
    assert torch.allclose(feeds[:, 1] - corner[1], along)
    assert torch.allclose(feeds[:, 2] - corner[2], torch.full((4,), -d / 2, dtype=torch.float64))


def test_edge_far_feeds_sit_one_cell_outside():
    array = upa((5, 5), spacing=0.25)
    feeds = frontends.feed_positions(array, 3, "edge-far")
    assert float(array.positions[:, 2].min() - feeds[0, 2]) == pytest.approx(array.spacing)


def test_side_far_feeds_are_those_of_the_surface_benchmark():
    array = upa((5, 5), wavelength=0.01, spacing=0.25)
    feeds = frontends.feed_positions(array, 3, "side-far")
    wave = frontends.reference_wave(array.positions, feeds, 0.01)
    assert (wave - surface_benchmark().feed).abs().max() < 1e-6


def test_reference_wave_phase_is_distance_times_wavenumber():
    array = upa((8, 8), wavelength=0.01, spacing=1 / 3)
    feeds = frontends.feed_positions(array, 4)
    wave = frontends.reference_wave(array.positions, feeds, 0.01)
    assert (wave.abs() - 1).abs().max() < 1e-14
    distance = (array.positions[13] - feeds[2]).norm()
    expected = torch.polar(
        torch.tensor(1.0).double(), -math.sqrt(3) * 2 * math.pi / 0.01 * distance
    )
    assert (wave[13, 2] - expected).abs() < 1e-12
    singular = torch.linalg.svdvals(wave)
    assert float(singular[0] / singular[-1]) == pytest.approx(1.25, abs=0.06)


def test_microstrips_are_block_diagonal_lossy_lines():
    feed = frontends.microstrips(3, 4, 0.005, attenuation=2.0, wavenumber=100.0)
    assert feed.shape == (12, 3)
    assert int((feed != 0).sum()) == 12
    strip = feed[4:8, 1]
    assert strip[0] == 1
    ratio = strip[1:] / strip[:-1]
    expected = torch.polar(
        torch.tensor(math.exp(-0.01), dtype=torch.float64), torch.tensor(-0.5).double()
    )
    assert (ratio - expected).abs().max() < 1e-14


def test_centre_feeding_is_symmetric_and_can_split_power():
    strip = frontends.microstrips(1, 5, 0.005, "centre")[:, 0]
    assert (strip - strip.flip(0)).abs().max() < 1e-14
    assert strip[2] == 1
    split = frontends.microstrips(1, 5, 0.005, "centre", split_power=True)[:, 0]
    assert (split * math.sqrt(2) - strip).abs().max() < 1e-14


def test_strips_run_up_the_columns_of_the_array():
    array = upa((4, 3), wavelength=0.01, spacing=0.25)
    feed = frontends.strips_of_array(array, 2)
    assert feed.shape == (12, 2)
    assert torch.equal((feed != 0).sum(dim=0), torch.tensor([6, 6]))
    height = array.positions[:, 2] - array.positions[:, 2].min()
    own = feed.sum(dim=1)
    assert (own - torch.polar((-0.6 * height).exp(), -827.67 * height)).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("call", "argument", "kind"),
    [
        (lambda a: frontends.feed_positions(a, 0), "rf_chains", InputError),
        (lambda a: frontends.feed_positions(a, 2, "edgy"), "layout", UnknownNameError),
        (lambda a: frontends.strips_of_array(a, 3), "rf_chains", InputError),
        (lambda a: frontends.microstrips(2, 0, 1.0), "elements", InputError),
        (lambda a: frontends.microstrips(2, 2, -1.0), "spacing", InputError),
        (lambda a: frontends.microstrips(2, 2, 1.0, "right"), "feeding", UnknownNameError),
        (lambda a: frontends.microstrips(2, 2, 1.0, attenuation=-1.0), "spacing", InputError),
        (
            lambda a: frontends.reference_wave(a.positions[:, :2], a.positions, 1.0),
            "positions",
            ShapeError,
        ),
        (
            lambda a: frontends.reference_wave(a.positions, a.positions, 0.0),
            "wavelength",
            InputError,
        ),
    ],
)
def test_bad_input_is_named(call, argument, kind):
    with pytest.raises(kind) as caught:
        call(upa((4, 3)))
    assert caught.value.argument == argument
