"""Figures of studies: what is drawn from which results."""

import math
from itertools import combinations

import numpy as np
import pytest

from holobeam.errors import InputError
from holobeam.report.figures import Axis, Line, Plot, line_picture
from holobeam.report.study_data import measure, paired, panels, spots
from holobeam.report.study_figures import (
    against_dc_power,
    against_time,
    along_axis,
    distribution,
    draw,
    figures_of,
    over_iterations,
)
from holobeam.report.study_tables import result_rows
from holobeam.report.study_words import at_words, axis_label, looks, value_words
from holobeam.studies import win_rate
from holobeam.studies.results import load_results
from holobeam.studies.spec import FigureTable

SMALL_BASELINE = '_<script>alert(1)</script> & "quoted" $\\frac$ href="#x"'


@pytest.fixture
def small(site):
    return site.standings["mmse/fig3"].results


@pytest.fixture
def sized(site):
    return site.standings["mb-dnn/fig4"].results


def figure(**parts):
    return FigureTable(title="t", **parts)


def test_remaining_axes_get_panels_of_their_own(small):
    plots = along_axis(figure(x="problem.snr_db"), small)
    assert [plot.title for plot in plots] == ["power counted: feeds", "power counted: radiated"]
    assert all(line.x == [0.0, 5.0, 10.0] for plot in plots for line in plot.lines)


def test_sizes_are_numbers_with_names(sized):
    (plot,) = along_axis(figure(x="channels.shape"), sized)
    assert plot.x.ticks == [4.0, 9.0]
    assert plot.x.names == ["2\N{MULTIPLICATION SIGN}2", "3\N{MULTIPLICATION SIGN}3"]


def test_words_are_places_side_by_side(small):
    where = {"problem.snr_db": [10]}
    (plot,) = along_axis(figure(x="problem.power_at", where=where), small)
    assert plot.x.names == ["feeds", "radiated"]
    xs = np.array([line.x for line in plot.lines])
    assert not any(line.joined for line in plot.lines)
    assert (np.abs(xs - [0, 1]) < 0.5).all()
    assert len(np.unique(xs)) == xs.size


def test_a_varied_setting_is_an_axis(sized):
    where = {"channels.shape": [[3, 3]]}
    (plot,) = along_axis(figure(x="frontends.surface.feeds", where=where), sized)
    assert plot.x.names == ["edge", "line", "grid"]
    assert len(plot.lines[0].y) == 3


def test_distribution_is_the_share_below(small):
    where = {"problem.snr_db": [10], "problem.power_at": ["feeds"]}
    (plot,) = distribution(figure(x="user_rate", where=where), small)
    (point,) = small.points(where)
    for line in plot.lines:
        rates = small.get(point, line.label).rates
        share = [(rates <= x).mean() for x in line.x]
        assert line.y == pytest.approx(share)


def test_history_is_the_mean_of_channels_and_ends_at_the_rate(small):
    plots = over_iterations(figure(x="iteration"), small)
    assert len(plots) == 6
    for plot in plots:
        (line,) = plot.lines
        assert all(np.diff(line.y) >= -1e-12)
    end = figure(x="iteration", relative_to="MMSE (our reading)", solvers=["MMSE (our reading)"])
    assert all(not plot.lines for plot in over_iterations(end, small))


def test_nobody_passes_the_frontier(small):
    for plot in against_time(figure(x="milliseconds", panels="problem.power_at"), small):
        *lines, frontier = plot.lines
        assert frontier.quiet
        assert all(np.diff(frontier.y) >= 0)
        for line in lines:
            for x, y in zip(line.x, line.y, strict=True):
                reached = max(b for a, b in zip(frontier.x, frontier.y, strict=True) if a <= x)
                assert y <= reached


def test_nothing_to_draw_is_none(small):
    gone = figure(x="problem.snr_db", where={"problem.power_at": ["nowhere"]})
    assert draw(gone, small, "x") is None


def test_a_study_without_figures_gets_one(sized):
    (table,) = figures_of(sized)
    assert table.x == "channels.shape"


def test_panels_can_split_by_one_axis_alone(small):
    found = spots(small, figure(x="problem.snr_db"), "problem.snr_db")
    split = panels(found, "", "problem.power_at", every=False)
    assert [len(panel.spots) for panel in split] == [3, 3]


