"""The problem: its constraints, its arithmetic, and what it refuses."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import holobeam as hb
from holobeam import Downlink, frontends
from holobeam.arrays import upa
from holobeam.errors import InputError, ShapeError, UnknownNameError
from holobeam.problems.rates import spectral_efficiency
from holobeam.testing import gaussian

PLACES = ("radiated", "feeds", "per_rf_chain")
BUDGETS = ("mean", "each")
NAMES = tuple(frontends.available())
COUNTED = [
    (name, place)
    for name in NAMES
    for place in (PLACES if name != "vector-modulators" else ("radiated",))
]


def _problem(name="phase-shifters", tones=1, users=3, batch=2, seed=0, **options):
    frontend = frontends.build(name, upa((4, 3)), 4 if name != "phase-shifters-sub" else 2)
    options = {"snr_db": 10.0, **options}
    return Downlink(gaussian((batch, tones, users, 12), seed), frontend, **options)


def _point(problem, seed=4):
    shape = (problem.batch, problem.frontend.antennas, problem.frontend.controls)
    control = problem.frontend.project(gaussian(shape, seed))
    size = (problem.batch, problem.h.shape[1], problem.chains, problem.users)
    return control, gaussian(size, seed + 1)


# -- rates ----


def test_rates_by_hand():
    received = torch.tensor([[[[3.0, 1.0], [0.0, 2.0]]]], dtype=torch.complex128)
    noise = torch.tensor([[[1.0, 0.5]]], dtype=torch.float64)
    rates = spectral_efficiency(received, noise)
    assert rates[0].tolist() == pytest.approx([math.log2(1 + 9 / 2), math.log2(1 + 4 / 0.5)])


def test_silence_has_no_rate_and_nonsense_no_number():
    received = torch.zeros(1, 1, 2, 2, dtype=torch.complex128)
    noise = torch.zeros(1, 1, 2, dtype=torch.float64)
    assert spectral_efficiency(received, noise).tolist() == [[0.0, 0.0]]
    assert spectral_efficiency(received * torch.nan, noise + 1).isnan().all()


def test_single_user_reaches_the_matched_filter_bound():
    h = gaussian((5, 1, 1, 12), 0)
    problem = Downlink(h, frontends.fully_digital(12), snr_db=7.0)
    gain = h.abs().square().sum(dim=(1, 2, 3))
    bound = (1 + 10**0.7 * gain).log2()
    for method in ("mrt", "zf", "rzf", "wmmse-digital", "vp"):
        assert torch.allclose(hb.solve(problem, method).sum_rate, bound, rtol=1e-9), method


def test_rates_do_not_depend_on_the_scale_of_the_precoder():
    problem = _problem()
    control, digital = _point(problem)
    link = problem.link(control)
    gap = problem.rates(link, digital) - problem.rates(link, 3.7j * digital)
    assert gap.abs().max() < 1e-12


def test_folded_rates_are_the_plain_rates_of_the_scaled_precoder():
    for place in ("radiated", "feeds"):
        problem = _problem(tones=3, power=2.5, power_at=place, budget="each")
        control, digital = problem.feasible(*_point(problem))
        received = problem.h @ problem.analog(control) @ digital
        plain = spectral_efficiency(received, problem.noise_power.unsqueeze(1).expand(-1, 3, -1))
        gap = plain - problem.rates(problem.link(control), digital)
        assert gap.abs().max() < 1e-12


# -- power ----


@pytest.mark.parametrize(("name", "place"), COUNTED)
@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("tones", [1, 3])
def test_feasible_meets_every_budget(name, place, budget, tones):
    power = torch.tensor([0.5, 4.0], dtype=torch.float64)
    problem = _problem(name, tones, power=power.unsqueeze(1) if place == "per_rf_chain" else power,
                       power_at=place, budget=budget)  # fmt: skip
    control, digital = problem.feasible(*_point(problem))
    assert problem.frontend.violation(control).max() < 1e-12
    assert problem.violation(control, digital).max() < 1e-12
    radiated = (problem.analog(control) @ digital).abs().square().sum(dim=(2, 3))
    feeds = digital.abs().square().sum(dim=(2, 3))
    rows = digital.abs().square().sum(dim=3)
    spent = {"radiated": radiated, "feeds": feeds, "per_rf_chain": rows.amax(dim=2)}[place]
    if budget == "mean":
        spent = rows.mean(dim=1).amax(dim=1) if place == "per_rf_chain" else spent.mean(dim=1)
        spent = spent.unsqueeze(1)
    assert (spent <= power.unsqueeze(1) * (1 + 1e-12)).all()
    if place != "per_rf_chain":
        assert (spent / power.unsqueeze(1) - 1).abs().max() < 1e-12


def test_violation_sees_power_and_controls():
    problem = _problem()
    control, digital = problem.feasible(*_point(problem))
    assert problem.violation(control, 1.1 * digital).tolist() == pytest.approx([0.21, 0.21])
    assert problem.violation(1.5 * control, digital / 1.5).tolist() == pytest.approx([0.5, 0.5])


def test_power_of_nearly_parallel_beams_is_right():
    """The metric of the link squares the condition of A; the budget must hold all the same."""
    frontend = frontends.phase_shifters(12, 2)
    for dtype, tolerance in ((torch.complex128, 1e-9), (torch.complex64, 1e-4)):
        problem = Downlink(gaussian((1, 2, 12), 0).to(dtype), frontend, snr_db=0.0)
        for apart in (1e-2, 1e-4, 1e-6, 1e-8, 0.0):
            phase = torch.rand(12, 1, dtype=torch.float64) * torch.tensor([1.0, 1.0 + apart])
            control = torch.polar(torch.ones_like(phase), phase).unsqueeze(0).to(dtype)
            digital = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=dtype)[None, None]
            control, digital = problem.feasible(control, digital)
            assert torch.isfinite(torch.view_as_real(digital)).all()
            radiated = control.to(torch.complex128) @ digital[:, 0].to(torch.complex128)
            assert float(radiated.abs().square().sum()) <= 1 + tolerance, (dtype, apart)


# -- ways to say the same thing ----


def _same(first, second, method="vp", tolerance=1e-9, **options):
    a, b = (hb.solve(p, method, seed=0, **options) for p in (first, second))
    assert (a.rates - b.rates).abs().max() < tolerance


@pytest.mark.parametrize("place", PLACES)
def test_snr_is_power_over_noise(place):
    h, frontend = gaussian((2, 1, 3, 12), 0), frontends.phase_shifters(12, 3)
    chains = 3 if place == "per_rf_chain" else 1
    plain = Downlink(h, frontend, snr_db=12.0, power=2.0, power_at=place)
    noisy = Downlink(h, frontend, noise_power=2.0 * chains * 10**-1.2, power=2.0, power_at=place)
    assert torch.allclose(plain.noise_power, noisy.noise_power, rtol=1e-12)


@pytest.mark.parametrize("place", PLACES)
def test_noise_per_user_is_a_scaled_channel(place):
    h, frontend = gaussian((2, 2, 3, 12), 0), frontends.phase_shifters(12, 3)
    noise = torch.tensor([0.1, 1.0, 3.0], dtype=torch.float64)
    first = Downlink(h, frontend, noise_power=noise, power_at=place)
    second = Downlink(h / noise.sqrt()[:, None], frontend, noise_power=1.0, power_at=place)
    _same(first, second, max_iterations=5)


def test_power_and_noise_scale_together():
    h, frontend = gaussian((2, 1, 3, 12), 0), frontends.phase_shifters(12, 3)
    first = Downlink(h, frontend, noise_power=1.0, power=10.0)
    second = Downlink(h, frontend, noise_power=0.1, power=1.0)
    third = Downlink(h * 10**0.5, frontend, noise_power=1.0, power=1.0)
    _same(first, second, max_iterations=5)
    _same(first, third, max_iterations=5)


def test_three_axes_are_one_subcarrier():
    h, frontend = gaussian((2, 3, 12), 0), frontends.phase_shifters(12, 3)
    narrow = Downlink(h, frontend, snr_db=3.0)
    assert narrow.h.shape == (2, 1, 3, 12)
    _same(narrow, Downlink(h.unsqueeze(1), frontend, snr_db=3.0), tolerance=1e-15)


@pytest.mark.parametrize("place", ["radiated", "feeds"])
def test_equal_subcarriers_are_one(place):
    """F copies of one channel: the mean rate is that of one; mean and each budget agree."""
    h, frontend = gaussian((2, 1, 3, 12), 0), frontends.phase_shifters(12, 3)
    one = Downlink(h, frontend, snr_db=10.0, power_at=place)
    for budget in BUDGETS:
        many = Downlink(
            h.expand(-1, 3, -1, -1), frontend, snr_db=10.0, power_at=place, budget=budget
        )
        _same(one, many, "wmmse-cd", 1e-8, max_iterations=5)


def test_batched_parameters_are_taken_per_channel():
    h, frontend = gaussian((3, 1, 2, 12), 0), frontends.phase_shifters(12, 2)
    snr = torch.tensor([0.0, 10.0, 20.0])
    together = hb.solve(Downlink(h, frontend, snr_db=snr), "vp", max_iterations=4).sum_rate
    for i in range(3):
        alone = hb.solve(
            Downlink(h[i : i + 1], frontend, snr_db=float(snr[i])), "vp", max_iterations=4
        )
        assert (together[i] - alone.sum_rate).abs() < 1e-9


@pytest.mark.parametrize("place", PLACES)
def test_take_restricts_everything(place):
    h = gaussian((4, 2, 3, 12), 0)
    power = torch.rand(4, 1) + 1 if place == "per_rf_chain" else torch.rand(4) + 1
    problem = Downlink(
        h,
        frontends.phase_shifters(12, 3),
        noise_power=torch.rand(4, 3) + 0.1,
        power=power,
        power_at=place,
        weights=torch.rand(4, 3),
        true_h=h + 0.1 * gaussian((4, 2, 3, 12), 1),
    )
    control, digital = problem.feasible(*_point(problem))
    rows = torch.tensor([3, 1])
    part = problem.take(rows)
    link, small = problem.link(control), part.link(control[rows])
    assert torch.allclose(part.utility(small, digital[rows]), problem.utility(link, digital)[rows])
    full = problem.true_rates(control, digital)[rows]
    assert torch.allclose(part.true_rates(control[rows], digital[rows]), full)
    assert torch.allclose(part.violation(control[rows], 2 * digital[rows]),
                          problem.violation(control, 2 * digital)[rows])  # fmt: skip


def test_true_h_judges_and_h_designs():
    h = gaussian((4, 1, 3, 12), 0)
    true_h = h + 0.3 * gaussian((4, 1, 3, 12), 1)
    frontend = frontends.phase_shifters(12, 3)
    blind = hb.solve(Downlink(h, frontend, snr_db=10.0, true_h=true_h), "vp")
    plain = hb.solve(Downlink(h, frontend, snr_db=10.0), "vp")
    assert torch.equal(blind.digital, plain.digital)
    assert torch.allclose(blind.design_rate, plain.sum_rate)
    radiated = blind.analog @ blind.digital
    expected = spectral_efficiency(true_h @ radiated, blind.problem.noise_power.unsqueeze(1))
    assert torch.allclose(blind.rates, expected)
    assert (blind.sum_rate < blind.design_rate).all()
    digital = Downlink(h, frontends.fully_digital(12), snr_db=10.0, true_h=true_h)
    solution = hb.solve(digital, "wmmse-digital")
    expected = spectral_efficiency(true_h @ solution.precoder, digital.noise_power.unsqueeze(1))
    assert torch.allclose(solution.rates, expected)


@pytest.mark.parametrize("method", ["mmse", "vp", "wmmse-digital"])
def test_a_user_of_no_weight_is_as_good_as_absent(method):
    name = "digital" if method == "wmmse-digital" else "phase-shifters"
    h = gaussian((2, 1, 3, 12), 0)
    frontend = frontends.build(name, upa((4, 3)), 4)
    weights = torch.tensor([1.0, 0.0, 1.0])
    weighted = Downlink(h, frontend, snr_db=10.0, weights=weights)
    pair = Downlink(h[:, :, [0, 2]], frontend, snr_db=10.0)
    a, b = (
        hb.solve(weighted, method, max_iterations=300),
        hb.solve(pair, method, max_iterations=300),
    )
    assert (a.rates[:, 1] < 1e-2).all()
    assert torch.allclose(a.utility, a.rates[:, [0, 2]].sum(dim=1))
    # Not the same start, so not the same optimum; the value of the game is.
    assert (a.utility / b.sum_rate - 1).abs().max() < 0.05


def test_weights_pull_rate_towards_their_user():
    h = gaussian((8, 1, 3, 12), 0)
    rates = [
        hb.solve(
            Downlink(
                h, frontends.fully_digital(12), snr_db=0.0, weights=torch.tensor([w, 1.0, 1.0])
            ),
            "wmmse-digital",
        ).rates[:, 0]
        for w in (0.2, 1.0, 5.0)
    ]
    assert (rates[0] <= rates[1] + 1e-6).all()
    assert (rates[1] <= rates[2] + 1e-6).all()
    assert (rates[2] > rates[0] + 0.3).any()


def test_present_marks_users_with_a_channel():
    h = gaussian((2, 2, 3, 12), 0)
    h[1, :, 2] = 0.0
    problem = Downlink(h, frontends.fully_digital(12), snr_db=0.0)
    assert problem.present.tolist() == [[True] * 3, [True, True, False]]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(-20, 60), st.sampled_from(COUNTED))
def test_rates_are_finite_and_feasible_everywhere(seed, snr, where):
    name, place = where
    problem = _problem(name, 2, seed=seed, snr_db=snr, power_at=place)
    control, digital = problem.feasible(*_point(problem, seed))
    rates = problem.rates(problem.link(control), digital)
    assert torch.isfinite(rates).all()
    assert (rates >= 0).all()
    assert problem.violation(control, digital).max() < 1e-9


# -- refusals ----

H = gaussian((2, 1, 3, 12), 0)
PS = frontends.phase_shifters(12, 3)


def _make(h=H, frontend=PS, **options):
    options = options if {"snr_db", "noise_power"} & set(options) else {"snr_db": 0.0, **options}
    return Downlink(h, frontend, **options)


@pytest.mark.parametrize(
    ("options", "argument", "kind"),
    [
        ({"h": [[1.0]]}, "h", InputError),
        ({"h": H.real}, "h", InputError),
        ({"h": H[0, 0]}, "h", ShapeError),
        ({"h": H[:0]}, "h", ShapeError),
        ({"h": H[:, :, :0]}, "h", ShapeError),
        ({"h": H * torch.nan}, "h", InputError),
        ({"h": H / 0.0}, "h", InputError),
        ({"h": H[..., :11]}, "h", ShapeError),
        ({"frontend": "phase-shifters"}, "frontend", InputError),
        (
            {"frontend": hb.frontends.Frontend(gaussian((3, 12, 2), 0), PS.element_set)},
            "frontend",
            ShapeError,
        ),
        ({"power": 0.0}, "power", InputError),
        ({"power": -1.0}, "power", InputError),
        ({"power": torch.nan}, "power", InputError),
        ({"power": torch.inf}, "power", InputError),
        ({"power": torch.ones(3)}, "power", ShapeError),
        ({"power": torch.ones(4), "power_at": "per_rf_chain"}, "power", ShapeError),
        ({"power": torch.ones(2, dtype=torch.complex64)}, "power", InputError),
        ({"power_at": "antenna"}, "power_at", UnknownNameError),
        ({"budget": "sum"}, "budget", UnknownNameError),
        ({"utility": "max_min"}, "utility", UnknownNameError),
        ({"snr_db": None}, "snr_db", InputError),
        ({"snr_db": 0.0, "noise_power": 1.0}, "snr_db", InputError),
        ({"snr_db": torch.nan}, "snr_db", InputError),
        ({"snr_db": torch.zeros(3)}, "snr_db", ShapeError),
        ({"noise_power": 0.0}, "noise_power", InputError),
        ({"noise_power": torch.ones(4)}, "noise_power", ShapeError),
        ({"weights": torch.tensor([1.0, -1.0, 1.0])}, "weights", InputError),
        ({"weights": torch.zeros(3)}, "weights", InputError),
        ({"weights": torch.full((3,), torch.nan)}, "weights", InputError),
        ({"weights": torch.ones(4)}, "weights", ShapeError),
        ({"true_h": H[:1]}, "true_h", ShapeError),
        ({"true_h": H * torch.nan}, "true_h", InputError),
        ({"true_h": H.real}, "true_h", InputError),
    ],
)
def test_bad_input_is_named(options, argument, kind):
    with pytest.raises(kind) as caught:
        _make(**options)
    assert caught.value.argument == argument
    assert str(caught.value).startswith(f"{argument}: ")
