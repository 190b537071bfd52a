"""Phase-shifter methods and digital SCA: gradients, feasibility, monotone objectives, oracles."""

import math
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import holobeam as hb
from holobeam import Downlink, frontends
from holobeam.analog.manifold import (
    begin_descent,
    conjugate_step,
    manifold_descent,
    retract,
    tangent,
)
from holobeam.channels import SalehValenzuela
from holobeam.digital.rate_gradient import gradient_of_analog, gradient_of_digital, rate_slope
from holobeam.errors import (
    InputError,
    MissingDependencyError,
    ShapeError,
    UnknownNameError,
    UnsupportedError,
)
from holobeam.frontends import Circle, Interval
from holobeam.solvers import Alternating
from holobeam.solvers.factorisation import (
    FactorError,
    digital_optimum,
    extracted_phases,
    semi_unitary,
)
from holobeam.solvers.phase_shifters import least_squares_digital
from holobeam.testing import degenerate_channels, gaussian

ITERATIVE = ("pga", "sca-rmm", "manifold-cg", "pe-altmin")
METHODS = (*ITERATIVE, "omp", "pga+w", "sca-rmm+w", "manifold-cg+w", "pe-altmin+w", "omp+w")


def short(name):
    """The solver with few alternations: feasibility and bounds hold after any number."""
    closed = name.startswith("omp")
    return hb.solver(name) if closed else hb.solver(name, max_iterations=5)


def standard(count, *, seed=0, bits=None, snr_db=12.0, dtype=torch.complex128):
    """The unfolded-pga paper's setting: 32 antennas, 4 users, 4 chains, 10 paths."""
    h = SalehValenzuela(antennas=32, users=4, paths=10).sample(count, seed=seed).to(dtype)
    return Downlink(h, frontends.phase_shifters(32, 4, bits=bits), snr_db=snr_db)


def digital(problem):
    return Downlink(
        problem.h,
        frontends.fully_digital(problem.frontend.antennas),
        noise_power=problem.noise_power,
        power=problem.power,
    )


# -- gradients ----


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000),
    users=st.integers(1, 5),
    chains=st.integers(1, 5),
    tones=st.integers(1, 3),
)
def test_gradients_are_half_of_what_autograd_says(seed, users, chains, tones):
    _check_gradients(seed, users, chains, tones, 17)


def test_gradients_of_the_asked_sizes():
    _check_gradients(0, 2, 3, 1, 17)
    _check_gradients(1, 4, 4, 1, 32)


def _check_gradients(seed, users, chains, tones, antennas):
    h = gaussian((3, tones, users, antennas), seed)
    analog = Circle().project(gaussian((3, 1, antennas, chains), seed + 1)).requires_grad_()
    v = gaussian((3, tones, chains, users), seed + 2).requires_grad_()
    noise = gaussian((3, tones, users), seed + 3).abs() + 0.1
    alpha = gaussian((3, users), seed + 4).abs()
    received = h @ analog @ v
    power = received.abs().square()
    signal = power.diagonal(dim1=2, dim2=3)
    sinr = signal / (power.sum(dim=3) - signal + noise)
    (alpha * (1 + sinr).log2().mean(dim=1)).sum().backward()
    with torch.no_grad():
        slope = rate_slope(received, noise, alpha)
        of_analog = gradient_of_analog(h.mH, v.mH, slope).sum(dim=1, keepdim=True)
        of_digital = gradient_of_digital(h @ analog, slope)
    for mine, judge in ((of_analog, analog.grad / 2), (of_digital, v.grad / 2)):
        assert ((mine - judge).abs().max() / judge.abs().max()) < 1e-10


