"""ggml: gradient forms, one step against autograd and torch.optim, and what it may not do."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

import holobeam as hb
from holobeam import Downlink, frontends
from holobeam.channels import LaplacianClusters
from holobeam.errors import InputError
from holobeam.learned.kan import branches
from holobeam.solvers.embedded import draw_perceptron
from holobeam.solvers.meta import (
    MetaPrecoding,
    Precoding,
    as_features,
    from_features,
)
from holobeam.testing import gaussian

PUBLISHED = Path(__file__).parents[2] / "shared" / "data" / "ggml_channels.mat"


def standard(count=4, *, antennas=16, users=3, dtype=torch.complex128):
    h = LaplacianClusters(antennas=antennas, users=users).sample(count, seed=0).to(dtype)
    return Downlink(h, frontends.phase_shifters(antennas, users), snr_db=10.0)


def written_out(h, analog, digital, noise, beta):
    """Mean rate and its variance, as the paper prints them."""
    power = (h @ analog @ digital).abs().square()
    signal = power.diagonal(dim1=1, dim2=2)
    rates = (1 + signal / (power.sum(dim=2) - signal + noise)).log2()
    return (-rates.mean(dim=1) + beta * rates.var(dim=1)).sum()


def test_gradients_through_projection_and_power():
    h, noise = gaussian((5, 3, 12), 0), torch.full((5, 3), 0.3, dtype=torch.float64)
    loss = Precoding(h, noise, torch.ones_like(noise), 0.2)
    z, raw = (gaussian(shape, i).requires_grad_() for i, shape in ((1, (5, 12, 4)), (2, (5, 4, 3))))
    analog = z / z.abs()
    digital = raw / torch.linalg.norm(analog @ raw, dim=(1, 2), keepdim=True)
    written_out(h, analog, digital, noise, 0.2).backward()
    f, d, of_z, of_raw = loss.normalised(z.detach(), raw.detach())
    assert (f - analog).abs().max() < 1e-12
    assert (d - digital).abs().max() < 1e-12
    for mine, judge in ((of_z, z.grad), (of_raw, raw.grad)):
        assert (mine - judge).abs().max() < 1e-10 * judge.abs().max()


def test_inner_gradients():
    h, noise = gaussian((5, 3, 12), 0), torch.full((5, 3), 0.3, dtype=torch.float64)
    loss = Precoding(h, noise, torch.ones_like(noise), 0.2)
    f, d = (gaussian(shape, i).requires_grad_() for i, shape in ((1, (5, 12, 4)), (2, (5, 4, 3))))
    written_out(h, f, d, noise, 0.2).backward()
    for mine, judge in (
        (loss.analog_gradient(f.detach(), d.detach()), f.grad),
        (loss.digital_gradient(f.detach(), d.detach()), d.grad),
    ):
        assert (mine - judge).abs().max() < 1e-10 * judge.abs().max()


def test_features_are_real_and_imaginary_parts_beside_each_other():
    z = gaussian((2, 3, 2), 0)
    assert (as_features(z)[0, :4] == torch.cat([z[0, 0].real, z[0, 0].imag])).all()
    assert (from_features(as_features(z), 3, 2) == z).all()


def test_networks_train_as_torch_modules_do():
    """Three Adam steps of two networks, forward and backward, against nn and torch.optim."""
    like = torch.zeros(1, dtype=torch.float64)
    network = draw_perceptron((6, 5, 4), (2,), torch.Generator().manual_seed(0), like)
    module = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4)).double()
    with torch.no_grad():
        for layer, ours in ((module[0], network.inner), (module[2], network.outer)):
            layer.weight.copy_(ours.weight[1])
            layer.bias.copy_(ours.bias[1])
    optimiser = torch.optim.Adam(module.parameters(), lr=0.01)
    for time in range(1, 4):
        x = torch.randn(2, 6, generator=torch.Generator().manual_seed(time)).double()
        slope = torch.randn(2, 4, generator=torch.Generator().manual_seed(9 + time)).double()
        out, hidden = network(x)
        optimiser.zero_grad()
        judged = module(x[1])
        (judged * slope[1]).sum().backward()
        assert (out[1] - judged).abs().max() < 1e-12
        optimiser.step()
        network = network.trained(x, hidden, slope, 0.01, time)
    assert (network.inner.weight[1] - module[0].weight).abs().max() < 1e-10
    assert (network.outer.bias[1] - module[2].bias).abs().max() < 1e-10


def follow(solver, problem, state, networks, optimisers, rounds):
    """Do the algorithm as its authors wrote it on channel 1, and hold every step against it."""
    memory = state.memory
    h, noise = memory.loss.h[1:], memory.loss.noise[1:]  # users by gain, in their own unit
    of_digital, of_analog = networks
    f0, d0 = (x[1:].clone().requires_grad_() for x in (memory.analog, memory.digital))
    last = d0.detach()
    for _ in range(rounds):
        if not solver.accumulate:
            f0.grad = d0.grad = None
        written_out(h, f0, last, noise, 0.2).backward()
        z = f0 + from_features(of_analog(as_features(f0.grad)), 16, 3)
        analog = z / z.abs()
        written_out(h, analog.detach(), d0, noise, 0.2).backward()
        raw = d0 + from_features(of_digital(as_features(d0.grad)), 3, 3)
        digital = raw / torch.linalg.norm(analog @ raw)
        for optimiser in optimisers:
            optimiser.zero_grad()
        outer = written_out(h, analog, digital, noise, 0.2)
        outer.backward(retain_graph=True)
        outer.backward()
        for optimiser in optimisers:
            optimiser.step()
        last = digital.detach()
        state = solver.step(problem, state)
        assert (state.control[1] - analog[0]).abs().max() < 1e-7
        assert (state.memory.last[1] - last[0]).abs().max() < 1e-7
        rates = problem.rates(problem.link(state.control), state.digital)[1].mean()
        assert rates == pytest.approx(-float(written_out(h, analog, digital, noise, 0.0).detach()))


@pytest.mark.parametrize("accumulate", [True, False])
def test_iterations_of_the_authors_algorithm(accumulate):
    """The whole loop with autograd, leaf gradients that pile up, and torch.optim.Adam."""
    problem = standard(2)
    solver = MetaPrecoding(accumulate=accumulate, hidden=7)
    state = solver.init(problem, torch.Generator().manual_seed(3))
    memory = state.memory
    modules = []
    for network in (memory.digital_network, memory.analog_network):
        size, width = network.inner.weight.shape[2], 7
        module = nn.Sequential(nn.Linear(size, width), nn.ReLU(), nn.Linear(width, size)).double()
        for layer, ours in ((module[0], network.inner), (module[2], network.outer)):
            layer.weight.data.copy_(ours.weight[1])
            layer.bias.data.copy_(ours.bias[1])
        modules.append(module)
    optimisers = [
        torch.optim.Adam(m.parameters(), lr=r) for m, r in zip(modules, (1e-3, 1.5e-3), strict=True)
    ]
    follow(solver, problem, state, modules, optimisers, rounds=12)


def test_best_iterate_counts_unless_the_last_is_asked_for():
    problem = standard(4)
    options = {"max_iterations": 60, "analog_rate": 0.02}
    best = hb.solve(problem, "ggml", history=True, **options)
    last = hb.solve(problem, "ggml", keep="last", **options)
    assert (best.history.diff(dim=1) >= 0).all()
    assert (best.sum_rate >= last.sum_rate - 1e-9).all()
    assert (best.sum_rate > last.sum_rate + 1e-6).any()
    assert (best.history[:, -1] - best.sum_rate).abs().max() < 1e-9


@pytest.mark.parametrize(
    "options",
    [{}, {"noise_input": True}, {"accumulate": False}, {"network": "kan", "hidden": 16}],
)
def test_a_channel_does_not_know_its_mates(options):
    problem = standard(4)
    together = hb.solve(problem, "ggml", max_iterations=20, **options).rates
    alone = hb.solve(problem.take(torch.tensor([2])), "ggml", max_iterations=20, **options).rates
    assert (together[2] - alone[0]).abs().max() < 1e-9


def test_beta_keeps_users_alive_and_precisions_agree():
    problem = standard(8)
    fair = hb.solve(problem, "ggml", max_iterations=150)
    selfish = hb.solve(problem, "ggml", max_iterations=150, beta=0.0)
    assert fair.rates.amin(dim=1).mean() > selfish.rates.amin(dim=1).mean() + 0.5
    single = hb.solve(standard(8, dtype=torch.complex64), "ggml", max_iterations=20)
    double = hb.solve(problem, "ggml", max_iterations=20)
    assert (single.sum_rate - double.sum_rate).abs().max() < 0.05


def test_the_program_as_printed_is_another_one():
    assert hb.solver("ggml-paper").accumulate is False
    problem = standard(2)
    a, b = (hb.solve(problem, name, max_iterations=20).rates for name in ("ggml", "ggml-paper"))
    assert (a - b).abs().max() > 1e-3


def test_bad_options_are_named():
    for option in (
        {"beta": float("nan")},
        {"hidden": 0},
        {"analog_rate": -1.0},
        {"network": "spline"},
        {"order": 0},
        {"grid": 2.5},
        {"reach": 0.0},
        {"reach": float("inf")},
    ):
        for name in ("ggml", "ggml-kan", "ggml-paper"):
            with pytest.raises(InputError, match=next(iter(option))):
                hb.solve(standard(1), name, **option)


@pytest.mark.slow
@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published channels are not here")
def test_published_channels():
    """The authors' program reaches 6.916 on these channels with its own random numbers."""
    h = hb.channels.read_channels(PUBLISHED, "HH")[:20].to(torch.complex64)
    problem = Downlink(h, frontends.phase_shifters(64, 4), snr_db=10.0)
    found = hb.solve(problem, "ggml").sum_rate / 4
    assert float(found.mean()) == pytest.approx(6.916, abs=0.02)
    direct = hb.solve(problem, "vpk").sum_rate / 4
    assert float(direct.mean()) >= 6.94
    assert float((direct - found).mean()) >= 0.015
    assert int((direct > found).sum()) >= 16


