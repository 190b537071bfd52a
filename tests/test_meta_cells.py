"""ggml in many cells: users with several antennas and streams, one loss over all of them."""

import math
from dataclasses import replace

import pytest
import torch

import holobeam as hb
from holobeam import Downlink, MultiCell, frontends
from holobeam.digital.cell_gradient import fair_cell_loss
from holobeam.digital.rate_gradient import fair_loss
from holobeam.errors import UnsupportedError
from holobeam.solvers import make_state
from holobeam.solvers.meta import MetaPrecoding
from holobeam.testing import gaussian

MODEL = hb.channels.CellularDrops()
SHIFTERS = frontends.phase_shifters(32, 4)
BUDGET = {"power": 100.0, "power_at": "radiated"}


def cells(count=2, batch=3, streams=1, dtype=torch.complex128, hardware=SHIFTERS):
    h = replace(MODEL, cells=count).sample(batch, seed=0, dtype=dtype)
    return MultiCell(h, hardware, streams=streams, **BUDGET)


@pytest.mark.parametrize("beta", [0.0, 0.2])
@pytest.mark.parametrize(("receivers", "streams"), [(1, 1), (2, 1), (2, 2), (3, 2)])
def test_gradient_of_the_loss_of_all_cells(receivers, streams, beta):
    """Against autograd on log-determinants written out, one user absent."""
    y = gaussian((3, 2, 6, receivers, 3 * streams), 0)
    y[0, :, 4] = 0.0
    y = y.requires_grad_()
    noise, alpha = gaussian((3, 6), 1).abs() + 0.1, gaussian((3, 6), 2).abs()
    there = torch.ones(3, 6, dtype=torch.bool)
    there[0, 4] = False
    eye = torch.eye(receivers, dtype=y.dtype)
    rates = []
    for user in range(6):
        cell, k = divmod(user, 3)
        own = torch.zeros(2, 3 * streams, dtype=y.dtype)
        own[cell, k * streams : (k + 1) * streams] = 1.0
        heard = y[:, :, user]
        total = torch.einsum("bcms,bcns->bmn", heard, heard.conj())
        wanted = torch.einsum("bcms,bcns,cs->bmn", heard, heard.conj(), own)
        floor = noise[:, user, None, None] * eye
        ratio = torch.logdet(total + floor) - torch.logdet(total - wanted + floor)
        rates.append(ratio.real / math.log(2.0))
    rates = torch.stack(rates, dim=1)
    judge = -torch.stack(
        [(alpha * rates)[b][there[b]].mean() - beta * rates[b][there[b]].var() for b in range(3)]
    )
    judge.sum().backward()
    value, slope = fair_cell_loss(y.detach(), noise, alpha, there, beta)
    assert (value - judge).abs().max() < 1e-10
    assert (slope - y.grad).abs().max() < 1e-9 * y.grad.abs().max()


def test_the_loss_of_one_cell_and_one_antenna_is_the_downlinks():
    y = gaussian((4, 3, 3), 0)
    noise, alpha = gaussian((4, 3), 1).abs() + 0.1, gaussian((4, 3), 2).abs()
    there = torch.ones(4, 3, dtype=torch.bool)
    one = fair_loss(y, noise, alpha, 0.2)
    many = fair_cell_loss(y[:, None, :, None], noise, alpha, there, 0.2)
    assert (one[0] - many[0]).abs().max() < 1e-12
    assert (one[1] - many[1][:, 0, :, 0]).abs().max() < 1e-12


