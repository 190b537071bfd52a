"""The compiled loop of many cells against the steps that it fuses, and the digital bound."""

from functools import partial

import pytest
import torch

import holobeam as hb
from holobeam import MultiCell, frontends
from holobeam.analog import coordinate_descent
from holobeam.solvers import Alternating, make_state
from holobeam.solvers.base import Solver
from holobeam.testing import gaussian

MODEL = hb.channels.CellularDrops()
FEED = frontends.microstrips(4, 8, 0.2 * MODEL.wavelength)
HARDWARE = {
    "dma": frontends.dma(FEED),
    "dma-binary": frontends.dma(FEED, "binary"),
    "sub": frontends.phase_shifters(32, 4, "sub"),
    "full-2bit": frontends.phase_shifters(32, 4, bits=2),
    "surface": frontends.rhs(gaussian((32, 4), 9)),
    "several": [frontends.dma(FEED), frontends.dma(1.2 * FEED), frontends.dma(0.8 * FEED)],
    "digital": frontends.fully_digital(32),
}


def _problem(hardware="dma", batch=3, streams=1, dbm=20.0, users=(2, 2, 2), **options):
    model = hb.channels.CellularDrops(users_per_cell=users)
    h = model.sample(batch, seed=0, dtype=options.pop("dtype", torch.complex128))
    power = 10 ** (dbm / 10) / 32
    return MultiCell(h, HARDWARE[hardware], power_per_rf_chain=power, streams=streams, **options)


def _stepped(solver, problem, state, count):
    return Solver.advance(solver, problem, state, count)


