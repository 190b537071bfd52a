"""Estimates: their statistics, their reproducibility, filters against the formulas, worst radii."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from holobeam.channels import (
    AngularPrior,
    LaplacianClusters,
    PilotEstimate,
    Rayleigh,
    RelativeError,
    beamspace_wiener,
    error_quantile,
    error_radius,
    path_wise,
    sample_covariance,
    shrunk_channels,
)
from holobeam.errors import InputError, ShapeError
from holobeam.testing import gaussian


def error_share(seen, h):
    return float((seen - h).abs().square().sum() / h.abs().square().sum())


@pytest.mark.parametrize("shape", [(256, 1, 3, 16), (64, 4, 3, 16), (64, 2, 2, 3, 2, 16)])
def test_relative_error_has_the_power_it_says(shape):
    h = 3.0 * gaussian(shape, 0)
    seen = RelativeError(0.2).observe(h, seed=1)
    assert error_share(seen.h, h) == pytest.approx(0.2, rel=0.05)
    # What it reports is what it does, without a look at the true channel.
    assert float(seen.error_variance.mean()) == pytest.approx(0.2 * 9.0, rel=0.05)
    axes = (1, 3) if h.ndim == 4 else (4, 5)
    assert seen.error_variance.shape == h.abs().mean(dim=axes).shape


def test_errors_depend_on_seed_draw_and_channel_alone():
    h = Rayleigh(antennas=8, users=2).sample(100, seed=5)
    model = RelativeError(0.3)
    whole = model.observe(h, seed=7, draws=3).h
    assert torch.equal(model.observe(h[70:90], seed=7, draws=2, start=70).h, whole[:2, 70:90])
    assert torch.equal(model.observe(h, seed=7).h, whole[0])
    assert not torch.equal(whole[0], whole[1])
    assert not torch.equal(model.observe(h, seed=8).h, whole[0])


def test_errors_have_nothing_to_do_with_channels_of_the_same_seed():
    h = Rayleigh(antennas=8, users=2).sample(256, seed=5)
    error = h - RelativeError(1.0).observe(h, seed=5).h
    correlation = (error.conj() * h).mean().abs()
    assert correlation < 4.0 / math.sqrt(h.numel())


def test_draws_are_flattened_draw_by_draw():
    h = Rayleigh(antennas=8, users=2).sample(5, seed=0)
    seen = RelativeError(0.1).observe(h, seed=0, draws=4)
    assert torch.equal(seen.flat().h[2 * 5 + 3], seen.h[2, 3])
    assert torch.equal(seen.flat().error_variance[2 * 5 + 3], seen.error_variance[2, 3])


def test_no_error_changes_nothing():
    h = Rayleigh(antennas=8, users=2).sample(5, seed=0)
    seen = RelativeError(0.0).observe(h, seed=0)
    assert torch.equal(seen.h, h)
    assert float(seen.error_variance.abs().max()) == 0.0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda h: RelativeError(-1.0), "delta"),
        (lambda h: RelativeError(float("nan")), "delta"),
        (lambda h: RelativeError(0.1).observe(h), "seed: got neither"),
        (lambda h: RelativeError(0.1).observe(h, 0, torch.Generator()), "seed: got both"),
        (lambda h: RelativeError(0.1).observe(h[0], 0), "need \\(B, F, K, N\\)"),
        (lambda h: RelativeError(0.1).observe(h, 0, draws=0), "draws"),
        (lambda h: PilotEstimate(torch.ones(3)), "combiner"),
        (lambda h: PilotEstimate(gaussian((5, 4), 0)).observe(h, 0), "5"),
        (lambda h: beamspace_wiener(h, torch.ones(2, 2), shape=(3, 3)), "product must be 8"),
        (lambda h: AngularPrior.clusters(4).denoise(h, torch.ones(2, 2)), "antennas of the prior"),
        (lambda h: sample_covariance(torch.zeros_like(h)), "every row is zero"),
    ],
)
def test_bad_input_is_named(make, words):
    h = gaussian((2, 1, 2, 8), 0)
    with pytest.raises((InputError, ShapeError), match=words):
        make(h)


# -- pilots through the analog front-end ----


def test_least_squares_of_a_full_look_is_exact_without_noise():
    h = LaplacianClusters(antennas=16, users=3).sample(4, seed=0)
    seen = PilotEstimate(gaussian((16, 24), 0), snr_db=120.0, rule="ls").observe(h, seed=0)
    assert error_share(seen.h, h) < 1e-8


@pytest.mark.parametrize("heard", [10, 24])
@pytest.mark.parametrize("rule", ["ls", "lmmse"])
def test_pilot_estimates_report_their_error(heard, rule):
    model = LaplacianClusters(antennas=16, users=2)
    h = model.sample(400, seed=0)
    prior = sample_covariance(model.sample(4000, seed=1))
    estimator = PilotEstimate(gaussian((16, heard), 0), 10.0, rule, prior)
    seen = estimator.observe(h, seed=3)
    true = (seen.h - h).abs().square().mean(dim=(1, 3))
    assert float(seen.error_variance.mean()) == pytest.approx(float(true.mean()), rel=0.15)


def test_lmmse_beats_least_squares_and_a_prior_beats_none():
    model = LaplacianClusters(antennas=16, users=2)
    h = model.sample(400, seed=0)
    prior = sample_covariance(model.sample(4000, seed=1))
    combiner = gaussian((16, 16), 0)
    shares = [
        error_share(PilotEstimate(combiner, 5.0, rule, covariance).observe(h, seed=3).h, h)
        for rule, covariance in (("ls", None), ("lmmse", None), ("lmmse", prior))
    ]
    assert shares[0] > shares[1] > shares[2]


def test_sample_covariance_removes_the_error():
    h = LaplacianClusters(antennas=8, users=4).sample(3000, seed=0)
    clean = sample_covariance(h)
    seen = RelativeError(0.3).observe(h, seed=1).h
    noisy = sample_covariance(seen)
    # Rows have mean power 1.3: the share of the error in them is 0.3 / 1.3.
    mended = 1.3 * sample_covariance(seen, 0.3 / 1.3)
    assert (mended - clean).norm() < 0.35 * (1.3 * noisy - clean).norm()


# -- denoising ----


@pytest.mark.parametrize(("delta", "most"), [(0.02, 0.0155), (0.1, 0.064), (0.3, 0.16)])
def test_beamspace_wiener_reaches_the_prototype(delta, most):
    h = LaplacianClusters().sample(48, seed=0)
    seen = RelativeError(delta).observe(h, seed=1)
    better = beamspace_wiener(seen.h, seen.error_variance)
    assert error_share(better.h, h) < most
    believed = float((better.error_variance / h.abs().square().mean(dim=(1, 3))).mean())
    assert believed == pytest.approx(error_share(better.h, h), rel=0.2)


def test_beamspace_wiener_knows_planar_arrays():
    h = path_wise((8, 8), users=4).sample(32, seed=0)
    seen = RelativeError(0.2).observe(h, seed=1)
    line = beamspace_wiener(seen.h, seen.error_variance).h
    plane = beamspace_wiener(seen.h, seen.error_variance, shape=(8, 8)).h
    assert error_share(plane, h) < error_share(line, h) < 0.12


@given(st.integers(0, 100))
def test_filters_never_add_power_and_leave_exact_channels_alone(seed):
    h = gaussian((2, 1, 2, 8), seed)
    variance = 0.3 * torch.ones(2, 2, dtype=torch.float64)
    prior = AngularPrior.clusters(8, directions=12)
    for better in (beamspace_wiener(h, variance), prior.denoise(h, variance, iterations=3)):
        assert float(better.h.norm()) <= float(h.norm()) * (1 + 1e-12)
        assert bool((better.error_variance <= variance).all())
    for exact in (beamspace_wiener(h, 0 * variance), prior.denoise(h, 0 * variance)):
        assert torch.allclose(exact.h, h, atol=1e-12)


def test_the_likelihood_of_the_angular_fit_never_falls():
    h = LaplacianClusters(antennas=16, users=2).sample(8, seed=0)
    seen = RelativeError(0.2).observe(h, seed=1).h.flatten(0, 2)
    noise = torch.full((16,), 0.2, dtype=torch.float64)
    prior = AngularPrior.clusters(16, directions=24)

    def likelihood(weights):
        covariance = torch.einsum("ug,gmn->umn", weights.to(seen.dtype), prior.components)
        covariance = covariance + 0.2 * torch.eye(16)
        fit = (seen * torch.linalg.solve(covariance, seen.conj())).sum(dim=1).real
        return -fit - torch.linalg.slogdet(covariance).logabsdet

    values = torch.stack([likelihood(prior.fit(seen, noise, i)) for i in range(1, 12)])
    assert float(values.diff(dim=0).min()) > -1e-9
    assert bool((values[-1] > values[0]).all())


def test_the_angular_prior_beats_the_wiener_filter():
    h = LaplacianClusters().sample(32, seed=0)
    seen = RelativeError(0.1).observe(h, seed=1)
    wiener = error_share(beamspace_wiener(seen.h, seen.error_variance).h, h)
    assert error_share(AngularPrior.clusters(64).denoise(seen.h, seen.error_variance).h, h) < wiener


def test_the_covariance_of_a_cluster_is_that_of_its_rays():
    prior = AngularPrior.clusters(6, directions=1, spread_deg=10.0, rays=4000)
    h = LaplacianClusters(antennas=6, users=1, clusters=1, rays=1, spread_deg=10.0)
    # Seen from a cluster at broadside: rays alone, drawn as the model draws them.
    generator = torch.Generator().manual_seed(0)
    away = torch.empty(2, 200_000, dtype=torch.float64).exponential_(generator=generator)
    angle = math.radians(h.spread_deg) * (away[0] - away[1]) / math.sqrt(2)
    rows = torch.polar(torch.ones(1).double(), -math.pi * angle.sin()[:, None] * torch.arange(6.0))
    empirical = rows.mH @ rows / len(rows)
    assert (prior.components[0] - empirical).abs().max() < 0.01


# -- worst radii ----


def test_quantiles_of_both_readings():
    # chi-square of 128 degrees of freedom at 95 %: 155.40; an exponential: -ln 0.05.
    assert error_quantile(64) == pytest.approx(math.sqrt(155.405 / 2), rel=2e-3)
    assert error_quantile(64, reading="element") == pytest.approx(
        math.sqrt(-math.log(0.05)), rel=1e-2
    )
    assert error_quantile(64, outage=0.01) > error_quantile(64, outage=0.05)


def test_a_radius_that_annihilates_the_channel_is_refused():
    h = LaplacianClusters().sample(4, seed=0)
    power = h.abs().square().mean(dim=(1, 3))
    fine = shrunk_channels(h, error_radius(h, 0.2 * power))
    assert bool((fine.abs() <= h.abs()).all())
    with pytest.raises(InputError, match="annihilate"):
        shrunk_channels(h, error_radius(h, 0.21 * power))
    shrunk_channels(h, error_radius(h, 0.4 * power, reading="element"))


def test_an_absent_user_survives_shrinking():
    h = gaussian((2, 1, 3, 8), 0)
    h[:, :, 1] = 0
    assert bool(torch.isfinite(shrunk_channels(h, torch.zeros(2, 3))).all())


@given(st.integers(0, 10_000))
def test_the_bound_behind_the_worst_channel_and_its_exact_form(seed):
    # (h + e)^H (h + e) - h^H h - e^H e: a perturbation of rank 2, bounded by its norm in the paper.
    h, e = gaussian((1, 6), seed), 0.4 * gaussian((1, 6), seed + 1)
    change = h.mH @ e + e.mH @ h
    values = torch.linalg.eigvalsh(change)
    size, inner = h.norm() * e.norm(), (h.conj() * e).sum()
    spread = (size.square() - inner.imag.square()).sqrt()
    expected = torch.stack([inner.real - spread, inner.real + spread])
    assert torch.allclose(values[[0, -1]], expected, atol=1e-9)
    assert float(values[1:-1].abs().max()) < 1e-9
    assert float(values[0]) >= -2.0 * float(size) - 1e-9
    # What is dropped is never negative, so that the bound holds for the whole covariance.
    whole = (h + e).mH @ (h + e) - h.mH @ h + 2.0 * size * torch.eye(6)
    assert float(torch.linalg.eigvalsh(whole)[0]) > -1e-9
