"""The quadratic is the problem's weighted mean-square error, on every front-end."""

import math

import pytest
import torch

from holobeam import Downlink, frontends
from holobeam.analog import Quadratic
from holobeam.arrays import upa
from holobeam.errors import ShapeError
from holobeam.frontends import Frontend, Interval
from holobeam.testing import gaussian

NAMES = tuple(name for name in frontends.available() if name != "digital")
PLACES = ("radiated", "feeds", "per_rf_chain")
CASES = [
    (name, place, tones, budget)
    for name in (*NAMES, "tone-dependent feed", "lossy")
    for place in (("radiated",) if name == "vector-modulators" else PLACES)
    for tones in (1, 4)
    for budget in (("mean", "each") if tones > 1 else ("mean",))
]


def _frontend(name, tones):
    if name == "tone-dependent feed":
        return Frontend(gaussian((tones, 12, 3), 5), Interval(), name=name)
    if name == "lossy":
        return Frontend(gaussian((12, 3), 5), Interval(), controls=3, insertion_loss_db=2.0)
    return frontends.build(name, upa((6, 2)), 3)


def _setting(name, place, tones, budget, seed=0):
    frontend = _frontend(name, tones)
    noise = torch.tensor([0.1, 0.3, 0.05])
    weights = torch.tensor([1.0, 2.0, 0.5])
    problem = Downlink(
        gaussian((2, tones, 3, 12), seed),
        frontend,
        noise_power=noise,
        power=1.7,
        power_at=place,
        budget=budget,
        weights=weights,
    )
    control = gaussian((2, 12, frontend.controls), seed + 1)
    digital = gaussian((2, tones, 3, 3), seed + 2)
    return problem, control, digital


def _weighted_error(problem, weights, control, digital):
    """sum_f sum_k w_k E|s_k - u_k* y_k|^2 by definition, noise scaled by power over budget."""
    analog = problem.frontend.analog(control)
    received = problem.h @ analog @ digital
    load = problem.load(problem.link(control), digital)
    noise = problem.noise_power.unsqueeze(1).expand(-1, problem.h.shape[1], -1)
    if problem.power_at != "per_rf_chain":
        noise = noise * load.unsqueeze(2)
    error = torch.zeros(problem.batch, dtype=torch.float64)
    for k in range(problem.users):
        u = weights.decoders[:, :, k]
        for j in range(problem.users):
            wanted = 1.0 if j == k else 0.0
            gap = (u.conj() * received[:, :, k, j] - wanted).abs().square()
            error += (weights.mse_weights[:, :, k] * gap).sum(dim=1)
        error += (weights.mse_weights[:, :, k] * u.abs().square() * noise[:, :, k]).sum(dim=1)
    fixed = (weights.cost * noise).sum(dim=(1, 2))
    return error, fixed


@pytest.mark.parametrize(("name", "place", "tones", "budget"), CASES)
def test_value_is_the_weighted_error_for_any_controls(name, place, tones, budget):
    problem, control, digital = _setting(name, place, tones, budget)
    weights = problem.weights(problem.link(control), digital)
    quadratic = problem.analog_quadratic(weights, digital)
    for seed in (7, 8):
        q = gaussian(tuple(control.shape), seed)
        error, fixed = _weighted_error(problem, weights, q, digital)
        # Power at the feeds and per chain does not depend on the controls: a constant is left out.
        value = quadratic.value(q) + (0.0 if place == "radiated" else fixed)
        assert ((value - error).abs() / error).max() < 1e-12


@pytest.mark.parametrize(("name", "place", "tones", "budget"), CASES)
def test_gradient_is_half_of_autograd(name, place, tones, budget):
    problem, control, digital = _setting(name, place, tones, budget)
    quadratic = problem.analog_quadratic(problem.weights(problem.link(control), digital), digital)
    q = gaussian(tuple(control.shape), 9).requires_grad_(True)
    quadratic.value(q).sum().backward()
    mine = quadratic.gradient(q.detach())
    assert ((mine - q.grad / 2).abs().max() / mine.abs().max()) < 1e-12


