"""The compiled sweep against its torch twin and against brute force."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from holobeam.analog import Quadratic, coordinate_descent
from holobeam.analog.coordinate import coordinate_descent_torch
from holobeam.frontends import Circle, Interval, Points
from holobeam.testing import gaussian

SETS = {
    "amplitude": Interval(),
    "free": Interval(0.0, math.inf),
    "phase": Circle(),
    "lorentzian": Circle(0.5j, 0.5),
    "binary": Points((0.0, 1.0)),
    "2bit": Points.phases(2),
}


def _quadratic(tones=1, controls=1, rho=0.0, target=False, seed=0, batch=3, antennas=6, users=3):
    return Quadratic(
        gaussian((batch, tones, users, antennas), seed),
        gaussian((batch, tones, users, users), seed + 1),
        gaussian((batch, tones, antennas, controls, users), seed + 2),
        torch.full((batch, tones), rho, dtype=torch.float64),
        gaussian((batch, tones, antennas, users), seed + 3) if target else None,
    )


def _start(element_set, shape, seed=5):
    return element_set.project(gaussian(shape, seed))


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("controls", [1, 4])
@pytest.mark.parametrize(("rho", "target"), [(0.0, False), (0.8, False), (0.8, True)])
@pytest.mark.parametrize("tones", [1, 2, 4])
def test_kernel_agrees_with_torch(name, controls, rho, target, tones):
    element_set = SETS[name]
    quadratic = _quadratic(tones, controls, rho, target)
    q = _start(element_set, (3, 6, controls))
    before = q.clone()
    for sweeps in (1, 4):
        compiled = coordinate_descent(quadratic, q, element_set, sweeps)
        twin = coordinate_descent_torch(quadratic, q, element_set, sweeps)
        assert (compiled - twin).abs().max() <= 1e-9 * twin.abs().max().clamp(min=1.0)
    assert torch.equal(q, before), "the start was changed in place"


@pytest.mark.parametrize("name", sorted(set(SETS) - {"free"}))
@pytest.mark.parametrize("controls", [1, 2])
def test_last_control_is_the_brute_force_minimiser(name, controls):
    """After a sweep nobody can improve the last control visited by moving it alone."""
    element_set = SETS[name]
    quadratic = _quadratic(2, controls, 0.5, True)
    ended = coordinate_descent(quadratic, _start(element_set, (3, 6, controls)), element_set)
    reached = quadratic.value(ended)
    for member in _grid(element_set):
        moved = ended.clone()
        moved[:, -1, -1] = member
        assert (quadratic.value(moved) >= reached - 1e-12 * reached).all()


def _grid(element_set):
    if isinstance(element_set, Interval):
        return [complex(i / 500) for i in range(501)]
    if isinstance(element_set, Circle):
        turns = (2j * math.pi * i / 500 for i in range(500))
        return [complex(element_set.centre + element_set.radius * _exp(t)) for t in turns]
    return list(element_set.levels)


def _exp(exponent):
    return complex(math.cos(exponent.imag), math.sin(exponent.imag))


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(SETS)),
    st.integers(1, 3),
    st.integers(1, 3),
    st.floats(0.0, 10.0),
    st.booleans(),
    st.integers(0, 10_000),
)
def test_value_never_increases(name, tones, controls, rho, target, seed):
    element_set = SETS[name]
    quadratic = _quadratic(tones, controls, rho, target, seed)
    q = _start(element_set, (3, 6, controls), seed + 9)
    value = quadratic.value(q)
    for _ in range(4):
        q = coordinate_descent(quadratic, q, element_set)
        new = quadratic.value(q)
        assert (new <= value * (1 + 1e-12) + 1e-12).all()
        assert element_set.violation(q).max() < 1e-12
        value = new


def test_thread_count_changes_no_bit():
    quadratic = _quadratic(2, 2, 0.3, True, batch=64, antennas=64)
    q = _start(Circle(), (64, 64, 2))
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(coordinate_descent(quadratic, q, Circle(), 3))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_a_control_without_influence_stays():
    quadratic = _quadratic(1, 2, 0.0)
    quadratic.d[:, :, 3] = 0.0
    q = _start(Circle(), (3, 6, 2))
    for sweep in (coordinate_descent, coordinate_descent_torch):
        assert torch.equal(sweep(quadratic, q, Circle())[:, 3], q[:, 3])


def test_one_bad_channel_does_not_touch_the_others():
    quadratic = _quadratic()
    q = _start(Circle(), (3, 6, 1))
    clean = coordinate_descent(quadratic, q, Circle(), 2)
    quadratic.y[1] = math.nan
    dirty = coordinate_descent(quadratic, q, Circle(), 2)
    assert torch.equal(clean[0], dirty[0])
    assert torch.equal(clean[2], dirty[2])


def test_complex64_is_kept_and_close():
    quadratic = _quadratic(2, 2, 0.4, True)
    narrow = Quadratic(
        *(t.to(torch.complex64) for t in (quadratic.y, quadratic.t, quadratic.d)),
        quadratic.rho.float(),
        quadratic.z.to(torch.complex64),
    )
    q = _start(Circle(), (3, 6, 2))
    got = coordinate_descent(narrow, q.to(torch.complex64), Circle())
    assert got.dtype == torch.complex64
    assert (got - coordinate_descent(quadratic, q, Circle())).abs().max() < 1e-4


def test_gradients_flow_through_the_twin():
    quadratic = _quadratic(1, 1, 0.4)
    q = _start(Circle(), (3, 6, 1)).requires_grad_(True)
    quadratic.value(coordinate_descent(quadratic, 1.3 * q, Interval(-9.0, 9.0))).sum().backward()
    assert torch.isfinite(torch.view_as_real(q.grad)).all()


class _Diamond:
    """A set that the kernel does not know: the nearest of four levels, without a code."""

    def project(self, z):
        return Points((1, 1j, -1, -1j)).project(z)


def test_unknown_sets_run_in_torch():
    quadratic = _quadratic(1, 2, 0.4)
    q = _start(Points.phases(2), (3, 6, 2))
    known = coordinate_descent(quadratic, q, Points((1, 1j, -1, -1j)), 2)
    assert (coordinate_descent(quadratic, q, _Diamond(), 2) - known).abs().max() < 1e-12
