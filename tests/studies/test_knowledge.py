"""Studies of imperfect knowledge: what units hold is what plain calls give, whatever the shard."""

from typing import get_args

import numpy as np
import pytest
import torch

import holobeam as hb
from holobeam.channels import RelativeError
from holobeam.errors import HolobeamError, InputError
from holobeam.report.study_data import measure
from holobeam.robust import Prepared, robustness
from holobeam.robust.steps import STEPS
from holobeam.studies.checks import judge
from holobeam.studies.engine import Errand, local_runner, run_studies
from holobeam.studies.knowledge import Design
from holobeam.studies.plan import make_plan
from holobeam.studies.reading import read_study
from holobeam.studies.results import load_results

ESTIMATES = """
title = "Estimates"
paper = "test"
figure = "estimates"
count = 6
shard = 4
seed = 3

[channels]
model = "laplacian-clusters"
antennas = 16
users = 3

[problem]
snr_db = 10

[csi]
delta = 0.2
draws = 5
quick_draws = 2
worst = true

[frontends.shifters]
kind = "phase-shifters"
rf_chains = 3

[sweep]
"csi.delta" = [0.05, 0.2]

[quick]
channels = 2

[[solvers]]
name = "vpk"

[[solvers]]
name = "vpk"
label = "denoised"
design = ["denoise"]

[[solvers]]
name = "vp"
label = "adversarial"
design = ["worst-case"]
options = { max_iterations = 3 }
"""

MOTION = """
title = "Motion"
paper = "test"
figure = "motion"
count = 3
shard = 2

[channels]
model = "munich"
shape = [4, 4]

[problem]
power_dbm = 20

[motion]
speed = 1
slots = 4
quick_slots = 2
iterations = 2

[frontends.shifters]
kind = "phase-shifters"
rf_chains = 4

[sweep]
"motion.speed" = [1, 30]

[[solvers]]
name = "vpk"
label = "warm"
slots = "warm"

[[solvers]]
name = "vpk"
label = "cold"

[[solvers]]
name = "vpk"
label = "converged"
slots = "converged"
"""


@pytest.fixture
def run(tmp_path):
    def make(text, quick=False, name="results", overrides=()):
        path = tmp_path / "study.toml"
        path.write_text(text)
        study = read_study(path, overrides)
        folder = tmp_path / name / study.paper / study.figure
        run_studies([Errand(make_plan(study, quick), folder)], local_runner(0))
        return load_results(folder)

    return make


def test_estimates_are_judged_on_true_channels(run):
    results = run(ESTIMATES)
    h = hb.channels.LaplacianClusters(antennas=16, users=3).sample(6, seed=3)
    frontend = hb.frontends.phase_shifters(16, 3)
    for point in results.points():
        seen = RelativeError(point.at("csi.delta")).observe(h, seed=3, draws=5)
        rates, worst = [], []
        for d in range(5):
            problem = hb.Downlink(
                seen.h[d], frontend, snr_db=10.0, true_h=h, error_variance=seen.error_variance[d]
            )
            solution = hb.solve(problem, Prepared(solver="vpk", steps=("denoise",)), seed=3)
            rates.append(solution.rates)
            made = (h - seen.h[d]).unsqueeze(0)
            worst.append(robustness(solution, errors=made, iterations=40, starts=1, seed=3).worst)
        rates = torch.stack(rates)
        series = results.get(point, "denoised")
        assert np.allclose(series.rates, rates.mean(dim=0).numpy(), atol=1e-8)
        low = torch.quantile(rates.sum(dim=2), 0.05, dim=0)
        assert np.allclose(series.outage_rate, low.numpy(), atol=1e-8)
        assert np.allclose(series.worst_rate, torch.stack(worst).mean(dim=0).numpy(), atol=1e-3)
        assert bool((series.worst_rate <= series.outage_rate).all())


def test_numbers_do_not_depend_on_the_shards(run):
    whole = run(ESTIMATES, overrides=("shard=6",))
    parts = run(ESTIMATES, overrides=("shard=1",), name="parts")
    for place, series in whole.series.items():
        assert np.allclose(series.rates, parts.series[place].rates, atol=1e-6)
        assert np.allclose(series.worst_rate, parts.series[place].worst_rate, atol=1e-3)


def test_figures_and_relations_know_the_new_quantities(run):
    results = run(ESTIMATES + '\n[[expect]]\nkind = "order"\nabove = "denoised"\n'
                  'below = "vpk"\nquantity = "outage_rate"\nmargin = -5.0\n')  # fmt: skip
    point = results.points()[1]
    for quantity in ("outage_rate", "worst_rate"):
        assert measure(results, point, "denoised", quantity).mean > 0
    finding = judge(results.study.expect[0], results)
    assert str(finding.decision) == "confirmed"


def test_quick_runs_draw_less(run):
    results = run(ESTIMATES, quick=True)
    assert results.study.csi.draws == 2
    assert {len(series) for series in results.series.values()} == {2}


def test_moving_users_are_followed(run):
    results = run(MOTION)
    for point in results.points():
        rate = {label: results.get(point, label).sum_rate.mean() for label in results.labels()}
        assert rate["converged"] >= max(rate["warm"], rate["cold"]) - 0.05
        if point.at("motion.speed") == 1:
            assert rate["warm"] > 0.97 * rate["converged"]
    parts = run(MOTION, overrides=("shard=1",), name="parts")
    for place, series in results.series.items():
        assert np.allclose(series.rates, parts.series[place].rates, atol=1e-6)


def test_known_channels_keep_their_units(tmp_path):
    text = ESTIMATES.replace("[csi]\ndelta = 0.2\ndraws = 5\nquick_draws = 2\nworst = true\n", "")
    text = text.replace('"csi.delta" = [0.05, 0.2]', '"problem.snr_db" = [0]')
    text = text.replace('design = ["denoise"]', "").replace('design = ["worst-case"]', "")
    path = tmp_path / "plain.toml"
    path.write_text(text)
    case = make_plan(read_study(path)).entries[0].case
    assert "csi" not in case.identity
    assert "motion" not in case.identity
    assert "design" not in case.identity


def test_every_step_has_a_name_in_studies():
    assert set(get_args(Design)) == {*STEPS, "worst-case"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('design = ["denoise"]', 'design = ["denoize"]'), "design"),
        (("delta = 0.2", "delta = -1"), "delta"),
        (("draws = 5", "drawn = 5"), "drawn"),
    ],
)
def test_bad_tables_are_named(run, change, words):
    with pytest.raises((HolobeamError, InputError), match=words):
        run(ESTIMATES.replace(*change))


def test_only_channels_with_users_somewhere_can_move(run):
    text = MOTION.replace('"munich"', '"path-wise"')
    text = text.replace("power_dbm = 20", "snr_db = 10")
    with pytest.raises(HolobeamError, match="say where users are"):
        run(text)
