"""Digital steps on a link: closed forms, WMMSE, row updates, water-filling."""

import math

import cvxpy as cp
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from holobeam.digital import Link, Weights, water_filling
from holobeam.digital.link import solve_small
from holobeam.digital.per_rf_chain import row_step, row_step_torch
from holobeam.digital.wmmse import bisected_step, folded_step, mmse_weights
from holobeam.digital.zero_forcing import (
    matched,
    regularised_zero_forcing,
    water_filled_zero_forcing,
    zero_forcing,
)
from holobeam.testing import gaussian

WIDE = torch.float64


def _link(batch=4, tones=2, users=3, chains=4, metric=True, seed=0):
    analog = gaussian((batch, tones, 10, chains), seed)
    e = gaussian((batch, tones, users, 10), seed + 1) @ analog
    return Link(e, analog.mH @ analog if metric else None)


def _ones(*shape):
    return torch.ones(*shape, dtype=WIDE)


# -- receivers and weights ----


def test_weight_times_error_is_one_and_decoders_are_optimal():
    link = _link()
    digital = gaussian((4, 2, 4, 3), 5)
    noise = 0.3 + torch.rand(4, 2, 3, dtype=WIDE)
    weights = mmse_weights(link, digital, noise, _ones(4, 3))

    def errors(u):
        received = link.e @ digital
        own = received.diagonal(dim1=2, dim2=3)
        total = received.abs().square().sum(dim=3) + noise
        return 1 - 2 * (u.conj() * own).real + u.abs().square() * total

    best = errors(weights.decoders)
    assert (weights.mse_weights * best - 1).abs().max() < 1e-12
    for seed in range(5):
        other = weights.decoders + 0.1 * gaussian((4, 2, 3), seed)
        assert (errors(other) > best).all()


def test_user_weights_scale_the_weights():
    link, digital = _link(), gaussian((4, 2, 4, 3), 5)
    plain = mmse_weights(link, digital, _ones(4, 2, 3), _ones(4, 3))
    alpha = torch.tensor([2.0, 0.0, 1.0], dtype=WIDE).expand(4, 3)
    weighted = mmse_weights(link, digital, _ones(4, 2, 3), alpha)
    assert torch.allclose(weighted.mse_weights, plain.mse_weights * alpha.unsqueeze(1))
    assert (weighted.cost[:, :, 1] == 0).all()


# -- WMMSE steps ----


def _rates(link, digital, noise):
    received = (link.e @ digital).abs().square()
    own = received.diagonal(dim1=2, dim2=3)
    return (own / (received.sum(dim=3) - own + noise)).log1p().sum(dim=2) / math.log(2)


@pytest.mark.parametrize("metric", [True, False])
def test_folded_and_bisected_steps_have_the_same_limit(metric):
    """mmse paper, measured: at fixed controls both converge to one rate."""
    link = _link(batch=4, tones=1, users=3, chains=4, metric=metric)
    noise, budget = 1.0, _ones(4)
    folded = bisected = regularised_zero_forcing(link, _ones(4, 3))
    for _ in range(400):
        load = link.power(folded)
        weights = mmse_weights(
            link, folded, (noise * load).unsqueeze(2).expand(4, 1, 3), _ones(4, 3)
        )
        folded = folded_step(link, weights, weights.cost.sum(dim=2) * noise, folded)
        weights = mmse_weights(link, bisected, noise * _ones(4, 1, 3), _ones(4, 3))
        bisected = bisected_step(link, weights, budget, bisected, joint=True)
    folded = folded / link.power(folded).sqrt()[..., None, None]
    assert link.power(bisected).max() < 1 + 1e-9
    gap = _rates(link, folded, noise) - _rates(link, bisected, noise)
    assert gap.abs().max() < 1e-6


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("metric", [True, False])
def test_bisected_step_meets_its_budget_and_its_optimality_condition(joint, metric):
    link = _link(tones=3, metric=metric)
    budget = torch.tensor([0.01, 0.1, 1.0, 1e4], dtype=WIDE)
    before = gaussian((4, 3, 4, 3), 3)
    weights = mmse_weights(link, before, _ones(4, 3, 3), _ones(4, 3))
    after = bisected_step(link, weights, budget, before, joint=joint)
    power = link.power(after).mean(dim=1, keepdim=True) if joint else link.power(after)
    assert (power <= budget.unsqueeze(1) * (1 + 1e-9)).all()
    assert (power[0] / budget[0] - 1).abs().max() < 1e-9
    # (E^H C E) V - E^H diag(w u) = - mu G V with one mu >= 0.
    back = link.e.mH
    slope = (back * weights.cost.unsqueeze(2)) @ (link.e @ after)
    slope = slope - back * (weights.mse_weights * weights.decoders).unsqueeze(2)
    pull = link.metric(after)
    mu = -(pull.conj() * slope).real.sum(dim=(2, 3)) / pull.abs().square().sum(dim=(2, 3))
    mu = mu.clamp(min=0.0)
    left = slope + mu[:, :, None, None] * pull
    assert (left.abs().amax(dim=(2, 3)) < 1e-7 * slope.abs().amax().clamp(min=1.0)).all()


