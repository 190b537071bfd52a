"""Compiled twins of mb-dnn, of plain networks and of the head against torch, their oracle."""

from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import holobeam as hb
from holobeam.errors import UnsupportedError
from holobeam.learned import compiled, compiled_graph, zoo
from holobeam.learned.network import Learned
from holobeam.learned.scene import span
from holobeam.learned.zoo import build
from holobeam.testing import degenerate_channels, gaussian

from .surface_networks import channels, downlink, make, surface

SERVED = ("mb-dnn", "mb-dnn-blind", "2dgnn-mmse", "fnn", "mb-dnn-plus", "mb-dnn-unrolled")


@torch.no_grad()
def both(net, at):
    """What the compiled twin and torch give."""
    net = net.matching(at)
    assert compiled.serves(net, at)
    fused, serves = net(at), compiled.serves
    compiled.serves = lambda *_: False
    try:
        return fused, net(at)
    finally:
        compiled.serves = serves


def agree(at, fused, slow, tolerance):
    """Same controls, rates, and feasible precoders."""
    assert torch.allclose(fused.control, slow.control, rtol=0, atol=tolerance)
    for one, other in zip(fused.utilities, slow.utilities, strict=True):
        assert torch.allclose(one, other, rtol=tolerance, atol=tolerance)
    points = [at.feasible(trace.control, trace.digital)[1] for trace in (fused, slow)]
    assert torch.allclose(*points, rtol=0, atol=10 * tolerance)


@pytest.mark.parametrize("name", SERVED)
def test_in_double_precision(name):
    snr_db = torch.tensor([-20.0, 0.0, 10.0, 20.0, 40.0], dtype=torch.float64)
    at = downlink(channels(), surface(), snr_db)
    agree(at, *both(make(name), at), 1e-9)


@pytest.mark.parametrize("name", SERVED)
def test_single_precision_to_its_rounding(name):
    h, feed, net = channels(40), surface(), make(name)
    at, wide = downlink(h.to(torch.complex64), feed), downlink(h, feed)
    fused, exact = both(net, at)[0], both(net, wide)[1]
    assert fused.control.dtype == fused.digital.dtype == torch.complex64
    assert torch.allclose(fused.utilities[-1].double(), exact.utilities[-1], rtol=1e-4, atol=1e-4)
    assert (fused.control - exact.control).abs().max() < 1e-3
    judged = at.utility(at.link(fused.control), fused.digital)
    assert torch.allclose(judged, fused.utilities[-1], rtol=1e-4, atol=1e-4)


