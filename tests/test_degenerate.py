"""Channels that break careless code: finite, feasible answers from everybody."""

import pytest
import torch

import holobeam as hb
from holobeam import Downlink, frontends, solvers, testing
from holobeam.arrays import upa
from holobeam.errors import InputError
from holobeam.testing import degenerate_channels, gaussian

FRONTENDS = tuple(frontends.available())
SOLVERS = tuple(entry.name for entry in solvers.available())


def _solve(problem, name):
    short = hb.solver(name)
    if not short.closed_form and short.max_iterations > 8:
        short = hb.solver(name, max_iterations=8)
    return short(problem) if short.supports(problem) is None else None


@pytest.mark.parametrize("snr_db", [pytest.param(-20.0, marks=pytest.mark.slow), 60.0])
@pytest.mark.parametrize("frontend", FRONTENDS)
@pytest.mark.parametrize("name", SOLVERS)
def test_hostile_channels(name, frontend, snr_db):
    h = degenerate_channels(3, 12)
    hardware = frontends.build(frontend, upa((4, 3)), 4)
    for place in ("radiated",) if hardware.has_free_gain else ("radiated", "feeds", "per_rf_chain"):
        problem = Downlink(h, hardware, snr_db=snr_db, power_at=place)
        solution = _solve(problem, name)
        if solution is None:
            continue
        for tensor in (solution.control, solution.digital, solution.rates):
            assert torch.isfinite(tensor).all(), place
        assert solution.violation.max() <= 1e-9, place
        assert (solution.rates >= 0).all()
        assert (solution.sum_rate[0] == 0).all(), "an all-zero channel has rate 0"
        assert (solution.rates[1, 0] == 0).all(), "an absent user has rate 0"


@pytest.mark.parametrize("name", ["rzf", "mmse", "mmse-fast", "wmmse-cd", "vp"])
def test_an_absent_user_costs_the_others_little(name):
    h = gaussian((6, 1, 3, 12), 0)
    h[:, :, 1] = 0.0
    hardware = frontends.phase_shifters(12, 3)
    three = Downlink(h, hardware, snr_db=10.0)
    two = Downlink(h[:, :, [0, 2]], hardware, snr_db=10.0)
    a, b = hb.solve(three, name), hb.solve(two, name)
    assert (a.rates[:, 1] == 0).all()
    assert float(a.sum_rate.mean()) > 0.93 * float(b.sum_rate.mean())


@pytest.mark.parametrize("name", ["rzf", "mmse", "mmse-fast", "wmmse-cd", "vp", "wmmse-digital"])
@pytest.mark.parametrize("size", [1e-6, 1e6])
def test_the_scale_of_channel_and_noise_does_not_matter(name, size):
    """Unscaled gains are 1e-6: no absolute epsilon may decide anything."""
    hardware = (
        frontends.fully_digital(12) if name == "wmmse-digital" else frontends.phase_shifters(12, 3)
    )
    h = gaussian((3, 1, 3, 12), 0)
    plain = Downlink(h, hardware, noise_power=0.1)
    scaled = Downlink(size * h, hardware, noise_power=0.1 * size**2)
    options = {} if name == "rzf" else {"max_iterations": 10}
    a, b = hb.solve(plain, name, **options), hb.solve(scaled, name, **options)
    assert (a.rates - b.rates).abs().max() < 1e-6 * a.rates.abs().max()


def test_gains_60_db_apart_are_all_served_at_high_power():
    spread = torch.tensor([1.0, 10**-1.5, 1e-3], dtype=torch.float64)[:, None]
    h = gaussian((6, 1, 3, 12), 0) * spread
    for hardware, name in ((frontends.fully_digital(12), "wmmse-digital"),
                           (frontends.phase_shifters(12, 3), "vp")):  # fmt: skip
        solution = hb.solve(Downlink(h, hardware, snr_db=80.0), name)
        assert (solution.rates[:, 2] > 1.0).all(), name


def test_one_antenna_one_user_one_chain():
    h = gaussian((3, 1, 1, 1), 0)
    expected = (1 + 10 * h.abs().square().flatten()).log2()
    for hardware in (
        frontends.fully_digital(1),
        frontends.phase_shifters(1, 1),
        frontends.rhs(torch.ones(1, 1, dtype=torch.complex128)),
        frontends.rhs(torch.ones(1, 1, dtype=torch.complex128), 2),
    ):
        problem = Downlink(h, hardware, snr_db=10.0)
        for entry in solvers.available():
            solution = _solve(problem, entry.name)
            if solution is not None and not (
                entry.name in {"random", "wmmse-projection"} and hardware.name == "rhs-binary"
            ):
                assert torch.allclose(solution.sum_rate, expected), (entry.name, hardware.name)


def test_a_surface_that_starts_switched_off_is_switched_on():
    """Amplitudes of one half round to "off" on an on/off surface: the start must not be dark."""
    h = gaussian((5, 1, 2, 12), 0)
    for hardware in ("rhs-binary", "dma-binary"):
        problem = Downlink(h, frontends.build(hardware, upa((4, 3)), 2), snr_db=10.0)
        for name in ("mrt", "zf", "rzf", "mmse", "vp"):
            assert (hb.solve(problem, name).sum_rate > 0.05).all(), (hardware, name)


def test_not_a_number_is_refused_at_the_door():
    h = gaussian((2, 1, 2, 4), 0)
    h[1, 0, 1, 3] = torch.nan
    with pytest.raises(InputError, match=r"h: 1 of 16 .*first at \(1, 0, 1, 3\)"):
        Downlink(h, frontends.fully_digital(4), snr_db=0.0)


def test_kit_has_the_hard_cases():
    cases = degenerate_channels(3, 12)
    assert (cases[0] == 0).all()
    assert torch.linalg.matrix_rank(cases[2, 0]) == 1
    gains = cases[4, 0].abs().square().sum(dim=1)
    assert float(gains.max() / gains.min()) > 1e5
    assert testing.degenerate_channels(3, 12).equal(cases)


@pytest.mark.parametrize("turn", [0.0, 1e-3, 0.03])
def test_the_digital_bound_lets_one_of_two_lookalikes_go(turn):
    """Serving one user alone is always possible: no bound may lie below it."""
    generator = torch.Generator().manual_seed(3)
    h = torch.randn(5, 1, 3, 16, generator=generator, dtype=torch.complex128)
    other = torch.randn(5, 1, 16, generator=generator, dtype=torch.complex128)
    h[:, :, 1] = h[:, :, 0] + turn * other
    problem = hb.Downlink(h, hb.frontends.fully_digital(16), snr_db=20.0)
    bound = hb.solve(problem, "wmmse-digital").sum_rate
    pairs = []
    for dropped in range(3):
        few = h.clone()
        few[:, :, dropped] = 0
        served = hb.Downlink(few, hb.frontends.fully_digital(16), snr_db=20.0)
        pairs.append(hb.solve(served, "wmmse-digital").sum_rate)
    assert (bound >= torch.stack(pairs).amax(dim=0) - 1e-6).all()
    alone = torch.log2(1 + 100 * h[:, 0].abs().square().sum(dim=2)).amax(dim=1)
    assert (bound >= alone).all()
