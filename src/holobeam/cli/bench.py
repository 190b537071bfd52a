"""Commands of the frozen benchmark: list, export, solve, score, update."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.table import Table

from holobeam import __version__, frozen, solvers
from holobeam.cli.terminal import AsJson, check_writable, err, out, print_json, progress
from holobeam.errors import InputError

app = typer.Typer(
    no_args_is_help=True,
    help="Frozen instances and the best rates known: solve them, score solutions, keep records.\n\n"
    "Take an instance with `export`, solve it with whatever you like, `score` the file: rates, "
    "power and element sets are recomputed from scratch. `update` puts better channels into the "
    "record.\n\n"
    "An infeasible solution is wrong input: exit code 2 and one line that says which constraint, "
    "by how much and in how many channels.",
)

Name = Annotated[str, typer.Argument(metavar="INSTANCE", help="A name of `holobeam bench list`.")]
Solved = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help=".npz or .mat with control and digital, or precoder for fully digital arrays; "
        "optional: instance, point, sha256, how (docs/frozen-benchmark.md).",
    ),
]
Which = Annotated[
    str | None, typer.Option("--instance", help="Where the file does not say what it solves.")
]
RecordFile = Annotated[
    Path | None,
    typer.Option("--record", help="A record file of your own instead of the bundled one."),
]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the instances, what is known of them, and who found it."""
    rows = []
    for one in frozen.INSTANCES:
        checked = frozen.instance(one.name)
        record = frozen.best_known(one.name)
        rows.append(
            {
                **checked.card(),
                "best_known_mean": [round(float(row.mean()), 4) for row in record.values],
                "holders": [
                    {"by": h.by, "how": h.how, "date": h.date, "channels": int(count)}
                    for h, count in zip(record.holders, _held(record), strict=True)
                ],
            }
        )
    if as_json:
        print_json(rows)
        return
    table = Table(caption="best known: mean objective over the channels, bits/s/Hz")
    for column in ("instance", "what", "B", "F x K x N x R", "points", "power", "best known"):
        table.add_column(column, no_wrap=column != "what")
    for row in rows:
        size = row["sizes"]
        table.add_row(
            row["name"],
            row["line"],
            str(size["B"]),
            f"{size['F']} x {size['K']} x {size['N']} x {size['R']}",
            _listed(row["points"]) + f" {row['unit']}",
            row["power_at"].replace("_", " "),
            ", ".join(f"{mean:.3f}" for mean in row["best_known_mean"]),
        )
    out.print(table)


@app.command()
def export(
    name: Name,
    path: Annotated[Path, typer.Option("--out", "-o", help="The .npz or .mat file to write.")],
) -> None:
    """Write an instance to a file that any language reads: h, feed, element set, noise, power.

    Members: h (B, F, K, N), rows h_k^H; feed (N, R); point (P,); noise_power (P, K); power (P,);
    weights (K,); best_known (P, B); sha256; and card, JSON as character codes, with the element
    set and the rules.
    """
    check_writable(path, (".npz", ".mat"))
    one = frozen.instance(name)
    feed = one.feed
    members: dict[str, np.ndarray[Any, Any]] = {
        "h": one.h,
        "point": np.array(one.points),
        "noise_power": np.stack([one.noise_power(point) for point in one.points]),
        "power": np.array([one.power(point) for point in one.points]),
        "weights": one.user_weights,
        "best_known": frozen.best_known(name).values,
        "sha256": np.frombuffer(bytes.fromhex(frozen.seal(one)), np.uint8),
        "card": np.frombuffer(json.dumps(one.card()).encode(), np.uint8),
    }
    if feed is not None:
        members["feed"] = feed
    frozen.write_arrays(path, members)
    out.print(f"{name}: {path}", highlight=False, soft_wrap=True)


@app.command()
def solve(
    name: Name,
    solver: Annotated[str, typer.Option("--solver", "-s", help="Method of `holobeam list`.")],
    save: Annotated[Path, typer.Option(help="The .npz or .mat file to write.")],
    starts: Annotated[int, typer.Option(help="Take the best of so many starts.")] = 1,
    iterations: Annotated[int | None, typer.Option(help="At most so many iterations.")] = None,
    points: Annotated[
        str | None, typer.Option(help="Some of its points, e.g. 0,10; all by default.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of random starts.")] = 0,
    record: RecordFile = None,
    as_json: AsJson = False,
) -> None:
    """Solve an instance with a solver of the house, write the solution and score it."""
    check_writable(save, (".npz", ".mat"))
    one = frozen.instance(name)
    chosen = _points(one, points)
    options: dict[str, Any] = {} if iterations is None else {"max_iterations": iterations}
    with progress(f"{name} / {solver}") as step:
        solution = solvers.solve(
            one.problem(chosen), solver, seed=seed, starts=starts, progress=step, **options
        )
    words = ["holobeam bench solve", name, "--solver", solver, "--starts", str(starts)]
    words += [] if iterations is None else ["--iterations", str(iterations)]
    words += [] if points is None else ["--points", points]
    words += ["--seed", str(seed)]
    how = (
        f"{' '.join(words)} (holobeam {__version__}, torch {torch.__version__}, "
        f"{solution.seconds:.1f} s)"
    )
    entry = frozen.from_solution(one, chosen, solution, how)
    frozen.write_entry(save, entry)
    _report(frozen.read_entry(save), _record(record, one), as_json)


