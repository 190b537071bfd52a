"""Many cells: the quadratic, receivers, row updates and budgets against independent oracles."""

import math

import cvxpy as cp
import numpy as np
import pytest
import torch

import holobeam as hb
from holobeam import Downlink, MultiCell, frontends
from holobeam.digital.wmmse import bisected_step
from holobeam.testing import gaussian

SPACING = 0.2 * 299_792_458.0 / 28e9
FEED = frontends.microstrips(4, 6, SPACING)
HARDWARE = {
    "lorentzian": frontends.dma(FEED),
    "binary": frontends.dma(FEED, "binary"),
    "sub": frontends.phase_shifters(24, 4, "sub"),
    "full": frontends.phase_shifters(24, 4),
    "surface": frontends.rhs(gaussian((24, 4), 9)),
}
BUDGETS = {
    "per_rf_chain": {"power_per_rf_chain": torch.tensor([0.5, 1.0, 1.5, 2.0])},
    "feeds": {"power": torch.tensor([2.0, 4.0, 6.0])},
    "radiated": {"power": torch.tensor([2.0, 4.0, 6.0]), "power_at": "radiated"},
}


def _channels(batch=3, cells=3, users=2, receivers=2, antennas=24, seed=0, sizes=None):
    """Other cells 6 dB down; users beyond ``sizes`` have no channel."""
    h = gaussian((batch, cells, cells, users, receivers, antennas), seed)
    own = torch.eye(cells, dtype=torch.bool)[:, :, None, None, None]
    h = torch.where(own, h, 0.5 * h)
    for cell, size in enumerate(sizes or ()):
        h[:, :, cell, size:] = 0.0
    return h


def _problem(hardware="lorentzian", budget="per_rf_chain", streams=1, **options):
    h = options.pop("h", None)
    noise = options.pop("noise_power", 0.1)
    return MultiCell(
        _channels() if h is None else h,
        HARDWARE[hardware],
        noise_power=noise,
        streams=streams,
        **BUDGETS[budget],
        **options,
    )


def _point(problem, seed=0):
    """Feasible random controls and precoders."""
    shapes = problem.shapes
    control = gaussian(shapes["control"], seed)
    return problem.feasible(control, gaussian(shapes["digital"], seed + 1))


def _error_matrices(problem, control, digital, decoders):
    """E of every user from the definitions, one user after the other."""
    h, s = problem.h, problem.streams
    _, cells, _, users, receivers, _ = h.shape
    precoder = problem.analog(control) @ digital
    found = []
    for j in range(cells):
        for k in range(users):
            heard = [h[:, i, j, k] @ precoder[:, i] for i in range(cells)]
            eye = torch.eye(receivers, dtype=h.dtype)
            total = problem.noise_power[:, j, k, None, None] * eye
            total = total + sum(t @ t.mH for t in heard)
            own = heard[j][:, :, k * s : (k + 1) * s]
            u = decoders[:, j * users + k]
            cross = u.mH @ own
            found.append(torch.eye(s, dtype=h.dtype) - cross - cross.mH + u.mH @ total @ u)
    return torch.stack(found, dim=1)


def _objective(problem, control, digital, weights):
    """``sum tr(W E) - alpha log det(W / alpha)`` in nats; user weights are in W."""
    e = _error_matrices(problem, control, digital, weights.decoders)
    w = weights.mse_weights
    alpha = problem.user_weights.flatten(1)
    plain = w / alpha[:, :, None, None]
    value = (w @ e).diagonal(dim1=2, dim2=3).real.sum(dim=2) - alpha * plain.logdet().real
    return value.sum(dim=1)


CASES = [
    (hardware, budget, streams)
    for hardware in HARDWARE
    for budget in BUDGETS
    for streams in (1, 2)
]  # fmt: skip