def test_folded_step_is_stationary_for_the_priced_error():
    link = _link()
    before = gaussian((4, 2, 4, 3), 3)
    weights = mmse_weights(link, before, _ones(4, 2, 3), _ones(4, 3))
    price = 0.2 + torch.rand(4, 2, dtype=WIDE)
    after = folded_step(link, weights, price, before)

    def cost(v):
        gap = weights.decoders.conj().unsqueeze(3) * (link.e @ v) - torch.eye(3)
        fit = (weights.mse_weights.unsqueeze(3) * gap.abs().square()).sum(dim=(2, 3))
        return fit + price * link.power(v)

    for seed in range(5):
        assert (cost(after + 1e-3 * gaussian((4, 2, 4, 3), seed)) > cost(after)).all()


def test_a_channel_without_weights_keeps_its_precoder():
    link = _link()
    before = gaussian((4, 2, 4, 3), 3)
    nobody = Weights(torch.zeros(4, 2, 3, dtype=torch.complex128), _ones(4, 2, 3))
    assert torch.equal(folded_step(link, nobody, torch.zeros(4, 2), before), before)


# -- zero forcing ----


@pytest.mark.parametrize("metric", [True, False])
def test_zero_forcing_inverts_the_link_at_least_power(metric):
    link = _link(metric=metric)
    v = zero_forcing(link)
    assert (link.e @ v - torch.eye(3)).abs().max() < 1e-9
    _, _, full = torch.linalg.svd(link.e)
    null = full.mH[..., 3:]
    for seed in range(3):
        other = v + 0.1 * null @ gaussian((4, 2, 1, 3), seed)
        assert (link.e @ other - torch.eye(3)).abs().max() < 1e-9
        assert (link.power(other) > link.power(v)).all()


@pytest.mark.parametrize("chains", [3, 5])
@pytest.mark.parametrize("metric", [True, False])
def test_limits_of_regularised_zero_forcing(chains, metric):
    link = _link(chains=chains, metric=metric)

    def parallel(a, b):
        a, b = a.flatten(2), b.flatten(2)
        inner = (a.conj() * b).sum(dim=2).abs()
        return (inner / (a.norm(dim=2) * b.norm(dim=2)) - 1).abs().max()

    quiet = regularised_zero_forcing(link, 1e-11 * _ones(4, 3))
    assert parallel(quiet, zero_forcing(link)) < 1e-6
    loud = regularised_zero_forcing(link, 1e9 * _ones(4, 3))
    assert parallel(loud, matched(link)) < 1e-9


def test_equal_power_columns():
    link = _link()
    v = regularised_zero_forcing(link, 0.1 * _ones(4, 3), equal_power=True)
    assert (link.column_power(v) - 1).abs().max() < 1e-9


@pytest.mark.parametrize("each", [True, False])
def test_water_filled_zero_forcing_beats_every_other_split(each):
    link = _link()
    noise = torch.rand(4, 3, dtype=WIDE) + 0.2
    budget = torch.tensor([0.1, 1.0, 3.0, 10.0], dtype=WIDE)
    v = water_filled_zero_forcing(link, noise, budget, each_subcarrier=each)
    power = link.power(v) if each else link.power(v).mean(dim=1, keepdim=True)
    assert (power / budget.unsqueeze(1) - 1).abs().max() < 1e-9
    best = _rates(link, v, noise.unsqueeze(1)).sum(dim=1)
    column = zero_forcing(link)
    for seed in range(10):
        share = torch.rand(4, 2, 3, generator=torch.Generator().manual_seed(seed), dtype=WIDE)
        spent = (share * link.column_power(column)).sum(dim=2)
        spent = spent if each else spent.mean(dim=1, keepdim=True)
        split = column * (share * (budget[:, None] / spent).unsqueeze(2)).sqrt().unsqueeze(2)
        assert (_rates(link, split, noise.unsqueeze(1)).sum(dim=1) <= best + 1e-9).all()


# -- row updates ----


