"""Projection, sampling and violation of the three geometries."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from holobeam import testing
from holobeam.errors import InputError
from holobeam.frontends import Circle, ElementSet, Interval, Points

SETS = {
    "amplitude": Interval(),
    "shifted": Interval(-0.5, 2.0),
    "phase": Circle(),
    "lorentzian": Circle(0.5j, 0.5),
    "binary": Points((0.0, 1.0)),
    "thirds": Points.amplitudes(4),
    "2bit": Points.phases(2),
    "5bit": Points.phases(5),
    "single": Points((1.0,)),
}


@pytest.mark.parametrize("name", SETS)
def test_conformance(name):
    assert isinstance(SETS[name], ElementSet)
    testing.check_element_set(SETS[name])


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(SETS)),
    st.complex_numbers(max_magnitude=5.0, allow_nan=False, allow_infinity=False),
    st.floats(0.01, 10.0),
)
def test_projection_minimises_every_isotropic_quadratic(name, z, curvature):
    """Brute force over a fine grid of the set."""
    element_set = SETS[name]
    grid = _grid(element_set)
    nearest = element_set.project(torch.tensor([z], dtype=torch.complex128))
    mine = curvature * (nearest - z).abs().square()
    best = (curvature * (grid - z).abs().square()).min()
    assert float(mine) <= float(best) + 1e-12 * (1 + float(best))


def _grid(element_set):
    if isinstance(element_set, Interval):
        span = torch.linspace(element_set.low, element_set.high, 4001, dtype=torch.float64)
        return span.to(torch.complex128)
    if isinstance(element_set, Circle):
        angle = torch.linspace(0, 2 * math.pi, 4001, dtype=torch.float64)
        return element_set.centre + torch.polar(torch.full_like(angle, element_set.radius), angle)
    return torch.tensor(element_set.levels, dtype=torch.complex128)


def test_half_bounded_interval_projects_but_cannot_be_sampled():
    ray = Interval(0.0, math.inf)
    assert ray.project(torch.tensor([-2 + 1j, 1e9 + 0j])).tolist() == [0, 1e9]
    with pytest.raises(InputError, match="bounded"):
        ray.sample((3,), torch.Generator(), torch.complex64)


def test_centre_of_a_circle_goes_to_its_right():
    assert Circle(1j, 2.0).project(torch.tensor([1j])).tolist() == [2 + 1j]


def test_ties_go_to_the_level_listed_first():
    assert Points((1.0, 0.0)).project(torch.tensor([0.5 + 0j])).tolist() == [1]
    assert Points((0.0, 1.0)).project(torch.tensor([0.5 + 0j])).tolist() == [0]


def test_samples_cover_the_set_evenly():
    generator = torch.Generator().manual_seed(0)
    phases = Circle().sample((20_000,), generator, torch.complex128)
    assert phases.mean().abs() < 0.03
    amplitudes = Interval(0.0, 1.0).sample((20_000,), generator, torch.complex128)
    assert float(amplitudes.real.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(amplitudes.real.var()) == pytest.approx(1 / 12, rel=0.05)
    levels = Points.amplitudes(4).sample((20_000,), generator, torch.complex128)
    counts = torch.unique(levels.real, return_counts=True)[1]
    assert counts.min() > 4_700


def test_bit_counts_and_steps():
    assert len(Points.phases(3).levels) == 8
    assert all(abs(abs(level) - 1) < 1e-15 for level in Points.phases(3).levels)
    assert [level.real for level in Points.amplitudes(3).levels] == [0.0, 0.5, 1.0]


def test_relaxations_hold_the_levels():
    assert Points.amplitudes(4).relaxation() == Interval(0.0, 1.0)
    assert Points.phases(2).relaxation() == Circle(0.0, 1.0)
    odd = Points((0.0, 1j, 2.0))
    assert odd.relaxation() is odd
    for name, element_set in SETS.items():
        continuous = element_set.relaxation()
        members = element_set.sample((50,), torch.Generator().manual_seed(0), torch.complex128)
        assert continuous.violation(members).max() < 1e-12, name


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: Interval(1.0, 1.0), "high"),
        (lambda: Interval(0.0, math.nan), "high"),
        (lambda: Circle(0.0, 0.0), "radius"),
        (lambda: Circle(0.0, math.inf), "radius"),
        (lambda: Points(()), "levels"),
        (lambda: Points((math.nan,)), "levels"),
        (lambda: Points.amplitudes(1), "levels"),
        (lambda: Points.phases(0), "bits"),
        (lambda: Points.phases(True), "bits"),
        (lambda: Points.phases(13), "bits"),
    ],
)
def test_bad_input_is_named(call, argument):
    with pytest.raises(InputError) as caught:
        call()
    assert caught.value.argument == argument


class _Shifted:
    """A set with a lie in it."""

    def __init__(self, **lies):
        self.lies = lies

    def project(self, z):
        return Interval().project(z) if "project" not in self.lies else self.lies["project"](z)

    def sample(self, shape, generator, dtype):
        return Interval().sample(shape, generator, dtype) + self.lies.get("sample", 0.0)

    def violation(self, q):
        return Interval().violation(q) * self.lies.get("violation", 1.0)


@pytest.mark.parametrize(
    ("lies", "message"),
    [
        ({"project": lambda z: Interval(0.0, 2.0).project(z)}, "violates"),
        ({"project": lambda z: 0.5 * Interval().project(z)}, "idempotent"),
        ({"project": torch.zeros_like}, "distance|nearer"),
        ({"project": lambda z: Interval().project(z).to(torch.complex64)}, "turned"),
        ({"sample": 0.1}, "sample violates"),
        ({"violation": 2.0}, "distance"),
    ],
)
def test_the_kit_catches_liars(lies, message):
    testing.check_element_set(_Shifted())
    with pytest.raises(AssertionError, match=message):
        testing.check_element_set(_Shifted(**lies))