# -- splines for networks ----


@pytest.mark.parametrize("accumulate", [True, False])
def test_iterations_with_splines_are_those_of_autograd(accumulate):
    """The whole loop with SciPy-tested splines, autograd through the loss, torch.optim.Adam."""
    problem = standard(2)
    solver = MetaPrecoding(accumulate=accumulate, network="kan", hidden=5, order=2, grid=4)
    state = solver.init(problem, torch.Generator().manual_seed(3))
    memory = state.memory
    basis = memory.analog_network.basis
    assert (basis.order, basis.grid, basis.low, basis.high) == (2, 4, -1.0, 1.0)
    pairs = [
        [layer.weight[1].clone().requires_grad_() for layer in (network.inner, network.outer)]
        for network in (memory.digital_network, memory.analog_network)
    ]
    optimisers = [
        torch.optim.Adam(pair, lr=rate) for pair, rate in zip(pairs, (1e-3, 1.5e-3), strict=True)
    ]

    def run(pair, x):
        return branches(basis, branches(basis, x) @ pair[0].mT) @ pair[1].mT

    networks = [partial(run, pair) for pair in pairs]
    follow(solver, problem, state, networks, optimisers, rounds=8)


def test_splines_as_networks_are_one_name_or_one_option():
    named = hb.solver("ggml-kan")
    assert (named.network, named.hidden, named.accumulate) == ("kan", 200, True)
    problem = standard(2)
    short = {"max_iterations": 15, "hidden": 16}
    a = hb.solve(problem, "ggml-kan", **short).rates
    b = hb.solve(problem, "ggml", network="kan", **short).rates
    assert (a == b).all()
    assert (hb.solve(problem, "ggml", **short).rates - a).abs().max() > 1e-3
    printed = hb.solve(problem, "ggml-paper", network="kan", **short).rates
    assert (printed - a).abs().max() > 1e-3
    for other in ({"order": 1}, {"grid": 9}, {"reach": 3.0}):
        assert (hb.solve(problem, "ggml-kan", **short, **other).rates - a).abs().max() > 1e-3


