"""Vector modulators: controls of any gain and phase, which reach what a digital array reaches."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import holobeam as hb
from holobeam import Downlink, MultiCell, frontends, solvers, testing
from holobeam.analog import manifold_descent
from holobeam.analog.manifold import retract, tangent
from holobeam.arrays import upa
from holobeam.errors import InputError, UnsupportedError
from holobeam.frontends import LOSSLESS, Plane
from holobeam.solvers.meta import Precoding
from holobeam.solvers.starts import balanced
from holobeam.studies.scenario import VectorModulators
from holobeam.testing import gaussian

ANTENNAS, USERS = 12, 3
H = gaussian((4, 1, USERS, ANTENNAS), 0)


def _downlink(hardware, h=H, **options):
    return Downlink(h, hardware, **{"snr_db": 10.0, **options})


def _cells(hardware, seed=0):
    h = gaussian((3, 2, 2, 2, 2, ANTENNAS), seed)
    own = torch.eye(2, dtype=torch.bool)[:, :, None, None, None]
    h = torch.where(own, h, 0.1**0.5 * h)
    return MultiCell(h, hardware, noise_power=1.0, power=1.0, power_at="radiated")


def _quadratic(seed=0):
    problem = _downlink(frontends.vector_modulators(ANTENNAS, 4))
    control, digital = gaussian((4, ANTENNAS, 4), seed), gaussian((4, 1, 4, USERS), seed + 1)
    weights = problem.weights(problem.link(control), digital)
    return problem.analog_quadratic(weights, digital), control


# -- the plane ----


def test_the_plane_takes_every_number_but_no_nonsense():
    testing.check_element_set(Plane())
    q = torch.tensor([0.0, 1e9 + 1j, torch.nan, complex(0.0, torch.inf)], dtype=torch.complex64)
    assert Plane().violation(q).tolist() == [0.0, 0.0, torch.inf, torch.inf]
    draw = Plane().sample((20_000,), torch.Generator().manual_seed(0), torch.complex128)
    # Circular: power 1, and no part of it in E[q^2]; five standard deviations.
    assert (draw.abs().square().mean() - 1.0).abs() < 5 / 20_000**0.5
    assert draw.square().mean().abs() < 5 * (2 / 20_000) ** 0.5


def test_the_plane_is_flat():
    """Tangent and retraction are identities, and the slope is that of autograd."""
    quadratic, q = _quadratic()
    point = q.clone().requires_grad_()
    (slope,) = torch.autograd.grad(quadratic.value(point).sum(), point)
    assert torch.allclose(tangent(Plane(), q, 2.0 * quadratic.gradient(q)), slope, rtol=1e-9)
    assert retract(Plane(), q) is q


def test_conjugate_gradients_find_the_minimum_on_the_plane():
    quadratic, q = _quadratic()
    a, b = quadratic.dense()
    best = torch.linalg.lstsq(a, b.unsqueeze(2), driver="gelsd").solution.view_as(q)
    start, least = quadratic.value(q), quadratic.value(best)
    ended = quadratic.value(manifold_descent(quadratic, q, Plane(), iterations=300))
    assert (ended >= least - 1e-9).all()
    assert ((ended - least) / (start - least)).max() < 1e-3


def test_slopes_of_ggml_without_the_projection_are_those_of_autograd():
    loss = Precoding(
        gaussian((2, 3, 6), 0),
        torch.full((2, 3), 0.2, dtype=torch.float64),
        torch.ones(2, 3, dtype=torch.float64),
        0.2,
        free_gain=True,
    )
    z = gaussian((2, 6, 4), 1).requires_grad_()
    raw = gaussian((2, 4, 3), 2).requires_grad_()
    power = (z @ raw).abs().square().sum(dim=(1, 2), keepdim=True)
    value = loss.slopes(z, raw / power.sqrt())[0].sum()
    wanted = torch.autograd.grad(value, (z, raw))
    analog, digital, *slopes = loss.normalised(z.detach(), raw.detach())
    assert torch.equal(analog, z.detach())
    assert ((analog @ digital).abs().square().sum(dim=(1, 2)) - 1.0).abs().max() < 1e-12
    for got, want in zip(slopes, wanted, strict=True):
        assert torch.allclose(got, want, rtol=1e-9, atol=1e-12)


# -- what is reached ----


@pytest.mark.parametrize("chains", [USERS, USERS + 1])
@pytest.mark.parametrize("name", ["wmmse-mo", "wmmse-cd", "vp"])
def test_enough_chains_reach_the_digital_array(name, chains):
    bound = hb.solve(_downlink(frontends.fully_digital(ANTENNAS)), "wmmse-digital").sum_rate
    hybrid = hb.solve(_downlink(frontends.vector_modulators(ANTENNAS, chains)), name)
    assert hybrid.violation.max() < 1e-12
    assert (hybrid.sum_rate <= bound * (1 + 1e-6)).all()
    assert (hybrid.sum_rate >= bound * (1 - 1e-3)).all()


@pytest.mark.parametrize("name", ["ggml", pytest.param("ggml-paper", marks=pytest.mark.slow)])
def test_ggml_comes_near_the_digital_array(name):
    """Five hundred steps of Adam do not converge: within half a per cent of each channel."""
    bound = hb.solve(_downlink(frontends.fully_digital(ANTENNAS), H[:2]), "wmmse-digital").sum_rate
    problem = _downlink(frontends.vector_modulators(ANTENNAS, USERS), H[:2])
    hybrid = hb.solve(problem, name)
    assert hybrid.violation.max() < 1e-12
    assert (hybrid.sum_rate <= bound * (1 + 1e-6)).all()
    assert (hybrid.sum_rate >= bound * (1 - 5e-3)).all()


@pytest.mark.parametrize("chains", [2, 4])
def test_enough_chains_reach_the_digital_array_in_many_cells(chains):
    """Two users a cell, two receive antennas each, one stream."""
    digital = _cells(frontends.fully_digital(ANTENNAS))
    bound = hb.solve(digital, "wmmse-digital").sum_rate
    problem = _cells(frontends.vector_modulators(ANTENNAS, chains))
    hybrid = hb.solve(problem, "wmmse-mo")
    assert hybrid.violation.max() < 1e-12
    assert (hybrid.sum_rate <= bound * (1 + 1e-6)).all()
    assert (hybrid.sum_rate >= bound * (1 - 1e-3)).all()


@pytest.mark.parametrize("connection", ["full", "sub"])
def test_free_gains_are_worth_something(connection):
    """On the mean, that is: on one channel phases alone may meet a better local optimum."""
    free = frontends.vector_modulators(ANTENNAS, USERS, connection)
    bound = frontends.phase_shifters(ANTENNAS, USERS, connection)
    for name in ("wmmse-mo", "vp"):
        rates = [hb.solve(_downlink(one), name).sum_rate.mean() for one in (free, bound)]
        assert rates[0] > rates[1], name


def test_free_gains_are_worth_something_in_many_cells():
    kinds = frontends.vector_modulators, frontends.phase_shifters
    rates = [hb.solve(_cells(make(ANTENNAS, 4)), "wmmse-mo").sum_rate.mean() for make in kinds]
    assert rates[0] > rates[1]


def test_wrappers_go_on_from_free_gains():
    problem = _downlink(frontends.vector_modulators(ANTENNAS, USERS))
    plain = hb.solve(problem, "wmmse-mo", max_iterations=5)
    refitted = hb.solve(problem, "wmmse-mo+w", max_iterations=5)
    assert (refitted.sum_rate >= plain.sum_rate - 1e-9).all()
    unequal = H * torch.tensor([1.0, 0.3, 0.05])[:, None]
    fair = _downlink(problem.frontend, unequal, utility="proportional_fair")
    rates = [
        solvers.ProportionalFair(inner=hb.solver(name), max_iterations=12)(fair).utility.mean()
        for name in ("wmmse-mo", "vp")
    ]
    selfish = hb.solve(_downlink(problem.frontend, unequal), "wmmse-mo")
    worth = fair.utility(fair.link(selfish.control), selfish.digital).mean()
    assert min(rates) > worth


# -- the free scale ----


def test_balancing_moves_the_scale_of_each_chain_into_the_digital_part():
    problem = _downlink(frontends.vector_modulators(ANTENNAS, USERS))
    control, digital = 1e5 * gaussian((4, ANTENNAS, USERS), 1), gaussian((4, 1, USERS, USERS), 2)
    control[:, :, 0] *= 1e-9
    control[1, :, 1] = 0.0
    even, rows = balanced(control, digital)
    before, after = problem.analog(control) @ digital, problem.analog(even) @ rows
    assert ((before - after).abs() <= 1e-12 * before.abs().amax()).all()
    size = even.abs().square().mean(dim=1)
    assert (size - 1.0 + (torch.arange(12).view(4, 3) == 4).double()).abs().max() < 1e-12


@pytest.mark.parametrize("name", ["wmmse-mo", "ggml"])
@pytest.mark.parametrize("cells", [False, True])
def test_a_start_may_have_any_scale(name, cells):
    hardware = frontends.vector_modulators(ANTENNAS, 4)
    problem = _cells(hardware) if cells else _downlink(hardware)
    solver = hb.solver(name, max_iterations=8)
    first = hb.solve(problem, name, max_iterations=2)
    loud = replace(first, control=1e6 * first.control, digital=1e-6 * first.digital)
    ended = [solver(problem, start=start) for start in (first, loud)]
    assert torch.allclose(ended[0].rates, ended[1].rates, rtol=1e-9)
    assert (ended[0].utility >= first.utility - 1e-9).all()
    size = ended[1].control.abs().square().mean(dim=-2)
    assert size.max() < 100
    assert size.min() > 0.01


@pytest.mark.parametrize("cells", [False, True])
def test_ggml_spends_its_budget_whatever_the_scale_of_its_start(cells):
    hardware = frontends.vector_modulators(ANTENNAS, 4)
    lossy = replace(hardware, feed=0.3 * hardware.feed, insertion_loss_db=2.0)
    problem = _cells(lossy) if cells else _downlink(lossy, power=3.0)
    solver = hb.solver("ggml")
    state = solver.step(problem, solver.init(problem, torch.Generator().manual_seed(0)))
    load = problem.load(problem.link(state.control), state.digital)
    assert (load - 1.0).abs().max() < 1e-9


# -- refusals ----


def test_power_at_the_feeds_bounds_nothing():
    hardware = frontends.vector_modulators(ANTENNAS, 4)
    for place in ("feeds", "per_rf_chain"):
        with pytest.raises(InputError, match=rf'{place}.*unlimited.*power_at="radiated"'):
            _downlink(hardware, power_at=place)
    h = _cells(hardware).h
    for options in ({"power": 1.0}, {"power_per_rf_chain": 1.0}):
        with pytest.raises(InputError, match=r'unlimited.*power_at="radiated"'):
            MultiCell(h, hardware, **options)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("pga", "whose gain is free; use wmmse-mo, ggml or wmmse-cd"),
        ("vpk", "whose gain is free; use wmmse-mo, ggml or wmmse-cd"),
        ("manifold-cg", "whose gain is free; use wmmse-mo, ggml or wmmse-cd"),
        ("mm-altmin", "phases, not gains; use wmmse-mo, ggml or wmmse-cd"),
        ("wmmse-projection", "no rounding; use wmmse-cd"),
        ("unfolded-vp", "bounded controls; use vp, wmmse-mo or ggml"),
        ("wmmse-digital", "use wmmse-cd or vp"),
        ("wmmse-tabu", "two levels"),
        ("mmse-paper", "use wmmse-cd or vp"),
    ],
)
def test_who_does_not_serve_says_who_does(name, reason):
    with pytest.raises(UnsupportedError, match=reason):
        hb.solve(_downlink(frontends.vector_modulators(ANTENNAS, 4)), name)


def test_robust_ggml_designs_phases_only():
    problem = _downlink(frontends.vector_modulators(ANTENNAS, 4), error_variance=0.1)
    with pytest.raises(UnsupportedError, match="whose gain is free"):
        hb.solve(problem, "ggml-imcsi")


def test_ggml_needs_a_modulator_on_every_branch():
    problem = _downlink(frontends.vector_modulators(ANTENNAS, 3, "sub"))
    with pytest.raises(UnsupportedError, match="on every branch; use vp or wmmse-cd"):
        hb.solve(problem, "ggml")


def test_the_front_end_by_name():
    built = frontends.build("vector-modulators", upa((4, 3)), 3)
    assert (built.name, built.controls, built.element_set) == ("vector-modulators", 3, Plane())
    sub = frontends.vector_modulators(12, 3, "sub")
    assert (sub.name, sub.controls, sub.has_free_gain) == ("vector-modulators-sub", 1, True)
    assert torch.equal(sub.feed, frontends.phase_shifters(12, 3, "sub").feed)
    # Nobody's figure is cited for what a modulator draws.
    assert built.power_model == LOSSLESS
    table = VectorModulators(kind="vector-modulators", rf_chains=3, connection="sub")
    in_study = table.build(SimpleNamespace(array=upa((4, 3))))
    assert (in_study.name, in_study.antennas, in_study.rf_chains) == (sub.name, 12, 3)
    with pytest.raises(InputError, match="12 is not a multiple of rf_chains=5"):
        frontends.vector_modulators(12, 5, "sub")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wmmse-mo", "ggml", "vp"])
def test_all_promises_on_vector_modulators(name):
    full, sub = (frontends.vector_modulators(12, 2, kind) for kind in ("full", "sub"))
    problems = [
        *testing.example_problems([full, sub], batch=2)[::3],
        *testing.example_problems([full], batch=2, dtype=torch.complex64)[:1],
        *testing.example_cell_problems([frontends.vector_modulators(12, 4)])[:2],
    ]
    testing.check_solver(hb.solver(name, max_iterations=6), problems)
