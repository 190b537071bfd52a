"""The command line: what it prints, what it refuses, and with which exit code."""

import json

import numpy as np
import pytest

import holobeam as hb

SMALL = ("path-wise", "--shape", "4x4", "-n", 6, "--users", 3, "-r", 3)


def test_list_names_everything_that_is_registered(holobeam):
    code, text, _ = holobeam("list", "--json")
    found = json.loads(text)
    assert code == 0
    assert [row["name"] for row in found["solvers"]] == [e.name for e in hb.solvers.available()]
    assert {row["name"] for row in found["frontends"]} == set(hb.frontends.available())
    assert "munich" in {row["name"] for row in found["channels"]}
    assert [row["name"] for row in found["suffixes"]] == list(hb.solvers.SUFFIXES)


@pytest.mark.parametrize(("what", "said"), [("all", True), ("solvers", True), ("channels", False)])
def test_list_says_what_a_suffix_does(holobeam, what, said):
    code, text, _ = holobeam("list", what)
    assert code == 0
    assert ("+w" in text and "re-optimised" in text) is said


def test_perturbations_reach_the_solver(holobeam):
    given = ("solve", *SMALL, "-f", "rhs", "-s", "mmse", "--snr", 5, "--json")
    plain, more = (
        json.loads(holobeam(*given, *extra)[1]) for extra in ((), ("--perturbations", 2))
    )
    assert more["iterations"] > plain["iterations"]
    pairs = zip(more["sum_rates"], plain["sum_rates"], strict=True)
    assert all(new >= old - 1e-9 for new, old in pairs)


def test_solve_reports_what_the_library_computes(holobeam, tmp_path):
    saved = tmp_path / "beams.npz"
    code, text, _ = holobeam(
        "solve", *SMALL, "-f", "rhs", "-s", "mmse", "--snr", 5, "--save", saved, "--json"
    )
    report = json.loads(text)
    h = hb.channels.path_wise((4, 4), users=3).sample(6, seed=0)
    frontend = hb.frontends.build("rhs", hb.arrays.upa((4, 4), spacing=1 / 3), 3)
    expected = hb.solve(hb.Downlink(h, frontend, snr_db=5.0), "mmse")
    assert code == 0
    assert report["sum_rates"] == pytest.approx(expected.sum_rate.tolist(), abs=1e-12)
    assert report["violation"] <= 1e-9
    with np.load(saved) as arrays:
        analog, digital = arrays["analog"], arrays["digital"]
    power = (np.abs(analog @ digital) ** 2).sum(axis=(1, 2, 3))
    assert power == pytest.approx(np.ones(6), abs=1e-9)


def test_compare_is_paired_and_complete(holobeam, tmp_path):
    kept = tmp_path / "rows.json"
    code, text, _ = holobeam(
        "compare",
        *SMALL,
        "-f",
        "digital,rhs",
        "-s",
        "wmmse-digital,mmse,zf-hbf",
        "--snr",
        "0,10",
        "--json",
        "--save",
        kept,
    )
    report = json.loads(text)
    assert code == 0
    assert json.loads(kept.read_text()) == report
    rows = report["rows"]
    pairs = {(row["frontend"], row["solver"]) for row in rows}
    assert pairs == {
        ("digital", "wmmse-digital"),
        ("digital", "mmse"),
        ("rhs", "mmse"),
        ("rhs", "zf-hbf"),
    }
    assert len(rows) == 2 * len(pairs)
    assert len(report["left_out"]) == 2
    assert all(row["behind_best"]["mean"] <= 1e-9 for row in rows)
    best = {p: max(r["rate"]["mean"] for r in rows if r["point"] == p) for p in (0.0, 10.0)}
    for row in rows:
        gap = row["rate"]["mean"] - best[row["point"]]
        assert row["behind_best"]["mean"] == pytest.approx(gap, abs=1e-9)


def test_compare_prints_a_table(holobeam):
    code, text, err = holobeam("compare", *SMALL, "-f", "rhs", "-s", "mmse,wmmse-digital")
    assert code == 0
    assert "best" in text
    assert "mmse" in text
    assert "left out: rhs / wmmse-digital" in err


