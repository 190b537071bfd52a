"""The demonstration: every front-end and solver on ray-traced Munich, as one page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from holobeam.demo.runs import Outcome, Plan, now, run_everything
from holobeam.demo.scenario import munich_scenario
from holobeam.errors import FileError, check_count

__all__ = ["run_demo"]

_SCENARIO_DONE, _RUNS_DONE = 0.03, 0.8
"""Share of the run time after which the scenario stands and the solvers are through."""


def run_demo(
    out: Path,
    seed: int = 0,
    drops: int = 64,
    progress: Callable[[str, float], None] | None = None,
    command: str = "holobeam demo",
) -> Path:
    """Run all front-ends and solvers on Munich and write the report.

    Parameters
    ----------
    out
        Folder, made if missing: ``index.html``, ``results.csv``, and every figure as PNG, SVG and
        CSV.
    seed
        Of the drops and of random starts; 0 takes the drops that come with holobeam.
    drops
        Groups of users.
    progress
        Called with what is being done and the share that is done.
    command
        What the page says it was made by.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    FileError
        If the folder can't be made.
    """
    return write_report(
        Path(out), Plan(), seed=seed, drops=drops, progress=progress, command=command
    )


def write_report(
    out: Path,
    plan: Plan,
    *,
    seed: int = 0,
    drops: int = 64,
    progress: Callable[[str, float], None] | None = None,
    command: str = "holobeam demo",
) -> Path:
    """Do the work of :func:`run_demo`, as large or small as the plan says."""
    check_count("seed", seed, 0)
    check_count("drops", drops)
    report = progress or (lambda _text, _share: None)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(
            "out", f"can't make the folder: {error.strerror}", "choose another"
        ) from error
    report("tracing the city", 0.0)
    begin = now()
    scenario = munich_scenario(drops, seed)
    _ = scenario.h, scenario.everyone
    after = now()

    def inner(text: str, share: float) -> None:
        report(text, _SCENARIO_DONE + (_RUNS_DONE - _SCENARIO_DONE) * share)

    outcome = run_everything(scenario, plan, seed, inner)
    outcome.spent.insert(0, ("scenario and channels", after[0] - begin[0], after[1] - begin[1]))
    path = _draw(outcome, out, command, seed, report)
    report("done", 1.0)
    return path


def _draw(
    outcome: Outcome, out: Path, command: str, seed: int, report: Callable[[str, float], None]
) -> Path:
    """Draw all pictures and write the page; only here is matplotlib loaded."""
    from holobeam.demo import figures, hologram, maps, pages

    begin = now()
    makers = {
        "poster": maps.poster,
        "rate_power": figures.rate_power,
        "rate_dc": figures.rate_dc,
        "hologram": hologram.hologram,
        "rate_cdf": figures.rate_cdf,
        "fairness_map": maps.fairness_map,
        "rate_time": figures.rate_time,
        "convergence": figures.convergence,
        "wideband": figures.wideband,
    }
    pictures = {}
    for place, (name, make) in enumerate(makers.items()):
        share = place / len(makers)
        report(f"drawing {name.replace('_', ' ')}", _RUNS_DONE + (0.9 - _RUNS_DONE) * share)
        pictures[name] = make(outcome)
    report("writing the page", 0.9)
    drawn = {name: picture.save(out) for name, picture in pictures.items()}
    outcome.timed("drawing", begin)
    return pages.build(outcome, pictures, drawn, out=out, command=command, seed=seed)
