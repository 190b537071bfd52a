"""The compiled plain start and the compiled scaling to the budget, against torch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import holobeam as hb
from holobeam.problems import budget
from holobeam.solvers import fused
from holobeam.solvers.starts import matched_control

CIRCLES = ("dma", "phase-shifters", "phase-shifters-2bit", "phase-shifters-sub")
FRONTENDS = ("rhs", "rhs-binary", "dma-binary", *CIRCLES)
PRECISE = {torch.complex128: 1e-9, torch.complex64: 1e-5}


def problem(name, users=3, power_at="radiated", dtype=torch.complex128):
    h = hb.channels.path_wise((4, 4), users=users).sample(5, seed=2, dtype=dtype)
    h[1, 0, 0] = 0
    frontend = hb.frontends.build(name, hb.arrays.upa((4, 4), spacing=1 / 3), 4)
    noise = torch.tensor([0.05, 0.1, 0.2, 0.4, 0.1, 0.3], dtype=torch.float64)[:users]
    return hb.Downlink(h, frontend, noise_power=noise, power_at=power_at, power=3.0)


def seeded():
    return torch.Generator().manual_seed(7)


def in_torch(monkeypatch):
    monkeypatch.setattr(fused, "serves", lambda *_: False)
    monkeypatch.setattr(budget, "serves", lambda *_: False)


@pytest.mark.parametrize("name", CIRCLES)
@pytest.mark.parametrize("users", [2, 4, 6])
@pytest.mark.parametrize("dtype", PRECISE)
def test_chains_point_where_torch_points_them(name, users, dtype, monkeypatch):
    at = problem(name, users, dtype=dtype)
    generator = seeded()
    compiled = matched_control(at, generator)
    drawn = torch.rand(1, generator=generator)
    in_torch(monkeypatch)
    generator = seeded()
    expected = matched_control(at, generator)
    assert compiled.dtype == expected.dtype == dtype
    assert torch.allclose(compiled, expected, atol=PRECISE[dtype], rtol=0)
    # Both leave the generator where it was, or both have drawn the same.
    assert torch.equal(drawn, torch.rand(1, generator=generator))


def test_a_faint_channel_points_the_chains_all_the_same():
    """Squares of 1e-200 are 0: directions must not be taken from them."""
    at = problem("phase-shifters", users=4)
    at = at.with_(h=torch.where(at.h == 0, 1.0, at.h), noise_power=torch.ones_like(at.noise_power))
    spare = torch.zeros(16, 0, dtype=torch.complex128)
    # Users in the order of the batch either way: faint ones all have the gain 0.
    order = at.h[:, 0].abs().square().sum(dim=2).argsort(dim=1, descending=True)
    sorted_h = at.h.gather(2, order[:, None, :, None].expand_as(at.h))
    plain = fused.pointed_control(at.with_(h=sorted_h), spare)
    faint = fused.pointed_control(at.with_(h=sorted_h * 1e-200), spare)
    assert torch.allclose(plain, faint, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", FRONTENDS)
@pytest.mark.parametrize("users", [2, 4, 6])
@pytest.mark.parametrize("power_at", ["radiated", "feeds"])
@pytest.mark.parametrize("dtype", PRECISE)
def test_the_first_point_is_that_of_torch(name, users, power_at, dtype, monkeypatch):
    at, solver = problem(name, users, power_at, dtype), hb.solver("vp")
    compiled = solver.init(at, seeded())
    in_torch(monkeypatch)
    expected = solver.init(at, seeded())
    close = {"atol": PRECISE[dtype], "rtol": 0}
    assert torch.allclose(compiled.control, expected.control, **close)
    assert torch.allclose(compiled.memory.latent, expected.memory.latent, **close)
    assert torch.allclose(compiled.utility, expected.utility, **close)
    assert torch.allclose(
        at.link(compiled.control).received(compiled.digital).abs(),
        at.link(expected.control).received(expected.digital).abs(),
        **close,
    )


@pytest.mark.parametrize("name", FRONTENDS)
@pytest.mark.parametrize("dtype", PRECISE)
def test_feasible_points_are_those_of_torch(name, dtype, monkeypatch):
    at = problem(name, dtype=dtype)
    draw = torch.Generator().manual_seed(1)
    control = torch.randn(5, 16, at.frontend.controls, generator=draw, dtype=dtype)
    digital = torch.randn(5, 1, 4, 3, generator=draw, dtype=dtype)
    digital[2] = 0
    digital[3] *= 1e-12
    control, digital = at.feasible(control, digital)
    again = at.feasible(control, digital)
    in_torch(monkeypatch)
    expected = at.feasible(*again)
    for mine, theirs in zip((control, digital), expected, strict=True):
        assert torch.allclose(mine, theirs, atol=PRECISE[dtype], rtol=PRECISE[dtype])
    assert float(at.violation(control, digital).max()) < PRECISE[dtype]


def cancelling(at, turn):
    """Two chains that are the same but for a turn of each element, driven against each other."""
    dtype = at.h.dtype
    control = at.frontend.sample(5, seeded(), dtype, at.h.device)
    angle = turn * torch.arange(16, dtype=torch.float64)
    control[:, :, 1] = control[:, :, 0] * torch.polar(torch.ones_like(angle), angle).to(dtype)
    digital = torch.zeros(5, 1, 4, 3, dtype=dtype)
    digital[:, :, 0], digital[:, :, 1] = 1.0, -1.0
    return control, digital


@pytest.mark.parametrize("dtype", PRECISE)
@pytest.mark.parametrize("turn", [1e-7, 1e-4, 1e-2])
def test_beams_that_cancel_hold_the_budget(dtype, turn):
    at = problem("phase-shifters", dtype=dtype)
    control, digital = at.feasible(*cancelling(at, turn))
    assert float(at.violation(control, digital).max()) < torch.finfo(dtype).eps ** 0.6


@pytest.mark.parametrize(("dtype", "turn"), [(torch.complex128, 1e-6), (torch.complex64, 1e-2)])
def test_what_cancels_but_can_be_held_stays(dtype, turn, monkeypatch):
    at = problem("phase-shifters", dtype=dtype)
    point = cancelling(at, turn)
    compiled = at.feasible(*point)
    in_torch(monkeypatch)
    expected = at.feasible(*point)
    beams = [(at.analog(q) @ v).abs() for q, v in (compiled, expected)]
    assert torch.allclose(*beams, atol=1e-3)
    assert float(beams[0].amax()) > 0.1


@given(
    scale=st.floats(-8, 8),
    users=st.integers(1, 5),
    name=st.sampled_from(FRONTENDS),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=30, deadline=None)
def test_the_budget_is_met_whatever_comes_in(scale, users, name, seed):
    at = problem(name, users)
    draw = torch.Generator().manual_seed(seed)
    shapes = at.shapes
    control = torch.randn(shapes["control"], generator=draw, dtype=torch.complex128)
    digital = 10**scale * torch.randn(shapes["digital"], generator=draw, dtype=torch.complex128)
    control, digital = at.feasible(control, digital)
    assert float(at.violation(control, digital).max()) < 1e-9
    radiated = (at.analog(control) @ digital).abs().square().sum(dim=(1, 2, 3))
    lit = at.analog(control).abs().flatten(1).amax(dim=1) > 0
    assert torch.allclose(radiated[lit], at.power[lit], rtol=1e-9)