@pytest.mark.parametrize(("hardware", "budget", "streams"), CASES)
def test_the_quadratic_is_the_full_objective(hardware, budget, streams):
    """For any controls: what is left over does not depend on them (published check: 1e-12)."""
    alpha = torch.tensor([[1.0, 2.0], [0.5, 1.0], [3.0, 1.0]])
    problem = _problem(hardware, budget, streams, weights=alpha)
    control, digital = _point(problem)
    weights = problem.weights(problem.link(control), digital)
    quadratic = problem.analog_quadratic(weights, digital)
    offsets = []
    for seed in range(4):
        other = gaussian(problem.shapes["control"], 10 + seed)
        radiated = problem.analog(other) @ digital
        priced = (weights.price * radiated.abs().square().sum(dim=(2, 3))).sum(dim=1)
        value = quadratic.value(other.flatten(0, 1)).view(problem.batch, -1).sum(dim=1) - priced
        offsets.append(_objective(problem, other, digital, weights) - value)
        scale = value.abs()
    gaps = torch.stack(offsets)
    assert ((gaps - gaps[0]).abs() <= 1e-12 * scale).all()


@pytest.mark.parametrize("streams", [1, 2])
def test_matched_weights_invert_the_error_and_give_the_rate(streams):
    problem = _problem(streams=streams)
    control, digital = _point(problem)
    link = problem.link(control)
    weights = problem.weights(link, digital)
    e = _error_matrices(problem, control, digital, weights.decoders)
    product = weights.mse_weights @ e
    assert (product - torch.eye(streams)).abs().max() < 1e-10
    nats = weights.mse_weights.logdet().real
    assert torch.allclose(problem.rates(link, digital), nats / math.log(2.0), atol=1e-10)
    worse = problem.weights(link, 1.3 * digital)
    assert (_objective(problem, control, digital, worse) > _objective(
        problem, control, digital, weights)).all()  # fmt: skip


def test_high_signal_to_noise_ratios_keep_their_digits():
    """One user, one cell: log2 det(I + H H^H / noise) at 140 dB."""
    h = gaussian((2, 1, 1, 1, 2, 2), 0)
    problem = MultiCell(h, frontends.fully_digital(2), power=2.0, noise_power=1e-14, streams=2)
    digital = torch.eye(2, dtype=h.dtype).expand(2, 1, 2, 2)
    eye = torch.eye(2)
    exact = (eye + 1e14 * h[:, 0, 0, 0] @ h[:, 0, 0, 0].mH).logdet().real / math.log(2.0)
    rate = problem.rates(problem.link(torch.ones(2, 1, 2, 1)), digital)[:, 0]
    assert torch.allclose(rate, exact, rtol=1e-10)


# -- blocks ----


@pytest.mark.parametrize("budget", ["per_rf_chain", "feeds"])
@pytest.mark.parametrize(("streams", "sizes"), [(1, None), (2, None), (1, (2, 1, 0))])
@pytest.mark.parametrize("hardware", ["lorentzian", "binary", "full"])
def test_every_block_lowers_the_objective(budget, streams, sizes, hardware):
    """Within 1e-10, and the weighted rate never falls; also with cells of unequal size.

    Radiated budgets are left out: their analog step is guarded, see the solvers.
    """
    problem = _problem(hardware, budget, streams, h=_channels(sizes=sizes))
    control, digital = _point(problem)
    link = problem.link(control)
    before, rate = None, problem.utility(link, digital)
    for _ in range(6):
        for block in ("weights", "digital", "weights", "control"):
            if block == "weights":
                weights = problem.weights(link, digital)
            elif block == "digital":
                digital = problem.digital_step(link, weights, digital)
            else:
                quadratic = problem.analog_quadratic(weights, digital)
                control = hb.analog.coordinate_descent(
                    quadratic, control.flatten(0, 1), problem.frontend.element_set
                ).view_as(control)
                link = problem.link(control)
            after = _objective(problem, control, digital, weights)
            if before is not None:
                assert (after <= before + 1e-10 * before.abs().clamp(min=1.0)).all(), block
            before = after
        new = problem.utility(link, digital)
        assert (new >= rate - 1e-10 * rate).all()
        rate = new
    assert problem.violation(control, digital).max() <= 1e-12


