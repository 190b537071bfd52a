"""The compiled alternating loop against the steps that it fuses."""

from dataclasses import replace

import pytest
import torch

import holobeam as hb
from holobeam.solvers.alternating import Alternating

FRONTENDS = (
    "rhs",
    "rhs-binary",
    "dma",
    "phase-shifters",
    "phase-shifters-2bit",
    "phase-shifters-sub",
)


def problem(name, power_at="radiated", users=3, dtype=torch.complex128, **options):
    h = hb.channels.path_wise((4, 4), users=users).sample(5, seed=2, dtype=dtype)
    frontend = hb.frontends.build(name, hb.arrays.upa((4, 4), spacing=1 / 3), 4)
    noise = torch.tensor([[0.05, 0.1, 0.2, 0.4][:users]], dtype=torch.float64)
    weights = torch.tensor([1.0, 2.0, 0.5, 1.0][:users], dtype=torch.float64)
    return hb.Downlink(
        h, frontend, noise_power=noise, weights=weights, power_at=power_at, power=3.0, **options
    )


def uncompiled(solver, at, state, count):
    for _ in range(count):
        state = solver.step(at, state)
    return state


@pytest.mark.parametrize("name", FRONTENDS)
@pytest.mark.parametrize("power_at", ["radiated", "feeds"])
@pytest.mark.parametrize("extrapolate", [False, True])
def test_compiled_iterations_are_the_steps(name, power_at, extrapolate):
    at = problem(name, power_at)
    solver = Alternating(noise_schedule=(0.1, 0.3, 0.6), extrapolate=extrapolate, tolerance=0.0)
    first = solver.init(at, torch.Generator().manual_seed(0))
    for count in (1, 3, 8):
        fused, slow = solver.advance(at, first, count), uncompiled(solver, at, first, count)
        assert fused.memory.count == slow.memory.count == count
        assert torch.allclose(fused.utility, slow.utility, atol=1e-9, rtol=0)
        assert torch.allclose(fused.control, slow.control, atol=1e-8, rtol=0)
        assert torch.allclose(
            at.link(fused.control).received(fused.digital).abs(),
            at.link(slow.control).received(slow.digital).abs(),
            atol=1e-8,
        )
        if extrapolate:
            strides = fused.memory.momentum.stride, slow.memory.momentum.stride
            assert torch.equal(*strides)


def test_steps_carry_on_from_compiled_iterations():
    at = problem("rhs")
    solver = Alternating(extrapolate=True, tolerance=0.0)
    first = solver.init(at, torch.Generator().manual_seed(0))
    mixed = uncompiled(solver, at, solver.advance(at, first, 3), 2)
    whole = uncompiled(solver, at, first, 5)
    assert torch.allclose(mixed.utility, whole.utility, atol=1e-9, rtol=0)


@pytest.mark.parametrize("users", [2, 4, 6])
def test_any_number_of_users(users):
    h = hb.channels.Rayleigh(antennas=12, users=users).sample(4, seed=1)
    at = hb.Downlink(h, hb.frontends.phase_shifters(12, 4), snr_db=8.0)
    solver = Alternating(tolerance=0.0)
    first = solver.init(at, torch.Generator().manual_seed(0))
    fused, slow = solver.advance(at, first, 4), uncompiled(solver, at, first, 4)
    assert torch.allclose(fused.utility, slow.utility, atol=1e-8, rtol=0)


@pytest.mark.parametrize("name", ["rhs", "dma"])
def test_history_does_not_change_the_answer(name):
    at = problem(name)
    chunked = hb.solve(at, "wmmse-cd", max_iterations=40)
    single = hb.solve(at, "wmmse-cd", max_iterations=40, history=True)
    assert torch.allclose(chunked.sum_rate, single.sum_rate, atol=1e-9, rtol=0)
    assert torch.equal(chunked.iterations, single.iterations)
    assert torch.equal(chunked.status, single.status)
    assert bool((single.history.diff(dim=1) >= 0).all())


def test_single_precision_stays_single():
    at = problem("rhs", dtype=torch.complex64)
    double = hb.solve(problem("rhs"), "mmse", max_iterations=10, tolerance=0.0)
    solution = hb.solve(at, "mmse", max_iterations=10, tolerance=0.0)
    assert solution.control.dtype == solution.digital.dtype == torch.complex64
    assert torch.allclose(solution.sum_rate.double(), double.sum_rate, atol=1e-3)


def test_what_is_not_fused_runs_step_by_step(monkeypatch):
    """Per-chain power, OFDM, gradients and foreign analog methods must not reach the kernel."""
    import holobeam.kernels.alternating as kernel

    def never(*_, **__):
        raise AssertionError("the compiled loop was called")

    monkeypatch.setattr(kernel, "alternate", never)
    h = hb.channels.Rayleigh(antennas=8, users=2).sample(2, seed=0)
    frontend = hb.frontends.phase_shifters(8, 2)
    wide = torch.cat([h, h.flip(0)], dim=1)
    hb.solve(hb.Downlink(wide, frontend, snr_db=5.0), "wmmse-cd", max_iterations=2)
    hb.solve(
        hb.Downlink(h, frontend, noise_power=0.1, power_at="per_rf_chain"),
        "wmmse-cd",
        max_iterations=2,
    )
    own = Alternating(analog=lambda quadratic, q, element_set: q, max_iterations=2)
    own(hb.Downlink(h, frontend, snr_db=5.0))
    with pytest.raises(AssertionError, match="compiled"):
        hb.solve(hb.Downlink(h, frontend, snr_db=5.0), "wmmse-cd", max_iterations=2)


def test_a_channel_that_breaks_keeps_its_best_point():
    """A kernel that meets NaN stops that channel and leaves the others alone."""
    at = problem("rhs")
    solver = hb.solver("mmse")
    first = solver.init(at, torch.Generator())
    digital = first.digital.clone()
    digital[1] = complex("nan")
    after = solver.advance(at, replace(first, digital=digital), 3)
    healthy = solver.advance(at, first, 3)
    others = torch.tensor([0, 2, 3, 4])
    assert torch.equal(after.utility[others], healthy.utility[others])
    assert not bool(torch.isfinite(after.utility[1]))
