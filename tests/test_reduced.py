"""vpk: gradients, the identities behind the elimination, bounds, hard channels."""

import math
from dataclasses import replace

import pytest
import torch

import holobeam as hb
from holobeam import Downlink, frontends
from holobeam.analog.limited_memory import begin_memory, limited_memory_step
from holobeam.channels import LaplacianClusters
from holobeam.digital.rate_gradient import fair_loss
from holobeam.errors import InputError, UnsupportedError
from holobeam.frontends.frontend import Frontend
from holobeam.solvers.reduced import ReducedSearch
from holobeam.solvers.reduced_loss import gram, reduced, unit_problem
from holobeam.testing import gaussian


def standard(count=8, chains=4, *, antennas=32, users=4, dtype=torch.complex128, **options):
    h = LaplacianClusters(antennas=antennas, users=users).sample(count, seed=0).to(dtype)
    options.setdefault("snr_db", 10.0)
    bits = options.pop("bits", None)
    return Downlink(h, frontends.phase_shifters(antennas, chains, bits=bits), **options)


def digital(problem):
    return Downlink(
        problem.h.to(torch.complex128),
        frontends.fully_digital(problem.frontend.antennas),
        noise_power=problem.noise_power.double(),
        power=problem.power.double(),
    )


# -- gradients and identities ----


@pytest.mark.parametrize("beta", [0.0, 0.2])
@pytest.mark.parametrize("users", [1, 3])
def test_slope_of_the_fair_loss(users, beta):
    g = gaussian((4, users, users), 0).requires_grad_()
    noise, alpha = gaussian((4, users), 1).abs() + 0.1, gaussian((4, users), 2).abs()
    power = g.abs().square()
    signal = power.diagonal(dim1=1, dim2=2)
    rates = (1 + signal / (power.sum(dim=2) - signal + noise)).log2()
    spread = rates.var(dim=1) if users > 1 else torch.zeros_like(rates[:, 0])
    judge = -(alpha * rates).mean(dim=1) + beta * spread
    judge.sum().backward()
    value, slope = fair_loss(g.detach(), noise, alpha, beta)
    assert (value - judge).abs().max() < 1e-12
    assert (slope - g.grad).abs().max() < 1e-10 * g.grad.abs().max()


def stepwise(problem, iterations, **options):
    """Start and steps in torch, without anything compiled."""
    solver = replace(ReducedSearch(**options), keep="last")
    state = solver.init(problem, torch.Generator().manual_seed(0))
    for _ in range(iterations):
        state = solver.step(problem, state)
    return state


def _loss(problem, beta, seed=0):
    unit = unit_problem(problem)
    phases = (
        2
        * math.pi
        * torch.rand(
            (problem.batch, problem.frontend.antennas, problem.chains),
            generator=torch.Generator().manual_seed(seed),
            dtype=torch.float64,
        )
    )
    loss = reduced(unit, phases, beta, torch.full_like(unit.noise, 0.5))
    size = phases[0].numel() + 2 * problem.users**2
    x = torch.randn(
        problem.batch, size, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64
    )
    return loss, x


@pytest.mark.parametrize("beta", [0.0, 0.2])
@pytest.mark.parametrize(("users", "chains"), [(1, 1), (3, 3), (3, 5)])
def test_gradient_of_the_reduced_loss(users, chains, beta):
    """Against autograd through the physics alone: H, F, D, power; X enters by D = c Q T."""
    problem = standard(3, chains, antennas=16, users=users, weights=torch.linspace(0.5, 1.5, users))
    loss, x = _loss(problem, beta)
    value, gradient = loss(x)
    x = x.clone().requires_grad_()
    size = loss.phases[0].numel()
    analog = torch.polar(
        torch.ones_like(loss.phases), loss.phases + x[:, :size].view_as(loss.phases.mT).mT
    )
    z = torch.view_as_complex(x[:, size:].reshape(-1, users, users, 2))
    mix = loss.rows[:, :, None].to(z.dtype) * (loss.base + loss.stride[:, None, None] * z)
    e = loss.h @ analog
    metric = analog.mH @ analog
    level = metric.diagonal(dim1=1, dim2=2).real.mean(dim=1)[:, None, None]
    q = torch.linalg.solve(metric + 1e-9 * level * torch.eye(chains), e.mH)
    r = e @ q
    t = torch.linalg.solve(r + (users * loss.noise)[:, None, None] * torch.eye(users), mix)
    y = r @ t
    y = y / (t.conj() * y).real.sum(dim=(1, 2), keepdim=True).sqrt()
    noise = loss.noise[:, None].expand(-1, users)
    judge, _ = fair_loss(y, noise, loss.user_weights, beta)
    assert (value - judge).abs().max() < 1e-9
    judge.sum().backward()
    assert (gradient - x.grad).abs().max() < 1e-10 * x.grad.abs().max()


