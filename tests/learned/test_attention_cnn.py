"""The network with attention: what it is blind to, where it begins, what it refuses."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import holobeam as hb
from holobeam import testing
from holobeam.errors import InputError, UnsupportedError
from holobeam.learned import zoo
from holobeam.learned.attention_cnn import AttentionCnn
from holobeam.learned.network import Learned
from holobeam.solvers.starts import digital_start
from holobeam.testing import degenerate_channels, example_problems

BOTH = ("wmmse", "direct")
SHIPPED = [name for name in zoo.shipped() if zoo.card(name).model == "cnn"]
SMALL = {"width": 6, "heads": 2, "kernel": 3, "pair_width": 5}


def network(digital="wmmse", stir=0.1):
    """Small one in double precision, its weights stirred so that no layer is at rest."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        made = AttentionCnn(2, digital=digital, **SMALL).double()
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.add_(stir * torch.randn_like(parameter))
    return made.eval()


def pose(h, snr_db=10.0):
    shifters = hb.frontends.phase_shifters(h.shape[3], h.shape[2])
    return hb.Downlink(h, shifters, snr_db=snr_db)


def channels(antennas=10, users=3, count=3):
    model = hb.channels.LaplacianClusters(antennas=antennas, users=users)
    return model.sample(count, seed=4)


def same(found, wanted):
    assert torch.allclose(found, wanted, atol=1e-9, rtol=0)


@pytest.mark.parametrize("digital", BOTH)
def test_users_in_another_order_are_the_same_users(digital):
    net, h, order = network(digital), channels(), [2, 0, 1]
    plain, turned = net(pose(h)), net(pose(h[:, :, order]))
    same(turned.control, plain.control[:, :, order])
    same(turned.digital, plain.digital[:, :, order][:, :, :, order])


@pytest.mark.parametrize("digital", BOTH)
@given(seed=st.integers(0, 2**20))
@settings(max_examples=5, deadline=None)
def test_phases_of_users_and_a_common_steering_are_followed(digital, seed):
    net, h = network(digital), channels()
    draw = torch.Generator().manual_seed(seed)
    phases = torch.rand(3, 1, 3, 1, generator=draw, dtype=torch.float64) * 6.3
    ramp = torch.rand((), generator=draw, dtype=torch.float64) * 6.3 * torch.arange(10.0)
    turn = torch.polar(torch.ones(()).double(), phases + ramp)
    plain, turned = net(pose(h)), net(pose(h * turn))
    same(turned.control, plain.control * turn[:, 0].conj().mT)
    same(turned.utilities[-1], plain.utilities[-1])


def test_louder_noise_and_louder_channels_cancel():
    net, h = network(), channels()
    same(net(pose(10.0 * h, 0.0)).control, net(pose(h, 20.0)).control)


@pytest.mark.parametrize("digital", BOTH)
@pytest.mark.parametrize(("antennas", "users"), [(1, 1), (2, 2), (5, 4), (33, 3)])
def test_any_size_is_feasible_and_rated_as_the_judge_rates_it(digital, antennas, users):
    net, problem = network(digital), pose(channels(antennas, users))
    solution = Learned(network=net)(problem)
    same(solution.sum_rate, net(problem).utilities[-1])
    assert solution.violation.max() < 1e-9


def test_at_rest_it_is_the_phases_of_the_channel_and_wmmse():
    """The oracle is the solvers' own digital step."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        net = AttentionCnn(2, steps=4, **SMALL).double()
    problem = pose(channels())
    trace = net(problem)
    same(trace.control, problem.h[:, 0].conj().mT / problem.h[:, 0].abs().mT)
    link = problem.link(trace.control)
    digital = digital_start(problem, link)
    for _ in range(1 + 1 + 4):
        digital = problem.digital_step(link, problem.weights(link, digital), digital)
    assert torch.allclose(trace.utilities[-1], problem.utility(link, digital), rtol=1e-4)


@pytest.mark.parametrize("digital", BOTH)
@pytest.mark.parametrize("snr_db", [-20.0, 10.0, 60.0])
def test_gradients_are_finite_however_loud_and_degenerate(digital, snr_db):
    net = network(digital).float()
    hard = torch.cat([degenerate_channels(3, 6), channels(6)]).to(torch.complex64)
    problem = pose(hard, snr_db)
    trace = net.train()(problem)
    (-sum(u.mean() for u in trace.utilities)).backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())
    assert all(torch.isfinite(u).all() and (u >= 0).all() for u in trace.utilities)
    assert Learned(network=net.eval())(problem).violation.max() < 1e-5


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_the_shipped_network_conforms(dtype):
    shifters = hb.frontends.build("phase-shifters", hb.arrays.upa((4, 3)), 2)
    testing.check_solver(hb.solver("cnn"), example_problems([shifters], batch=2, dtype=dtype))


def test_single_and_double_precision_agree():
    h = channels(32, 4, 8)
    rates = [hb.solve(pose(x), "cnn").sum_rate.double() for x in (h, h.to(torch.complex64))]
    torch.testing.assert_close(*rates, rtol=2e-3, atol=0)


@pytest.mark.parametrize(("antennas", "users"), [(32, 4), (48, 3), (128, 5)])
def test_it_is_above_the_phases_of_the_channel_also_at_sizes_it_has_not_seen(antennas, users):
    problem = pose(channels(antennas, users, 32).to(torch.complex64))
    gain = hb.solve(problem, "cnn").sum_rate - hb.solve(problem, "rzf+w").sum_rate
    assert gain.mean() > 0
    assert gain.mean() > 3 * gain.std() / 32**0.5


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (lambda h: hb.Downlink(h, hb.frontends.fully_digital(10), snr_db=1.0), "wmmse-digital"),
        (lambda h: hb.Downlink(h, hb.frontends.phase_shifters(10, 4), snr_db=1.0), "of its own"),
        (lambda h: hb.Downlink(h, hb.frontends.phase_shifters(10, 2), snr_db=1.0), "of its own"),
        (
            lambda h: hb.Downlink(h, hb.frontends.phase_shifters(10, 3, bits=2), snr_db=1.0),
            "continuously",
        ),
        (lambda h: pose(h.repeat(1, 2, 1, 1)), "subcarrier"),
        (lambda h: pose(h).with_(power_at="feeds"), "radiated"),
        (lambda h: pose(h).with_(utility_name="proportional_fair"), "sum rate"),
        (lambda h: pose(h).with_(user_weights=torch.arange(1.0, 4.0)), "sum rate"),
    ],
)
def test_what_it_can_not_serve_is_refused_with_a_way_out(build, why):
    with pytest.raises(UnsupportedError, match=why):
        Learned(network=network())(build(channels()))


def test_an_even_reach_has_no_middle():
    with pytest.raises(InputError, match="odd"):
        AttentionCnn(kernel=4)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_the_card_says_true_rates_at_other_sizes(name):
    for said in zoo.card(name).about["sizes"]:
        antennas = int(said["label"].removeprefix("N = "))
        h = hb.channels.LaplacianClusters(antennas=antennas).sample(256, seed=1_000_007)
        rate = float(hb.solve(pose(h.to(torch.complex64)), "cnn", weights=name).sum_rate.mean())
        assert rate == pytest.approx(said["utility"], abs=5e-3)
        assert said["share"] == pytest.approx(said["utility"] / said["reference"])