def _row_case(tones=3, seed=0):
    link = Link(gaussian((5, tones, 3, 4), seed))
    digital = 0.3 * gaussian((5, tones, 4, 3), seed + 1)
    weights = mmse_weights(link, digital, _ones(5, tones, 3), _ones(5, 3))
    limit = torch.rand(5, 4, generator=torch.Generator().manual_seed(seed), dtype=WIDE) + 0.01
    limit[4] = 1e3
    return link, weights, limit, digital


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("tones", [1, 3])
def test_row_kernel_agrees_with_torch(joint, tones):
    link, weights, limit, digital = _row_case(tones)
    for sweeps in (1, 5):
        mine = row_step(link, weights, limit, digital, joint=joint, sweeps=sweeps)
        twin = row_step_torch(link, weights, limit, digital, joint=joint, sweeps=sweeps)
        assert (mine - twin).abs().max() < 1e-9


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("tones", [1, 3])
def test_rows_satisfy_the_optimality_conditions_in_the_limit(joint, tones):
    link, weights, limit, digital = _row_case(tones)
    v = row_step(link, weights, limit, digital, joint=joint, sweeps=4000)
    spent = v.abs().square().sum(dim=3)
    spent = spent.mean(dim=1, keepdim=True).expand_as(spent) if joint else spent
    assert (spent <= limit.unsqueeze(1) * (1 + 1e-9)).all()
    wanted = torch.diag_embed(weights.mse_weights * weights.decoders)
    slope = link.e.mH @ (weights.cost.unsqueeze(3) * (link.e @ v) - wanted)
    groups = v.transpose(1, 2).flatten(2).unsqueeze(1) if joint else v
    slopes = slope.transpose(1, 2).flatten(2).unsqueeze(1) if joint else slope
    size = groups.abs().square().sum(dim=3)
    price = -(groups.conj() * slopes).real.sum(dim=3) / size.clamp(min=1e-300)
    assert (slopes + price.unsqueeze(3) * groups).abs().max() < 1e-6
    assert price.min() > -1e-6
    slack = 1 - (spent[:, :1] if joint else spent) / limit.unsqueeze(1)
    assert (price * slack).abs().max() < 1e-6
    assert (price[4].abs() < 1e-6).all(), "a budget that nobody needs must cost nothing"


# -- water-filling ----


@pytest.mark.parametrize("seed", range(4))
def test_water_filling_against_cvxpy(seed):
    generator = torch.Generator().manual_seed(seed)
    cost, noise = (torch.rand(6, generator=generator, dtype=WIDE) + 0.05 for _ in range(2))
    budget = torch.tensor([0.05, 0.3, 1.0, 5.0], dtype=WIDE)[seed]
    mine = water_filling(cost, noise, budget)
    p = cp.Variable(6, nonneg=True)
    gain = cp.sum(cp.log(1 + cp.multiply(p, 1 / noise.numpy())))
    cp.Problem(cp.Maximize(gain), [cost.numpy() @ p <= float(budget)]).solve(solver="CLARABEL")
    assert float((cost * mine).sum()) == pytest.approx(float(budget), rel=1e-12)
    # Its interior point is good to some 1e-3 in the powers; in the objective ours may not lose.
    assert (mine - torch.from_numpy(p.value)).abs().max() < 5e-3 * mine.max()
    assert float((mine / noise).log1p().sum()) >= gain.value - 1e-9


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(1e-6, 1e6))
def test_water_filling_meets_its_conditions(seed, budget):
    generator = torch.Generator().manual_seed(seed)
    cost, noise = (torch.rand(5, generator=generator, dtype=WIDE) * 10 + 1e-3 for _ in range(2))
    power = water_filling(cost, noise, torch.tensor(budget, dtype=WIDE))
    assert float((cost * power).sum()) == pytest.approx(budget, rel=1e-9)
    slope = 1 / (cost * (noise + power))
    active = power > 0
    assert slope[active].max() - slope[active].min() < 1e-9 * slope.max()
    assert (slope[~active] <= slope[active].max() * (1 + 1e-9)).all()


def test_streams_of_zero_or_infinite_cost_get_nothing():
    cost = torch.tensor([1.0, 0.0, torch.inf], dtype=WIDE)
    power = water_filling(cost, _ones(3), torch.tensor(2.0, dtype=WIDE))
    assert power.tolist() == [2.0, 0.0, 0.0]
    none = water_filling(torch.zeros(2, dtype=WIDE), _ones(2), torch.tensor(2.0, dtype=WIDE))
    assert none.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_solve_small_never_raises_on_singular_systems(rank):
    half = gaussian((3, 4, rank), 0)
    solved = solve_small(half @ half.mH, half @ gaussian((3, rank, 2), 1))
    assert torch.isfinite(torch.view_as_real(solved)).all()
