"""Commands that run studies: run, compact."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from holobeam.cli.terminal import AsJson, check_writable, err, out, print_json
from holobeam.errors import InputError, check_choice
from holobeam.studies import engine
from holobeam.studies.plan import Plan, make_plan
from holobeam.studies.reading import find_studies, read_study, study_source

DEFAULT_OUT = Path("results")

Places = Annotated[
    list[Path], typer.Argument(metavar="STUDY...", help="Study files, or folders of them.")
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder of results, one below it a study.")]


def run(
    studies: Places,
    folder: Out = DEFAULT_OUT,
    quick: Annotated[
        bool, typer.Option("--quick", help="Few channels, thin sweeps: the study's quick values.")
    ] = False,
    override: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override, e.g. --set count=10."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and its expected time, run nothing.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option("--workers", "-w", help="Processes; 0: this one; default: cores.")
    ] = None,
    kind: Annotated[str, typer.Option("--engine", help="local or ray.")] = "local",
    address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster, e.g. auto or ray://head:10001.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    shard: Annotated[
        str, typer.Option(help="i/n: every n-th unit from the i-th on, for batch queues.")
    ] = "0/1",
    timings: Annotated[
        bool, typer.Option("--timings/--no-timings", help="Measure solve times afterwards.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Run studies; run again, and what is finished is kept.

    A study is a TOML file. Each unit of work (a solver at a point on a shard of channels) becomes
    one file below OUT, so that a run that is stopped or killed at any moment loses nothing that is
    finished: the same command goes on where it stood, on one machine or on many.
    """
    check_choice("engine", kind, ("local", "ray"))
    check_choice("device", device, ("cpu", "cuda"))
    errands = _errands(studies, folder, quick, override or [])
    for errand in errands:
        _say_missing(errand.plan)
    if dry_run:
        _show_plans(errands, as_json)
        return
    check_writable(folder / "study.json")
    part = _part(shard)
    runner = _runner(kind, workers, device, address)
    try:
        with _bar() as tell:
            summary = engine.run_studies(
                errands,
                runner,
                part=part,
                timings=timings and part == (0, 1),
                device=device,
                progress=tell,
            )
    except KeyboardInterrupt:
        err.print(
            "\nstopped; nothing that is finished is lost. To go on, run the same command again:\n  "
            + shlex.join(["holobeam", *sys.argv[1:]]),
            highlight=False,
            soft_wrap=True,
        )
        raise typer.Exit(130) from None
    _tell(summary, folder, as_json)
    if summary.failed:
        raise typer.Exit(1)


def compact(
    folder: Annotated[Path, typer.Argument(metavar="RESULTS", help="A folder of results.")],
) -> None:
    """Put the many small files of finished units into one file a study."""
    from holobeam.studies.results import find_results
    from holobeam.studies.store import Store
    from holobeam.studies.store import compact as pack

    for place in find_results(folder):
        out.print(f"{place}: {pack(Store(place))} units packed", highlight=False)


def _errands(
    places: list[Path], folder: Path, quick: bool, overrides: list[str]
) -> list[engine.Errand]:
    errands = []
    for path in find_studies(places):
        plan = make_plan(read_study(path, overrides), quick)
        place = folder / plan.study.paper / plan.study.figure
        source = study_source(path, overrides)
        errands.append(engine.Errand(plan, place, source, folder / "trainings"))
    names = [str(errand.folder) for errand in errands]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError("study", f"two files are the study {twice}", "give each its own figure")
    return errands


def _say_missing(plan: Plan) -> None:
    """Say loudly what is not run, and why."""
    for word, lines in (("left out", plan.left_out), ("skipped", (plan.skipped,))):
        for line in filter(None, lines):
            err.print(f"{word}: {line}", style="bold yellow", highlight=False, soft_wrap=True)


def _part(text: str) -> tuple[int, int]:
    index, slash, of = text.partition("/")
    if not slash or not index.isdigit() or not of.isdigit():
        raise InputError("shard", f"got {text!r}", "write i/n, e.g. 0/4")
    return int(index), int(of)


def _runner(kind: str, workers: int | None, device: str, address: str | None) -> engine.Runner:
    if kind == "local":
        return engine.local_runner(workers, device)
    from holobeam.studies.cluster import ray_runner

    return ray_runner(address, device)


def _show_plans(errands: list[engine.Errand], as_json: bool) -> None:
    from holobeam.studies.calibration import calibrate

    rows: list[dict[str, Any]] = []
    for errand in errands:
        plan = errand.plan
        estimates = [] if plan.skipped else calibrate(plan)
        rows.append(
            {
                "study": plan.study.name,
                "points": len({entry.point.label for entry in plan.entries}),
                "units": len(plan.units),
                "channels": plan.channels,
                "trainings": len(plan.trainings),
                "timings": len(plan.timings),
                "seconds": sum(e.seconds for e in estimates if not math.isnan(e.seconds)),
                "solvers": {e.label: e.seconds for e in estimates},
            }
        )
    if as_json:
        print_json(rows)
        return
    table = Table(caption="expected: compute seconds on one worker, from a short trial")
    for column in (
        "study",
        "points",
        "units",
        "channel results",
        "trainings",
        "timings",
        "expected",
    ):
        table.add_column(column, justify="left" if column == "study" else "right")
    counts = ("units", "channels", "trainings", "timings")
    for row in rows:
        cells = (row["study"], row["points"], *(row[k] for k in counts))
        table.add_row(*map(str, cells), _duration(row["seconds"]))
    table.add_section()
    totals = (str(sum(row[k] for row in rows)) for k in counts)
    table.add_row("all", "", *totals, _duration(sum(row["seconds"] for row in rows)))
    out.print(table)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


@contextmanager
def _bar() -> Iterator[Any]:
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=err,
        disable=not err.is_terminal,
    )
    tasks: dict[str, Any] = {}
    with bar:

        def tell(progress: engine.Progress) -> None:
            if progress.stage not in tasks:
                tasks[progress.stage] = bar.add_task(progress.stage, total=progress.all_units)
            bar.update(tasks[progress.stage], completed=progress.units)

        yield tell


def _tell(summary: engine.Summary, folder: Path, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "done": summary.done,
                "reused": summary.reused,
                "failed": summary.failed,
                "unsupported": summary.unsupported,
                "contended_times": summary.contended,
                "seconds": summary.seconds,
                "results": str(folder),
            }
        )
        return
    for line in summary.unsupported:
        err.print(f"left out: {line}", style="dim", highlight=False, soft_wrap=True)
    for line in summary.failed:
        err.print(f"failed: {line}", style="bold red", highlight=False, soft_wrap=True)
    if summary.contended:
        err.print(
            f"{summary.contended} times were measured while other work ran: run the same command "
            "again when the machine is idle, and they are replaced",
            style="yellow",
            highlight=False,
            soft_wrap=True,
        )
    out.print(
        f"{summary.done} units done, {summary.reused} found finished, {len(summary.failed)} failed "
        f"in {_duration(summary.seconds)}; report: holobeam report {folder}",
        highlight=False,
        soft_wrap=True,
    )