def test_gradients_as_the_paper_writes_them():
    """(10) and (11) with N x N matrices, over ln 2."""
    h, f = gaussian((4, 17), 0), Circle().project(gaussian((17, 3), 1))
    w, noise = gaussian((3, 4), 2), 0.7
    of_f, of_w = torch.zeros_like(f), torch.zeros_like(w)
    for k in range(4):
        row = h[k].conj()
        outer = torch.outer(row, row.conj())
        rest = w.clone()
        rest[:, k] = 0
        total = (h[k] @ f @ w).abs().square().sum() + noise
        others = (h[k] @ f @ rest).abs().square().sum() + noise
        of_f += outer @ f @ w @ w.mH / total - outer @ f @ rest @ rest.mH / others
        of_w += f.mH @ outer @ f @ w / total - f.mH @ outer @ f @ rest / others
    e = (h @ f)[None, None]
    slope = rate_slope(
        e @ w, torch.full((1, 1, 4), noise, dtype=torch.float64), torch.ones(1, 4).double()
    )
    mine_f = gradient_of_analog(h.mH[None, None], w.mH[None, None], slope)[0, 0]
    mine_w = gradient_of_digital(e, slope)[0, 0]
    assert (mine_f - of_f / math.log(2)).abs().max() < 1e-10 * of_f.abs().max()
    assert (mine_w - of_w / math.log(2)).abs().max() < 1e-10 * of_w.abs().max()


def test_nothing_has_two_antenna_axes():
    """4096 antennas: a matrix of that size alone would be 268 MB and minutes."""
    h = hb.channels.Rayleigh(antennas=4096, users=4).sample(1, seed=0)
    problem = Downlink(h, frontends.phase_shifters(4096, 4), snr_db=10.0)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, (tuple, list)) else (out,):
                if isinstance(tensor, torch.Tensor):
                    largest = max(largest, tensor.numel())
            return out

    begin = time.process_time()
    with Watch():
        hb.solve(problem, "pga", max_iterations=2)
    assert largest <= 64 * 4096
    assert time.process_time() - begin < 10


def test_a_layer_of_steps_can_be_trained():
    """A tensor of step sizes gets the gradient that finite differences give."""
    problem = standard(8)
    sizes = torch.full((2, 3), 0.02, dtype=torch.float64, requires_grad=True)
    scale = torch.tensor([1e-3, 1e-3], dtype=torch.float64, requires_grad=True)

    def rate(mu, lam):
        solver = hb.solver(
            "pga", max_iterations=2, inner_steps=3, analog_steps=mu, digital_steps=lam
        )
        state = solver.init(problem, torch.Generator())
        for _ in range(2):
            state = solver.step(problem, state)
        return state.utility.mean()

    rate(sizes, scale).backward()
    for tensor, step in ((sizes, 1e-6), (scale, 1e-8)):
        for index in np.ndindex(*tensor.shape):
            ends = []
            for sign in (1, -1):
                moved = tensor.detach().clone()
                moved[index] += sign * step
                pair = (moved, scale) if tensor is sizes else (sizes, moved)
                ends.append(float(rate(*pair).detach()))
            slope = (ends[0] - ends[1]) / (2 * step)
            assert float(tensor.grad[index]) == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("table", [0.01, (0.01,), ((0.01,) * 3,) * 4, torch.full((4, 3), 0.01)])
def test_every_form_of_the_step_sizes_means_the_same(table):
    problem = standard(4)
    options = {"max_iterations": 4, "inner_steps": 3}
    plain = hb.solve(problem, "pga", **options)
    other = hb.solve(problem, "pga", analog_steps=table, digital_steps=(1e-4,) * 4, **options)
    assert (plain.rates - other.rates).abs().max() < 1e-6


# -- everybody ----


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize("bits", [None, 1, 3])
def test_answers_are_feasible_and_below_the_digital_optimum(bits, dtype):
    problem = standard(6, bits=bits, dtype=dtype)
    bound = torch.maximum(
        hb.solve(digital(problem), "wmmse-digital").sum_rate,
        hb.solve(digital(problem), "sca").sum_rate,
    )
    for name in METHODS:
        solution = hb.solve(problem, short(name))
        assert solution.control.dtype == dtype
        assert (solution.control.abs() - 1).abs().max() < 1e-6, name
        assert (solution.radiated_power - 1).abs().max() < 1e-5, name
        assert (solution.sum_rate <= bound + 1e-3).all(), name
        if bits is not None:
            step = 2 * math.pi / 2**bits
            off = torch.remainder(solution.control.angle() / step + 0.5, 1.0) - 0.5
            assert off.abs().max() < 1e-5, name


