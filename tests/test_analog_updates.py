"""Analog updates on two levels and by majorisation: monotone, feasible, fixed where they should."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from holobeam import analog
from holobeam.analog import Quadratic, coordinate_descent, majorize
from holobeam.analog.coordinate import coordinate_descent_torch
from holobeam.analog.majorize import largest_eigenvalue, majorize_torch, row_sums
from holobeam.analog.two_level import flips, signs_of
from holobeam.errors import InputError, UnknownNameError
from holobeam.frontends import Circle, Interval, Points
from holobeam.testing import gaussian

BINARY = {
    "one-opt": analog.one_opt,
    "two-opt": analog.two_opt,
    "hidden-convexity": analog.hidden_convexity,
    "tabu": analog.tabu,
    "sphere": analog.sphere,
}
LEVELS = {
    "on/off": Points((0.0, 1.0)),
    "signs": Points((1.0, -1.0)),
    "turned": Points((0.3 + 0.4j, -1j)),
}
CIRCLES = {"lorentzian": Circle(0.5j, 0.5), "phase": Circle(), "amplitude": Interval()}


def quadratic(seed=0, batch=3, tones=1, rows=5, streams=2, antennas=8, controls=1, rho=0.0):
    return Quadratic(
        gaussian((batch, tones, rows, antennas), seed),
        gaussian((batch, tones, rows, streams), seed + 1),
        gaussian((batch, tones, antennas, controls, streams), seed + 2),
        torch.full((batch, tones), rho, dtype=torch.float64),
    )


def start(element_set, part, seed=5):
    shape = (part.y.shape[0], part.antennas, part.d.shape[3])
    generator = torch.Generator().manual_seed(seed)
    return element_set.sample(shape, generator, torch.complex128)


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize(("tones", "controls", "rho"), [(1, 1, 0.0), (2, 2, 0.7)])
def test_signs_have_the_values_of_the_controls(levels, tones, controls, rho):
    part = quadratic(tones=tones, controls=controls, rho=rho)
    found = []
    for seed in range(4):
        q = start(LEVELS[levels], part, seed)
        matrix, c, x, middle, half = signs_of(part, q, LEVELS[levels])
        assert ((middle + half * x).reshape(q.shape) - q).abs().max() < 1e-14
        value = torch.einsum("bi,bij,bj->b", x, matrix, x) - 2 * (c * x).sum(dim=1)
        found.append(part.value(q) - value)
    for other in found[1:]:
        assert (other - found[0]).abs().max() < 1e-10 * part.value(q).max()


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("levels", LEVELS)
def test_binary_updates_are_monotone_and_end_at_a_local_minimum(name, levels):
    element_set = LEVELS[levels]
    for part in (quadratic(), quadratic(7, tones=2, controls=2, antennas=5, rho=0.4)):
        q = start(element_set, part)
        before = q.clone()
        ended = BINARY[name](part, q, element_set)
        assert torch.equal(q, before)
        assert element_set.violation(ended).max() < 1e-14
        assert (part.value(ended) <= part.value(q) * (1 + 1e-12)).all()
        assert (flips(part, ended, element_set) >= -1e-9 * float(part.value(q).max())).all()
        # A fixed point of coordinate descent: no single control wants to move.
        swept = coordinate_descent(part, ended, element_set)
        assert (part.value(swept) >= part.value(ended) * (1 - 1e-9)).all()


def test_sphere_is_the_best_of_all_controls():
    part, element_set = quadratic(antennas=6), Points((0.0, 1.0))
    q = start(element_set, part)
    ended = part.value(analog.sphere(part, q, element_set))
    word = torch.arange(64)[:, None] >> torch.arange(6) & 1
    every = torch.stack([part.value(w.to(q.dtype).expand(3, 6)[..., None]) for w in word])
    assert (ended - every.amin(dim=0)).abs().max() < 1e-10
    for options in ({"shift": "minimal", "hc_bound": True}, {"shift": "hc", "pre_decision": True}):
        again = part.value(analog.sphere(part, q, element_set, **options))
        assert (again - ended).abs().max() < 1e-10


def test_hidden_convexity_without_local_search_is_no_better():
    part, element_set = quadratic(batch=20, antennas=14), Points((0.0, 1.0))
    q = start(element_set, part)
    bare = part.value(analog.hidden_convexity(part, q, element_set, local_search=False))
    full = part.value(analog.hidden_convexity(part, q, element_set))
    assert (full <= bare + 1e-10).all()
    assert (full < bare - 1e-6).any()
    assert (bare <= part.value(q) + 1e-10).all()


def test_closest_point_is_the_projected_minimum_norm_solution():
    part = quadratic(antennas=24)  # rank 10 < 24
    a, b = part.dense()
    free = torch.linalg.lstsq(a, b.unsqueeze(-1), driver="gelsd").solution.reshape(3, 24, 1)
    for element_set in (Circle(0.5j, 0.5), Points((0.0, 1.0)), Interval()):
        got = analog.closest_point(part, start(Circle(), part), element_set)
        assert (got - element_set.project(free)).abs().max() < 1e-6


@pytest.mark.parametrize("name", [*BINARY, "closest-point", "majorize"])
def test_one_bad_channel_does_not_touch_the_others(name):
    update = {**BINARY, "closest-point": analog.closest_point, "majorize": majorize}[name]
    element_set = Points((0.0, 1.0))
    part = quadratic()
    q = start(element_set, part)
    clean = update(part, q, element_set)
    part.y[1] = math.nan
    dirty = update(part, q, element_set)
    assert torch.equal(dirty[1], q[1])
    assert (dirty[[0, 2]] - clean[[0, 2]]).abs().max() < 1e-12


@pytest.mark.parametrize("name", [*BINARY, "closest-point", "majorize"])
def test_single_precision_is_kept(name):
    update = {**BINARY, "closest-point": analog.closest_point, "majorize": majorize}[name]
    part = quadratic()
    narrow = Quadratic(*(t.to(torch.complex64) for t in (part.y, part.t, part.d)), part.rho.float())
    q = start(LEVELS["on/off"], part)
    got = update(narrow, q.to(torch.complex64), LEVELS["on/off"])
    assert got.dtype == torch.complex64
    assert (got - update(part, q, LEVELS["on/off"])).abs().max() < 1e-5


@pytest.mark.parametrize("element_set", [Circle(), Points((1.0,)), Points.phases(2), Interval()])
def test_binary_updates_ask_for_two_levels(element_set):
    part = quadratic()
    with pytest.raises(InputError, match="two levels"):
        analog.tabu(part, torch.ones(3, 8, 1, dtype=torch.complex128), element_set)


@given(
    st.sampled_from(sorted(CIRCLES)),
    st.sampled_from(["eigenvalue", "gershgorin"]),
    st.booleans(),
    st.integers(1, 2),
    st.integers(1, 2),
    st.floats(0.0, 3.0),
    st.integers(0, 10_000),
)
def test_majorize_never_increases(name, bound, accelerate, tones, controls, rho, seed):
    element_set = CIRCLES[name]
    part = quadratic(seed, tones=tones, controls=controls, rho=rho)
    q = start(element_set, part, seed)
    value = part.value(q)
    for _ in range(4):
        q = majorize(part, q, element_set, steps=1, bound=bound, accelerate=accelerate)
        new = part.value(q)
        assert (new <= value * (1 + 1e-12)).all()
        assert element_set.violation(q).max() < 1e-12
        value = new


@pytest.mark.parametrize(("tones", "controls", "rho"), [(1, 1, 0.0), (1, 1, 0.8), (2, 2, 0.8)])
@pytest.mark.parametrize("antennas", [4, 30])
def test_bounds_majorise(tones, controls, rho, antennas):
    part = quadratic(tones=tones, controls=controls, rho=rho, antennas=antennas)
    a, _ = part.dense()
    top = torch.linalg.eigvalsh(a)[:, -1]
    bound = largest_eigenvalue(part)[:, 0, 0]
    assert (bound >= top * (1 - 1e-12)).all()
    if rho == 0.0:
        assert (bound - top).abs().max() < 1e-9 * top.max()
    slack = torch.diag_embed(row_sums(part).flatten(1)).to(a.dtype) - a
    assert torch.linalg.eigvalsh(slack).min() > -1e-9 * top.max()


@pytest.mark.parametrize("name", CIRCLES)
def test_fixed_points_of_both_methods(name):
    """Where coordinate descent rests, majorisation rests, and the gradient says why."""
    element_set = CIRCLES[name]
    part = quadratic(batch=4, rows=3, antennas=6)
    q = coordinate_descent(part, start(element_set, part), element_set, 3000)
    for accelerate in (False, True):
        for bound in ("eigenvalue", "gershgorin"):
            moved = majorize(part, q, element_set, steps=3, bound=bound, accelerate=accelerate)
            assert (moved - q).abs().max() < 1e-6
    step = element_set.project(q - 1e-3 * part.gradient(q))
    assert (step - q).abs().max() < 1e-8


def test_the_papers_closed_form_on_the_lorentzian_circle():
    """phi <- exp(j arg(bt + (lam phi - A phi) / 2)) with q = (j + phi) / 2."""
    part, element_set = quadratic(), Circle(0.5j, 0.5)
    a, b = part.dense()
    top = torch.linalg.eigvalsh(a)[:, -1:] * (1.0 + 1e-10)
    q = start(element_set, part)
    phi = (2 * q - 1j).flatten(1)
    shifted = b - 0.5j * a.sum(dim=-1)
    wanted = shifted + 0.5 * (top * phi - torch.einsum("bij,bj->bi", a, phi))
    wanted = (1j + wanted / wanted.abs()) / 2
    got = majorize(part, q, element_set, steps=1).flatten(1)
    assert (got - wanted).abs().max() < 1e-8


def test_acceleration_pays():
    part, element_set = quadratic(batch=8, rows=6, antennas=64), Circle(0.5j, 0.5)
    q = start(element_set, part)
    plain = part.value(majorize(part, q, element_set, steps=60, tolerance=0.0))
    fast = part.value(majorize(part, q, element_set, steps=30, tolerance=0.0, accelerate=True))
    assert fast.mean() < 0.9 * plain.mean()


def test_majorize_names_its_bounds():
    part = quadratic()
    with pytest.raises(UnknownNameError, match="gershgorin"):
        majorize(part, start(Circle(), part), Circle(), bound="gerschgorin")
    with pytest.raises(InputError, match="steps"):
        majorize(part, start(Circle(), part), Circle(), steps=0)
    with pytest.raises(InputError, match="tolerance"):
        majorize(part, start(Circle(), part), Circle(), tolerance=math.nan)


@pytest.mark.parametrize("rho", [0.0, 0.6])
@pytest.mark.parametrize("name", [*CIRCLES, "on/off"])
@pytest.mark.parametrize("shape", [(6, 2), (2, 6), (3, 1), (9, 7)])
def test_sweep_on_factor_rows_agrees_with_its_twin_and_the_dense_form(rho, name, shape):
    element_set = {**CIRCLES, **LEVELS}[name]
    rows, streams = shape
    part = quadratic(batch=2, rows=rows, streams=streams, antennas=70, rho=rho)
    part.d[:, :, 3] = 0.0  # an element that nobody feeds stays
    q = start(element_set, part)
    fast = coordinate_descent(part, q, element_set, 10)
    assert (fast - coordinate_descent_torch(part, q, element_set, 10)).abs().max() < 1e-9
    assert torch.equal(fast[:, 3], q[:, 3])
    a, b = part.dense()
    slow = q.clone()
    for _ in range(10):
        for n in range(70):
            if n == 3:
                continue
            pull = b[:, n] - torch.einsum("bm,bm->b", a[:, n], slow[..., 0])
            free = slow[:, n, 0] + pull / a[:, n, n].real
            slow[:, n, 0] = element_set.project(free)
    assert (fast - slow).abs().max() < 1e-9


@pytest.mark.parametrize("accelerate", [False, True])
@pytest.mark.parametrize("rho", [0.0, 0.6])
@pytest.mark.parametrize("name", [*CIRCLES, "on/off"])
def test_compiled_majorisation_agrees_with_its_twin(accelerate, rho, name):
    element_set = {**CIRCLES, **LEVELS}[name]
    part = quadratic(antennas=20, rho=rho)
    part.d[:, :, 3] = 0.0
    q = start(element_set, part)
    fast = majorize(part, q, element_set, steps=12, accelerate=accelerate)
    top = largest_eigenvalue(part).expand(q.shape) * (1.0 + 1e-10)
    slow = majorize_torch(part, q, element_set, top, (12, 1e-7, accelerate))
    assert (fast - slow).abs().max() < 1e-8
    assert (part.value(fast) < part.value(q)).any()
    by_row = majorize(part, q, element_set, steps=12, bound="gershgorin")
    assert torch.equal(by_row[:, 3], q[:, 3])
