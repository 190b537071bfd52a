"""A small folder of results: every kind of figure, every way in which a study may not be there."""

import types

import pytest

from holobeam.report.site import build_site
from holobeam.report.standing import read_standings
from holobeam.studies import engine
from holobeam.studies.local import Job, run_here
from holobeam.studies.plan import make_plan
from holobeam.studies.spec import Study
from holobeam.studies.store import Store

HOSTILE = '_<script>alert(1)</script> & "quoted" $\\frac$ href="#x"'

SMALL = {
    "title": "Rate <i>against</i> SNR",
    "paper": "mmse",
    "figure": "fig3",
    "text": "First.\n\nSecond, in `code`.",
    "count": 12,
    "shard": 4,
    "seed": 5,
    "channels": {"model": "rayleigh", "users": 2, "shape": [3, 3]},
    "frontends": {"surface": {"kind": "rhs", "rf_chains": 2}},
    "solvers": [
        {"name": "mmse", "label": "MMSE (our reading)", "role": "subject", "history": True},
        {"name": "random", "label": HOSTILE, "role": "baseline"},
        {"name": "nobody-wrote-this", "label": "awaited one", "awaited": True},
    ],
    "sweep": {"problem.power_at": ["feeds", "radiated"], "problem.snr_db": [0, 5, 10]},
    "variations": {"channels.spacing": []},
    "timing": {"batches": [1, 2], "repeats": 2},
    "figures": [
        {"title": "Against SNR", "x": "problem.snr_db"},
        {"title": "By power", "x": "problem.power_at", "y": "worst_user"},
        {"title": "Converging", "x": "iteration", "where": {"problem.power_at": ["feeds"]}},
        {"title": "Users", "x": "user_rate", "where": {"problem.snr_db": [10]}},
        {"title": "Frontier", "x": "milliseconds", "panels": "problem.power_at", "log_x": True},
        {
            "title": "Percent",
            "x": "problem.snr_db",
            "relative_to": "MMSE (our reading)",
            "where": {"problem.power_at": ["feeds"]},
        },
        {"title": "Left out", "x": "problem.snr_db", "where": {"problem.power_at": ["nowhere"]}},
    ],
    "expect": [
        {"kind": "order", "above": "MMSE (our reading)", "below": HOSTILE},
        {"kind": "order", "above": "awaited one", "below": HOSTILE},
    ],
    "claim": {
        "text": "ahead of <b>both</b> everywhere",
        "paper_scale": True,
        "relations": [{"kind": "order", "above": "MMSE (our reading)", "below": HOSTILE}],
    },
}
del SMALL["variations"]

LOST = {"title": "Lost", "x": "problem.nowhere"}


def changed(**changes):
    """The small study with other parts."""
    return Study.model_validate({**SMALL, **changes})


def run(study, folder, quick=False, timings=False):
    """Run a study in this process, times included."""
    plan = make_plan(study, quick)
    place = folder / study.paper / study.figure
    engine.run_studies([engine.Errand(plan, place)], engine.local_runner(0), timings=False)
    if timings:
        run_here([Job(unit, str(place)) for _, _, unit in plan.timings], lambda _outcome: None)
    store = Store(place)
    source = f'# the study file of {study.name}\ntitle = "x"\n'
    store.write_manifest({**store.manifest(), "source": source})
    return place


@pytest.fixture
def small_run():
    """The small study with other parts, run in a folder."""
    return lambda folder, quick=False, **changes: run(changed(**changes), folder, quick)


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """Results of five studies and the site made of them."""
    folder = tmp_path_factory.mktemp("results")
    run(changed(), folder, quick=True, timings=True)
    run(changed(paper="ggml", figure="fig4", needs=["nobody-wrote-this"]), folder)
    frontier = changed(
        paper="holobeam",
        figure="frontier",
        figures=[*SMALL["figures"][4:5], LOST],
        claim=None,
        expect=[],
    )
    run(frontier, folder, timings=True)
    half = changed(
        paper="mb-dnn",
        figure="fig4",
        figures=[],
        sweep={"channels.shape": [[2, 2], [3, 3]], "problem.snr_db": [10]},
        variations={"frontends.surface.feeds": ["edge", "line", "grid"]},
    )
    place = run(half, folder)
    Store(place).unit_path(make_plan(half).entries[0].units[0].key).unlink()
    (folder / "unfolded-pga" / "fig2a").mkdir(parents=True)
    (folder / "unfolded-pga" / "fig2a" / "study.json").write_text("{")
    out = folder / "site"
    standings = read_standings([folder])
    build_site(standings, out)
    pages = {path.name: path.read_text(encoding="utf-8") for path in out.glob("*.html")}
    return types.SimpleNamespace(
        folder=folder,
        out=out,
        standings={standing.name: standing for standing in standings},
        pages=pages,
    )