def test_channels_from_a_file(holobeam, tmp_path):
    h = hb.channels.SalehValenzuela(antennas=16, users=2).sample(5, seed=3)
    path = tmp_path / "mine.npz"
    np.savez(path, h=h.numpy())
    code, text, _ = holobeam(
        "solve", path, "-f", "phase-shifters", "-s", "vp", "-r", 2, "--snr", 10, "--json"
    )
    expected = hb.solve(hb.Downlink(h, hb.frontends.phase_shifters(16, 2), snr_db=10.0), "vp")
    assert code == 0
    assert json.loads(text)["sum_rate"] == pytest.approx(float(expected.sum_rate.mean()), abs=1e-9)


def test_munich_carries_a_link_budget(holobeam):
    code, text, _ = holobeam(
        "solve", "munich", "-n", 3, "-f", "digital", "-s", "rzf", "--dbm", 10, "--json"
    )
    assert code == 0
    assert json.loads(text)["unit"] == "dBm"


REFUSED = [
    (("solve", "munch"), "munich"),
    (("solve", "path-wise", "-s", "mmse-fats"), "mmse-fast"),
    (("solve", "path-wise", "-f", "rsh"), "rhs"),
    (("solve", "path-wise", "--dbm", 3), "--snr"),
    (("solve", "munich", "-n", 2, "--snr", 3), "--dbm"),
    (("solve", "path-wise", "--snr", 3, "--dbm", 3), "one of them"),
    (("solve", "path-wise", "--shape", "8by8"), "16x16"),
    (("solve", "path-wise", "-n", 0), "channels"),
    (
        (
            "solve",
            "nothing-here.npz",
        ),
        "nothing-here.npz",
    ),
    (("solve", "path-wise", "-n", 2, "-s", "zf", "-r", 2), "K <= R"),
    (("solve", "path-wise", "-n", 2, "-s", "wmmse-digital"), "fully digital"),
    (("compare", "path-wise", "-n", 2, "-f", "rhs", "-s", "wmmse-digital"), "no solver serves"),
    (("compare", "path-wise", "-n", 2, "--snr", "ten"), "comma-separated"),
    (("compare", "path-wise", "-n", 2, "--save", "rows.csv"), ".json"),
    (("solve", "path-wise", "-n", 2, "--save", "/proc/nowhere/beams.npz"), "writable"),
    (("list", "solver"), "solvers"),
]


@pytest.mark.parametrize(
    ("arguments", "hint"), REFUSED, ids=[" ".join(map(str, a)) for a, _ in REFUSED]
)
def test_wrong_input_gets_one_line_and_exit_code_2(holobeam, arguments, hint):
    code, text, err = holobeam(*arguments)
    assert code == 2
    assert hint in " ".join(err.split())
    assert "Traceback" not in err
    assert text == ""


def test_output_is_checked_before_anything_is_computed(holobeam, monkeypatch):
    def never(*_, **__):
        raise AssertionError("the solver ran before the output path was checked")

    monkeypatch.setattr(hb.solvers, "solve", never)
    code, _, err = holobeam("solve", "path-wise", "--save", "/proc/nowhere/beams.npz")
    assert code == 2
    assert "writable" in err


def test_help_teaches(holobeam):
    for command in ((), ("solve",), ("compare",), ("demo",), ("list",)):
        code, text, _ = holobeam(*command, "--help")
        assert code == 0
        assert "Usage" in text


def test_version(holobeam):
    code, text, _ = holobeam("--version")
    assert (code, text.strip()) == (0, f"holobeam {hb.__version__}")


@pytest.mark.parametrize(("method", "expected"), [("wmmse-hbf", [0, 1, 2, 3, 4]), ("vp", [0, 4])])
def test_progress_counts_iterations(method, expected):
    """One by one, or a chunk of the compiled loop at a time."""
    seen = []
    h = hb.channels.path_wise((3, 3), users=2).sample(2, seed=0)
    frontend = hb.frontends.build("rhs", hb.arrays.upa((3, 3)), 2)
    at = hb.Downlink(h, frontend, snr_db=0.0)
    hb.solve(at, method, max_iterations=4, tolerance=0.0, progress=lambda *p: seen.append(p))
    assert seen == [(done, 4) for done in expected]