@pytest.mark.parametrize(
    ("hardware", "streams", "options"),
    [
        ("dma", 1, {"extrapolate": True}),
        ("dma", 2, {"analog": None, "digital_sweeps": None, "extrapolate": True}),
        ("dma-binary", 2, {"digital_sweeps": 3}),
        ("sub", 1, {"analog": partial(coordinate_descent, sweeps=2), "extrapolate": True}),
        ("full-2bit", 2, {"digital_sweeps": None}),
        ("surface", 1, {"extrapolate": True}),
        ("several", 2, {"analog": None, "extrapolate": True}),
    ],
)
def test_compiled_iterations_are_the_steps(hardware, streams, options):
    weights = torch.tensor([[1.0, 2.0], [1.0, 0.5], [3.0, 1.0]])
    noise = torch.tensor([[1.0, 0.5], [2.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    problem = _problem(
        hardware, streams=streams, users=(2, 1, 2), weights=weights, noise_power=noise
    )
    solver = Alternating(begin="random", noise_schedule=(0.1, 0.5), tolerance=0.0, **options)
    first = solver.init(problem, torch.Generator().manual_seed(0))
    for count in (1, 3, 8):
        fused, slow = solver.advance(problem, first, count), _stepped(solver, problem, first, count)
        assert fused.memory.count == slow.memory.count == count
        assert fused.memory.link is None, "the compiled loop was not used"
        assert torch.allclose(fused.utility, slow.utility, atol=1e-9, rtol=0)
        assert torch.allclose(fused.control, slow.control, atol=1e-8, rtol=0)
        assert torch.allclose(fused.digital, slow.digital, atol=1e-8, rtol=0)
        if solver.extrapolate:
            assert torch.equal(fused.memory.momentum.stride, slow.memory.momentum.stride)
    mixed = _stepped(solver, problem, solver.advance(problem, first, 5), 3)
    assert torch.allclose(mixed.utility, slow.utility, atol=1e-9, rtol=0)
    assert problem.violation(fused.control, fused.digital).max() < 1e-12


def test_history_and_batch_mates_change_nothing():
    problem = _problem(batch=4)
    whole = hb.solve(problem, "wmmse-cd", max_iterations=40)
    single = hb.solve(problem, "wmmse-cd", max_iterations=40, history=True)
    assert torch.allclose(whole.rates, single.rates, atol=1e-9, rtol=0)
    assert torch.equal(whole.iterations, single.iterations)
    assert torch.equal(whole.status, single.status)
    assert (single.history.diff(dim=1) >= 0).all()
    alone = hb.solve(problem.take(torch.tensor([2])), "wmmse-cd", max_iterations=40)
    assert torch.allclose(alone.rates[0], whole.rates[2], atol=1e-9, rtol=0)


def test_single_precision_stays_single():
    a = hb.solve(_problem(dtype=torch.complex64), "wmmse-cd", max_iterations=10)
    b = hb.solve(_problem(), "wmmse-cd", max_iterations=10)
    assert a.control.dtype == a.digital.dtype == torch.complex64
    assert torch.allclose(a.sum_rate.double(), b.sum_rate, rtol=1e-2)


def test_what_is_not_fused_runs_step_by_step(monkeypatch):
    """Other budgets, other analog methods, held receivers and gradients don't reach the kernel."""
    import holobeam.kernels.cell_loop as kernel

    def never(*_, **__):
        raise AssertionError("the compiled loop was called")

    monkeypatch.setattr(kernel, "alternate", never)
    problem = _problem("dma-binary", batch=1)
    shared = MultiCell(problem.h, HARDWARE["dma"], power=3.0)
    hb.solve(shared, "wmmse-cd", max_iterations=2)
    hb.solve(problem, "wmmse-tabu", max_iterations=2, begin="random")
    hb.solve(problem, "mmse", max_iterations=2, refresh=False)
    tracked = problem.with_(h=problem.h.clone().requires_grad_())
    solver = Alternating(max_iterations=2)
    begun = solver.init(problem, torch.Generator())
    assert solver.advance(tracked, begun, 1).utility.requires_grad

    class Own(MultiCell):
        def digital_step(self, link, weights, digital, visits=1, tolerance=0.0):
            return 0.5 * super().digital_step(link, weights, digital, visits, tolerance)

    own = Own(problem.h, HARDWARE["dma"], power_per_rf_chain=3.0)
    hb.solve(own, "wmmse-cd", max_iterations=2)
    # Zero forcing is an alternation with a digital step of its own.
    hb.solve(problem, "zf-cd", max_iterations=2)
    with pytest.raises(AssertionError, match="compiled"):
        hb.solve(problem, "wmmse-cd", max_iterations=2, begin="random")


def test_a_channel_that_is_not_finite_ends_alone():
    problem = _problem(batch=3)
    solver = Alternating(begin="random", tolerance=0.0)
    first = solver.init(problem, torch.Generator().manual_seed(0))
    h = problem.h.clone()
    h[1] = torch.nan
    after = solver.advance(problem.with_(h=h), first, 4)
    good = solver.advance(problem, first, 4)
    assert not torch.isfinite(after.utility[1])
    for b in (0, 2):
        assert torch.equal(after.digital[b], good.digital[b])


# -- visits and rates ----


@pytest.mark.parametrize(("streams", "dbm"), [(1, 20.0), (2, 40.0)])
def test_the_usual_visits_reach_the_rate_of_converged_rows(streams, dbm):
    """0.99 of it, with plain sweeps from random controls; one visit is well below at 40 dBm."""
    problem = _problem(batch=8, streams=streams, dbm=dbm)
    plain = {
        "begin": "random", "noise_schedule": (), "extrapolate": False, "max_iterations": 60,
    }  # fmt: skip
    usual, one, all_ = (
        float(hb.solve(problem, "wmmse-cd", digital_sweeps=n, **plain).sum_rate.mean())
        for n in (None, 1, 2000)
    )
    assert usual >= 0.99 * all_
    assert dbm < 30.0 or one < 0.93 * all_


# -- the digital bound ----


@pytest.mark.parametrize("streams", [1, 2])
def test_the_digital_array_is_above_the_hybrid_on_every_channel(streams):
    """At 40 dBm, where an array that has not converged falls below."""
    hybrid = hb.solve(_problem("sub", streams=streams, dbm=40.0), "wmmse-cd").sum_rate
    digital = hb.solve(
        _problem("digital", streams=streams, dbm=40.0), "wmmse-digital", max_iterations=100
    )
    assert (digital.sum_rate > 1.05 * hybrid).all()
    assert digital.violation.max() < 1e-9


def test_the_digital_bound_converges_and_never_falls():
    problem = _problem("digital", batch=2, dbm=5.0)
    racers = hb.solver("wmmse-digital").cells
    found = [racer(problem, history=True) for racer in racers]
    for racer, one in zip(racers, found, strict=True):
        assert (one.history.diff(dim=1) >= 0).all()
        assert (one.status == hb.solvers.Status.CONVERGED).all(), racer
    best = hb.solve(problem, "wmmse-digital")
    assert torch.equal(best.sum_rate, torch.stack([one.sum_rate for one in found]).amax(dim=0))
    # Going on with plain steps from there gains next to nothing.
    state = make_state(problem, best.control, best.digital)
    further = hb.solver("random", max_iterations=200)(problem, start=state).sum_rate
    assert (further >= best.sum_rate - 1e-9).all()
    assert (further <= best.sum_rate * (1 + 2e-3)).all()


@pytest.mark.parametrize("budget", [{"power": 3.0}, {"power": 100.0, "power_at": "radiated"}])
def test_digital_arrays_with_a_budget_a_cell_are_served(budget):
    h = MODEL.sample(2, seed=0)
    problem = MultiCell(h, HARDWARE["digital"], **budget)
    best = hb.solve(problem, "wmmse-digital", max_iterations=60)
    plain = hb.solve(problem, "random", max_iterations=60)
    assert (best.sum_rate >= plain.sum_rate * (1 - 1e-6)).all()
    assert best.violation.max() < 1e-9