@pytest.mark.parametrize("connection", ["full", "sub"])
@pytest.mark.parametrize(("users", "chains"), [(3, 6), (3, 2), (1, 1)])
def test_any_number_of_users_and_chains_and_several_subcarriers(users, chains, connection):
    h = gaussian((3, 2, users, 12), 0)
    hardware = frontends.phase_shifters(12, chains, connection)
    problem = Downlink(h, hardware, snr_db=10.0, budget="each")
    bound = Downlink(h, frontends.fully_digital(12), snr_db=10.0, budget="each")
    most = hb.solve(bound, "wmmse-digital").sum_rate
    for name in METHODS:
        if hb.solver(name).supports(problem) is not None:
            assert name.startswith("omp")
            continue
        solution = hb.solve(problem, short(name))
        assert solution.violation.max() < 1e-9, name
        assert (solution.sum_rate <= most + 1e-6).all(), name


@pytest.mark.parametrize("name", ["pga", "pga+w", "sca-rmm+w", "manifold-cg+w", "pe-altmin+w"])
def test_an_absent_user_costs_the_others_little(name):
    h = gaussian((6, 1, 3, 12), 0)
    h[:, :, 1] = 0.0
    three = hb.solve(Downlink(h, frontends.phase_shifters(12, 3), snr_db=10.0), name)
    two = hb.solve(Downlink(h[:, :, [0, 2]], frontends.phase_shifters(12, 3), snr_db=10.0), name)
    assert (three.rates[:, 1] == 0).all()
    assert float(three.sum_rate.mean()) > 0.9 * float(two.sum_rate.mean())


@pytest.mark.parametrize("name", METHODS)
def test_hostile_channels_get_finite_answers(name):
    h = degenerate_channels(3, 12)
    solution = hb.solve(Downlink(h, frontends.phase_shifters(12, 3), snr_db=10.0), short(name))
    assert torch.isfinite(solution.rates).all()
    assert solution.violation.max() < 1e-9
    assert (solution.rates[0] == 0).all()


@pytest.mark.parametrize("name", ["sca-rmm+w", "manifold-cg+w", "pe-altmin+w", "omp"])
@pytest.mark.parametrize("size", [1e-6, 1e6])
def test_the_scale_of_channel_and_power_does_not_matter(name, size):
    h = gaussian((3, 1, 3, 12), 0)
    hardware = frontends.phase_shifters(12, 3)
    plain = hb.solve(Downlink(h, hardware, noise_power=0.1), short(name))
    scaled = Downlink(size * h, hardware, noise_power=0.1 * size**2)
    louder = Downlink(h, hardware, noise_power=0.1 * size, power=size)
    for other in (scaled, louder):
        assert (hb.solve(other, short(name)).rates - plain.rates).abs().max() < 1e-6


def test_the_steps_of_pga_belong_to_unit_noise():
    """Power and noise up together change nothing; an answer at sigma^2 = 1 is the paper's."""
    problem = standard(4)
    louder = problem.with_(noise_power=problem.noise_power * 50, power=problem.power * 50)
    gap = hb.solve(louder, "pga").rates - hb.solve(problem, "pga").rates
    assert gap.abs().max() < 1e-9


def test_pga_measures_channels_of_a_link_budget_in_units_of_their_own():
    """Every scale far from 1 gives one answer, as good as that at mean power 1."""
    problem = standard(4)
    sizes = torch.tensor([[1e-2] * 4, [1e-6] * 4, [1e3, 1.0, 1e-4, 20.0]], dtype=torch.float64)
    far = [
        problem.with_(h=problem.h * size[:, None], noise_power=problem.noise_power * size**2)
        for size in sizes
    ]
    rates = [hb.solve(one, "pga").sum_rate for one in far]
    assert (rates[1] / rates[0] - 1).abs().max() < 1e-9
    assert (rates[2] / rates[0] - 1).abs().max() < 1e-9
    assert float(rates[0].mean()) > 0.97 * float(hb.solve(problem, "pga").sum_rate.mean())


def test_fair_designs_go_on_from_the_phases_found():
    problem = standard(4)
    fair = Downlink(problem.h, problem.frontend, snr_db=12.0, utility="proportional_fair")
    for name in ("pga", "pe-altmin", "sca-rmm+w"):
        selfish, just = hb.solve(problem, name), hb.solve(fair, name)
        assert (just.utility >= fair.utility(fair.link(selfish.control), selfish.digital)).all()