def test_outage_and_worst_user(small):
    point = small.points()[0]
    rates = small.get(point, "MMSE (our reading)").rates
    worst = measure(small, point, "MMSE (our reading)", "worst_user")
    low = measure(small, point, "MMSE (our reading)", "outage_user")
    assert worst.mean == pytest.approx(rates.min(axis=1).mean())
    assert low.mean == pytest.approx(np.quantile(rates, 0.05))
    assert math.isnan(low.standard_error)
    assert measure(small, point, "awaited one", "sum_rate") is None


def test_rows_of_a_point_are_paired_to_its_best(small):
    rows = result_rows(small)
    best = rows[0]
    assert best.behind is None
    for row in rows:
        here = [r for r in rows if r.point == row.point]
        assert row.rate.mean <= max(r.rate.mean for r in here)
        if row.behind is None:
            continue
        pair = paired(*(small.get(row.point, label) for label in (row.label, here[0].label)))
        assert row.behind.mean == pytest.approx(float((pair[0] - pair[1]).mean()))
        assert row.wins == win_rate(*pair)


def test_half_finished_contestants_are_paired_on_what_both_have(site):
    results = site.standings["mb-dnn/fig4"].results
    lengths = {len(series) for series in results.series.values()}
    assert lengths == {8, 12}
    short = next(s for s in results.series.values() if len(s) == 8)
    other = next(
        s for s in results.series.values() if s.point == short.point and s.label != short.label
    )
    first, second = paired(short, other)
    assert first.shape == second.shape == (8,)
    shared = np.isin(other.channel, short.channel)
    assert second.numpy() == pytest.approx(other.sum_rate[shared])


def test_words():
    assert axis_label("problem.snr_db") == "transmit SNR (dB)"
    assert axis_label("channels.users & frontends.a.rf_chains") == "users K = RF chains R"
    assert at_words("problem.snr_db", 10) == "transmit SNR 10 dB"
    assert at_words("effort", {"label": "three steps", "x": 3}) == "three steps"
    assert value_words([8, 8]) == "8\N{MULTIPLICATION SIGN}8"


def test_roles_have_looks(small):
    found = looks(small.study)
    subject, baseline, _ = found.values()
    assert baseline.dashed
    assert not subject.dashed
    assert subject.width > baseline.width
    assert len({look.colour for look in found.values()}) == 3


def test_power_is_an_axis_too(small):
    (plot, _) = against_dc_power(figure(x="dc_watts", panels="problem.power_at"), small)
    *lines, _ = plot.lines
    for line in lines:
        watts = [
            small.get(point, line.label).dc_power.mean() / 1e3
            for point in small.points({"problem.power_at": ["feeds"]})
        ]
        assert line.x == pytest.approx(sorted(watts))


def test_names_beside_marks_keep_out_of_each_others_way():
    lines = [Line(f"contestant {i}", [1.0 + 0.01 * i], [1.0], "blue", marker="o") for i in range(6)]
    plot = Plot("t", lines, Axis("x", limits=(0, 2)), Axis("y", limits=(0, 2)), "beside")
    picture = line_picture("p", [plot], (9.0, 5.0), "alt")
    (ax,) = picture.figure.axes
    boxes = [text.get_window_extent() for text in ax.texts]
    assert len(boxes) == 6
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))


def test_field_pictures_follow_the_results(small_run, tmp_path):
    field = {"title": "Beams", "kind": "field", "where": {"problem.snr_db": [10]}}
    place = small_run(
        tmp_path,
        count=2,
        figures=[field],
        timing=None,
        claim=None,
        expect=[],
        channels={"model": "spherical-wave", "users": 2, "shape": [4, 4]},
        sweep={"problem.snr_db": [0, 10]},
    )
    results = load_results(place)
    picture = draw(results.study.figures[0], results, "beams")
    assert {row[0] for row in picture.rows} == {"MMSE (our reading)", SMALL_BASELINE}
    assert max(row[4] for row in picture.rows) == 0.0
    with pytest.raises(InputError, match="2 points"):
        draw(FigureTable(title="t", kind="field"), results, "beams")
