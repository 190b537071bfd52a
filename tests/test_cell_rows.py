"""Rows of many cells under limits per RF chain: compiled against torch, and against the optimum."""

import math
from itertools import pairwise

import cvxpy as cp
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from holobeam import MultiCell, frontends
from holobeam.digital.cell_rows import cell_rows, cell_rows_torch
from holobeam.testing import gaussian

FEED = frontends.microstrips(4, 6, 0.2 * 299_792_458.0 / 28e9)
HARDWARE = {
    "dma": frontends.dma(FEED),
    "several": [frontends.dma(FEED), frontends.dma(1.2 * FEED), frontends.dma(0.7j * FEED)],
    "digital": frontends.fully_digital(24),
}


def _point(hardware="dma", streams=1, sizes=None, dtype=torch.complex128, noise=0.1, seed=0):
    """Problem, link, weights and feasible precoders at random controls."""
    h = gaussian((3, 3, 3, 2, 2, 24), seed)
    for cell, size in enumerate(sizes or ()):
        h[:, :, cell, size:] = 0.0
    chains = 24 if hardware == "digital" else 4
    limit = torch.linspace(0.2, 2.0, chains, dtype=torch.float64) ** 2
    problem = MultiCell(
        h.to(dtype), HARDWARE[hardware], noise_power=noise, power_per_rf_chain=limit,
        streams=streams,
    )  # fmt: skip
    control, digital = problem.feasible(
        gaussian(problem.shapes["control"], seed + 1).to(dtype),
        gaussian(problem.shapes["digital"], seed + 2).to(dtype),
    )
    link = problem.link(control)
    return problem, link, problem.weights(link, digital), digital


def _value(weights, link, digital):
    rows, wanted = weights.whitened(link.e), weights.wanted(3)
    return (rows @ digital - wanted).abs().square().sum(dim=(2, 3))


@pytest.mark.parametrize("sizes", [None, (2, 1, 0)])
@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize("hardware", list(HARDWARE))
def test_compiled_visits_are_those_in_torch(hardware, streams, sizes):
    problem, link, weights, digital = _point(hardware, streams, sizes)
    for visits, tolerance in ((1, 0.0), (7, 0.0), (60, 1e-2), (0, 0.0)):
        options = {"visits": visits, "tolerance": tolerance}
        mine = cell_rows(link, weights, problem.power, digital, **options)
        twin = cell_rows_torch(link, weights, problem.power, digital, **options)
        assert (mine - twin).abs().max() <= 1e-10 * twin.abs().max(), options
        assert (mine.abs().square().sum(dim=3) <= problem.power * (1 + 1e-12)).all()
    assert torch.equal(mine, digital)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(list(HARDWARE)), st.floats(-4.0, 2.0))
def test_no_visit_raises_the_objective_of_a_cell(seed, hardware, log_noise):
    problem, link, weights, digital = _point(hardware, 2, noise=10.0**log_noise, seed=seed)
    before = _value(weights, link, digital)
    for _ in range(5):
        digital = problem.digital_step(link, weights, digital, 3, 0.0)
        after = _value(weights, link, digital)
        assert (after <= before * (1 + 1e-10) + 1e-12).all()
        assert (problem.load(link, digital) <= 1 + 1e-12).all()
        before = after


@pytest.mark.parametrize("hardware", ["dma", "digital"])
def test_many_visits_reach_the_optimum_and_its_conditions(hardware):
    """A convex programme: multipliers of full rows >= 0, slack rows flat, CVXPY not below."""
    problem, link, weights, digital = _point(hardware, 2, noise=3.0)
    digital = problem.digital_step(link, weights, digital, 20_000, 1e-13)
    rows, wanted = weights.whitened(link.e), weights.wanted(3)
    norms = digital.abs().square().sum(dim=3)
    full = norms >= problem.power * (1 - 1e-6)
    assert full.any()
    assert not full.all()
    gradient = rows.mH @ (rows @ digital - wanted)
    size = (rows.mH @ wanted).abs().amax()
    assert gradient[~full].abs().max() < 1e-7 * size
    price = -(gradient * digital.conj()).real.sum(dim=3) / norms
    assert (price[full] >= -1e-9 * size).all()
    assert (gradient + price.unsqueeze(3) * digital)[full].abs().max() < 1e-7 * size
    v = cp.Variable(tuple(digital.shape[2:]), complex=True)
    goal = cp.sum_squares(rows[0, 0].numpy() @ v - wanted[0, 0].numpy())
    bounds = [cp.norm(v[r]) <= math.sqrt(float(problem.power[0, 0, r])) for r in range(v.shape[0])]
    cp.Problem(cp.Minimize(goal), bounds).solve(solver="CLARABEL")
    value = float(_value(weights, link, digital)[0, 0])
    assert value <= goal.value * (1 + 1e-7) + 1e-9
    assert value >= goal.value * (1 - 1e-4) - 1e-9


def test_visits_end_when_a_cell_stands_still():
    """Cell by cell: the last visit moves V by the tolerance at most, the one before by more."""
    problem, link, weights, digital = _point(noise=3.0)
    tolerance = 1e-2
    ended = problem.digital_step(link, weights, digital, 500, tolerance)
    path = [digital]
    for _ in range(200):
        path.append(problem.digital_step(link, weights, path[-1], 1, 0.0))
    counts = set()
    for b in range(3):
        for cell in range(3):
            moves = [
                float((new - old)[b, cell].norm() / new[b, cell].norm())
                for old, new in pairwise(path)
            ]
            count = next(i for i, move in enumerate(moves) if move <= tolerance) + 1
            assert (ended[b, cell] - path[count][b, cell]).abs().max() < 1e-12
            counts.add(count)
    assert len(counts) > 1


def test_single_precision_is_rounded_once():
    problem, link, weights, digital = _point(dtype=torch.complex64)
    mine = problem.digital_step(link, weights, digital, 30, 1e-4)
    assert mine.dtype == torch.complex64
    twin = cell_rows_torch(link, weights, problem.power, digital, visits=30, tolerance=1e-4)
    assert (mine - twin).abs().max() <= 1e-4 * twin.abs().max()
    assert (problem.load(link, mine) <= 1 + 1e-5).all()


def test_gradients_go_through_torch():
    problem, link, weights, digital = _point()
    small = {"visits": 3, "tolerance": 0.0}

    def step(v):
        return cell_rows(link, weights, problem.power, v, **small).abs().square().sum()

    v = digital.clone().requires_grad_()
    slope = torch.autograd.grad(step(v), v)[0]
    direction = gaussian(tuple(digital.shape), 9)
    h = 1e-6
    change = step(digital + h * direction) - step(digital - h * direction)
    assert float((slope.conj() * direction).real.sum()) == pytest.approx(
        float(change) / (2 * h), rel=1e-5, abs=1e-7
    )


def test_threads_change_nothing(monkeypatch):
    problem, link, weights, digital = _point("digital", 2)
    found = []
    for threads in ("1", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        found.append(problem.digital_step(link, weights, digital, 300, 0.0))
    assert torch.equal(*found)