def test_refusals_name_an_alternative():
    surface = frontends.build("rhs", hb.arrays.upa((4, 3), wavelength=0.01, spacing=1 / 3), 2)
    h = gaussian((2, 1, 2, 12), 0)
    cases = (
        (Downlink(h, surface, snr_db=0.0), "pga", "use vp"),
        (Downlink(h, surface, snr_db=0.0), "sca-rmm+w", "use vp"),
        (Downlink(h, frontends.fully_digital(12), snr_db=0.0), "pe-altmin", "use wmmse-digital"),
        (Downlink(h, frontends.phase_shifters(12, 2), snr_db=0.0), "sca", "use sca-rmm"),
        (
            Downlink(h, frontends.phase_shifters(12, 2, "sub"), snr_db=0.0),
            "omp",
            "use pe-altmin",
        ),
        (
            Downlink(h, frontends.phase_shifters(12, 2), noise_power=1.0, power_at="per_rf_chain"),
            "pga",
            "use wmmse-cd",
        ),
    )
    for problem, name, advice in cases:
        with pytest.raises(UnsupportedError, match=advice):
            hb.solve(problem, name)


@pytest.mark.parametrize(
    ("name", "options", "error", "words"),
    [
        ("pga", {"inner_steps": 0}, InputError, "inner_steps"),
        ("pga", {"analog_steps": float("nan")}, InputError, "analog_steps.*finite"),
        ("pga", {"analog_steps": "fast"}, InputError, "analog_steps"),
        ("pga", {"analog_steps": torch.ones(7, 2)}, ShapeError, "30 x 10"),
        ("pga", {"digital_steps": (1.0, 2.0)}, ShapeError, "digital_steps"),
        ("manifold-cg", {"inner_steps": -1}, InputError, "inner_steps"),
        ("omp", {"dictionary": torch.ones(3, 9)}, ShapeError, "dictionary"),
        ("omp", {"dictionary": 2 * torch.ones(32, 9)}, InputError, "unit circle"),
        ("pe-altmn+w", {}, UnknownNameError, "pe-altmin"),
        ("pga+w", {"inner": 3}, UnknownNameError, "inner_steps"),
    ],
)
def test_bad_input_gets_one_clear_error(name, options, error, words):
    with pytest.raises(error, match=words):
        hb.solve(standard(2), name, **options)


# -- plus w ----


@pytest.mark.parametrize("name", ["pga", "sca-rmm", "pe-altmin", "omp", "rzf", "vp"])
def test_plus_w_holds_the_controls_and_never_loses(name):
    problem = standard(8)
    plain, refitted = hb.solve(problem, name), hb.solve(problem, f"{name}+w")
    assert refitted.solver == f"{name}+w"
    assert (plain.control - refitted.control).abs().max() < 1e-12
    assert (refitted.sum_rate >= plain.sum_rate - 1e-9).all()


def test_the_order_that_re_optimising_restores():
    """At 12 dB least squares leaves interference: below pga as defined, above it with +w."""
    problem = standard(32, seed=5)
    rate = {name: float(hb.solve(problem, name).sum_rate.mean()) for name in METHODS}
    assert rate["sca-rmm"] + 2 < rate["pe-altmin"] < rate["pga"]
    assert rate["omp"] + 5 < rate["pga"]
    assert rate["pga"] + 0.4 < rate["pe-altmin+w"] < rate["sca-rmm+w"]


# -- factorisation ----


def _factors(count=6, chains=3, connection="full", tones=1):
    h = gaussian((count, tones, 3, 12), 4)
    problem = Downlink(h, frontends.phase_shifters(12, chains, connection), snr_db=15.0)
    target = digital_optimum(problem, "wmmse", 50)
    control = problem.frontend.sample(count, torch.Generator().manual_seed(0), h.dtype, h.device)
    return problem, target, control