@settings(max_examples=15, deadline=None)
@given(
    antennas=st.integers(1, 30),
    users=st.integers(1, 5),
    chains=st.integers(1, 5),
    widths=st.sampled_from([(16, 16, 16, 2), (8, 8, 2), (20, 34, 2), (2, 18, 18, 2)]),
    feed_aware=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_graphs_of_any_size(antennas, users, chains, widths, feed_aware, seed):
    chains = min(chains, antennas)
    torch.manual_seed(seed)
    net = build("mb-dnn", rf_chains=chains, widths=widths, feed_aware=feed_aware).eval()
    assert compiled_graph.knows(net)
    generator = torch.Generator().manual_seed(seed)
    feed = torch.randn((antennas, chains), generator=generator, dtype=torch.complex128)
    at = downlink(gaussian((18, 1, users, antennas), seed), feed)
    fused, slow = both(net, at)
    assert torch.allclose(fused.control, slow.control, rtol=0, atol=1e-9)
    assert torch.allclose(fused.utilities[0], slow.utilities[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["mb-dnn", "fnn"])
def test_degenerate_channels(name):
    at = downlink(degenerate_channels(3, 12), surface())
    fused, slow = both(make(name), at)
    assert torch.isfinite(fused.control.abs()).all()
    assert torch.isfinite(fused.digital.abs()).all()
    assert torch.allclose(fused.utilities[0], slow.utilities[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["mb-dnn", "fnn", "mb-dnn-unrolled"])
def test_weights_that_ship(name):
    """Rates of whole solves in single precision are those of torch in double."""
    h = gaussian((64, 1, 3, 25), 3)
    frontend = hb.frontends.rhs(hb.channels.surface_benchmark().feed)
    at = hb.Downlink(h.to(torch.complex64), frontend, snr_db=10.0)
    wide = hb.Downlink(h, frontend, snr_db=10.0)
    exact = both(zoo.learned(name).network, wide)[1]
    rates = hb.solve(at, name).sum_rate
    assert torch.allclose(rates.double(), exact.utilities[-1], rtol=2e-3)
    assert abs(float(rates.mean() / exact.utilities[-1].mean()) - 1.0) < 1e-5


def test_a_channel_does_not_depend_on_its_mates(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    at = downlink(channels(100).to(torch.complex64), surface())
    solver = Learned(network=make("mb-dnn"))
    whole, alone = solver(at), solver(at.take(torch.tensor([77])))
    assert torch.equal(whole.control[77:78], alone.control)
    assert torch.equal(whole.digital[77:78], alone.digital)


def test_weights_written_are_seen():
    net, at = make("mb-dnn").double(), downlink(channels(), surface())
    with torch.no_grad():
        first = net(at).control
        net.layers[1].edge.weight.mul_(1.5)
        assert torch.equal(net(at).control, deepcopy(net).eval()(at).control)
        assert not torch.equal(net(at).control, first)
        # As many elements or not: what a layer pools depends on their number.
        other = downlink(channels(shape=(3, 3)), surface((3, 3)))
        assert torch.equal(net(other).control, deepcopy(net).eval()(other).control)
        assert torch.equal(net(at).control, deepcopy(net).eval()(at).control)


def _through_data(feed):
    feed.data.copy_(feed.data.flip(0))


def _through_numpy(feed):
    array = feed.numpy()
    array[:] = array[::-1].copy()


@pytest.mark.parametrize("write", [_through_data, _through_numpy, lambda f: f.copy_(f.flip(0))])
@pytest.mark.parametrize("name", ["mb-dnn", "mb-dnn-plus", "unrolled-mmse"])
def test_a_feed_that_is_written_to_is_seen(name, write):
    frontend = hb.frontends.rhs(surface())
    at = hb.Downlink(channels(), frontend, snr_db=10.0)
    net = make(name).double()
    with torch.no_grad():
        before = net(at).control
        write(at.frontend.feed)
        after = net(at).control
        fresh = net(downlink(channels(), at.frontend.feed.clone())).control
    assert torch.equal(after, fresh)
    assert not torch.allclose(after, before, atol=1e-6)


def test_a_network_that_knows_its_feed_notices_another_one_in_place():
    net, at = make("fnn").double(), downlink(channels(), surface())
    net.train()(at)
    net.eval()
    assert net.refusal(at) is None
    at.frontend.feed.mul_(2.0)  # the same span
    assert net.refusal(at) is None
    at.frontend.feed.copy_(at.frontend.feed.flip(0).conj() + 0.3)
    assert "another feed" in net.refusal(at)
    with pytest.raises(UnsupportedError):
        Learned(network=net)(at)
    with torch.no_grad():
        net.feed.zero_()
    assert net.refusal(at) is None


def test_spans_are_kept_but_not_shared():
    frontend = hb.frontends.rhs(surface())
    kept = span(frontend)
    assert span(frontend) is kept
    copied = deepcopy(frontend)
    copied.feed.mul_(1j)
    assert span(copied) is not kept
    assert torch.allclose(span(copied).entries, 1j * kept.entries)
    assert span(frontend) is kept
    with torch.inference_mode():
        assert span(frontend) is not kept
    assert not span(frontend).feed.is_inference()


@torch.no_grad()
def test_two_passes_are_the_better_of_two():
    at = downlink(channels(40), surface())
    net = zoo.learned("unrolled-mmse").network.matching(at)
    fused = net.best(at, 2)
    first = net(at)
    second = net(at, first.control)
    most = torch.maximum(first.utilities[-1], second.utilities[-1])
    assert torch.allclose(fused.utilities[-1], most, rtol=1e-9)
    more = (second.utilities[-1] > first.utilities[-1])[:, None, None]
    chosen = torch.where(more, second.control, first.control)
    assert torch.allclose(fused.control, chosen, atol=1e-9)
    assert 0 < int(more.sum()) < 40


def test_readings_of_the_paper_take_torch():
    for name in ("mb-dnn-wls", "mb-dnn-conjugate", "mb-dnn-printed", "2dgnn-mmse"):
        assert not compiled_graph.knows(make(name))