def test_least_power_of_a_wanted_reception():
    """tr(Y^H R^-1 Y) is the power of the least-norm radiated signal in the span of F."""
    problem = standard(4, 5, antennas=16, users=3)
    loss, x = _loss(problem, 0.0)
    unit = unit_problem(problem)
    control, v = loss.digital(x)
    _, r, _ = gram(unit.h, control, unit.noise)
    y = unit.h @ control @ v
    power = (y.conj() * torch.linalg.solve(r, y)).real.sum(dim=(1, 2))
    radiated = (control @ v).abs().square().sum(dim=(1, 2))
    assert (power - 1).abs().max() < 1e-7
    assert (radiated - 1).abs().max() < 1e-7
    orthonormal = torch.linalg.qr(control)[0]
    least = torch.linalg.pinv(unit.h @ orthonormal) @ y
    assert (least.abs().square().sum(dim=(1, 2)) - power).abs().max() < 1e-7


def test_the_loss_is_the_rate_that_the_problem_judges():
    problem = standard(4, 5, weights=torch.tensor([1.0, 0.5, 2.0, 1.0]), power=3.0, snr_db=7.0)
    solver = ReducedSearch(max_iterations=5)
    state = solver.init(problem, torch.Generator())
    for _ in range(3):
        state = solver.step(problem, state)
        judged = problem.utility(problem.link(state.control), state.digital)
        assert (judged - state.utility).abs().max() < 1e-6


# -- L-BFGS ----


def test_lbfgs_minimises_quadratics_and_never_rises():
    basis = torch.linalg.qr(torch.view_as_real(gaussian((3, 12, 6), 0)).flatten(2))[0]
    sizes = torch.logspace(0, 2, 12, dtype=torch.float64)
    a = basis @ (sizes[:, None] * basis.mH)
    goal = torch.ones(3, 12, dtype=torch.float64)

    def objective(x, rows=None):
        at, want = (a, goal) if rows is None else (a[rows], goal[rows])
        pull = (at @ (x - want).unsqueeze(2)).squeeze(2)
        return 0.5 * ((x - want) * pull).sum(dim=1), pull

    x = torch.zeros(3, 12, dtype=torch.float64)
    memory = begin_memory(x, *objective(x), 8)
    for _ in range(80):
        new = limited_memory_step(objective, memory)
        assert (new.value <= memory.value).all()
        memory = new
    assert memory.value.max() < 1e-10


def test_a_step_without_decrease_is_not_made():
    def objective(x, rows=None):
        return x.abs().sum(dim=1), -x.sign()  # the gradient lies

    x = torch.ones(2, 3)
    memory = limited_memory_step(objective, begin_memory(x, *objective(x), 4))
    assert (memory.x == x).all()
    assert (memory.stuck == 1).all()


# -- answers ----


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize("chains", [4, 5, 8])
def test_hybrid_never_above_converged_digital(chains, dtype):
    problem = standard(8, chains, dtype=dtype)
    solution = hb.solve(problem, "vpk", max_iterations=100 if chains == 8 else 30)
    bound = hb.solve(digital(problem), "wmmse-digital").sum_rate
    assert (solution.sum_rate <= bound + 1e-3).all()
    assert (solution.control.abs() - 1).abs().max() < 1e-5
    assert (solution.radiated_power - 1).abs().max() < 1e-5
    if chains == 8:  # M = 2K attains every digital precoder
        assert (solution.sum_rate >= bound - 4e-3).all()


def test_objective_rises_and_single_precision_agrees():
    problem = standard(8)
    long = hb.solve(problem, "vpk", history=True)
    assert (long.history.diff(dim=1) >= 0).all()
    single = hb.solve(standard(8, dtype=torch.complex64), "vpk")
    assert (single.sum_rate.mean() - long.sum_rate.mean()).abs() < 4e-3
    assert long.sum_rate.mean() > hb.solve(problem, "vp").sum_rate.mean()


@pytest.mark.parametrize(("users", "chains", "beta"), [(4, 4, 0.0), (3, 5, 0.2), (1, 2, 0.0)])
def test_compiled_loop_does_what_the_steps_do(users, chains, beta):
    """From the first evaluation to past the memory's length."""
    problem = standard(5, chains, users=users)
    for count, tolerance in ((1, 1e-9), (3, 1e-8), (12, 1e-5)):
        slow = stepwise(problem, count, beta=beta)
        fast = hb.solve(problem, "vpk", max_iterations=count, beta=beta)
        rates = problem.rates(problem.link(slow.control), slow.digital)
        assert (fast.rates - rates).abs().max() < tolerance
    whole = hb.solve(problem, "vpk", max_iterations=12, beta=beta)
    bit = hb.solve(problem, "vpk", max_iterations=12, beta=beta, history=True)
    assert torch.equal(whole.control, bit.control)


def test_sines_of_the_kernel():
    from holobeam.kernels.reduced_loss import _turn

    phase = torch.linspace(-40, 40, 4001, dtype=torch.float64)
    found = [torch.empty_like(phase) for _ in range(2)]
    _turn(phase.numpy(), 0.0 * phase.numpy(), *(part.numpy() for part in found))
    assert (found[0] - phase.cos()).abs().max() < 1e-14
    assert (found[1] - phase.sin()).abs().max() < 1e-14