@pytest.mark.parametrize("connection", ["full", "sub"])
@pytest.mark.parametrize("tones", [1, 2])
def test_error_and_gradient_of_the_factorisation(connection, tones):
    problem, target, control = _factors(connection=connection, tones=tones)
    digital_part = least_squares_digital(problem.analog(control), target)
    error = FactorError(problem.frontend, digital_part, target)
    q = control.clone().requires_grad_()
    written_out = (problem.frontend.analog(q) @ digital_part - target).abs().square()
    assert (error.value(control) - written_out.sum(dim=(1, 2, 3))).abs().max() < 1e-9
    written_out.sum().backward()
    assert (error.gradient(control) - q.grad / 2).abs().max() < 1e-9
    part = error.value(control[[4, 1]], torch.tensor([4, 1]))
    assert (part - error.value(control)[[4, 1]]).abs().max() < 1e-12


@pytest.mark.parametrize("connection", ["full", "sub"])
def test_conjugate_gradients_descend_to_a_stationary_point(connection):
    problem, target, control = _factors(connection=connection)
    digital_part = least_squares_digital(problem.analog(control), target)
    error = FactorError(problem.frontend, digital_part, target)
    circle = Circle()
    run = begin_descent(circle, error.value, error.gradient, control)
    first = run.gradient.abs().square().sum(dim=(1, 2))
    for _ in range(400):
        after = conjugate_step(circle, error.value, error.gradient, run)
        assert (after.value <= run.value).all()
        assert (after.control.abs() - 1).abs().max() < 1e-12
        assert (error.value(after.control) - after.value).abs().max() < 1e-9
        run = after
    along = (run.gradient * run.control.conj()).real
    assert along.abs().max() < 1e-9, "the gradient is tangent"
    assert (run.gradient.abs().square().sum(dim=(1, 2)) < 1e-7 * first).all()


def test_manifold_search_reaches_what_quasi_newton_reaches():
    """Over the angles, from the same starts: local minima as good, on average."""
    from scipy.optimize import minimize

    problem, target, control = _factors(count=4)
    digital_part = least_squares_digital(problem.analog(control), target)
    error = FactorError(problem.frontend, digital_part, target)
    run = begin_descent(Circle(), error.value, error.gradient, control)
    for _ in range(300):
        run = conjugate_step(Circle(), error.value, error.gradient, run)
    found = []
    for b in range(4):
        row = torch.tensor([b])

        def value(angle, row=row):
            x = torch.tensor(angle, requires_grad=True)
            at = torch.polar(torch.ones_like(x), x).reshape(1, 12, 3)
            out = error.value(at, row).sum()
            out.backward()
            return float(out.detach()), x.grad.numpy()

        start = control[b].angle().flatten().numpy()
        found.append(minimize(value, start, jac=True, method="L-BFGS-B").fun)
    assert float(run.value.mean()) <= np.mean(found) * 1.1


def test_alternations_never_raise_the_error():
    problem = _factors(count=8, chains=3)[0]
    for name in ("manifold-cg", "pe-altmin"):
        solver = hb.solver(name)
        state = solver.init(problem, torch.Generator())
        before = torch.full((8,), math.inf, dtype=torch.float64)
        for _ in range(15):
            analog = problem.analog(state.control)
            if name == "pe-altmin":
                # What phase extraction minimises: ||X V^H - A|| with a semi-unitary V.
                v = semi_unitary(analog, state.memory.target)
                error = (state.memory.target @ v.mH - analog).abs().square().sum(dim=(1, 2, 3))
            else:
                v = least_squares_digital(analog, state.memory.target)
                error = FactorError(problem.frontend, v, state.memory.target).value(state.control)
            assert (error <= before * (1 + 1e-9)).all(), name
            before = error
            state = solver.step(problem, state)


def test_phase_extraction_takes_the_exact_minimisers():
    """Neither another semi-unitary V nor another phase does better."""
    problem, target, control = _factors(count=3)
    analog = problem.analog(control)

    def error(v, a):
        return (target @ v.mH - a).abs().square().sum(dim=(1, 2, 3))

    best = semi_unitary(analog, target)
    assert (best @ best.mH - torch.eye(3)).abs().max() < 1e-12
    moved = extracted_phases(problem.frontend, best, target)
    for seed in range(20):
        other = torch.linalg.qr(gaussian((3, 1, 3, 3), seed))[0]
        assert (error(best, analog) <= error(other, analog) + 1e-12).all()
        phases = Circle().project(moved + 0.3 * gaussian((3, 12, 3), seed))
        a, b = problem.analog(moved), problem.analog(phases)
        assert (error(best, a) <= error(best, b) + 1e-12).all()


