"""The compiled start of the surface solver against its steps in torch; whole compiled solves."""

from dataclasses import dataclass, fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import holobeam as hb
from holobeam.solvers import Alternating, Restart, VariableProjection, base, fused
from holobeam.solvers.starts import digital_target, fit_to_target, matched_control, random_control
from holobeam.testing import degenerate_channels, gaussian

FRONTENDS = (
    "rhs",
    "rhs-binary",
    "dma",
    "phase-shifters",
    "phase-shifters-2bit",
    "phase-shifters-sub",
)


def problem(name, place="radiated", users=3, dtype=torch.complex128, batch=5):
    h = gaussian((batch, 1, users, 16), 2).to(dtype)
    frontend = hb.frontends.build(name, hb.arrays.upa((4, 4), spacing=1 / 3), 4)
    noise = torch.tensor([[0.05, 0.1, 0.2, 0.4, 0.3, 0.2][:users]], dtype=torch.float64)
    weights = torch.tensor([1.0, 2.0, 0.5, 1.0, 1.0, 3.0][:users], dtype=torch.float64)
    return hb.Downlink(h, frontend, noise_power=noise, weights=weights, power_at=place, power=3.0)


@dataclass(frozen=True, kw_only=True)
class Stepped(Alternating):
    """The same solver with steps of its own: nothing of it is compiled."""

    def step(self, problem, state):
        return super().step(problem, state)


@dataclass(frozen=True, kw_only=True)
class SteppedProjection(VariableProjection):
    def step(self, problem, state):
        return super().step(problem, state)


def _as(kind, solver):
    return kind(**{field.name: getattr(solver, field.name) for field in fields(solver)})


@pytest.mark.parametrize("name", FRONTENDS)
@pytest.mark.parametrize("place", ["radiated", "feeds"])
@pytest.mark.parametrize("pick", [matched_control, random_control])
def test_fitted_start_is_target_and_fit(name, place, pick):
    at = problem(name, place)
    middle = pick(at, torch.Generator().manual_seed(0))
    before = middle.clone()
    control, digital = fused.fitted_start(at, middle)
    want_control, want_digital = fit_to_target(at, middle, digital_target(at))
    assert torch.equal(middle, before), "the first controls were changed in place"
    assert (control - want_control).abs().max() < 1e-9
    assert (digital - want_digital).abs().max() < 1e-9 * want_digital.abs().max()


@pytest.mark.parametrize("users", [1, 4, 6])
def test_any_number_of_users(users):
    """More users than chains, and fewer."""
    at = problem("rhs", users=users)
    middle = matched_control(at, torch.Generator())
    control, _ = fused.fitted_start(at, middle)
    want, _ = fit_to_target(at, middle, digital_target(at))
    assert (control - want).abs().max() < 1e-9


def test_more_users_than_elements():
    h = gaussian((2, 1, 3, 2), 0)
    at = hb.Downlink(h, hb.frontends.rhs(gaussian((2, 2), 1)), snr_db=10.0)
    middle = matched_control(at, torch.Generator())
    control, _ = fused.fitted_start(at, middle)
    want, _ = fit_to_target(at, middle, digital_target(at))
    assert (control - want).abs().max() < 1e-9


@pytest.mark.parametrize("name", ["rhs", "dma", "phase-shifters"])
def test_degenerate_channels_start_finite(name):
    frontend = hb.frontends.build(name, hb.arrays.upa((4, 3)), 4)
    at = hb.Downlink(degenerate_channels(3, 12), frontend, noise_power=0.1)
    solver = hb.solver("mmse-fast")
    state = solver.init(at, torch.Generator().manual_seed(0))
    assert torch.isfinite(state.utility).all()
    solution = solver(at)
    assert torch.isfinite(solution.rates).all()
    assert solution.violation.max() < 1e-9
    assert (solution.utility >= state.utility - 1e-9).all()


