"""What the ggml paper proves: Propositions 1 and 2 and Lemma 1, where they hold and where not."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import holobeam as hb
from holobeam import Downlink, MultiCell, frontends
from holobeam.channels import LaplacianClusters
from holobeam.channels.csi_error import shrunk_channels
from holobeam.digital.rate_gradient import fair_loss, gradient_of_digital, rate_slope
from holobeam.solvers.refit import digital_refit
from holobeam.testing import gaussian


def standard(count=4, *, antennas=16, users=3):
    h = LaplacianClusters(antennas=antennas, users=users).sample(count, seed=0)
    return Downlink(h, frontends.phase_shifters(antennas, users), snr_db=10.0)


# -- Proposition 1: full power ----


def test_more_power_raises_every_rate():
    """No point inside the budget is stationary: along the scale every rate rises."""
    problem = standard()
    control = problem.frontend.project(gaussian((4, 16, 3), 1))
    digital = gaussian((4, 1, 3, 3), 2)
    heard = problem.h @ problem.analog(control) @ digital

    def rates(scale):
        power = scale.square()[:, None, None, None] * heard.abs().square()
        signal = power.diagonal(dim1=2, dim2=3)
        noise = problem.noise_power[:, None]
        return torch.log2(1 + signal / (power.sum(dim=3) - signal + noise))[:, 0]

    for size in (1e-3, 0.1, 1.0, 10.0):
        scale = torch.full((4,), size, dtype=torch.float64)
        _, slope = torch.autograd.functional.jvp(rates, scale, torch.ones_like(scale))
        assert (slope > 0).all()


@pytest.mark.parametrize("name", ["wmmse-digital", "vpk", "wmmse-mo", "ggml"])
def test_full_power_at_every_fixed_point(name):
    """Converged digital parts: gradient = price times G V, a positive price, the whole budget."""
    problem = standard()
    if name == "wmmse-digital":
        problem = Downlink(problem.h, frontends.fully_digital(16), snr_db=10.0)
    short = {"max_iterations": 30} if name == "ggml" else {}
    found = hb.solve(problem, name, **short)
    ended = digital_refit(max_iterations=500)(problem, start=found)
    link = problem.link(ended.control)
    noise = problem.noise_power[:, None]
    slope = rate_slope(link.received(ended.digital), noise, problem.user_weights)
    gradient = gradient_of_digital(link.e, slope)
    spent = link.metric(ended.digital)
    price = (ended.digital.conj() * gradient).real.sum(dim=(1, 2, 3)) / problem.power
    assert (price > 0).all()
    off = gradient - price[:, None, None, None] * spent
    assert off.abs().max() < 1e-5 * gradient.abs().max()
    assert (found.radiated_power - problem.power).abs().max() < 1e-9
    assert (ended.radiated_power - problem.power).abs().max() < 1e-9


def test_the_penalty_on_the_variance_may_want_less_than_full_power():
    """A user without a channel beside one with: least loss at 1 / (2 beta) bits, not at the top."""
    beta, noise = 0.2, torch.full((1, 2), 0.1, dtype=torch.float64)
    alpha = torch.ones(1, 2, dtype=torch.float64)

    def loss(power):
        heard = torch.zeros(1, 2, 2, dtype=torch.complex128)
        heard[0, 0, 0] = math.sqrt(power)
        return float(fair_loss(heard, noise, alpha, beta)[0])

    best = 0.1 * (2.0 ** (1.0 / (2.0 * beta)) - 1.0)
    assert best < 1.0
    assert loss(best) < min(loss(1.0), loss(0.9 * best), loss(1.1 * best))


def test_full_power_is_a_property_of_one_cell():
    """Two cells that hear each other: one of them silent beats both at full power."""
    h = torch.ones(1, 2, 2, 1, 1, 1, dtype=torch.complex128)
    problem = MultiCell(
        h, frontends.phase_shifters(1, 1), noise_power=0.01, power=1.0, power_at="radiated"
    )
    link = problem.link(torch.ones(1, 2, 1, 1, dtype=torch.complex128))
    full = torch.ones(1, 2, 1, 1, dtype=torch.complex128)
    quiet = full.clone()
    quiet[:, 1] = 0.0
    assert problem.utility(link, quiet) > 3.0 * problem.utility(link, full)


# -- Proposition 2: errors fall as R grows ----


def error(r, precoder, noise, user=0):
    """``e_k`` as the paper writes it for any R, the same in signal and interference."""
    own = precoder[..., user : user + 1]
    kept = [j for j in range(precoder.shape[-1]) if j != user]
    others = precoder[..., kept] @ precoder[..., kept].mH
    eye = torch.eye(r.shape[-1], dtype=r.dtype)
    gain = own.mH @ r @ torch.linalg.solve(others @ r + noise * eye, own)
    return 1.0 / (1.0 + gain.real[..., 0, 0])


def mean_error(r, other, precoder, noise):
    """``1 / (1 + x^H R x / (tr(T R') + noise))``: one antenna, powers averaged over channels."""
    own, others = precoder[..., :1], precoder[..., 1:]
    signal = (own.mH @ r @ own).real[..., 0, 0]
    heard = (others.mH @ other @ others).diagonal(dim1=-2, dim2=-1).real.sum(dim=-1)
    return 1.0 / (1.0 + signal / (heard + noise))


def semidefinite(count, size, rank, seed):
    root = gaussian((count, size, rank), seed)
    return root @ root.mH


@pytest.mark.parametrize(("rank", "growth"), [(1, 1), (1, 5), (3, 1), (5, 5)])
def test_errors_fall_as_the_channel_grows_in_the_loewner_order(rank, growth):
    """1000 pairs for each choice of ranks; hybrid precoders with unit-modulus F."""
    f = gaussian((1000, 5, 3), 0)
    precoder = f / f.abs() @ gaussian((1000, 3, 3), 1)
    small = semidefinite(1000, 5, rank, 2)
    large = small + semidefinite(1000, 5, growth, 3)
    for user in range(3):
        before, after = (error(r, precoder, 0.3, user) for r in (small, large))
        assert (after <= before + 1e-12).all()
        assert (after < before - 1e-6).float().mean() > 0.99


def test_the_error_of_one_channel_is_two_to_minus_its_rate():
    problem = standard(5)
    solution = hb.solve(problem, "zf")
    rates = solution.rates
    for user in range(3):
        row = problem.h[:, 0, user : user + 1]
        e = error(row.mH @ row, solution.precoder[:, 0], float(problem.noise_power[0, 0]), user)
        assert (e - 2.0 ** -rates[:, user]).abs().max() < 1e-12


def test_rank_one_channels_are_ordered_by_length_alone():
    """``h2^H h2 <= h1^H h1`` only where h2 is a shorter h1; rates then fall together."""
    problem = standard(50)
    control = problem.frontend.project(gaussian((50, 16, 3), 1))
    digital = problem.rescale(problem.link(control), gaussian((50, 1, 3, 3), 2))
    before = problem.rates(problem.link(control), digital)
    size = torch.linspace(0.1, 0.99, 50, dtype=torch.float64)[:, None, None, None]
    shorter = problem.with_(h=size * problem.h)
    assert (shorter.rates(shorter.link(control), digital) < before).all()
    row = problem.h[:, 0, 0]
    turned = 0.9 * row.roll(1, dims=1)
    gap = row[:, :, None].conj() * row[:, None] - turned[:, :, None].conj() * turned[:, None]
    assert (torch.linalg.eigvalsh(gap)[:, 0] < -1e-3).all()


def test_where_only_interference_grows_errors_grow():
    """The counterexamples: another R in the interference, or powers averaged over channels."""
    precoder = gaussian((1000, 5, 3), 1)
    r = semidefinite(1000, 5, 2, 2)
    larger = r + semidefinite(1000, 5, 1, 3)
    before = mean_error(r, r, precoder, 0.3)
    assert (mean_error(r, larger, precoder, 0.3) > before).all()
    # The same R in both, grown along what the signal does not use: worse as well, with averaged
    # powers; the paper's formula, a receiver that sees R^(1/2), gains from it.
    own = precoder[..., :1]
    v = gaussian((1000, 5, 1), 4)
    v = v - own @ (own.mH @ v) / own.abs().square().sum(dim=1, keepdim=True)
    grown = r + v @ v.mH
    assert (mean_error(grown, grown, precoder, 0.3) > before).all()
    assert (error(grown, precoder, 0.3) <= error(r, precoder, 0.3) + 1e-12).all()
    # Scaled as a whole it falls in either form.
    assert (mean_error(1.5 * r, 1.5 * r, precoder, 0.3) < before).all()


def test_the_worst_channel_of_the_paper_is_no_lower_bound():
    """Its positive part cuts off what makes it a bound: an error in the ball does more harm."""
    h = LaplacianClusters(antennas=16, users=3).sample(20, seed=3)
    size = torch.linalg.norm(h, dim=3)
    radius = 0.2 * size[:, 0]
    worst = shrunk_channels(h, radius)
    true = h.clone()
    problem = Downlink(h, frontends.fully_digital(16), snr_db=20.0)
    solution = hb.solve(problem, "zf")
    # User 0's error points at the beam of user 1.
    beam = solution.precoder[:, 0, :, 1].conj()
    true[:, 0, 0] += radius[:, :1] * beam / torch.linalg.norm(beam, dim=1, keepdim=True)
    assert (torch.linalg.norm(true - h, dim=3)[:, 0, 0] <= radius[:, 0] * (1 + 1e-12)).all()
    believed, met = (heard_rates(g, solution)[:, 0] for g in (worst, true))
    assert (met < believed).all()
    gap = true[:, 0, 0, :, None].conj() * true[:, 0, 0, None]
    gap = gap - worst[:, 0, 0, :, None].conj() * worst[:, 0, 0, None]
    assert (torch.linalg.eigvalsh(gap)[:, 0] < -1e-3).all()


def heard_rates(h, solution):
    power = (h @ solution.precoder)[:, 0].abs().square()
    signal = power.diagonal(dim1=1, dim2=2)
    noise = solution.problem.noise_power
    return torch.log2(1 + signal / (power.sum(dim=2) - signal + noise))


# -- Lemma 1 ----


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 10**6))
def test_lemma_one_bounds_the_cross_terms(rows, columns, seed):
    x, y = gaussian((rows, columns), seed), gaussian((rows, columns), seed + 1)
    most = 2.0 * float(torch.linalg.matrix_norm(x, 2) * torch.linalg.matrix_norm(y, 2))
    values = torch.linalg.eigvalsh(x @ y.mH + y @ x.mH)
    assert float(values.abs().max()) <= most * (1 + 1e-12)
    same = torch.linalg.eigvalsh(2.0 * x @ x.mH)
    assert float(same.max()) == pytest.approx(2.0 * float(torch.linalg.matrix_norm(x, 2)) ** 2)


@given(st.integers(2, 8), st.integers(0, 10**6))
def test_lemma_one_of_vectors_has_rank_two(size, seed):
    """``Re<x, y> ± sqrt(|x|²|y|² - Im²<x, y>)`` within their span, nothing outside it."""
    x, y = gaussian((size, 1), seed), gaussian((size, 1), seed + 1)
    cross = x @ y.mH + y @ x.mH
    inner = complex((x.mH @ y)[0, 0])
    lengths = float(torch.linalg.norm(x) * torch.linalg.norm(y))
    spread = math.sqrt(max(lengths**2 - inner.imag**2, 0.0))
    values = torch.linalg.eigvalsh(cross)
    scale = 1e-9 * (1 + lengths)
    assert abs(float(values[-1]) - (inner.real + spread)) < scale
    assert abs(float(values[0]) - (inner.real - spread)) < scale
    assert size == 2 or float(values[1:-1].abs().max()) < scale
    # The refinement: that eigenvalue on the span of both bounds it, the lemma's identity is loose.
    basis, _ = torch.linalg.qr(torch.cat([x, y], dim=1))
    tight = (inner.real + spread) * (basis @ basis.mH)
    assert float(torch.linalg.eigvalsh(tight - cross)[0]) > -scale
    assert inner.real + spread <= 2.0 * lengths * (1 + 1e-12)
    against = torch.linalg.eigvalsh(-x @ x.mH - x @ x.mH)
    assert float(against[0]) == pytest.approx(-2.0 * float(torch.linalg.norm(x)) ** 2)


@given(st.floats(0.0, 0.49), st.integers(0, 10**6))
def test_the_dropped_square_only_loosens_the_length(share, seed):
    """``|h + e|² >= |h|² (1 - eps/|h|)² >= |h|² (1 - 2 eps/|h|)``, the paper's length."""
    h, e = gaussian((7,), seed), gaussian((50, 7), seed + 1)
    size = float(torch.linalg.norm(h))
    e = share * size * e / torch.linalg.norm(e, dim=1, keepdim=True)
    radius = torch.full((1, 1), share * size, dtype=torch.float64)
    kept = float(torch.linalg.norm(shrunk_channels(h.view(1, 1, 1, 7), radius)))
    least = float(torch.linalg.norm(h - share * h))
    assert (torch.linalg.norm(h + e, dim=1) >= least - 1e-9).all()
    assert least >= kept - 1e-9
