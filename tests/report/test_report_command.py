"""The command: where it writes, what it refuses, and what it asserts."""

import shutil
from dataclasses import replace
from functools import partial

import pytest

from holobeam.report.standing import assertions, labels_of, read_standings
from holobeam.studies.spec import Faster, Order, Steady

HOSTILE = '_<script>alert(1)</script> & "quoted" $\\frac$ href="#x"'
GONE = {"problem.snr_db": [99]}


@pytest.fixture
def report(holobeam):
    """Run `holobeam report` in this process; returns (exit code, stdout, stderr)."""
    return partial(holobeam, "report")


@pytest.fixture
def results(site, tmp_path):
    """A copy of the skipped study's results, small and quick to draw."""
    shutil.copytree(site.folder / "ggml", tmp_path / "results" / "ggml")
    return tmp_path / "results"


def test_prints_the_front_page(report, results):
    code, text, _ = report(results)
    assert code == 0
    assert str(results / "site" / "index.html") in text
    assert (results / "site" / "index.html").is_file()


def test_out_is_where_it_says(report, results, tmp_path):
    code, _, _ = report(results, "--out", tmp_path / "elsewhere")
    assert code == 0
    assert (tmp_path / "elsewhere" / "ggml.html").is_file()
    assert not (results / "site").exists()


def test_what_it_refuses(report, results, tmp_path):
    (tmp_path / "empty").mkdir()
    for arguments, hint in [
        ((tmp_path / "empty",), "no results"),
        ((tmp_path / "missing",), "no results"),
        ((results, tmp_path), "-o"),
        ((results, "-o", "/proc/nowhere"), "writable"),
    ]:
        code, text, err = report(*arguments)
        assert code == 2
        assert hint in err
        assert text == ""


def test_the_same_study_twice_is_refused(report, results, tmp_path):
    shutil.copytree(results / "ggml", tmp_path / "again" / "ggml")
    code, _, err = report(results, tmp_path / "again", "-o", tmp_path / "site")
    assert code == 2
    assert "twice" in err


def test_skipped_is_not_asserted_and_listed(report, results):
    code, text, err = report(results, "--assert")
    assert code == 0
    assert "not asserted: ggml/fig4: skipped" in err
    assert "asserted:" in text


def test_unreadable_results_fail_an_assertion(report, results):
    (results / "ggml" / "fig4" / "study.json").write_text("{")
    code, _, err = report(results, "--assert")
    assert code == 1
    assert "failed: ggml/fig4" in err


def test_assertions_of_a_folder(site):
    one = assertions([site.standings["mmse/fig3"]])
    assert one.broken == ()
    assert len(one.not_asserted) == 1
    assert "awaited one left out" in one.not_asserted[0]
    half = assertions([site.standings["mb-dnn/fig4"]])
    assert any("4 channel results missing" in line for line in half.broken)


def test_what_is_refuted_is_broken(report, small_run, tmp_path):
    small_run(
        tmp_path,
        figures=[],
        timing=None,
        claim=None,
        sweep={"problem.snr_db": [10]},
        solvers=[{"name": "mmse", "label": "MMSE"}, {"name": "random"}],
        expect=[{"kind": "order", "above": "random", "below": "MMSE"}],
    )
    code, _, err = report(tmp_path, "--assert")
    assert code == 1
    assert "random above MMSE: refuted" in " ".join(err.split())
    code, _, err = report(tmp_path)
    assert code == 0


def test_what_is_infeasible_is_broken(site):
    standing = replace(site.standings["mmse/fig3"], breaches=("mmse at the point: violation 1",))
    (line,) = assertions([standing]).broken
    assert "infeasible, mmse at the point" in line


def test_what_a_thin_sweep_can_not_show_is_not_asserted(site, small_run, tmp_path):
    relations = [
        {"kind": "monotone", "along": "problem.snr_db"},
        {"kind": "faster", "solver": "MMSE (our reading)", "than": HOSTILE},
        {"kind": "order", "above": "MMSE (our reading)", "below": HOSTILE, "where": GONE},
    ]
    small_run(tmp_path, quick=True, expect=relations, sweep={"problem.snr_db": [10]})
    (standing,) = read_standings([tmp_path])
    found = assertions([standing])
    assert found.broken == ()
    assert ["no times" in line for line in found.not_asserted] == [False, True, False]
    finished = replace(standing.results.plan, quick=False)
    full = replace(standing, results=replace(standing.results, plan=finished))
    assert len(assertions([full]).broken) == 2


def test_labels_of_relations():
    order = Order(kind="order", above="a", below="b")
    faster = Faster(kind="faster", solver="a", than="b")
    steady = Steady(kind="steady", solvers=["a", "b"])
    assert labels_of(order) == labels_of(faster) == labels_of(steady) == ["a", "b"]
