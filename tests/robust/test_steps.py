"""Design steps: identities, shared precoders against brute force, and what the steps are worth."""

import pytest
import torch

import holobeam as hb
from holobeam.channels import (
    CellularDrops,
    LaplacianClusters,
    PilotEstimate,
    RelativeError,
    path_wise,
)
from holobeam.errors import InputError, UnsupportedError
from holobeam.robust import (
    Denoise,
    NoiseEquivalent,
    Prepared,
    SampleAverage,
    Shrink,
    WorstCase,
    robustness,
    sample_average,
    training_combiner,
)
from holobeam.testing import gaussian

STEPS = [
    ("denoise",),
    ("noise-equivalent",),
    ("shrink-element",),
    ("sample-average",),
    (Denoise(), SampleAverage(4)),
    ("denoise", "noise-equivalent"),
]


def observed(count=4, antennas=32, delta=0.1, kind="phase-shifters", users=4, **options):
    h = LaplacianClusters(antennas=antennas, users=users).sample(count, seed=0)
    seen = RelativeError(delta).observe(h, seed=1)
    array = hb.arrays.ula(antennas, 1.0, 0.5)
    frontend = hb.frontends.build(kind, array, rf_chains=users)
    options.setdefault("snr_db", 10.0)
    return hb.Downlink(seen.h, frontend, true_h=h, error_variance=seen.error_variance, **options)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize(
    ("kind", "power_at"),
    [
        ("phase-shifters", "radiated"),
        ("rhs", "feeds"),
        ("dma", "per_rf_chain"),
        ("digital", "radiated"),
    ],
)
def test_every_step_serves_every_front_end(kind, power_at, steps):
    problem = observed(2, 16, kind=kind, power_at=power_at)
    solution = Prepared(solver=hb.solver("vp", max_iterations=4), steps=steps)(problem)
    assert solution.digital.shape == (2, 1, solution.problem.chains, 4)
    assert float(solution.violation.max()) < 1e-9
    assert bool(torch.isfinite(solution.sum_rate).all())
    assert bool((solution.sum_rate > 0.5).all())
    # Judged on the true channel; the problem is the one that was given.
    assert torch.equal(solution.problem.h, problem.h)
    again = problem.true_h @ solution.precoder
    assert again.shape == (2, 1, 4, 4)


def test_no_step_is_the_solver_itself():
    problem = observed()
    plain, prepared = hb.solve(problem, "vpk"), hb.solve(problem, Prepared(solver="vpk", steps=()))
    assert torch.equal(plain.control, prepared.control)
    assert torch.equal(plain.digital, prepared.digital)


def test_a_shrunk_estimate_is_a_noisier_problem():
    problem = observed()
    shrunk = Shrink("element")(problem, torch.Generator())
    scale = (shrunk.h.abs().square().sum((1, 3)) / problem.h.abs().square().sum((1, 3))).sqrt()
    noisier = problem.with_(noise_power=problem.noise_power / scale.square())
    one, other = hb.solve(shrunk, "vpk"), hb.solve(noisier, "vpk")
    assert torch.allclose(one.design_rate, other.design_rate, atol=1e-9)
    assert torch.allclose(one.precoder.abs(), other.precoder.abs(), atol=1e-6)


def test_a_step_that_annihilates_channels_is_refused():
    with pytest.raises(InputError, match="annihilate"):
        Prepared(solver="vpk", steps=("shrink-vector",))(observed(delta=0.5, antennas=64))


def test_noise_equivalent_is_the_mean_of_sampled_noise():
    problem = observed(1)
    at = NoiseEquivalent()(problem, torch.Generator())
    solution = hb.solve(problem, "vpk")
    errors = problem.error_variance.sqrt()[:, None, :, None] * gaussian((4000, 1, 4, 32), 0)
    leaked = (errors @ solution.precoder).abs().square().sum(dim=3).mean(dim=(0, 1))
    assert torch.allclose(at.noise_power[0] - problem.noise_power[0], leaked, rtol=0.1)


def test_a_single_sample_is_the_problem_itself():
    problem = observed(3, 16)
    one = sample_average(problem, problem.h.unsqueeze(0))
    for method in ("vp", "wmmse-cd"):
        plain, sampled = hb.solve(problem, method), hb.solve(one, method)
        assert torch.allclose(plain.design_rate, sampled.utility, rtol=2e-3)


@pytest.mark.parametrize("power_at", ["radiated", "feeds", "per_rf_chain"])
def test_the_shared_digital_step_is_a_minimiser(power_at):
    problem = observed(2, 16, power_at=power_at)
    samples = problem.h + 0.3 * gaussian((5, *problem.h.shape), 3)
    posed = sample_average(problem, samples)
    control = posed.frontend.sample(2, torch.Generator().manual_seed(0), posed.h.dtype, "cpu")
    link = posed.link(control)
    digital = posed.rescale(link, gaussian((2, 5, 4, 4), 1))
    weights = posed.weights(link, digital)
    price = posed.price(weights).sum(dim=1)

    def error(v):
        heard = weights.decoders.conj().unsqueeze(3) * (link.e @ v)
        wide = heard - torch.eye(4)
        value = (weights.mse_weights.unsqueeze(3) * wide.abs().square()).sum(dim=(1, 2, 3))
        return value + price * link.power(v)[:, 0]

    new = posed.digital_step(link, weights, digital)
    assert torch.allclose(new, new[:, :1].expand_as(new))
    assert bool((error(new) <= error(digital) + 1e-9).all())
    if power_at == "per_rf_chain":
        return
    for seed in range(5):
        away = 1e-3 * gaussian((2, 1, 4, 4), 10 + seed).expand(-1, 5, -1, -1)
        assert bool((error(new) <= error(new + away) + 1e-12).all())


