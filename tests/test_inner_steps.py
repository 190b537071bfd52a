"""Inner gradient steps end where the exact sweep ends, and the sweep needs no step size."""

import pytest
import torch

import holobeam as hb
from holobeam.analog.coordinate import coordinate_descent
from holobeam.errors import InputError
from holobeam.solvers.inner_steps import InnerSteps


@pytest.fixture(scope="module", params=["radiated", "feeds"])
def problem(request):
    h = hb.channels.path_wise((4, 4), users=3).sample(6, seed=1)
    frontend = hb.frontends.build("rhs", hb.arrays.upa((4, 4), spacing=1 / 3), 3)
    return hb.Downlink(h, frontend, snr_db=10.0, power_at=request.param)


def quadratic_after_v(problem):
    state = InnerSteps().init(problem, torch.Generator().manual_seed(0))
    link = state.memory
    digital = problem.digital_step(link, problem.weights(link, state.digital), state.digital)
    return problem.analog_quadratic(problem.weights(link, digital), digital), state.control


def test_many_short_steps_reach_the_minimum_of_the_sweep(problem):
    quadratic, control = quadratic_after_v(problem)
    bounds = problem.frontend.element_set
    stepped = InnerSteps(inner_steps=20000, step_size=0.2)._moved(quadratic, control, bounds)
    swept = control
    for _ in range(2000):
        swept = coordinate_descent(quadratic, swept, bounds)
    best = quadratic.value(swept)
    start = quadratic.value(control)
    # First-order steps close the last of the gap slowly: within a hundredth of the way.
    assert ((quadratic.value(stepped) - best) <= 1e-2 * (start - best)).all()
    assert (bounds.violation(stepped) <= 1e-12).all()


def test_short_steps_never_raise_the_quadratic(problem):
    quadratic, control = quadratic_after_v(problem)
    before = quadratic.value(control)
    for _ in range(10):
        control = InnerSteps(inner_steps=1, step_size=0.05)._moved(
            quadratic, control, problem.frontend.element_set
        )
        after = quadratic.value(control)
        assert (after <= before + 1e-12).all()
        before = after


def test_auxiliaries_once_reach_the_rates_of_the_sweep(problem):
    """The same fixed points: only the way there differs."""
    sweep = hb.solve(problem, "mmse", max_iterations=2000)
    once = hb.solve(problem, "mmse-fp", start=sweep, max_iterations=200)
    assert (once.sum_rate >= sweep.sum_rate - 1e-9).all()
    assert torch.allclose(once.sum_rate, sweep.sum_rate, rtol=1e-2)


@pytest.mark.parametrize("wrong", [{"inner_steps": 0}, {"step_size": 0.0}, {"step_size": -1.0}])
def test_wrong_options_are_named(problem, wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        hb.solve(problem, "mmse-gradient", **wrong)


def test_digital_arrays_are_refused_with_advice(problem):
    digital = hb.Downlink(problem.h, hb.frontends.fully_digital(16), snr_db=10.0)
    assert "wmmse-digital" in hb.solver("mmse-gradient").supports(digital)