@pytest.mark.parametrize("options", [{}, {"noise_input": True}])
def test_splines_rise_in_either_precision_and_stay_below_digital(options):
    problem = standard(4)
    options = {"hidden": 24, **options}
    double = hb.solve(problem, "ggml-kan", max_iterations=80, **options)
    start = hb.solve(problem, "ggml-kan", max_iterations=0, **options)
    digital = Downlink(problem.h, frontends.fully_digital(16), snr_db=10.0)
    bound = hb.solve(digital, "wmmse-digital").sum_rate
    assert (double.sum_rate > start.sum_rate + 3.0).all()
    assert (double.sum_rate <= bound + 1e-3).all()
    assert (double.violation < 1e-9).all()
    short = {"max_iterations": 20, **options}
    single = hb.solve(standard(4, dtype=torch.complex64), "ggml-kan", **short)
    wide = hb.solve(problem, "ggml-kan", **short)
    assert single.rates.dtype == torch.float32
    assert (single.sum_rate - wide.sum_rate).abs().max() < 0.05


@pytest.mark.parametrize("name", ["ggml", "ggml-paper", "ggml-kan", "ggml-imcsi"])
@pytest.mark.parametrize("chains", [3, 6])
def test_hybrid_never_above_converged_digital(name, chains):
    h = LaplacianClusters(antennas=16, users=3).sample(4, seed=0)
    problem = Downlink(h, frontends.phase_shifters(16, chains), snr_db=10.0)
    options = {"hidden": 24, "analog_rate": 6e-3, "digital_rate": 4e-3}
    if name == "ggml-imcsi":
        options["delta"] = 0.0
    found = hb.solve(problem, name, max_iterations=60, **options)
    assert found.sum_rate.mean() > 6.0
    bound = hb.solve(Downlink(h, frontends.fully_digital(16), snr_db=10.0), "wmmse-digital")
    assert (found.sum_rate <= bound.sum_rate + 1e-3).all()


def test_fields_are_keywords_alone():
    assert replace(MetaPrecoding(), hidden=32).hidden == 32