def test_alternation_on_samples_never_falls():
    problem = observed(3, 16)
    posed = sample_average(problem, problem.h + 0.3 * gaussian((6, *problem.h.shape), 3))
    solver = hb.solvers.Alternating(max_iterations=25)
    history = hb.solve(posed, solver, history=True).history
    state = solver.init(posed, torch.Generator().manual_seed(0))
    utilities = []
    for _ in range(15):
        state = solver.step(posed, state)
        utilities.append(state.utility)
    assert float(torch.stack(utilities).diff(dim=0).min()) > -1e-9
    assert history.shape[0] == 3


def test_subcarriers_keep_their_own_precoders():
    h = path_wise((4, 4), users=2).sample(2, seed=0)
    h = torch.cat([h, h.roll(1, dims=3)], dim=1)
    seen = RelativeError(0.1).observe(h, seed=1)
    frontend = hb.frontends.phase_shifters(16, 2)
    problem = hb.Downlink(
        seen.h, frontend, snr_db=10.0, true_h=h, error_variance=seen.error_variance
    )
    solution = Prepared(solver="vp", steps=(SampleAverage(3),))(problem)
    assert solution.digital.shape == (2, 2, 2, 2)
    assert not torch.allclose(solution.digital[:, 0], solution.digital[:, 1])
    assert float(solution.violation.max()) < 1e-9


def test_denoising_helps_and_the_rest_changes_little():
    problem = observed(24, 64)
    rate = {
        steps: float(hb.solve(problem, Prepared(solver="vpk", steps=steps)).sum_rate.mean()) / 4
        for steps in ((), ("denoise",), ("noise-equivalent",), ("shrink-element",))
    }
    assert rate[("denoise",)] > rate[()] + 0.12
    assert abs(rate[("noise-equivalent",)] - rate[()]) < 0.05
    assert abs(rate[("shrink-element",)] - rate[()]) < 0.05


def test_worst_case_designs_raise_the_worst_case():
    problem = observed(6, 16, delta=0.2, snr_db=20.0)
    nominal = hb.solve(problem, "vp")
    design = hb.solve(problem, WorstCase(solver="vp", rounds=3))
    before, after = (robustness(s, draws=20, starts=4) for s in (nominal, design))
    assert float(after.worst.mean()) > float(before.worst.mean()) + 0.02
    assert float(design.violation.max()) < 1e-9


def test_many_cells_are_denoised_and_get_noise():
    h = CellularDrops().sample(3, seed=0)
    seen = RelativeError(0.2).observe(h, seed=1)
    array = hb.frontends.dma(hb.frontends.microstrips(4, 8, 0.2 * CellularDrops().wavelength))
    cells = hb.MultiCell(
        seen.h, array, power_per_rf_chain=1.0, true_h=h, error_variance=seen.error_variance
    )
    better = Denoise(shape=(4, 8))(cells, torch.Generator())
    share = [(x - h).abs().square().sum() / h.abs().square().sum() for x in (seen.h, better.h)]
    assert share[1] < 0.8 * share[0]
    louder = NoiseEquivalent("wmmse-cd")(cells, torch.Generator())
    assert bool((louder.noise_power > cells.noise_power).all())
    solver = hb.solver("wmmse-cd", max_iterations=3)
    solution = Prepared(solver=solver, steps=(Denoise(shape=(4, 8)), "noise-equivalent"))(cells)
    assert float(solution.violation.max()) < 1e-9
    with pytest.raises(UnsupportedError, match="samples beside subcarriers"):
        Prepared(solver=solver, steps=("sample-average",))(cells)


@pytest.mark.parametrize("kind", ["phase-shifters", "rhs", "dma", "digital"])
def test_pilots_through_the_front_end(kind):
    h = path_wise((4, 4), users=2).sample(50, seed=0)
    frontend = hb.frontends.build(kind, hb.arrays.upa((4, 4), 1.0, 1 / 3), rf_chains=2)
    shares = []
    for slots in (2, 12):
        combiner = training_combiner(frontend, slots, seed=0)
        assert combiner.shape == (16, slots * (16 if kind == "digital" else 2))
        seen = PilotEstimate(combiner, 20.0).observe(h, seed=1)
        shares.append(float((seen.h - h).abs().square().sum() / h.abs().square().sum()))
    assert shares[1] < shares[0]
    problem = hb.Downlink(
        seen.h, frontend, snr_db=10.0, true_h=h, error_variance=seen.error_variance
    )
    solution = Prepared(solver="vp", steps=("noise-equivalent",))(problem)
    assert float(solution.sum_rate.mean()) > 1.0


def test_bad_steps_are_named():
    with pytest.raises(InputError, match="unknown step 'denoize'"):
        Prepared(steps=("denoize",))(observed(1, 16))
    plain = observed(1, 16).with_(error_variance=None)
    for step in STEPS:
        with pytest.raises(InputError, match="error_variance"):
            Prepared(steps=step)(plain)
    digital = observed(1, 16, kind="digital")
    with pytest.raises(UnsupportedError, match="arrays with controls"):
        hb.solve(digital, WorstCase())


def test_channels_do_not_depend_on_their_mates():
    problem = observed(4, 16)
    for steps in STEPS:
        solver = Prepared(solver="vp", steps=steps)
        whole, part = solver(problem), solver(problem.take(torch.tensor([2])))
        assert torch.allclose(whole.sum_rate[2:3], part.sum_rate, atol=1e-6)