def test_row_updates_reach_the_optimum_and_its_conditions():
    """Held receivers and weights: a convex programme. Slack rows are met with a zero gradient."""
    problem = _problem(streams=2, noise_power=3.0)
    limit = torch.tensor([1e-3, 1.0, 50.0, 400.0], dtype=torch.float64)
    problem = problem.with_(power=limit.expand_as(problem.power).contiguous())
    control, digital = _point(problem)
    link = problem.link(control)
    weights = problem.weights(link, digital)
    for _ in range(3000):
        digital = problem.digital_step(link, weights, digital)
    rows, wanted = weights.whitened(link.e), weights.wanted(3)
    value = (rows @ digital - wanted).abs().square().sum(dim=(2, 3))
    norms = digital.abs().square().sum(dim=3)
    assert (norms <= limit * (1 + 1e-12)).all()
    slack = norms < limit * (1 - 1e-6)
    assert slack.any()
    assert not slack.all()
    gradient = rows.mH @ (rows @ digital - wanted)
    size = (rows.mH @ wanted).abs().amax()
    assert gradient[slack].abs().max() < 1e-8 * size
    # A row at its limit: the gradient is minus a multiple >= 0 of the row.
    price = -(gradient * digital.conj()).real.sum(dim=3) / norms
    assert (price[~slack] >= -1e-9 * size).all()
    assert (gradient + price.unsqueeze(3) * digital)[~slack].abs().max() < 1e-8 * size
    for cell in range(2):
        v = cp.Variable((4, 4), complex=True)
        goal = cp.sum_squares(rows[0, cell].numpy() @ v - wanted[0, cell].numpy())
        bounds = [cp.norm(v[r]) <= math.sqrt(float(limit[r])) for r in range(4)]
        cp.Problem(cp.Minimize(goal), bounds).solve(solver="CLARABEL")
        assert float(value[0, cell]) <= goal.value * (1 + 1e-7) + 1e-9


def test_one_row_beats_ten_thousand_feasible_ones():
    problem = _problem()
    control, digital = _point(problem)
    link = problem.link(control)
    weights = problem.weights(link, digital)
    one = problem.with_(power=problem.power.clone())
    new = one.digital_step(link, weights, digital)
    # The last row is updated last: it is optimal for the others as they are now.
    rows, wanted = weights.whitened(link.e)[0, 0], weights.wanted(3)[0, 0]
    rest = wanted - rows[:, :3] @ new[0, 0, :3]
    best = (rows[:, 3:] @ new[0, 0, 3:] - rest).abs().square().sum()
    tries = gaussian((10_000, 2), 5)
    scale = torch.rand(10_000, 1, generator=torch.Generator().manual_seed(0)).double().sqrt()
    tries = tries / tries.norm(dim=1, keepdim=True) * scale * problem.power[0, 0, 3].sqrt()
    values = (rows[:, 3][None, :, None] * tries[:, None] - rest).abs().square().sum(dim=(1, 2))
    assert float(best) <= float(values.min()) + 1e-12


@pytest.mark.parametrize("budget", ["feeds", "radiated"])
def test_capped_step_reaches_the_optimum_of_its_programme(budget):
    problem = _problem("lorentzian", budget, 2)
    control, digital = _point(problem)
    link = problem.link(control)
    weights = problem.weights(link, digital)
    new = problem.digital_step(link, weights, digital)
    assert (problem.load(link, new) <= 1 + 1e-9).all()
    rows, wanted = weights.whitened(link.e), weights.wanted(3)
    for cell in range(2):
        v = cp.Variable((4, 4), complex=True)
        goal = cp.sum_squares(rows[0, cell].numpy() @ v - wanted[0, cell].numpy())
        root = np.eye(4) if link.g is None else np.linalg.cholesky(link.g[0, cell].numpy()).conj().T
        bound = [cp.norm(root @ v, "fro") <= math.sqrt(float(problem.power[0, cell]))]
        cp.Problem(cp.Minimize(goal), bound).solve(solver="CLARABEL")
        mine = (rows[0, cell] @ new[0, cell] - wanted[0, cell]).abs().square().sum()
        assert float(mine) == pytest.approx(goal.value, rel=1e-5)


# -- agreement with one cell ----