@pytest.mark.parametrize(
    "options",
    [{}, {"begin": "matched"}, {"network": "kan", "hidden": 8}, {"noise_input": True, "beta": 0.0}],
)
def test_one_cell_and_one_antenna_is_the_downlink(options):
    """Same draws, same trajectory; users of different gains, weights and noise."""
    h = gaussian((3, 3, 16), 5) * torch.tensor([1.0, 2.0, 0.5])[:, None]
    hardware = frontends.phase_shifters(16, 4)
    alike = {
        "noise_power": torch.tensor([0.1, 0.3, 0.2]).double(),
        "weights": torch.tensor([1.0, 2.0, 0.5]).double(),
    }
    one = Downlink(h, hardware, power=0.25, **alike)
    many = MultiCell(
        h[:, None, None, :, None, :], hardware, power=0.25, power_at="radiated", **alike
    )
    for steps in (0, 1, 15):
        run = {"max_iterations": steps, "keep": "last", **options}
        a, b = (hb.solve(problem, "ggml", **run) for problem in (one, many))
        assert (a.control - b.control[:, 0]).abs().max() < 1e-9
        assert (a.digital[:, 0] - b.digital[:, 0]).abs().max() < 1e-9
        assert (a.rates - b.rates).abs().max() < 1e-9


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize(("name", "streams"), [("ggml", 1), ("ggml-kan", 2), ("wmmse-mo", 2)])
def test_several_antennas_and_streams_in_many_cells(name, streams, dtype):
    """Feasible, never below the start, better than it, whoever else is in the batch."""
    problem = cells(2, 3, streams, dtype)
    fields = {"max_iterations": 4}
    if name != "wmmse-mo":
        fields = {"max_iterations": 25, "hidden": 32, "analog_rate": 0.02, "digital_rate": 0.01}
    solver = hb.solver(name, **fields)
    start = replace(solver, max_iterations=0)(problem, seed=1)
    found = solver(problem, seed=1, history=True)
    assert found.digital.dtype == dtype
    assert found.violation.max() < (1e-9 if dtype == torch.complex128 else 1e-5)
    assert (found.sum_rate >= start.sum_rate).all()
    assert found.sum_rate.mean() > start.sum_rate.mean()
    assert (found.history.diff(dim=1) >= 0).all()
    alone = solver(problem.take(torch.tensor([2])), seed=1)
    limit = 1e-6 if dtype == torch.complex128 else 0.05
    assert (alone.rates[0] - found.rates[2]).abs().max() < limit
    again = solver(problem, start=found)
    assert (again.sum_rate >= found.sum_rate * (1 - 1e-6)).all()


def test_every_cell_radiates_its_budget_and_the_loss_is_of_the_problems_rates():
    problem = cells(2, 2, 2).with_(power=torch.tensor([[100.0, 50.0], [20.0, 80.0]]).double())
    solver = MetaPrecoding(hidden=16, analog_rate=0.02)
    state = solver.init(problem, torch.Generator().manual_seed(0))
    for _ in range(5):
        state = solver.step(problem, state)
        radiated = problem.analog(state.control) @ state.digital
        assert (radiated.abs().square().sum(dim=(2, 3)) / problem.power - 1).abs().max() < 1e-9
        memory = state.memory
        value = memory.loss.slopes(memory_analog(state, problem), memory.last)[0]
        rates = problem.rates(problem.link(state.control), state.digital)
        expected = -rates.mean(dim=1) + 0.2 * rates.var(dim=1)
        assert (value - expected).abs().max() < 1e-9


def memory_analog(state, problem):
    return torch.sgn(problem.analog(state.control))


def test_padding_takes_no_part():
    """A cell of one user beside a cell of two: as if the padding were not counted."""
    problem = cells(2, 2, 1)
    h = problem.h.clone()
    h[:, :, 1, 1] = 0.0
    found = hb.solve(problem.with_(h=h), "ggml", max_iterations=40, hidden=64)
    rates = found.rates.view(2, 2, 2)
    assert (rates[:, 1, 1] == 0).all()
    assert (rates[:, 1, 0] > 0.1).all()
    assert torch.isfinite(found.digital.abs()).all()


@pytest.mark.parametrize("streams", [1, 2])
def test_one_cell_of_two_antennas_comes_near_the_digital_bound(streams):
    problem = cells(1, 2, streams, torch.complex64)
    digital = cells(1, 2, streams, torch.complex64, frontends.fully_digital(32))
    most = hb.solve(digital, "wmmse-digital", max_iterations=100).sum_rate
    rates = {"analog_rate": 6e-3, "digital_rate": 4e-3}
    found = hb.solve(problem, "ggml", max_iterations=100, hidden=64, **rates)
    assert (found.sum_rate <= most * (1 + 1e-3)).all()
    assert float(found.sum_rate.mean()) > (0.95, 0.8)[streams - 1] * float(most.mean())


def test_refusals_in_many_cells():
    h = cells(1, 2).h
    cases = (
        (MultiCell(h, SHIFTERS, power=1.0), "radiated power, not power at feeds"),
        (MultiCell(h, frontends.phase_shifters(32, 3), streams=2, **BUDGET), "4 streams on 3"),
        (MultiCell(h, frontends.phase_shifters(32, 4, "sub"), **BUDGET), "every branch"),
        (MultiCell(h, frontends.fully_digital(32), **BUDGET), "wmmse-digital"),
    )
    for problem, words in cases:
        with pytest.raises(UnsupportedError, match=words):
            hb.solve(problem, "ggml")
    served = cells(1, 2)
    with pytest.raises(UnsupportedError, match="Downlink, not for MultiCell"):
        hb.solve(served, "ggml-imcsi", delta=0.1)
    start = make_state(
        served, *[getattr(hb.solve(served, "vp"), n) for n in ("control", "digital")]
    )
    assert (hb.solve(served, "ggml", max_iterations=2, start=start).sum_rate >= start.utility).all()
