"""The compiled twin of ``unrolled-mmse`` against the walk in torch, which is its oracle."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

import holobeam as hb
from holobeam.kernels import vectors
from holobeam.learned import compiled
from holobeam.learned.network import Learned
from holobeam.learned.unrolled import UnrolledMmse
from holobeam.testing import degenerate_channels, gaussian


def network(seed=0, dtype=torch.float64, **options):
    """A network none of whose weights is 0, and whose moves are large."""
    torch.manual_seed(seed)
    made = UnrolledMmse(
        **{"layers": 3, "hidden": 24, "edge_width": 32, "node_width": 48, **options}
    )
    with torch.no_grad():
        for layer in made.layers:
            layer.out.weight.normal_(0.0, 0.1)
            layer.out.bias.normal_(0.0, 0.1)
    return made.to(dtype).eval().requires_grad_(False)


def problem(shape=(5, 3, 25), chains=3, dtype=torch.complex128, seed=0, snr_db=10.0, **options):
    h = gaussian((shape[0], 1, *shape[1:]), seed).to(dtype)
    angles = 6.28 * torch.rand(shape[2], chains, generator=torch.Generator().manual_seed(seed + 1))
    feed = torch.polar(torch.ones_like(angles), angles).to(torch.complex128)
    return hb.Downlink(h, hb.frontends.rhs(feed), snr_db=snr_db, **options)


@torch.no_grad()
def both(net, at, control=None):
    """What the compiled twin and the walk in torch give."""
    assert compiled.serves(net, at)
    fused = net(at, control)
    net.training = True  # the walk in torch; nothing in it depends on the mode otherwise
    try:
        return fused, net(at, control)
    finally:
        net.training = False


def agree(at, fused, slow, tolerance):
    for one, other in zip(fused.utilities, slow.utilities, strict=True):
        assert torch.allclose(one, other, rtol=tolerance, atol=tolerance)
    rates = [at.utility(at.link(trace.control), trace.digital) for trace in (fused, slow)]
    assert torch.allclose(*rates, rtol=tolerance, atol=tolerance)


@settings(max_examples=25, deadline=None)
@given(
    antennas=st.integers(1, 40),
    users=st.integers(1, 6),
    chains=st.integers(1, 6),
    snr_db=st.sampled_from([-30.0, 0.0, 15.0, 40.0]),
    seed=st.integers(0, 10**6),
)
def test_any_size_in_double_precision(antennas, users, chains, snr_db, seed):
    at = problem((3, users, antennas), min(chains, antennas), seed=seed, snr_db=snr_db)
    fused, slow = both(network(seed), at)
    agree(at, fused, slow, 1e-9)
    assert torch.allclose(fused.control, slow.control, atol=1e-8)
    assert torch.allclose(fused.digital, slow.digital, atol=1e-7)


@pytest.mark.parametrize("widths", [(1, 1, 1), (5, 17, 16), (14, 16, 33), (40, 48, 20)])
def test_any_width(widths):
    hidden, edge, node = widths
    net = network(hidden=hidden, edge_width=edge, node_width=node)
    at = problem()
    fused, slow = both(net, at)
    agree(at, fused, slow, 1e-9)
    assert torch.allclose(fused.control, slow.control, atol=1e-9)


def test_single_precision_to_its_rounding():
    at = problem((64, 3, 25), dtype=torch.complex64)
    fused, slow = both(network(dtype=torch.float32, layers=10), at)
    assert fused.control.dtype == torch.complex64
    assert fused.digital.dtype == torch.complex64
    assert fused.utilities[0].dtype == torch.float32
    agree(at, fused, slow, 1e-4)


def test_noise_budgets_starts_and_losses():
    noise = torch.tensor([0.01, 0.3, 2.0], dtype=torch.float64)
    at = problem()
    frontend = hb.frontends.Frontend(
        at.frontend.feed, at.frontend.element_set, insertion_loss_db=3.0
    )
    power = torch.linspace(0.5, 4.0, 5, dtype=torch.float64)
    at = hb.Downlink(at.h, frontend, noise_power=noise, power=power)
    control = torch.rand(at.shapes["control"], generator=torch.Generator().manual_seed(1)).to(at.h)
    net = network()
    fused, slow = both(net, at, control)
    agree(at, fused, slow, 1e-9)
    assert not torch.allclose(fused.control, both(net, at)[0].control, atol=1e-3)


def test_degenerate_channels():
    h = degenerate_channels(3, 16)
    at = hb.Downlink(h, problem((1, 3, 16)).frontend, snr_db=10.0)
    fused, slow = both(network(), at)
    for trace in (fused, slow):
        assert torch.isfinite(trace.control.abs()).all()
        assert torch.isfinite(trace.digital.abs()).all()
    agree(at, fused, slow, 1e-6)


def test_a_channel_does_not_depend_on_its_mates(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    net, at = network(dtype=torch.float32), problem((200, 3, 25), dtype=torch.complex64)
    solver = Learned(network=net)
    whole = solver(at)
    alone = solver(at.take(torch.tensor([77])))
    assert torch.equal(whole.control[77:78], alone.control)
    assert torch.equal(whole.digital[77:78], alone.digital)


def test_weights_written_replaced_or_cast_are_seen():
    net, at = network(), problem()

    def fresh():
        """What a network gives that has never been packed."""
        return deepcopy(net).eval()(at)

    with torch.no_grad():
        first = net(at).control
        net.layers[1].node.weight.mul_(1.5)
        assert torch.equal(net(at).control, fresh().control)
        assert not torch.equal(net(at).control, first)
        net.layers[0].out.weight.data = net.layers[0].out.weight.data * 2.0
        assert torch.equal(net(at).control, fresh().control)
        net.layers[0].out.bias = torch.nn.Parameter(net.layers[0].out.bias + 0.3)
        assert torch.equal(net(at).control, fresh().control)
        net.load_state_dict(network(7).state_dict())
        assert torch.equal(net(at).control, network(7)(at).control)
        single = net.to(torch.float32)(problem(dtype=torch.complex64)).control
        assert single.dtype == torch.complex64
        # Behind the back of the version counter: told by the switch of modes.
        net.layers[0].edge.weight.data.add_(0.5)
        changed = net.train().eval()(problem(dtype=torch.complex64)).control
        assert not torch.equal(changed, single)


def test_gradients_and_training_take_the_walk():
    net, at = network(), problem()
    assert not compiled.serves(net, at), "gradients are on"
    with torch.no_grad():
        assert compiled.serves(net, at)
        assert not compiled.serves(net.train(), at)
    net.eval().requires_grad_(True)
    sum(u.sum() for u in net(at).utilities).backward()
    assert all(p.grad is not None for p in net.layers[-1].parameters())


def test_another_feed_is_noticed():
    net = network()
    for seed in (0, 5):
        fused, slow = both(net, problem(seed=seed))
        assert torch.allclose(fused.control, slow.control, atol=1e-9)
        assert torch.allclose(fused.digital, slow.digital, atol=1e-9)


@torch.no_grad()
def test_overflow_ends_without_a_crash():
    net, at = network(), problem()
    net.layers[1].out.weight.fill_(float("nan"))
    trace = net(at)
    assert torch.isnan(trace.utilities[-1]).all()
    assert torch.isfinite(trace.utilities[0]).all()
    solution = Learned(network=net)(at)
    assert (solution.status == hb.solvers.Status.NON_FINITE).all()
    assert torch.isfinite(solution.sum_rate).all()
    assert (solution.violation < 1e-9).all()


def test_solvers_restart_through_the_kernel():
    at = problem((4, 3, 25), dtype=torch.complex64)
    solver = Learned(network=network(dtype=torch.float32))
    one, many = solver(at), hb.solve(at, solver, starts=4)
    assert (many.sum_rate >= one.sum_rate * (1 - 1e-6)).all()
    assert (many.violation < 1e-5).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_silu_to_its_rounding(dtype):
    @njit
    def apply(x, y):
        for i in range(0, x.size, vectors.LANES):
            vectors.store(y, i, vectors.silu(vectors.load(x, i)))

    x = np.concatenate([np.linspace(-80, 80, 16 * 4000), np.logspace(-30, 0, 1600)]).astype(dtype)
    y = np.empty_like(x)
    apply(x, y)
    exact = x.astype(np.longdouble) / (1 + np.exp(-x.astype(np.longdouble)))
    assert np.max(np.abs(y - exact) / np.abs(exact)) < 4 * np.finfo(dtype).eps
    x = np.resize(np.array([np.nan, np.inf, -1e30, 1e30], dtype), 16)
    y = np.empty_like(x)
    apply(x, y)
    assert np.isnan(y[0])
    assert y[1] == np.inf
    assert abs(y[2]) < 1.0
    assert y[3] == dtype(1e30)