@pytest.mark.parametrize(("name", "place", "tones", "budget"), CASES)
def test_gradient_is_minus_that_of_the_folded_rate_at_matched_decoders(name, place, tones, budget):
    problem, control, digital = _setting(name, place, tones, budget)
    quadratic = problem.analog_quadratic(problem.weights(problem.link(control), digital), digital)
    q = control.clone().requires_grad_(True)
    problem.utility(problem.link(q), digital).sum().backward()
    rate_gradient = q.grad / 2
    mine = -quadratic.gradient(control) / (math.log(2.0) * tones)
    assert ((mine - rate_gradient).abs().max() / mine.abs().max()) < 1e-11


@pytest.mark.parametrize("name", [*NAMES, "lossy"])
def test_curvature_is_exact_along_each_control(name):
    problem, control, digital = _setting(name, "radiated", 2, "each")
    quadratic = problem.analog_quadratic(problem.weights(problem.link(control), digital), digital)
    curvature = quadratic.curvature()
    slope = quadratic.gradient(control)
    base = quadratic.value(control)
    for n, c, step in ((0, 0, 0.3 + 0.2j), (11, control.shape[2] - 1, -1.1j)):
        moved = control.clone()
        moved[:, n, c] += step
        linear = 2.0 * (slope[:, n, c].conj() * step).real
        expected = base + linear + curvature[:, n, c] * abs(step) ** 2
        assert ((quadratic.value(moved) - expected).abs() / base).max() < 1e-12


def _random_quadratic(controls=2, rho=0.7, target=True, seed=0):
    y, t = gaussian((2, 3, 4, 5), seed), gaussian((2, 3, 4, 2), seed + 1)
    d = gaussian((2, 3, 5, controls, 2), seed + 2)
    z = gaussian((2, 3, 5, 2), seed + 3) if target else None
    return Quadratic(y, t, d, torch.full((2, 3), rho, dtype=torch.float64), z)


@pytest.mark.parametrize("controls", [1, 3])
@pytest.mark.parametrize("rho", [0.0, 0.7])
@pytest.mark.parametrize("target", [True, False])
def test_dense_form_reproduces_the_value(controls, rho, target):
    quadratic = _random_quadratic(controls, rho, target)
    a, b = quadratic.dense()
    assert (a - a.mH).abs().max() < 1e-12 * a.abs().max()
    assert torch.linalg.eigvalsh(a).min() > -1e-9 * a.abs().max()
    origin = quadratic.value(torch.zeros(2, 5, controls, dtype=torch.complex128))
    for seed in (20, 21):
        q = gaussian((2, 5, controls), seed)
        flat = q.flatten(1).unsqueeze(2)
        form = (flat.mH @ a @ flat).real.flatten() - 2.0 * (b * flat.squeeze(2).conj()).sum(1).real
        assert ((quadratic.value(q) - origin - form).abs() / origin).max() < 1e-12


@pytest.mark.parametrize("controls", [1, 3])
@pytest.mark.parametrize("rho", [0.0, 0.7])
def test_row_bounds_majorise(controls, rho):
    quadratic = _random_quadratic(controls, rho)
    a, _ = quadratic.dense()
    gap = torch.diag_embed(quadratic.row_bounds().flatten(1).to(a.dtype)) - a
    assert torch.linalg.eigvalsh(gap).min() > -1e-9 * a.abs().max()
    # ... and not absurdly: no worse than N C times the exact row sums.
    sums = a.abs().sum(dim=2)
    assert (quadratic.row_bounds().flatten(1) <= 5 * controls * sums + 1e-9).all()


def test_mismatched_parts_are_refused():
    good = _random_quadratic()
    with pytest.raises(ShapeError, match="rho"):
        Quadratic(good.y, good.t, good.d, good.rho[:, :1])
    with pytest.raises(ShapeError, match="d:"):
        Quadratic(good.y, good.t, good.d[:, :, :4], good.rho)
    with pytest.raises(ShapeError, match="t:"):
        Quadratic(good.y, good.t[:, :, :3], good.d, good.rho)