def _twins(place, streams_power=2.0):
    h = gaussian((4, 3, 24), 0)
    noise = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    one = Downlink(h, HARDWARE["lorentzian"], noise_power=noise, power=streams_power,
                   power_at=place)  # fmt: skip
    budget = {"power_per_rf_chain": streams_power} if place == "per_rf_chain" else {
        "power": streams_power, "power_at": place}  # fmt: skip
    many = MultiCell(h[:, None, None, :, None, :], HARDWARE["lorentzian"], noise_power=noise,
                     **budget)  # fmt: skip
    return one, many


@pytest.mark.parametrize("place", ["per_rf_chain", "feeds", "radiated"])
def test_one_cell_of_single_antenna_users_is_the_downlink(place):
    one, many = _twins(place)
    control = HARDWARE["lorentzian"].project(gaussian((4, 24, 1), 3))
    link = one.link(control)
    digital = one.rescale(link, gaussian((4, 1, 4, 3), 4))
    # Both spend the budget (of the fullest chain).
    cells = many.link(control.unsqueeze(1))
    a, b = one.weights(link, digital), many.weights(cells, digital)
    assert (one.rates(link, digital) - many.rates(cells, digital)).abs().max() < 1e-9
    assert (a.decoders[:, 0] - b.decoders[:, :, 0, 0]).abs().max() < 1e-9
    assert (a.mse_weights[:, 0] - b.mse_weights[:, :, 0, 0]).abs().max() < 1e-9
    p, q = one.analog_quadratic(a, digital), many.analog_quadratic(b, digital)
    for name in ("y", "t", "d", "rho"):
        assert (getattr(p, name) - getattr(q, name)).abs().max() < 1e-9, name
    if place == "per_rf_chain":
        step = one.digital_step(link, a, digital)
    else:
        step = bisected_step(link, a, one.power, digital, joint=True)
    assert (step - many.digital_step(cells, b, digital)).abs().max() < 1e-9


@pytest.mark.parametrize("place", ["per_rf_chain", "feeds", "radiated"])
def test_converged_designs_of_one_cell_agree(place):
    """Folded or capped, the fixed points are the same: V of a fixed control."""
    one, many = _twins(place)
    control = HARDWARE["lorentzian"].project(gaussian((4, 24, 1), 3))
    first = hb.solvers.starts.digital_start(one, one.link(control))
    a = hb.solver("random", max_iterations=4000, tolerance=1e-14)(
        one, start=hb.solvers.make_state(one, control, first))  # fmt: skip
    b = hb.solver("random", max_iterations=4000, tolerance=1e-14)(
        many, start=hb.solvers.make_state(many, control.unsqueeze(1), first))  # fmt: skip
    assert (a.sum_rate - b.sum_rate).abs().max() < 1e-4


def test_cells_that_do_not_hear_each_other_are_solved_as_if_alone():
    h = _channels(batch=2)
    own = torch.eye(3, dtype=torch.bool)[:, :, None, None, None]
    h = torch.where(own, h, 0.0)
    # As many streams as chains: no chain is pointed anywhere at random.
    together = hb.solve(_problem(h=h, streams=2), "mmse", max_iterations=10, tolerance=0.0)
    for cell in range(3):
        lone = _problem(h=h[:, cell : cell + 1, cell : cell + 1], streams=2)
        alone = hb.solve(lone, "mmse", max_iterations=10, tolerance=0.0)
        rates = together.rates[:, 2 * cell : 2 * cell + 2]
        assert (rates - alone.rates).abs().max() < 1e-8


# -- what else a problem promises ----


def test_padding_changes_nothing_and_is_masked():
    h = _channels(users=2)
    padded = torch.cat([h, torch.zeros_like(h[:, :, :, :1])], dim=3)
    problem = _problem(h=padded)
    assert problem.present[..., :2].all()
    assert not problem.present[..., 2].any()
    plain = _problem(h=h)
    control, digital = _point(plain)
    wide = torch.nn.functional.pad(digital, (0, 1))
    options = {"max_iterations": 8, "tolerance": 0.0}
    a = hb.solve(plain, "mmse", start=hb.solvers.make_state(plain, control, digital), **options)
    b = hb.solve(problem, "mmse", start=hb.solvers.make_state(problem, control, wide), **options)
    rates = b.rates.view(3, 3, 3)
    assert (rates[..., 2] == 0).all()
    assert (rates[..., :2].flatten(1) - a.rates).abs().max() < 1e-8


