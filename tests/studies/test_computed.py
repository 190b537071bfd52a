"""Computed studies: numbers against independent ones, and the same engine as for all others."""

import numpy as np
import pytest
import torch

from holobeam.analog import minimize_binary, scaling_law
from holobeam.errors import HolobeamError, InputError, UnknownNameError
from holobeam.report.site import build_site
from holobeam.report.standing import read_standings
from holobeam.solvers.solution import Status
from holobeam.studies.checks import Decision, judge
from holobeam.studies.computed import BinarySearch, SnrLaw, harvest
from holobeam.studies.engine import Errand, local_runner, run_studies
from holobeam.studies.plan import make_plan
from holobeam.studies.reading import StudyError, read_study
from holobeam.studies.results import load_results
from holobeam.studies.spec import Order, Study

LAW = {
    "title": "Law",
    "paper": "multicell",
    "figure": "law",
    "count": 10,
    "shard": 4,
    "seed": 3,
    "computed": {"kind": "snr-law", "elements": 12},
    "sweep": {"computed.elements": [12, 24]},
    "solvers": [
        {"name": "exact", "label": "exact"},
        {"name": "law", "label": "law"},
        {"name": "simulation", "label": "solved", "options": {"solver": "wmmse-cd"}},
    ],
    "figures": [{"title": "SNR", "x": "computed.elements", "y": "snr_db"}],
    "expect": [
        {"kind": "bound", "above": "exact", "below": "solved", "within": 1e-9},
        {"kind": "order", "above": "exact", "below": "law", "quantity": "snr_db", "margin": -1.0},
    ],
}
SEARCH = {
    **LAW,
    "figure": "search",
    "computed": {"kind": "binary-search", "elements": 2},
    "sweep": {"computed.elements": [2, 3]},
    "solvers": [
        {"name": "sd", "label": "plain"},
        {"name": "sd", "label": "SDP", "options": {"shift": "sdp", "order": "fixed"}},
        {"name": "brute", "label": "all"},
    ],
    "figures": [{"title": "Nodes", "x": "computed.elements", "y": "median", "log_y": True}],
    "expect": [{"kind": "order", "above": "all", "below": "SDP", "quantity": "decades"}],
}


def run(described, folder, workers=0):
    plan = make_plan(Study.model_validate(described))
    place = folder / described["paper"] / described["figure"]
    summary = run_studies([Errand(plan, place)], local_runner(workers))
    assert not summary.failed
    return load_results(place), summary


@pytest.fixture(scope="module")
def law(tmp_path_factory):
    return run(LAW, tmp_path_factory.mktemp("law"))[0]


@pytest.mark.parametrize("control", ["lorentzian", "binary", "phase-shifters"])
@pytest.mark.parametrize("reading", ["fixed", "radiated"])
def test_a_solver_meets_the_same_strip_as_the_closed_form(control, reading):
    """The rate of the optimum, posed as a problem, is what the closed form says of its gain."""
    table = SnrLaw(kind="snr-law", elements=10, snr_db=7.0, reading=reading)
    exact = table.compute("exact", {"control": control}, (0, 6), 1).value
    options = {"control": control, "starts": 6}
    solved = table.compute("simulation", options, (0, 6), 1).value
    assert (solved <= exact * (1 + 1e-9) + 1e-12).all()
    assert solved.mean() >= 0.95 * exact.mean()
    if control != "binary":
        assert np.allclose(solved, exact, rtol=1e-3)


def test_exact_is_never_below_random_controls():
    table = SnrLaw(kind="snr-law", elements=9, spacing=0.31)
    h = table.steering((0, 5), 2)
    wave = h * table.feed()[:, 0]
    drawn = (torch.rand(4000, 1, 9, generator=torch.Generator().manual_seed(0)) > 0.5).to(wave)
    tried = (1.0 + table.snr_of_one * scaling_law.snr_gain(wave, drawn)).log2().amax(dim=0)
    exact = table.compute("exact", {"control": "binary"}, (0, 5), 2).value
    assert (exact >= tried.numpy() - 1e-12).all()


def test_equal_aperture_catches_equal_power():
    rates = [
        SnrLaw(kind="snr-law", aperture=8, spacing=spacing, attenuation=0.0)
        .compute("law", {"control": control}, (0, 1), 0)
        .value[0]
        for control in ("phase-shifters", "binary")
        for spacing in (0.5, 0.1)
    ]
    assert rates[0] == pytest.approx(rates[1])
    assert rates[2] == pytest.approx(rates[3])
    assert 2 ** rates[0] - 1 == pytest.approx(np.pi**2 * (2 ** rates[2] - 1))


def test_nodes_are_those_of_the_search():
    table = BinarySearch(kind="binary-search", elements=3)
    matrix, c = harvest(table, (0, 4), 5)
    assert matrix.shape == (4, 12, 12)
    for options in ({}, {"pre_decision": True}, {"shift": "hc"}, {"hc_bound": True}):
        made = table.compute("sd", options, (0, 4), 5)
        found = minimize_binary(matrix, c, "sd", **{"shift": "minimal", **options})
        assert made.value.tolist() == found.nodes.tolist()
        assert made.finished.all()
    assert (table.compute("brute", {}, (0, 4), 5).value == 2**12).all()


