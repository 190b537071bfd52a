"""What a network must not depend on: the order of users and elements, phases, the feed's basis."""

import pytest
import torch

from .surface_networks import (
    BLIND,
    EQUIVARIANT,
    INVARIANT,
    channels,
    designed,
    downlink,
    make,
    surface,
)

TIGHT = 1e-9
SNR = torch.tensor([-5.0, 5.0, 10.0, 20.0, 30.0], dtype=torch.float64)


def _same(one, other, tolerance=TIGHT):
    for a, b in zip(one, other, strict=True):
        assert (a - b).abs().max() < tolerance


@pytest.mark.parametrize("name", EQUIVARIANT)
def test_elements_with_their_rows_of_the_feed(name):
    h, feed, order = channels(), surface(), torch.randperm(12, generator=_generator())
    network = make(name)
    control, beams, rate = designed(network, downlink(h, feed, SNR))
    moved = designed(network, downlink(h[..., order], feed[order], SNR))
    _same(moved, (control[:, order], beams[:, order], rate))
    assert control.std(dim=1).min() > 1e-4, "a constant answer proves nothing"


@pytest.mark.parametrize("name", EQUIVARIANT)
def test_users(name):
    h, feed, order = channels(users=4), surface(), torch.tensor([2, 0, 3, 1])
    network = make(name)
    control, beams, rate = designed(network, downlink(h, feed, SNR))
    moved = designed(network, downlink(h[:, :, order], feed, SNR))
    _same(moved, (control, beams[:, :, order], rate))


@pytest.mark.parametrize("name", INVARIANT)
def test_basis_and_order_of_the_feed(name):
    h, feed = channels(), surface()
    network = make(name)
    plain = designed(network, downlink(h, feed, SNR))
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=feed.dtype, generator=_generator()))[0]
    _same(designed(network, downlink(h, feed @ turn, SNR)), plain)
    _same(designed(network, downlink(h, feed[:, [2, 0, 1]], SNR)), plain)


@pytest.mark.parametrize("name", INVARIANT)
def test_phase_of_every_user(name):
    h, feed = channels(), surface()
    angle = torch.rand(5, 1, 3, 1, dtype=torch.float64, generator=_generator()) * 6.28
    phase = torch.polar(torch.ones_like(angle), angle)
    network = make(name)
    control, beams, rate = designed(network, downlink(h, feed, SNR))
    turned = designed(network, downlink(h * phase.conj(), feed, SNR))
    _same(turned, (control, beams * phase[:, 0].mT, rate))


@pytest.mark.parametrize("name", BLIND)
def test_blind_amplitudes_follow_the_elements_alone(name):
    """Its amplitudes know nothing of the feed: so they can't interfere with its wave on purpose."""
    h, feed, order = channels(), surface(), torch.randperm(12, generator=_generator())
    network = make(name)
    control, _, rate = designed(network, downlink(h, feed, SNR))
    moved, _, other = designed(network, downlink(h[..., order], feed, SNR))
    assert (moved - control[:, order]).abs().max() < TIGHT
    assert (rate - other).abs().max() > 1e-2, "the rate must know of the feed"


@pytest.mark.parametrize("name", ["mb-dnn", "2dgnn", "mb-dnn-plus", "unrolled-mmse"])
def test_aware_amplitudes_do_not(name):
    h, feed, order = channels(), surface(), torch.randperm(12, generator=_generator())
    network = make(name)
    control = designed(network, downlink(h, feed, SNR))[0]
    moved = designed(network, downlink(h[..., order], feed, SNR))[0]
    assert (moved - control[:, order]).abs().max() > 1e-4


@pytest.mark.parametrize("name", EQUIVARIANT)
def test_scale_of_channel_and_noise(name):
    if name == "mb-dnn-printed":
        pytest.skip("it sees channels as they are")
    h, feed = channels(), surface()
    network = make(name)
    plain = designed(network, downlink(h, feed, 10.0))
    _same(designed(network, downlink(1e-3 * h, feed, 70.0)), plain)


def _generator():
    return torch.Generator().manual_seed(7)
