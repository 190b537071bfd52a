"""Plans: what is done once, what is keyed by what, and which channels everyone meets."""

import itertools

import pytest
import torch

from holobeam.errors import HolobeamError, InputError, UnknownNameError
from holobeam.studies.plan import Point, make_plan, number, quickened, show
from holobeam.studies.reading import find_studies, read_study
from holobeam.studies.work import pose

from .small_study import SMALL

SHIPPED = find_studies(["studies"])


def plan_of(small_file, extra="", overrides=(), quick=False):
    return make_plan(read_study(small_file(extra), overrides), quick)


def test_units_cover_every_channel_once(small_file):
    plan = plan_of(small_file)
    assert len(plan.entries) == 2 * 3
    for entry in plan.entries:
        edges = [(unit.start, unit.stop) for unit in entry.units]
        assert edges == [(0, 4), (4, 8), (8, 10)]
    assert plan.channels == 6 * 10


def test_keys_follow_what_numbers_depend_on_and_nothing_else(small_file):
    keys = {unit.key for unit in plan_of(small_file).units}
    same = ['title="Other"', 'solvers.random.label="dice"', 'solvers.folded.role="subject"']
    assert {unit.key for unit in plan_of(small_file, overrides=same).units} == keys
    for change in (
        "seed=4",
        "channels.users=3",
        "channels.spacing=0.5",
        "frontends.surface.rf_chains=3",
        'frontends.surface.feeds="line"',
        'problem.power_at="feeds"',
        'problem.dtype="complex64"',
    ):
        other = {unit.key for unit in plan_of(small_file, overrides=[change]).units}
        shared = len(other & keys)
        # What a change does not touch (the digital bound has no feeds) is not done again.
        assert shared < len(keys), change
        assert (shared > 0) == change.startswith("frontends"), change


def test_more_channels_keep_the_finished_shards(small_file):
    keys = {unit.key for unit in plan_of(small_file, overrides=["count=8"]).units}
    assert keys < {unit.key for unit in plan_of(small_file, overrides=["count=12"]).units}


def test_channels_depend_on_seed_and_index_alone(small_file):
    entry = plan_of(small_file, overrides=["count=9"]).entries[0]
    whole = pose(entry.case, 0, 9).h
    for start, stop in ((0, 4), (4, 8), (8, 9)):
        assert torch.equal(pose(entry.case, start, stop).h, whole[start:stop])


@pytest.mark.parametrize(
    "text",
    [
        'model = "munich"\nshape = [4, 4]',
        'model = "spherical-wave"\nshape = [4, 4]\nfraunhofer = [0.5, 1.5]',
        'model = "saleh-valenzuela"\nantennas = 8',
        'model = "laplacian-clusters"\nantennas = 8',
        'model = "rayleigh"\nshape = [2, 2]',
        'model = "sparse-paths"\nshape = [2, 2]',
    ],
)
def test_every_channel_table_draws_by_index(small_file, text):
    channels = SMALL.replace('model = "path-wise"\nshape = [3, 3]', text)
    study = read_study(small_file(text=channels))
    whole = study.channels.source(7, 5).h
    assert torch.equal(study.channels.source(3, 5, 4).h, whole[4:])
    assert not torch.equal(study.channels.source(7, 6).h, whole)


def test_variations_change_one_thing_at_a_time(small_file):
    extra = '\n[variations]\n"channels.paths" = [2, 4]\n"frontends.surface.feeds" = ["line"]\n'
    plan = plan_of(small_file, extra)
    settings = {entry.point.setting for entry in plan.entries}
    assert settings == {"", "channels.paths=2", "channels.paths=4", "frontends.surface.feeds=line"}
    for entry in plan.entries:
        varied = entry.case.channels.paths != 4, entry.case.frontend.model_dump().get("feeds")
        if entry.point.setting == "":
            assert varied[0] is False
            assert varied[1] in {None, "edge"}
    # The nominal value among the varied ones costs nothing: its units are the nominal ones.
    nominal = {u.key for e in plan.entries if e.point.setting == "" for u in e.units}
    again = {u.key for e in plan.entries if e.point.setting == "channels.paths=4" for u in e.units}
    assert nominal == again