def test_cells_may_differ_in_their_strips():
    feeds = [
        frontends.microstrips(4, 6, SPACING, attenuation=a, wavenumber=w)
        for a, w in ((0.6, 827.67), (5.0, 900.0), (0.0, 700.0))
    ]
    hardware = [frontends.dma(feed) for feed in feeds]
    h = _channels()
    problem = MultiCell(h, hardware, power_per_rf_chain=1.0, noise_power=0.1)
    control, digital = _point(problem)
    e = problem.link(control).e
    for cell in range(3):
        analog = control[:, cell] * feeds[cell]
        direct = h[:, cell].flatten(1, 2) @ analog.unsqueeze(1)
        assert (e[:, cell] - direct).abs().max() < 1e-12
    solution = hb.solve(problem, "wmmse-cd", max_iterations=25)
    assert solution.violation.max() < 1e-12
    lossless = frontends.LOSSLESS
    lossy = [one.with_power_model(lossless, 3.0 * cell) for cell, one in enumerate(hardware)]
    damped = MultiCell(h, lossy, power_per_rf_chain=1.0, noise_power=0.1)
    ratio = damped.link(control).e.abs() / e.abs()
    assert torch.allclose(ratio[:, 2], torch.tensor(10 ** (-0.3), dtype=ratio.dtype))
    assert torch.allclose(damped.dc_power(damped.analog(control) @ digital, digital),
                          digital.abs().square().sum(dim=(1, 2, 3)))  # fmt: skip


def test_rank_of_the_quadratic_is_what_it_should_be():
    """More elements than ``streams of all users x min(R, K S)``: the matrix is singular."""
    problem = _problem(h=_channels(antennas=24))
    control, digital = _point(problem)
    weights = problem.weights(problem.link(control), digital)
    a, b = problem.analog_quadratic(weights, digital).dense()
    assert (torch.linalg.matrix_rank(a, hermitian=True, rtol=1e-10) == 12).all()
    free = torch.linalg.pinv(a, hermitian=True, rtol=1e-10) @ b.unsqueeze(2)
    assert (a @ free - b.unsqueeze(2)).abs().max() < 1e-8 * b.abs().max()


def test_imperfect_channels_are_judged_on_the_true_ones():
    h = _channels()
    true = h + 0.1 * gaussian(tuple(h.shape), 7)
    solution = hb.solve(_problem(h=h, true_h=true), "mmse", max_iterations=5)
    plain = hb.solve(_problem(h=h), "mmse", max_iterations=5)
    assert torch.equal(solution.control, plain.control)
    assert torch.equal(solution.design_rate, plain.sum_rate)
    on_true = _problem(h=true).true_rates(solution.control, solution.digital)
    assert torch.equal(solution.rates, on_true)


def test_an_absent_world_gets_a_feasible_answer_and_rate_zero():
    h = _channels()
    h[0] = 0.0
    for budget in BUDGETS:
        problem = _problem(h=h, budget=budget)
        for name in ("wmmse-cd", "vp", "wmmse-projection", "mmse"):
            solution = hb.solve(problem, name, max_iterations=5)
            assert (solution.rates[0] == 0).all(), name
            assert torch.isfinite(solution.digital).all()
            assert solution.violation.max() <= 1e-9


@pytest.mark.parametrize("budget", list(BUDGETS))
def test_where_every_cell_has_room_the_fullest_fills_and_every_rate_gains(budget):
    problem = _problem("full", budget)
    control = problem.frontend.project(gaussian(problem.shapes["control"], 1))
    digital = 1e-3 * gaussian(problem.shapes["digital"], 2)
    link = problem.link(control)
    assert (problem.load(link, digital) < 1e-2).all()
    found = problem.feasible(control, digital)[1]
    assert (problem.load(link, found).amax(dim=1) - 1.0).abs().max() < 1e-12
    factor = (found / digital).flatten(1)
    assert (factor - factor[:, :1]).abs().max() < 1e-9 * factor.abs().max()
    assert (problem.rates(link, found) > problem.rates(link, digital)).all()
