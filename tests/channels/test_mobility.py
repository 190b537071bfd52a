"""Moving users: geometry by hand, Doppler shifts, and paths with errors."""

import math

import pytest
import torch

from holobeam.arrays import direction, upa
from holobeam.channels import (
    LaplacianClusters,
    Panel,
    PathError,
    RayPaths,
    SalehValenzuela,
    channel_track,
    faded,
    headings,
    moved,
    munich,
    munich_drops,
    munich_panel,
    path_wise,
)
from holobeam.channels.mobility import arrival_directions
from holobeam.errors import InputError, ShapeError
from holobeam.units import SPEED_OF_LIGHT, wavelength


def mirror_city():
    """One user before a wall at y = 20 m: a line of sight and one mirror reflection."""
    station, user = torch.zeros(3).double(), torch.tensor([[40.0, 5.0, -10.0]]).double()
    image = torch.tensor([[40.0, 35.0, -10.0]]).double()
    ways = torch.stack([user[0], image[0]])
    length = ways.norm(dim=1)
    zenith = (ways[:, 2] / length).acos()
    azimuth = torch.atan2(ways[:, 1], ways[:, 0])
    gain = torch.tensor([[1e-3, 5e-4]], dtype=torch.complex128)
    return RayPaths(
        gain, (length / SPEED_OF_LIGHT)[None], zenith[None], azimuth[None], user, station, 28e9
    )


def test_arrivals_of_a_mirror_are_found():
    paths = mirror_city()
    found = arrival_directions(paths)[0]
    way = paths.user_position[0]
    assert torch.allclose(found[0], way / way.norm(), atol=1e-9)
    # Behind the wall the wave of the image goes on with its y turned round.
    ahead = torch.tensor([40.0, -35.0, -10.0]).double()
    assert torch.allclose(found[1], ahead / ahead.norm(), atol=1e-9)


def test_moved_paths_have_the_lengths_of_the_geometry():
    paths = mirror_city()
    velocity = torch.tensor([[3.0, -2.0, 0.5]]).double()
    later = moved(paths, velocity, 0.2)
    user = paths.user_position[0] + 0.2 * velocity[0]
    image = user * torch.tensor([1.0, -1.0, 1.0]) + torch.tensor([0.0, 40.0, 0.0])
    lengths = torch.stack([user.norm(), image.norm()])
    assert torch.allclose(SPEED_OF_LIGHT * later.delay[0], lengths, rtol=1e-12)
    straight = direction(later.zenith, later.azimuth)[0, 0]
    assert torch.allclose(straight, user / user.norm(), atol=1e-9)


def test_the_doppler_shift_is_that_of_the_speed():
    paths = mirror_city()
    way = paths.user_position / paths.user_position.norm()
    panel = Panel(upa((2, 2), wavelength(28e9), 0.5))
    alone = RayPaths(
        paths.gain[:, :1], paths.delay[:, :1], paths.zenith[:, :1], paths.azimuth[:, :1],
        paths.user_position, paths.bs_position, 28e9,
    )  # fmt: skip
    times = torch.tensor([0.0, 1e-4]).double()
    users = torch.tensor([[0]])
    track = channel_track(alone, panel, users, velocity=10.0 * way, times=times)
    turn = (track[1] * track[0].conj()).angle().mean()
    assert float(turn) == pytest.approx(-2 * math.pi * 10.0 / wavelength(28e9) * 1e-4, rel=1e-4)


def test_users_that_stand_still_keep_their_channels():
    panel, users = munich_panel((4, 4)), munich_drops()[:3]
    still = channel_track(
        munich(), panel, users, velocity=headings(2000, 0.0, 0), times=torch.arange(3.0).double()
    )
    plain = munich().channel(panel, users)
    assert float((still - plain).abs().max()) < 1e-6 * float(plain.abs().max())


def test_faster_users_change_sooner():
    panel, users = munich_panel((4, 4)), munich_drops()[:8]
    times = torch.tensor([0.0, 1.25e-4]).double()
    kept = []
    for speed in (1.0, 10.0):
        track = channel_track(
            munich(), panel, users, velocity=headings(2000, speed, 0), times=times
        )
        inner = (track[0].conj() * track[1]).sum(dim=3).abs()
        kept.append(float((inner / track.norm(dim=4).prod(dim=0)).mean()))
    assert 1.0 > kept[0] > kept[1]


def test_fading_keeps_the_power_of_the_paths():
    panel, users = munich_panel((4, 4)), munich_drops()[:4]
    h = faded(munich(), panel, users, samples=400, seed=0)
    assert h.shape == (400, 4, 1, 4, 16)
    again = faded(munich(), panel, users, samples=2, seed=0)
    assert torch.equal(again, h[:2])
    alone = [moved(munich(), headings(2000, 0.0, 0), 0.0).channel(panel, users).abs().square()]
    ratio = h.abs().square().mean(dim=0) / alone[0]
    # Mean over elements and users of the same paths, in other phases.
    assert 0.5 < float(ratio.log().mean().exp()) < 2.0


def test_bad_motion_is_named():
    with pytest.raises(ShapeError, match="velocity"):
        moved(munich(), torch.zeros(3, 3), 0.0)
    with pytest.raises(InputError, match="speed"):
        headings(3, -1.0, 0)
    with pytest.raises(InputError, match="seconds"):
        moved(munich(), torch.zeros(2000, 3), float("nan"))


# -- paths with errors ----


@pytest.mark.parametrize("model", [path_wise((4, 4)), SalehValenzuela(16), LaplacianClusters(16)])
def test_path_errors_belong_to_the_channels_of_the_seed(model):
    h, seen = PathError(1.0, 0.05).observe(model, 20, 3, draws=4)
    assert torch.equal(h, model.sample(20, seed=3))
    assert seen.h.shape == (4, 20, 1, 4, 16)
    part, other = PathError(1.0, 0.05).observe(model, 5, 3, draws=2, start=10)
    assert torch.equal(part, h[10:15])
    assert torch.equal(other.h, seen.h[:2, 10:15])
    exact = PathError(0.0, 0.0).observe(model, 20, 3)[1]
    assert torch.allclose(exact.h, h)
    assert float(exact.error_variance.max()) < 1e-20


def test_the_believed_error_is_about_right():
    h, seen = PathError(2.0, 0.1).observe(LaplacianClusters(32), 200, 0)
    true = (seen.h - h).abs().square().mean()
    assert float(seen.error_variance.mean()) == pytest.approx(float(true), rel=0.2)


def test_gain_errors_have_their_power():
    h, seen = PathError(0.0, 0.2).observe(SalehValenzuela(16), 400, 0)
    assert float((seen.h - h).abs().square().mean() / h.abs().square().mean()) == pytest.approx(
        0.2, rel=0.1
    )


def test_rays_with_errors_keep_their_delays():
    seen = PathError(1.0, 0.1).observe_rays(munich(), 0)
    assert torch.equal(seen.delay, munich().delay)
    off = (seen.azimuth - munich().azimuth).std()
    assert float(off) == pytest.approx(math.radians(1.0), rel=0.05)
    with pytest.raises(InputError, match="angle_deg"):
        PathError(-1.0)