def test_a_search_that_its_budget_ends_says_so():
    table = BinarySearch(kind="binary-search", elements=6, node_budget=30)
    made = table.compute("sd", {}, (0, 3), 5)
    assert not made.finished.any()
    assert (made.value >= 30).all()
    assert (made.value < 100).all()


@pytest.mark.parametrize("table", [SnrLaw(kind="snr-law"), BinarySearch(kind="binary-search")])
def test_samples_depend_on_seed_and_index_alone(table):
    method = next(iter(table.methods()))
    whole = table.compute(method, {}, (0, 9), 4).value
    parts = [table.compute(method, {}, span, 4).value for span in ((0, 2), (2, 9))]
    assert np.allclose(np.concatenate(parts), whole, rtol=1e-9)
    assert not np.allclose(table.compute(method, {}, (0, 9), 5).value, whole)


def test_results_resume_and_judge(tmp_path):
    first, one = run(LAW, tmp_path)
    again, two = run(LAW, tmp_path)
    assert (one.done, two.done, two.reused) == (18, 0, 18)
    point = first.points()[0]
    series, same = first.get(point, "exact"), again.get(point, "exact")
    assert np.array_equal(series.rates, same.rates)
    assert np.allclose(10 * np.log10(2**series.sum_rate - 1), series.snr_db)
    for relation in first.study.expect:
        assert judge(relation, first).decision is Decision.CONFIRMED
    upside_down = Order(kind="order", above="law", below="exact", quantity="snr_db", margin=0.1)
    assert judge(upside_down, first).decision is Decision.REFUTED


def test_workers_give_the_same_bytes(tmp_path):
    run(SEARCH, tmp_path / "here")
    run(SEARCH, tmp_path / "there", workers=1)
    one, two = (
        {p.name: p.read_bytes() for p in (tmp_path / place).rglob("units/*.parquet")}
        for place in ("here", "there")
    )
    assert one == two
    assert len(one) == 18


def test_the_site_shows_counts_with_their_own_words(tmp_path):
    run(SEARCH, tmp_path / "results")
    run(LAW, tmp_path / "results")
    build_site(read_standings([tmp_path / "results"]), tmp_path / "site")
    page = (tmp_path / "site" / "multicell.html").read_text()
    assert "nodes visited" in page
    assert "10 problems" in page
    assert "SNR (dB)" in page
    lines = (tmp_path / "site/multicell/search/search-1.csv").read_text().splitlines()
    assert "Nodes,all,2.0,256.0,nan" in lines
    head = (tmp_path / "site/multicell/search/results.csv").read_text().splitlines()[0]
    assert ",value," in head
    assert "sum_rate" not in head


def test_series_tell_open_ended_searches(tmp_path):
    described = {**SEARCH, "computed": {**SEARCH["computed"], "node_budget": 8}}
    found, _ = run(described, tmp_path)
    series = found.get(found.points()[-1], "plain")
    assert (series.status == int(Status.MAX_ITERATIONS)).all()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"computed": {"kind": "snr-lau"}}, "did you mean snr-law"),
        ({"computed": {"kind": "snr-law", "element": 3}}, "did you mean elements"),
        ({"frontends": {"a": {"kind": "digital"}}}, "computed and frontends"),
        ({"timing": {}}, "computed and timing"),
        ({"solvers": []}, "solvers missing"),
    ],
)
def test_files_that_make_no_sense_are_refused(tmp_path, changes, match):
    path = tmp_path / "law.toml"

    def toml(value):
        if isinstance(value, dict):
            return "{" + ", ".join(f'"{k}" = {toml(v)}' for k, v in value.items()) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(map(toml, value)) + "]"
        return f'"{value}"' if isinstance(value, str) else str(value)

    described = {**LAW, "expect": [], **changes}
    path.write_text("\n".join(f"{k} = {toml(v)}" for k, v in described.items()))
    with pytest.raises(StudyError, match=match):
        read_study(path)


@pytest.mark.parametrize(
    ("solver", "error", "match"),
    [
        ({"name": "exakt"}, UnknownNameError, "exact"),
        ({"name": "exact", "options": {"contol": "binary"}}, UnknownNameError, "control"),
        ({"name": "exact", "options": {"control": "analog"}}, InputError, "control"),
    ],
)
def test_methods_and_options_are_checked_before_anything_runs(solver, error, match):
    described = {**LAW, "expect": [], "solvers": [solver]}
    with pytest.raises(error, match=match):
        make_plan(Study.model_validate(described))


def test_the_law_of_radiated_power_is_that_of_lossless_strips():
    lossy = SnrLaw(kind="snr-law", reading="radiated")
    with pytest.raises(HolobeamError, match="lossless"):
        lossy.compute("law", {}, (0, 1), 0)
    free = lossy.model_copy(update={"attenuation": 0.0})
    exact = free.compute("exact", {}, (0, 8), 0).value.mean()
    assert free.compute("law", {}, (0, 8), 0).value[0] == pytest.approx(exact, rel=0.02)
