"""wmmse-mo, mm-altmin, element-altmax: monotone objectives, bounds, brute force."""

import math

import pytest
import torch

import holobeam as hb
from holobeam import Downlink, frontends
from holobeam.channels import LaplacianClusters
from holobeam.solvers.element_altmax import sweep_elements
from holobeam.solvers.manifold_alternation import curvature_bound, descend, majorise
from holobeam.solvers.starts import relaxed
from holobeam.testing import gaussian

NAMES = ("wmmse-mo", "mm-altmin", "element-altmax")


def standard(count=6, *, antennas=16, users=3, connection="full", tones=1, **options):
    if tones == 1:
        h = LaplacianClusters(antennas=antennas, users=users).sample(count, seed=0)
    else:
        h = gaussian((count, tones, users, antennas), 0)
    hardware = frontends.phase_shifters(antennas, 4, connection)
    return Downlink(h, hardware, snr_db=10.0, **options)


def _quadratic(problem):
    generator = torch.Generator().manual_seed(1)
    control = problem.frontend.sample(problem.batch, generator, torch.complex128, problem.h.device)
    digital = gaussian((problem.batch, problem.h.shape[1], problem.chains, problem.users), 2)
    weights = problem.weights(problem.link(control), digital)
    return problem.analog_quadratic(weights, digital), control


@pytest.mark.parametrize("connection", ["full", "sub"])
@pytest.mark.parametrize("tones", [1, 2])
def test_inner_steps_lower_the_weighted_error(connection, tones):
    problem = standard(connection=connection, tones=tones)
    quadratic, control = _quadratic(problem)
    circle = relaxed(problem.frontend.element_set)
    slack = 1e-12 * quadratic.value(control)
    at = control
    for _ in range(15):
        new = majorise(quadratic, at, circle, 1)
        assert (quadratic.value(new) <= quadratic.value(at) + slack).all()
        at = new
    last = quadratic.value(control)
    for steps in (1, 2, 5, 20):
        value = quadratic.value(descend(quadratic, control, circle, steps, 0.0))
        assert (value <= last + slack).all()
        last = value
    assert (last < quadratic.value(at)).float().mean() > 0.5


@pytest.mark.parametrize("connection", ["full", "sub"])
def test_curvature_bound_is_above_the_largest_eigenvalue(connection):
    quadratic, _ = _quadratic(standard(connection=connection, tones=2))
    largest = torch.linalg.eigvalsh(quadratic.dense()[0])[:, -1]
    bound = curvature_bound(quadratic)
    assert (bound >= largest).all()
    assert (bound <= 20 * largest).all()


def test_steps_of_a_channel_do_not_depend_on_its_mates():
    quadratic, control = _quadratic(standard())
    circle = frontends.Circle()
    rows = torch.tensor([3])
    together = descend(quadratic, control, circle, 30, 1e-3)
    one = type(quadratic)(
        quadratic.y[rows], quadratic.t[rows], quadratic.d[rows], quadratic.rho[rows]
    )
    assert (together[3] - descend(one, control[rows], circle, 30, 1e-3)[0]).abs().max() < 1e-9


@pytest.mark.parametrize("name", ["wmmse-mo", "mm-altmin"])
@pytest.mark.parametrize("begin", ["matched", "random"])
def test_rate_never_falls(name, begin):
    problem = standard()
    solver = hb.solver(name, begin=begin)
    state = solver.init(problem, torch.Generator())
    for _ in range(12):
        new = solver.step(problem, state)
        assert (new.utility >= state.utility - 1e-9).all()
        state = new


@pytest.mark.parametrize("name", NAMES)
def test_below_digital_and_above_the_start(name):
    problem = standard()
    bound = Downlink(problem.h, frontends.fully_digital(16), snr_db=10.0)
    most = hb.solve(bound, "wmmse-digital").sum_rate
    solution = hb.solve(problem, name)
    assert (solution.sum_rate <= most + 1e-3).all()
    assert (solution.sum_rate >= hb.solve(problem, "zf-water-filling").sum_rate - 1e-9).all()
    assert solution.violation.max() < 1e-9
    best = hb.solve(problem, "vpk", starts=3, max_iterations=60).sum_rate
    assert best.mean() > solution.sum_rate.mean()


def test_loose_tolerance_from_a_random_start_stops_early():
    """The straw man: the published tolerance with random phases."""
    problem = standard(antennas=32)
    loose = hb.solve(problem, "wmmse-mo", begin="random", tolerance=1e-2)
    tight = hb.solve(problem, "wmmse-mo", max_iterations=40)
    assert (loose.iterations < 40).all()
    assert tight.sum_rate.mean() > loose.sum_rate.mean() + 0.5


def _inverse_trace(h, f):
    users, chains = h.shape[1], f.shape[2]
    worst = []
    for column in range(chains):
        others = f.clone()
        others[:, :, column] = 0
        e = h @ others
        a = e @ e.mH
        level = a.diagonal(dim1=1, dim2=2).real.mean(dim=1)[:, None, None]
        own = h @ f[:, :, column : column + 1]
        full = a + 1e-6 * level * torch.eye(users) + own @ own.mH
        worst.append(torch.linalg.inv(full).diagonal(dim1=1, dim2=2).real.sum(dim=1))
    return worst


def test_each_element_takes_its_best_phase():
    """The last element of the last column against 900 phases."""
    h = gaussian((3, 2, 5), 0)
    f = frontends.Circle().project(gaussian((3, 5, 3), 1))
    ended = sweep_elements(h, f)
    assert (ended.abs() - 1).abs().max() < 1e-12
    value = _inverse_trace(h, ended)[-1]
    for angle in torch.linspace(0, 2 * math.pi, 900, dtype=torch.float64):
        other = ended.clone()
        other[:, -1, -1] = torch.polar(torch.ones_like(angle), angle)
        assert (_inverse_trace(h, other)[-1] >= value * (1 - 1e-9)).all()


def test_sweeps_lower_the_power_of_zero_forcing():
    h = gaussian((4, 3, 16), 0)
    f = frontends.Circle().project(gaussian((4, 16, 4), 1))
    last = None
    for _ in range(6):
        f = sweep_elements(h, f)
        e = h @ f
        trace = torch.linalg.inv(e @ e.mH).diagonal(dim1=1, dim2=2).real.sum(dim=1)
        if last is not None:
            assert (trace <= last * (1 + 1e-4)).all()
        last = trace