@app.command()
def score(
    path: Solved, name: Which = None, record: RecordFile = None, as_json: AsJson = False
) -> None:
    """Recompute a solution from scratch and hold it against the best known.

    Shares are printed twice: the mean over channels of rate / best known, and the mean rate over
    the mean best known. wins: channels above the record by more than 1e-6 bits/s/Hz. Infeasible
    and incomplete solutions end with exit code 2.
    """
    entry = frozen.read_entry(path, name)
    _report(entry, _record(record, entry.instance), as_json)


@app.command()
def update(
    path: Solved,
    by: Annotated[str, typer.Option(help="Who found the solution.")],
    how: Annotated[
        str | None, typer.Option(help="The method or command; the file's own `how` by default.")
    ] = None,
    name: Which = None,
    record: Annotated[
        Path | None,
        typer.Option(
            help="Record file to update; begun from the bundled one if it is not there. In a "
            "checkout of the sources the bundled record itself by default."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Verify a solution and raise the record where it is better; nothing is ever lowered."""
    entry = frozen.read_entry(path, name)
    one = entry.instance
    target = frozen.checkout_path(one.name) if record is None else record
    check_writable(target, (".json",))
    before = frozen.read_record(target, one) if target.exists() else _bundled(one)
    holder = frozen.Holder(by, how or entry.how, f"{date.today():%Y-%m-%d}", entry.sha256)
    after, raised = frozen.improve(before, entry, holder)
    if any(raised.values()) or not target.exists():
        frozen.write_record(target, after)
    if as_json:
        print_json({"instance": one.name, "record": str(target), "raised": raised})
        return
    for point, count in raised.items():
        out.print(
            f"{one.name} at {point:g} {one.unit}: {count} of {one.sizes[0]} channels raised",
            highlight=False,
        )


def _bundled(one: frozen.Instance) -> frozen.Record:
    there = frozen.bundled_path(one.name).exists()
    return frozen.best_known(one.name) if there else frozen.blank(one)


def _record(path: Path | None, one: frozen.Instance) -> frozen.Record:
    return _bundled(one) if path is None else frozen.read_record(path, one)


def _points(one: frozen.Instance, text: str | None) -> tuple[float, ...]:
    if text is None:
        return one.points
    try:
        points = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        points = ()
    if not points or len(set(points)) != len(points) or not set(points) <= set(one.points):
        raise InputError("points", f"got {text!r}", f"{one.name} has {_listed(one.points)}")
    return points


def _listed(points: Any) -> str:
    return ", ".join(f"{point:g}" for point in points)


def _held(record: frozen.Record) -> list[int]:
    return [int((record.held_by == index).sum()) for index in range(len(record.holders))]


def _report(entry: frozen.Entry, record: frozen.Record, as_json: bool) -> None:
    one = entry.instance
    rows = [result.as_dict() for result in frozen.score(entry, record)]
    if as_json:
        print_json({"instance": one.name, "sha256": frozen.seal(one), "points": rows})
        return
    table = Table(title=f"{one.name}: {one.line}, {one.sizes[0]} channels", title_justify="left")
    for column in (one.unit, "mean", "best known", "of best: mean", "means", "wins", "worst"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        shares = ["-"] * 4
        if "wins" in row:
            shares = [
                f"{row['mean_of_ratios']:.3%}",
                f"{row['ratio_of_means']:.3%}",
                str(row["wins"]),
                f"{row['worst_ratio']:.2%} (channel {row['worst_channel']})",
            ]
        table.add_row(
            f"{row['point']:g}", f"{row['mean']:.4f}", f"{row['best_known_mean']:.4f}", *shares
        )
    out.print(table)
    if any(row.get("wins", 0) for row in rows):
        err.print("better than the record: `holobeam bench update FILE --by NAME` raises it")
