"""Results: what comes back is what a plain solve gives, channel by channel."""

import numpy as np
import pytest

import holobeam as hb
from holobeam.errors import FileError
from holobeam.studies import engine
from holobeam.studies.results import find_results, load_results
from holobeam.studies.store import Store


def test_results_equal_a_plain_solve(ran):
    results = load_results(ran())
    h = hb.channels.path_wise((3, 3), users=2).sample(10, seed=3)
    frontend = hb.frontends.build("rhs", hb.arrays.upa((3, 3), spacing=1 / 3), 2)
    options = {"max_iterations": 5, "keep": "last", "tolerance": 0.0}
    for point in results.points():
        problem = hb.Downlink(h, frontend, snr_db=float(point.at("problem.snr_db")))
        solution = hb.solve(problem, "mmse", seed=3, history=True, **options)
        series = results.get(point, "folded")
        assert series.channel.tolist() == list(range(10))
        assert np.allclose(series.rates, solution.rates.numpy(), atol=1e-9, rtol=0)
        assert np.allclose(series.sum_rate, solution.sum_rate.numpy(), atol=1e-9, rtol=0)
        assert np.allclose(series.history, solution.history.numpy(), atol=1e-9, rtol=0)
        assert np.array_equal(series.status, solution.status.numpy())
        assert series.violation.max() <= 1e-9
        assert np.allclose(series.dc_power, solution.dc_power.numpy())
        assert series.worst_user == pytest.approx(solution.rates.amin(dim=1).numpy(), abs=1e-9)


def test_axes_keep_the_order_of_the_file(ran):
    extra = '[variations]\n"channels.paths" = [2]\n"channels.spacing" = [0.5]\n'
    results = load_results(ran(extra))
    assert list(results.study.sweep) == ["problem.snr_db"]
    assert results.settings() == ["", "channels.paths=2", "channels.spacing=0.5"]
    assert results.labels() == ["folded", "random", "bound"]


def test_half_a_study_is_read_as_half_a_study(ran):
    folder = ran()
    paths = sorted(Store(folder).units.glob("*.parquet"))
    paths[0].unlink()
    results = load_results(folder)
    assert 0 < results.missing <= 4
    assert sum(len(series) for series in results.series.values()) == 60 - results.missing


def test_quick_results_stand_beside_full_ones(ran):
    folder = ran()
    assert ran(quick=True) == folder
    results = load_results(folder)
    assert results.plan.quick
    assert {len(series) for series in results.series.values()} == {4}
    ran()
    assert {len(s) for s in load_results(folder).series.values()} == {10}


def test_what_cannot_serve_is_said_with_its_reason(ran):
    extra = '\n[[solvers]]\nname = "zf"\nlabel = "too few chains"\nfrontend = "surface"\n'
    results = load_results(ran(extra, overrides=["channels.users=3"]))
    point = results.points()[0]
    assert results.get(point, "too few chains") is None
    assert "K <= R" in results.series[point.label, "too few chains"].unsupported


def test_folders_without_results_are_refused(tmp_path):
    with pytest.raises(FileError):
        find_results(tmp_path)
    with pytest.raises(FileError):
        load_results(tmp_path)
    (tmp_path / "study.json").write_text("{not json")
    with pytest.raises(FileError):
        load_results(tmp_path)
    (tmp_path / "study.json").write_text('{"study": {"title": "x"}, "quick": false}')
    with pytest.raises(FileError):
        load_results(tmp_path)


def test_timings_are_their_own_files_and_leave_rates_alone(ran, monkeypatch):
    monkeypatch.setattr(engine, "PATIENCE", {True: 0.0, False: 0.0})
    plain = load_results(ran(name="plain"))
    timed_folder = ran("\n[timing]\nbatches = [1, 4]\nrepeats = 2\n", name="timed")
    timed = load_results(timed_folder)
    units = {path.name for path in Store(timed_folder).units.iterdir()}
    assert units == {path.name for path in (timed_folder.parents[2] / "plain").rglob("*.parquet")}
    point = timed.points()[0]
    for batch in (1, 4):
        timing = timed.timing(point, "folded", batch)
        assert len(timing.seconds) == 2
        assert timing.milliseconds == pytest.approx(1e3 * np.median(timing.seconds) / batch)
    for place, series in plain.series.items():
        assert np.array_equal(series.rates, timed.series[place].rates)
