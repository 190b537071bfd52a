"""Every network on surfaces: feasible, honest about its rate, finite wherever it is put."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import holobeam as hb
from holobeam.errors import InputError, UnknownNameError, UnsupportedError
from holobeam.learned.network import Learned
from holobeam.learned.zoo import build
from holobeam.testing import degenerate_channels

from .surface_networks import EQUIVARIANT, MODELS, channels, designed, downlink, make, surface

AWARE = ("mb-dnn", "mb-dnn-wls", "mb-dnn-conjugate", "2dgnn", "2dgnn-mmse")
ANY_SIZE = tuple(n for n in EQUIVARIANT if n not in AWARE)


def _solve(name, problem):
    network = make(name)
    return hb.solve(problem, Learned(network=network))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_solutions_are_feasible(name, dtype):
    snr_db = torch.tensor([-20.0, 0.0, 20.0, 40.0, 60.0])
    problem = downlink(channels().to(dtype), surface(), snr_db)
    solution = _solve(name, problem)
    assert solution.control.dtype == dtype
    assert solution.violation.max() < (1e-5 if dtype == torch.complex64 else 1e-9)
    assert (solution.radiated_power - 1.0).abs().max() < 1e-5
    shares = solution.control.real
    assert shares.min() >= 0.0
    assert (shares.amax(dim=1) - 1.0).abs().max() < 1e-6


@pytest.mark.parametrize("name", MODELS)
def test_utility_of_the_loss_is_that_of_the_problem(name):
    snr_db = torch.tensor([-20.0, 0.0, 10.0, 20.0, 40.0], dtype=torch.float64)
    problem = downlink(channels(), surface(), snr_db)
    with torch.no_grad():
        made = make(name).double()(problem)
    judged = problem.utility(problem.link(made.control), made.digital)
    assert (made.utilities[-1] - judged).abs().max() < 1e-6
    control, digital = problem.feasible(made.control, made.digital)
    settled = problem.utility(problem.link(control), digital)
    assert (made.utilities[-1] - settled).abs().max() < 1e-6
    factor = 0.3
    scaled = problem.utility(problem.link(factor * made.control), made.digital / factor)
    assert (scaled - judged).abs().max() < 1e-6


@pytest.mark.parametrize("name", MODELS)
def test_every_layer_is_scored(name):
    made = make(name)(downlink(channels().to(torch.complex64), surface()))
    deep = {"mb-dnn-unrolled": 4, "unrolled-mmse": 6}
    assert len(made.utilities) == deep.get(name, 1)
    for utility in made.utilities:
        assert utility.shape == (5,)
        assert (utility > 0).all()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("snr_db", [-10.0, 10.0, 40.0])
def test_degenerate_channels(name, snr_db):
    """No user, one absent, twins, gains 60 dB apart, channels of size 1e-6 and 1e6."""
    h = degenerate_channels(3, 12).to(torch.complex64)
    solution = _solve(name, downlink(h, surface(), snr_db))
    assert torch.isfinite(solution.rates).all()
    assert torch.isfinite(solution.control.real).all()
    assert solution.violation.max() < 1e-4


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("snr_db", [-20.0, 0.0, 20.0, 40.0, 60.0])
def test_gradients_are_finite(name, snr_db):
    h = torch.cat([channels(3), degenerate_channels(3, 12)]).to(torch.complex64)
    network = make(name).requires_grad_(True).train()
    utilities = network(downlink(h, surface(), snr_db)).utilities
    sum(u.mean() for u in utilities).backward()
    grown = 0.0
    for label, parameter in network.named_parameters():
        assert parameter.grad is not None, f"{label} is not in use"
        assert torch.isfinite(parameter.grad).all(), label
        grown += float(parameter.grad.abs().sum())
    assert grown > 0.0


@pytest.mark.parametrize("name", ANY_SIZE)
def test_a_nearly_dependent_feed(name):
    """6 x 6 elements, 7 chains at the edge: condition 45."""
    h = channels(4, users=5, shape=(6, 6))
    feed = surface((6, 6), 7)
    assert torch.linalg.cond(feed) > 40
    wide = _solve(name, downlink(h, feed, 10.0))
    narrow = _solve(name, downlink(h.to(torch.complex64), feed, 10.0))
    assert narrow.violation.max() < 1e-4
    assert torch.allclose(narrow.sum_rate.double(), wide.sum_rate, atol=2e-2)


@pytest.mark.parametrize("name", ANY_SIZE)
@pytest.mark.parametrize(("users", "chains"), [(1, 1), (2, 4), (5, 2)])
def test_any_number_of_users_and_chains(name, users, chains):
    problem = downlink(channels(3, users).to(torch.complex64), surface(chains=chains))
    solution = _solve(name, problem)
    assert torch.isfinite(solution.sum_rate).all()
    assert solution.violation.max() < 1e-4


@pytest.mark.parametrize("name", ["mb-dnn", "2dgnn"])
def test_a_network_that_sees_the_feed_has_its_number_of_chains(name):
    network = make(name)
    two = downlink(channels(2), surface(chains=2))
    assert "3 RF chains, not 2" in network.refusal(two)
    other = downlink(channels(2, users=5, shape=(5, 5)), surface((5, 5)))
    assert network.refusal(other) is None
    assert torch.isfinite(_solve(name, other).sum_rate).all()
    with pytest.raises(UnsupportedError, match="RF chains"):
        _solve(name, two)


@pytest.mark.parametrize(
    ("users", "shape", "chains", "said"),
    [(2, (4, 3), 3, "3 users, not 2"), (3, (5, 5), 3, "12 elements, not 25"), (3, (4, 3), 2, "RF")],
)
def test_a_plain_network_has_its_sizes(users, shape, chains, said):
    with pytest.raises(UnsupportedError, match=said):
        _solve("fnn", downlink(channels(2, users, shape), surface(shape, chains)))


def test_a_plain_network_has_its_feed():
    """It takes any basis of the span that it was trained on, and says no to another span."""
    h, feed = channels(), surface()
    network = make("fnn-direct").train()
    network(downlink(h.to(torch.complex64), feed))
    network = network.eval()
    plain = designed(network, downlink(h, feed))
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=feed.dtype))[0]
    for one, other in zip(designed(network, downlink(h, feed @ turn)), plain, strict=True):
        assert (one - other).abs().max() < 1e-6
    assert network.refusal(downlink(h, feed @ turn)) is None
    assert "another feed" in network.refusal(downlink(h, surface(layout="ring")))
    single = downlink(h.to(torch.complex64), feed)
    assert network.refusal(single) is None


@pytest.mark.parametrize("name", MODELS)
def test_what_is_not_an_amplitude_surface_is_refused(name):
    network = make(name)
    h = channels(2)
    for problem in (
        hb.Downlink(h, hb.frontends.phase_shifters(12, 3), snr_db=10.0),
        hb.Downlink(h, hb.frontends.rhs(surface(), levels=2), snr_db=10.0),
        hb.Downlink(h, hb.frontends.rhs(surface()), snr_db=10.0, power_at="feeds"),
        hb.Downlink(h.repeat(1, 2, 1, 1), hb.frontends.rhs(surface()), snr_db=10.0),
    ):
        assert network.refusal(problem)


def test_options_are_checked():
    for options in ({"head": "mse"}, {"head": "direct"}, {"variant": "right"}):
        with pytest.raises(UnknownNameError):
            build("mb-dnn", **options)
    for widths in ((16,), (15, 2), (16, 4)):
        with pytest.raises(InputError, match="widths"):
            build("mb-dnn", widths=widths)
    with pytest.raises(UnknownNameError):
        build("fnn", head="zf")


def test_sizes_are_those_of_the_paper():
    """The baseline's 4.10 M weights: five matrices a layer, no biases."""
    widths = (32, 512, 512, 512, 512, 32, 2)
    network = build("2dgnn", feed_aware=False, snr_aware=False, head="ls", widths=widths)
    pairs = sum(a * b for a, b in zip((2, *widths), widths, strict=False))
    assert 5 * pairs == 4_096_640
    matrices = sum(p.numel() for p in network.parameters() if p.ndim == 2)
    # Three matrices of edges, two from vertices and one between vertices: one more a layer, and
    # the first layer's vertices have one channel, not two.
    assert matrices == 6 * pairs - 2 * widths[0]
    with torch.no_grad():
        made = network(downlink(channels().to(torch.complex64), surface()))
    assert torch.isfinite(made.utilities[-1]).all()


@given(st.integers(0, 2**31), st.sampled_from(["mb-dnn-plus", "mb-dnn", "mb-dnn-blind"]))
def test_rates_do_not_depend_on_batch_mates(seed, name):
    h = channels(4, seed=seed)
    network = make(name, seed=seed % 17).double()
    together = designed(network, downlink(h, surface()))
    alone = designed(network, downlink(h[2:3], surface()))
    for one, all_ in zip(alone, together, strict=True):
        assert (one[0] - all_[2]).abs().max() < 1e-9