def test_factors_that_exist_are_found():
    """X = A V with unit-modulus A: two chains a stream reach any X, one does not."""
    problem, _, _ = _factors(count=4, chains=6)
    solution = hb.solve(problem, "manifold-cg", max_iterations=200)
    bound = hb.solve(digital(problem), "wmmse-digital")
    assert (solution.sum_rate / bound.sum_rate).min() > 0.98
    fewer = Downlink(problem.h, frontends.phase_shifters(12, 3), snr_db=15.0)
    assert hb.solve(fewer, "manifold-cg").sum_rate.mean() < solution.sum_rate.mean()


def test_pursuit_finds_the_beams_that_made_the_target():
    """Users on grid directions of one path each: their beams are picked, nothing is lost."""
    place = torch.arange(16, dtype=torch.float64)
    sines = torch.tensor([-0.75, 0.0, 0.5], dtype=torch.float64)
    h = torch.polar(torch.ones(3, 16).double(), -math.pi * sines[:, None] * place)[None, None]
    problem = Downlink(h, frontends.phase_shifters(16, 3), snr_db=10.0)
    solution = hb.solve(problem, "omp")
    match = (h[0, 0] @ solution.control[0]).abs() / 16
    assert (match.amax(dim=1) > 1 - 1e-9).all()
    bound = hb.solve(digital(problem), "wmmse-digital")
    assert (solution.sum_rate / bound.sum_rate).min() > 1 - 1e-3
    given = hb.solve(problem, "omp", dictionary=h[0, 0].mH.contiguous())
    assert (given.sum_rate / bound.sum_rate).min() > 1 - 1e-3


# -- the manifold itself ----


def test_any_circle_serves_and_projection_matches_the_element_set():
    z = gaussian((5, 4, 3), 0)
    for circle in (Circle(), Circle(0.5j, 0.5), Circle(0.0, 2.0)):
        q = retract(circle, z)
        assert (q - circle.project(z)).abs().max() < 1e-12
        vector = tangent(circle, q, gaussian((5, 4, 3), 1))
        assert (vector * (q - circle.centre).conj()).real.abs().max() < 1e-12
    assert retract(Circle(), torch.zeros(1, 1, 1, dtype=torch.complex128)) == 1


def test_manifold_descent_is_an_analog_method():
    for name in ("phase-shifters", "dma", "phase-shifters-sub"):
        hardware = frontends.build(name, hb.arrays.upa((4, 3), wavelength=0.01, spacing=0.5), 2)
        problem = Downlink(gaussian((3, 1, 2, 12), 0), hardware, snr_db=10.0)
        solver = Alternating(analog=manifold_descent)
        state = solver.init(problem, torch.Generator())
        for _ in range(10):
            after = solver.step(problem, state)
            assert (after.utility >= state.utility - 1e-9).all()
            state = after
    weights = problem.weights(problem.link(state.control), state.digital)
    quadratic = problem.analog_quadratic(weights, state.digital)
    with pytest.raises(InputError, match="use coordinate_descent"):
        manifold_descent(quadratic, state.control, Interval())


# -- what is missing ----


def test_the_cone_program_says_how_to_get_cvxpy(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cvxpy", None)
    problem = digital(standard(1))
    with pytest.raises(MissingDependencyError, match=r"holobeam\[cvxpy\]"):
        hb.solve(problem, "sca", surrogate="cone")


def test_the_path_for_plain_feeds_is_the_general_one():
    """A feed of phases is undone by the controls: the same beams, by the general formulas."""
    problem = standard(4)
    feed = torch.polar(torch.ones(32, 4).double(), gaussian((32, 4), 3).angle())
    turned = Downlink(problem.h, frontends.Frontend(feed, Circle(), 4), snr_db=12.0)
    for name in ("pga", "manifold-cg", "pe-altmin", "omp"):
        gap = hb.solve(turned, short(name)).rates - hb.solve(problem, short(name)).rates
        assert gap.abs().max() < 1e-6, name