def test_single_precision_stays_single():
    at, double = problem("rhs", dtype=torch.complex64), problem("rhs")
    state = hb.solver("mmse-fast").init(at, torch.Generator())
    wide = hb.solver("mmse-fast").init(double, torch.Generator())
    assert state.control.dtype == state.digital.dtype == torch.complex64
    assert torch.allclose(state.utility.double(), wide.utility, atol=1e-3)


# -- whole solves ----


@pytest.mark.parametrize("name", ["rhs", "rhs-binary", "dma", "phase-shifters-2bit"])
@pytest.mark.parametrize("place", ["radiated", "feeds"])
def test_whole_solves_are_the_stepped_ones(name, place):
    """Same best point, status and count of iterations as the loop that steps in torch."""
    at = problem(name, place)
    solver = hb.solver("mmse-fast", max_iterations=30, tolerance=1e-4, patience=4)
    fast, slow = solver(at), _as(Stepped, solver)(at)
    assert (fast.sum_rate - slow.sum_rate).abs().max() < 1e-9
    assert torch.equal(fast.iterations, slow.iterations)
    assert torch.equal(fast.status, slow.status)


@pytest.mark.parametrize("name", FRONTENDS)
@pytest.mark.parametrize("place", ["radiated", "feeds"])
def test_compiled_projection_is_the_steps(name, place):
    at = problem(name, place)
    solver = hb.solver("vp", max_iterations=12)
    first = solver.init(at, torch.Generator().manual_seed(0))
    fast, slow = first, first
    for count in (1, 3, 8):
        fast = solver.advance(at, fast, count)
        for _ in range(count):
            slow = solver.step(at, slow)
        assert fast.memory.count == slow.memory.count
        assert (fast.utility - slow.utility).abs().max() < 1e-9
        assert (fast.control - slow.control).abs().max() < 1e-9
        assert (fast.memory.latent - slow.memory.latent).abs().max() < 1e-9
        assert (fast.memory.velocity - slow.memory.velocity).abs().max() < 1e-8
    assert torch.isfinite(solver.step(at, fast).utility).all(), "steps carry on from the kernel"


@pytest.mark.parametrize("name", FRONTENDS)
@pytest.mark.parametrize(("patience", "first_step", "count"), [(3, 0.3, 60), (50, 0.06, 20)])
def test_whole_projections_are_the_stepped_ones(name, patience, first_step, count):
    """Long steps stall soon; over many of them rounding would grow into another path."""
    at = problem(name)
    solver = hb.solver("vp", max_iterations=count, patience=patience, first_step=first_step)
    fast, slow = solver(at), _as(SteppedProjection, solver)(at)
    assert (fast.sum_rate - slow.sum_rate).abs().max() < 1e-9
    assert torch.equal(fast.iterations, slow.iterations)
    assert torch.equal(fast.status, slow.status)
    if patience == 3:
        assert (fast.status == hb.Status.STALLED).any(), "the case is there to be tested"


@pytest.mark.parametrize("method", ["mmse-fast", "vp", "mmse"])
def test_the_last_point_may_be_asked_for(method):
    at = problem("rhs-binary")
    last = hb.solve(at, method, keep="last", max_iterations=9, patience=99)
    kind = SteppedProjection if method == "vp" else Stepped
    solver = _as(kind, hb.solver(method, keep="last", max_iterations=9, patience=99))
    assert (last.sum_rate - solver(at).sum_rate).abs().max() < 1e-9


@pytest.mark.parametrize("method", ["mmse-fast", "vp", "wmmse-cd"])
def test_batch_mates_change_no_bit_of_compiled_loops(method):
    at = problem("dma", batch=9)
    solver = hb.solver(method)
    first = solver.init(at, torch.Generator().manual_seed(0))
    together = solver.advance(at, first, 25)
    for i in (0, 4, 8):
        row = torch.tensor([i])
        alone = solver.advance(at.take(row), base.take(first, row), 25)
        assert torch.equal(alone.control[0], together.control[i])
        assert torch.equal(alone.utility[0], together.utility[i])


