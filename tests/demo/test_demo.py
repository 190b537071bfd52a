"""The demonstration: its scenario, its check of DC power, and a tiny run of everything."""

import csv
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from holobeam.channels import munich_drops
from holobeam.demo import hologram, runs, scenario, write_report
from holobeam.report import figures, html, tables

TINY = runs.Plan(powers=(10.0, 20.0, 30.0), iterations=3, tones=2, wideband_drops=2, fair_rounds=2)
NAMES = (
    "beams-city",
    "convergence",
    "fairness-map",
    "hologram",
    "rate-cdf",
    "rate-dc",
    "rate-radiated",
    "rate-time",
    "wideband",
)


@pytest.fixture(scope="module")
def city():
    return scenario.munich_scenario(drops=4)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "new" / "folder"
    heard = []
    page = write_report(
        out, TINY, drops=4, progress=lambda *args: heard.append(args), command="holobeam demo x"
    )
    return page, heard


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_scenario_keeps_the_users_of_the_specification(city):
    assert len(city.kept) == 1594
    assert torch.equal(city.drops, munich_drops()[:4])
    assert city.noise_dbm == pytest.approx(-85.0)
    seen = city.line_of_sight[list(scenario.POSTER_DROP)]
    assert seen.tolist() == [True, True, True, False]
    assert city.h.shape == (4, 1, 4, 256)
    torch.testing.assert_close(city.everyone[city.drops], city.h[:, 0])


@pytest.mark.parametrize("key", runs.FRONT_RUNNERS)
def test_lossless_hardware_draws_what_it_radiates(city, key):
    entrant = next(e for e in runs.ENTRANTS if e.key == key)
    run = runs.sweep(city, entrant, TINY, seed=0)
    assert runs.lossless_mismatch(run) < 1e-13
    lossless = runs.on_hardware(
        run.solution,
        run.solution.problem.frontend.with_power_model(runs.LOSSLESS, 0.0),
    )
    assert torch.equal(lossless.sum_rate, run.solution.sum_rate)
    torch.testing.assert_close(
        lossless.dc_power, run.solution.problem.power.squeeze(-1), rtol=1e-9, atol=0.0
    )


def test_losses_cost_amplifier_power_only(city):
    entrant = next(e for e in runs.ENTRANTS if e.key == "rhs")
    run = runs.sweep(city, entrant, TINY, seed=0)
    frontend = run.solution.problem.frontend
    lossy = runs.on_hardware(run.solution, frontend.with_power_model(frontend.power_model, 3.0))
    static = frontend.dc_power(torch.zeros(()))
    ratio = (lossy.dc_power - static) / (run.solution.dc_power - static)
    torch.testing.assert_close(ratio, torch.full_like(ratio, 10**0.3), rtol=1e-9, atol=0.0)
    torch.testing.assert_close(lossy.sum_rate, run.solution.sum_rate, rtol=1e-9, atol=0.0)


def test_everything_promised_is_written(report):
    page, heard = report
    assert page.name == "index.html"
    for name in NAMES:
        for kind in html.FILE_KINDS:
            assert (page.parent / f"{name}.{kind}").stat().st_size > 100
    shares = [share for _, share in heard]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_page_is_self_contained(report):
    text = report[0].read_text(encoding="utf-8")
    assert "http://" not in text
    assert "https://" not in text
    assert not re.search(r"@import|url\((?!#|['\"]?data:)", text)
    linked = set(re.findall(r'(?:src|href)="([^"#][^"]*)"', text))
    outside = {link for link in linked if not link.startswith("data:")}
    assert all((report[0].parent / link).is_file() for link in outside)
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', text)) <= set(ids)
    assert "holobeam demo x" in text
    assert str(report[0].parent) not in text


def test_results_parse_and_differences_are_within_front_ends(report):
    found = rows(report[0].parent / "results.csv")
    assert len(found) == len(runs.ENTRANTS) * len(TINY.powers)
    for row in found:
        assert float(row["behind_best"]) <= 1e-12
        assert 0.0 <= float(row["starved"]) <= 1.0
        assert float(row["violation"]) < 1e-6
        assert float(row["dc_power_w"]) > 1.0


def test_curves_agree_with_the_table(report):
    folder = report[0].parent
    curve = {
        (r["series"], float(r["x"])): float(r["y"]) for r in rows(folder / "rate-radiated.csv")
    }
    for row in rows(folder / "results.csv"):
        entrant = next(
            e for e in runs.ENTRANTS if (e.frontend, e.method) == (row["frontend"], row["solver"])
        )
        assert curve[entrant.label, float(row["power_dbm"])] == float(row["sum_rate"])


def test_poster_gives_every_user_of_the_city(report, city):
    found = rows(report[0].parent / "beams-city.csv")
    assert len(found) == city.paths.users
    beams = np.array([[float(r[f"beam_{b}_dbm"]) for b in range(1, 5)] for r in found])
    assert np.isfinite(beams).all()


def test_csv_holds_what_is_drawn(tmp_path):
    line = figures.Line("a", [1.0, 2.0, 3.0], [0.1, 1 / 3, math.pi], "red", [0.1, 0.2, 0.3])
    plot = figures.Plot("t", [line], figures.Axis("x"), figures.Axis("y"))
    picture = figures.line_picture("p", [plot], (4.0, 3.0), "alt")
    picture.save(tmp_path)
    drawn = picture.figure.axes[0].get_lines()[0].get_xydata()
    read = [(float(r["x"]), float(r["y"])) for r in rows(tmp_path / "p.csv")]
    assert read == [tuple(point) for point in np.asarray(drawn)]


def test_far_field_is_that_of_the_steering_vectors(city):
    generator = torch.Generator().manual_seed(0)
    precoder = torch.randn(256, 4, dtype=torch.complex128, generator=generator)
    cosine, gain = hologram.far_field(city.panel, precoder, pixels=5)
    u, v = cosine[3], cosine[1]
    ahead = (1 - u**2 - v**2).sqrt()
    there = hologram.directivity_dbi(city.panel, precoder, torch.stack([ahead, u, v]))
    torch.testing.assert_close(gain[1, 3], there)
    assert math.isnan(gain[0, 0])


def test_end_labels_never_overlap():
    moved = figures.spread([0.5, 0.5, 0.51, 0.9], gap=0.05)
    assert np.diff(np.sort(moved)).min() >= 0.05 - 1e-5
    assert moved[3] == pytest.approx(0.9)


def test_tables_escape_and_sort_by_key():
    columns = [tables.Column("<a>"), tables.Column("b", "group")]
    text = tables.html_table(columns, [["<i>", tables.Value("1 ± 2", 1.0)]])
    assert "<i>" not in text
    assert "&lt;a&gt;" in text
    assert 'data-key="1"' in text


def test_importing_holobeam_loads_no_plotting():
    code = "import sys, holobeam, holobeam.demo; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