def test_axes_assign_to_several_paths_or_by_tables(small_file):
    text = SMALL.replace(
        '"problem.snr_db" = [0, 10]',
        '"channels.users & frontends.surface.rf_chains" = [2, 3]\n'
        '"size" = [{ label = "small", x = 4, "channels.shape" = [2, 2], "problem.snr_db" = 3 }]',
    ).replace('sweep = { "problem.snr_db" = [10] }', "")
    plan = make_plan(read_study(small_file(text=text)))
    first, last = plan.entries[0], plan.entries[-3]
    assert (first.case.channels.users, first.case.frontend.rf_chains) == (2, 2)
    assert (last.case.channels.users, last.case.frontend.rf_chains) == (3, 3)
    assert first.case.channels.shape == (2, 2)
    assert first.case.problem.snr_db == 3
    assert first.point.at("channels.users") == 2
    assert number(first.point.at("size")) == 4
    assert show(first.point.at("size")) == "small"


@pytest.mark.parametrize(
    "axis",
    ['"chanels.users" = [2]', '"channels" = [2]', '"channels.users" = [-1]', '"users" = [2]'],
)
def test_axes_that_lead_nowhere_are_refused(small_file, axis):
    text = SMALL.replace('"problem.snr_db" = [0, 10]', axis)
    study = read_study(small_file(text=text.replace('sweep = { "problem.snr_db" = [10] }', "")))
    with pytest.raises(HolobeamError):
        make_plan(study)


def test_quick_values_replace_and_never_add(small_file):
    plan = plan_of(small_file, quick=True)
    assert plan.quick
    assert {entry.count for entry in plan.entries} == {4}
    assert [entry.point.at("problem.snr_db") for entry in plan.entries] == [10] * 3
    wrong = read_study(small_file(), ['quick.sweep."problem.snr"=[1]'])
    with pytest.raises(UnknownNameError, match=r"problem\.snr_db"):
        quickened(wrong)


def test_point_filters_understand_shapes_and_labels():
    point = Point((("channels.shape", [8, 8]), ("size", {"label": "big", "x": 3})))
    assert point.matches({"channels.shape": [[8, 8]], "size": ["big"]})
    assert not point.matches({"channels.shape": [[4, 4]]})
    with pytest.raises(UnknownNameError):
        point.matches({"chanels.shape": [[4, 4]]})


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_shipped_study_can_be_planned(path):
    study = read_study(path)
    assert (study.paper, study.figure) == (path.parent.name, path.stem)
    for quick in (True, False):
        plan = make_plan(study, quick)
        assert plan.skipped or plan.units
        if plan.skipped:
            assert study.claim is not None
            continue
        points = {entry.point.label for entry in plan.entries}
        for figure in study.figures:
            shown = [e.point for e in plan.entries if e.point.matches(figure.where)]
            assert shown or quick, (figure.title, points)


def test_every_row_of_the_papers_has_its_file():
    names = {f"{path.parent.name}/{path.stem}" for path in SHIPPED}
    rows = {
        "mb-dnn": "fig3 fig4 table1 table2 ceiling samples",
        "mmse": "fig2 fig3 fig4 remark complexity",
        "multicell": "fig2 law2 fig3 fig4 fig5 fig6 fig7 table1 table2 celledge",
        "unfolded-pga": "fig2a fig2b gradients complexity future",
        "ggml": "fig4 fig5 table1 fig6a fig6b fig6c fig6d fig7 fig8a fig8b kan cnn fairness starts "
        "worst mumimo dynamic",
        "holobeam": "frontier hardware scaling wideband nearfield",
    }
    wanted = {f"{paper}/{row}" for paper, found in rows.items() for row in found.split()}
    assert wanted <= names


def test_labels_of_points_tell_points_apart():
    for path in SHIPPED:
        plan = make_plan(read_study(path))
        points = [(e.point.label, e.label) for e in plan.entries]
        assert len(points) == len(set(points)), path


def test_a_whole_study_is_planned_quickly_enough_to_be_read(small_file):
    values = list(itertools.chain(range(-20, 60)))
    plan = plan_of(small_file, overrides=[f'sweep."problem.snr_db"={values}', "count=400"])
    assert len(plan.units) == 80 * 3 * 100


def test_missing_operating_point_is_one_clear_error(small_file):
    text = SMALL.replace("snr_db = 10\n", "").replace('"problem.snr_db" = [0, 10]', "")
    text = text.replace('sweep = { "problem.snr_db" = [10] }', "")
    entry = make_plan(read_study(small_file(text=text))).entries[0]
    with pytest.raises(InputError, match="snr_db"):
        pose(entry.case, 0, 1)