def test_fairness_trades_the_sum_for_the_weakest_user():
    problem = standard(12)
    selfish, fair = hb.solve(problem, "vpk"), hb.solve(problem, "vpk", beta=0.2)
    assert fair.rates.amin(dim=1).mean() > selfish.rates.amin(dim=1).mean() + 0.05
    assert selfish.sum_rate.mean() > fair.sum_rate.mean() > selfish.sum_rate.mean() - 0.2


def test_nearly_identical_users_are_told_apart():
    problem = standard(6, antennas=64)
    h = problem.h.clone()
    h[:, :, 1] = h[:, :, 0] + 1e-3 * h[:, :, 2]
    twins = problem.with_(h=h)
    solution = hb.solve(twins, "vpk", max_iterations=150)
    bound = hb.solve(digital(twins), "wmmse-digital").sum_rate
    assert torch.isfinite(solution.rates).all()
    assert solution.sum_rate.mean() >= 0.97 * bound.mean()


def test_gains_far_apart_are_served():
    """The equal-power start: plain RZF loses bits where gains differ by 40 dB."""
    problem = standard(6, snr_db=40.0)
    spread = torch.tensor([1.0, 0.1, 0.03, 0.01], dtype=torch.float64)[:, None]
    problem = problem.with_(h=problem.h * spread)
    bound = hb.solve(digital(problem), "wmmse-digital").sum_rate
    found = hb.solve(problem, "vpk", max_iterations=60).sum_rate
    assert (found > 0.93 * bound).all()


@pytest.mark.parametrize("size", [1e-6, 1e6])
def test_scale_of_channel_and_power_does_not_matter(size):
    problem = standard(3)
    plain = hb.solve(problem, "vpk", max_iterations=10).rates
    faint = problem.with_(h=size * problem.h, noise_power=size**2 * problem.noise_power)
    loud = problem.with_(power=size * problem.power, noise_power=size * problem.noise_power)
    for other in (faint, loud):
        assert (hb.solve(other, "vpk", max_iterations=10).rates - plain).abs().max() < 1e-6


def test_any_feed_on_every_branch():
    """A known feed of unequal waves only renames the problem."""
    problem = standard(3, antennas=16)
    feed = gaussian((16, 4), 5)
    feed = feed / feed.abs()
    turned = Frontend(feed, problem.frontend.element_set, 4, "turned", insertion_loss_db=3.0)
    other = Downlink(problem.h, turned, snr_db=10.0)
    for name in ("vpk", "ggml", "element-altmax"):
        short = {"max_iterations": 4}
        found = hb.solve(other, name, **short)
        assert found.violation.max() < 1e-9
        start = hb.solve(other, name, max_iterations=0).sum_rate
        assert (found.sum_rate >= start).all(), name
        assert found.sum_rate.mean() > start.mean(), name
    gap = hb.solve(other, "vpk").sum_rate - hb.solve(problem, "vpk").sum_rate
    assert gap.abs().max() < 1e-6


@pytest.mark.parametrize("bits", [2, 3])
def test_stepped_phases_are_rounded_and_refitted(bits):
    problem = standard(6, bits=bits)
    solution = hb.solve(problem, "vpk")
    step = 2 * math.pi / 2**bits
    off = torch.remainder(solution.control.angle() / step + 0.5, 1.0) - 0.5
    assert off.abs().max() < 1e-9
    smooth = hb.solve(standard(6), "vpk").sum_rate
    assert (solution.sum_rate < smooth).all()
    assert solution.sum_rate.mean() > 0.75 * smooth.mean()


def test_starts_and_warm_starts_never_lose():
    problem = standard(6)
    one, four = hb.solve(problem, "vpk"), hb.solve(problem, "vpk", starts=4)
    assert (four.sum_rate >= one.sum_rate - 1e-9).all()
    for first in (hb.solve(problem, "vp", max_iterations=2), one):
        ended = hb.solve(problem, "vpk", max_iterations=10, start=first)
        assert (ended.sum_rate > first.sum_rate).all()


def test_refusals():
    h = gaussian((2, 1, 3, 12), 0)
    cases = (
        (Downlink(h, frontends.phase_shifters(12, 2), snr_db=0.0), r"K <= R.*use vp"),
        (Downlink(h, frontends.phase_shifters(12, 3, "sub"), snr_db=0.0), "every branch"),
        (Downlink(h, frontends.phase_shifters(12, 3), snr_db=0.0, power_at="feeds"), "radiated"),
        (
            Downlink(gaussian((2, 2, 3, 12), 0), frontends.phase_shifters(12, 3), snr_db=0.0),
            "one subcarrier",
        ),
    )
    for problem, words in cases:
        for name in ("vpk", "ggml", "element-altmax"):
            with pytest.raises(UnsupportedError, match=words):
                hb.solve(problem, name)
    for option in ({"beta": -1.0}, {"pairs": 0}):
        with pytest.raises(InputError, match=next(iter(option))):
            hb.solve(standard(2), "vpk", **option)
