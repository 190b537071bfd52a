"""The site of a folder of results: self-contained, complete, honest."""

import csv
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from holobeam.report.site import build_site
from holobeam.report.standing import read_standings
from holobeam.report.study_page import verdict_badge
from holobeam.studies.verdicts import Judgement, Verdict

HOSTILE = '_<script>alert(1)</script> & "quoted" $\\frac$ href="#x"'
DRAWN = {"mmse/fig3": 6, "holobeam/frontier": 1, "mb-dnn/fig4": 1}


class Reader(HTMLParser):
    """Collects tags, links, ids and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.ids, self.text = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for key, value in attrs:
            if key in {"href", "src"}:
                self.links.append(value)
            if key == "id":
                self.ids.append(value)

    def handle_data(self, data):
        self.text.append(data)


def read(text):
    return Reader(text)


def rows(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def badges(text):
    return re.findall(r'class="badge"[^>]*>([^<]*)<', text)


def test_each_paper_is_a_page(site):
    papers = {"mmse", "ggml", "holobeam", "mb-dnn", "unfolded-pga"}
    assert set(site.pages) == {"index.html", *(f"{paper}.html" for paper in papers)}


def test_no_foreign_host(site):
    for name, text in site.pages.items():
        assert "http://" not in text, name
        assert "https://" not in text, name
        assert "@import" not in text
        assert not re.search(r"url\((?!#)", text), name


def test_every_link_leads_somewhere(site):
    ids = {name: set(read(text).ids) for name, text in site.pages.items()}
    for here, text in site.pages.items():
        page = read(text)
        assert len(set(page.ids)) == len(page.ids)
        for link in page.links:
            name, _, anchor = link.partition("#")
            if name:
                assert (site.out / name).is_file(), link
            if anchor:
                assert anchor in ids[name or here], link


@pytest.mark.parametrize(("name", "count"), DRAWN.items())
def test_every_figure_comes_with_its_files(site, name, count):
    folder = site.out / name
    stem = name.split("/")[1]
    assert len(list(folder.glob(f"{stem}-*.svg"))) == count
    for path in folder.glob(f"{stem}-*.svg"):
        assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
        assert rows(path.with_suffix(".csv"))
    source = (folder / f"{stem}.toml").read_text(encoding="utf-8")
    assert source == site.standings[name].source
    page = site.pages[f"{name.split('/')[0]}.html"]
    assert page.count('<svg role="img"') == count
    assert source.splitlines()[0] in page


def test_numbers_of_a_figure_are_those_of_the_results(site):
    results = site.standings["mmse/fig3"].results
    found = rows(site.out / "mmse/fig3/fig3-1.csv")
    assert len(found) == 2 * 3 * 2
    for row in found:
        power = row["panel"].split(": ")[1]
        where = {"problem.power_at": [power], "problem.snr_db": [float(row["x"])]}
        (point,) = results.points(where)
        rate = results.get(point, row["series"]).sum_rate
        assert float(row["y"]) == pytest.approx(rate.mean(), abs=1e-12)
        error = 1.959964 * rate.std(ddof=1) / np.sqrt(rate.size)
        assert float(row["error"]) == pytest.approx(error, rel=1e-9)


def test_all_results_are_in_a_table_and_a_file(site):
    results = site.standings["mmse/fig3"].results
    found = rows(site.out / "mmse/fig3/results.csv")
    assert len(found) == 6 * 2
    for row in found:
        where = {"problem.power_at": [row["problem.power_at"]]}
        where["problem.snr_db"] = [float(row["problem.snr_db"])]
        (point,) = results.points(where)
        mine = results.get(point, row["solver"]).sum_rate
        best = max((results.get(point, x).sum_rate for x in results.labels()), key=np.mean)
        assert float(row["sum_rate"]) == pytest.approx(mine.mean(), abs=1e-12)
        assert float(row["behind_best"]) == pytest.approx((mine - best).mean(), abs=1e-12)
        assert float(row["milliseconds_batch_1"]) > 0
    assert site.pages["mmse.html"].count('class="sortable"') == 2


def test_percent_of_another_is_paired(site):
    results = site.standings["mmse/fig3"].results
    for row in rows(site.out / "mmse/fig3/fig3-6.csv"):
        (point,) = results.points(
            {"problem.power_at": ["feeds"], "problem.snr_db": [float(row["x"])]}
        )
        a, b = (results.get(point, x).sum_rate for x in (HOSTILE, "MMSE (our reading)"))
        assert row["series"] == HOSTILE
        assert float(row["y"]) == pytest.approx(100 * a.mean() / b.mean(), rel=1e-12)


def test_a_quick_run_confirms_nothing(site):
    said = badges(site.pages["mmse.html"])
    assert "not confirmed at this scale" in said
    assert not {"holds", "holds in part", "does not hold"} & set(said)
    assert "it is a quick run" in site.pages["mmse.html"]
    overview = [b for b in badges(site.pages["index.html"]) if b in set(Verdict)]
    assert set(overview) == {"not confirmed at this scale"}


@pytest.mark.parametrize("verdict", list(Verdict))
def test_verdicts_are_those_of_the_rule(site, verdict, tmp_path):
    # A study without numbers, so that nothing has to be drawn.
    standing = replace(site.standings["ggml/fig4"], judgement=Judgement(verdict))
    assert badges(verdict_badge(standing)) == [verdict]
    pages = [build_site([standing], tmp_path), tmp_path / "ggml.html"]
    for page in pages:
        said = {b for b in badges(page.read_text(encoding="utf-8")) if b in set(Verdict)}
        assert said == {verdict}


def test_what_is_not_there_is_said_loudly(site):
    index = site.pages["index.html"]
    assert "ggml/fig4 waits for nobody-wrote-this" in index
    assert "awaited one waits for the solver nobody-wrote-this" in index
    assert "unfolded-pga/fig2a" in index
    said = badges(index)
    assert {"skipped", "unreadable", "unfinished", "quick run", "no claim"} <= set(said)
    assert "Nothing yet" in site.pages["ggml.html"]
    assert "<svg role" not in site.pages["ggml.html"]
    assert "can&#x27;t be read" in site.pages["unfolded-pga.html"]
    assert "Left out: nothing of this figure was run" in site.pages["mmse.html"]


def test_a_figure_that_makes_no_sense_does_not_stop_the_others(site):
    page = site.pages["holobeam.html"]
    assert "Lost: this figure can&#x27;t be drawn" in page
    assert "problem.nowhere" in page


def test_half_a_study_is_shown_as_half_a_study(site):
    standing = site.standings["mb-dnn/fig4"]
    assert standing.results.missing == 4
    assert standing.state == "unfinished"
    page = site.pages["mb-dnn.html"]
    assert "4 channel results are still to come" in page
    assert "8 of 12" in page
    settings = page[page.index("Settings (") :]
    assert "feeds grid" in settings


def test_hostile_words_stay_words(site):
    for text in site.pages.values():
        page = read(text)
        assert page.tags.count("script") == 1
        assert "<script>alert" not in text
    page = read(site.pages["mmse.html"])
    words = "".join(page.text)
    assert words.count(HOSTILE) >= 4
    assert "ahead of <b>both</b> everywhere" in words
    assert "Rate <i>against</i> SNR" in words
    svg = (site.out / "mmse/fig3/fig3-1.svg").read_text(encoding="utf-8")
    assert "alert(1)&lt;/script&gt;" in svg
    assert "$\\frac$" in svg


def test_pages_are_readable_without_a_network_on_a_phone_in_the_dark(site):
    for text in site.pages.values():
        assert 'name="viewport" content="width=device-width' in text
        assert "light-dark(" in text
        assert '<button id="theme"' in text
        assert re.search(r"<style>.+</style>", text, re.DOTALL)


def test_front_page_shows_the_frontier(site):
    index = site.pages["index.html"]
    assert index.count('<svg role="img"') == 1
    assert 'href="holobeam/frontier/frontier-1.csv"' in index


def test_our_reading_is_called_so(site):
    assert "<b>our reading</b>" in site.pages["mmse.html"]
    assert "<b>our reading</b>" not in site.pages["mb-dnn.html"]


def test_a_run_that_kept_no_file_gives_the_resolved_study(site, tmp_path):
    standing = site.standings["ggml/fig4"]
    build_site([replace(standing, manifest={"study": {"title": "kept"}})], tmp_path)
    assert "kept" in (tmp_path / "ggml/fig4/fig4.resolved.json").read_text(encoding="utf-8")


def test_the_site_does_not_change_the_results(site):
    assert {s.name for s in read_standings([site.folder])} == set(site.standings)