def test_a_channel_that_breaks_keeps_its_best_point():
    at = problem("rhs")
    solver = hb.solver("vp")
    first = solver.init(at, torch.Generator())
    digital = first.digital.clone()
    digital[1] = complex("nan")
    record = base.Record(base.bare(first), torch.zeros(5, dtype=torch.long))
    passed = solver.run(at, replace(first, digital=digital), record, 6)
    others = torch.tensor([0, 2, 3, 4])
    healthy = solver.run(at, first, record, 6)
    assert torch.equal(passed.record.best.utility[others], healthy.record.best.utility[others])
    assert passed.record.best.utility[1] == first.utility[1]
    assert not bool(torch.isfinite(passed.state.utility[1]))


def test_gradients_stay_in_torch():
    at = problem("rhs")
    solver = hb.solver("vp")
    first = solver.init(at, torch.Generator())
    digital = first.digital.clone().requires_grad_(True)
    ended = solver.advance(at, replace(first, digital=digital), 2)
    ended.utility.sum().backward()
    assert torch.isfinite(torch.view_as_real(digital.grad)).all()


# -- starts in one batch ----


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("mmse-fast", "rhs"),
        ("mmse", "rhs"),
        ("wmmse-cd", "rhs-binary"),
        ("wmmse-cd", "dma"),
        ("vp", "phase-shifters"),
        ("mmse-analog", "rhs"),
    ],
)
def test_starts_in_one_batch_are_starts_one_by_one(method, name, monkeypatch):
    at = problem(name)
    options = {"starts": 5, "max_iterations": 30, "history": True, "seed": 3}
    together = hb.solve(at, method, **options)
    monkeypatch.setattr(base, "_STACKED", 0)
    single = hb.solve(at, method, **options)
    assert (together.sum_rate - single.sum_rate).abs().max() < 1e-9
    assert torch.equal(together.iterations, single.iterations)
    assert torch.equal(together.status, single.status)
    assert (together.history - single.history).abs().max() < 1e-9


def test_groups_of_starts_are_the_same(monkeypatch):
    at = problem("rhs")
    whole = hb.solve(at, "mmse-fast", starts=5, max_iterations=20)
    monkeypatch.setattr(base, "_STACKED", 2 * at.h.numel())
    grouped = hb.solve(at, "mmse-fast", starts=5, max_iterations=20)
    assert torch.equal(whole.control, grouped.control)


def test_a_given_start_is_one_of_the_starts():
    at = problem("rhs")
    good = hb.solve(at, "mmse-fast", starts=6)
    again = hb.solve(at, "mmse", starts=3, start=good, max_iterations=5)
    assert (again.utility >= good.utility - 1e-9).all()


def test_more_starts_never_lose():
    at = problem("rhs", batch=12)
    rates = [Restart(solver=hb.solver("mmse-fast"), starts=n)(at).utility for n in (1, 3, 8)]
    assert (rates[1] >= rates[0]).all()
    assert (rates[2] >= rates[1]).all()
    assert (rates[2] > rates[0]).any()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.sampled_from(["rhs", "dma", "phase-shifters", "phase-shifters-sub"]),
    st.sampled_from(["mmse", "mmse-fast", "vp"]),
    st.sampled_from(["radiated", "feeds"]),
    st.integers(1, 5),
    st.sampled_from([1, 2, 4]),
    st.floats(-10.0, 25.0),
    st.integers(0, 1000),
)
def test_any_short_solve_is_the_stepped_one(name, method, place, users, chains, snr_db, seed):
    """More or fewer users than chains, any SNR; sets on which A keeps its rank.

    A few elements switched on and off may leave A singular: V is then not unique, and neither is
    the path that follows from it.
    """
    h = gaussian((2, 1, users, 16), seed)
    frontend = hb.frontends.build(name, hb.arrays.upa((4, 4)), chains)
    at = hb.Downlink(h, frontend, snr_db=snr_db, power_at=place)
    solver = hb.solver(method, max_iterations=4)
    fast = solver(at)
    slow = _as(SteppedProjection if method == "vp" else Stepped, solver)(at)
    assert (fast.sum_rate - slow.sum_rate).abs().max() < 1e-6
    assert fast.violation.max() < 1e-9
