"""Slow controls, fast precoders; and channels that are followed."""

import pytest
import torch

import holobeam as hb
from holobeam.channels import channel_track, faded, headings, munich, munich_drops, munich_panel
from holobeam.errors import InputError, ShapeError, UnsupportedError
from holobeam.robust import TwoTimescale, follow_channel, follow_track, two_timescale
from holobeam.testing import gaussian

SHAPE = (4, 4)


def city(count=4, kind="phase-shifters", samples=8):
    panel, paths = munich_panel(SHAPE), munich()
    drops = munich_drops()
    drops = drops[paths.line_of_sight[drops].all(dim=1)][:count]
    h = faded(paths, panel, drops, samples=1, seed=9, noise_dbm=-85.0)[0]
    statistics = faded(paths, panel, drops, samples=samples, seed=1, noise_dbm=-85.0)
    frontend = hb.frontends.build(kind, panel.array, rf_chains=4)
    return hb.Downlink(h, frontend, noise_power=1.0, power=100.0), statistics


@pytest.mark.parametrize("kind", ["phase-shifters", "rhs", "dma"])
def test_slow_controls_keep_most_of_the_rate(kind):
    problem, statistics = city(8, kind)
    full = hb.solve(problem, "vp")
    slow = hb.solve(problem, two_timescale(statistics, 8))
    assert float(slow.violation.max()) < 1e-9
    assert 0.8 * float(full.sum_rate.mean()) < float(slow.sum_rate.mean())
    # Controls know nothing of the channel as it is.
    other = problem.with_(h=faded(
        munich(), munich_panel(SHAPE), munich_drops()[:8], samples=1, seed=3, noise_dbm=-85.0
    )[0])  # fmt: skip
    assert torch.equal(hb.solve(other, two_timescale(statistics, 8)).control, slow.control)


def test_knowing_the_channel_is_the_limit_of_one_sample():
    problem, _ = city()
    one = hb.solve(problem, two_timescale(problem.h.unsqueeze(0), 1))
    full = hb.solve(problem, "vp")
    # Last digits of torch's products go by where memory lies: not the same bits in every process.
    assert torch.allclose(one.control, full.control, rtol=0, atol=1e-12)
    assert bool((one.sum_rate >= full.sum_rate * 0.999).all())


def test_statistics_are_asked_for():
    problem, statistics = city()
    with pytest.raises(InputError, match="statistics"):
        hb.solve(problem, TwoTimescale())
    with pytest.raises(ShapeError, match="8 samples; need 9"):
        hb.solve(problem, two_timescale(statistics, 9))
    with pytest.raises(ShapeError, match="samples"):
        hb.solve(problem, two_timescale(statistics[:, :2], 8))
    digital = hb.Downlink(problem.h, hb.frontends.fully_digital(16), noise_power=1.0)
    with pytest.raises(UnsupportedError, match="no control"):
        hb.solve(digital, two_timescale(statistics, 8))


def test_a_fixed_control_is_kept_and_v_is_at_least_rzf():
    problem, _ = city()
    control = problem.frontend.sample(4, torch.Generator().manual_seed(0), problem.h.dtype, "cpu")
    found = follow_channel(problem, control)
    # Projected onto its set once more: last digits may move.
    torch.testing.assert_close(found.control, control, rtol=0, atol=1e-12)
    link = problem.link(control)
    start = hb.solvers.starts.digital_start(problem, link)
    assert bool((found.sum_rate >= problem.rates(link, start).sum(dim=1) - 1e-9).all())


def test_warm_starts_follow_slow_users():
    panel, drops = munich_panel(SHAPE), munich_drops()[:4]
    track = channel_track(
        munich(), panel, drops, velocity=headings(2000, 1.0, 0),
        times=1.25e-4 * torch.arange(5).double(), noise_dbm=-85.0,
    )  # fmt: skip
    frontend = hb.frontends.build("rhs", panel.array, rf_chains=4)
    problem = hb.Downlink(track[0], frontend, noise_power=1.0, power=100.0)
    first = hb.solve(problem, "mmse-fast")
    best = follow_track(problem, track, "mmse-fast", iterations=80, warm=False).sum(dim=2)
    warm = follow_track(problem, track, "mmse-fast", iterations=3, first=first).sum(dim=2)
    cold = follow_track(problem, track, "mmse-fast", iterations=3, warm=False).sum(dim=2)
    assert best.shape == (5, 4)
    assert float(warm.mean()) > 0.95 * float(best.mean())
    assert float(warm.mean()) > float(cold.mean())
    with pytest.raises(ShapeError, match="track"):
        follow_track(problem, gaussian((2, 3), 0), "vp", iterations=1)
