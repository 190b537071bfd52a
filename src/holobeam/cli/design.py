"""Commands that solve at once: list, solve, compare."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table

from holobeam import frontends, solvers, studies
from holobeam.cli.terminal import (
    AsJson,
    Seed,
    check_writable,
    err,
    out,
    print_json,
    progress,
)
from holobeam.errors import InputError, check_choice
from holobeam.learned import zoo
from holobeam.studies import sources

Channels = Annotated[
    str,
    typer.Argument(
        metavar="CHANNELS",
        help="munich, another name of `holobeam list`, or a file with channels "
        "(.npz, .npy, .mat, .h5; rows h_k^H, axes batch, [subcarriers,] users, antennas).",
    ),
]
Count = Annotated[int, typer.Option("--channels", "-n", help="Channel realisations.")]
Users = Annotated[int, typer.Option(help="Users of a drawn channel.")]
Shape = Annotated[
    str | None, typer.Option(help="Elements of the array, e.g. 16x16; the source's own by default.")
]
Chains = Annotated[int, typer.Option("--rf-chains", "-r", help="RF chains of hybrid front-ends.")]
Tones = Annotated[int, typer.Option(help="OFDM subcarriers over 100 MHz (munich).")]
Snr = Annotated[
    str | None, typer.Option(help="Transmit SNR in dB for normalised channels, e.g. 0,10,20.")
]
Dbm = Annotated[
    str | None,
    typer.Option(help="Transmit power in dBm for channels with a link budget, e.g. 10,20,30."),
]


def list_(
    what: Annotated[
        str, typer.Argument(help="all, solvers, models, frontends or channels.")
    ] = "all",
    as_json: AsJson = False,
) -> None:
    """List what can be named: solvers, trained models, front-ends and channels."""
    check_choice("what", what, ("all", "solvers", "models", "frontends", "channels"))
    found = {
        "solvers": [
            {"name": e.name, "what": e.summary, "serves": e.serves, "source": e.source}
            for e in solvers.available()
        ],
        "suffixes": [{"name": n, "what": w} for n, w in solvers.SUFFIXES.items()],
        "models": [_card(name) for name in zoo.shipped()],
        "frontends": [{"name": n, "what": w} for n, w in frontends.available().items()],
        "channels": [{"name": n, "what": w} for n, w in sources.available().items()],
    }
    shown = {"all": found.keys(), "solvers": ("solvers", "suffixes")}.get(what, (what,))
    found = {name: rows for name, rows in found.items() if rows and name in shown}
    if as_json:
        print_json(found)
        return
    for name, rows in found.items():
        table = Table(title=name, title_justify="left", title_style="bold")
        for column in rows[0]:
            table.add_column(column, no_wrap=column == "name")
        for row in rows:
            table.add_row(*map(str, row.values()))
        out.print(table)


def _card(name: str) -> dict[str, Any]:
    """One line about trained weights: what they are, what they reach, what they cost."""
    card = zoo.card(name)
    about = card.about
    scores = [*about.get("scores", []), *about.get("sizes", [])]
    shares = (f"{s['label']} {100 * s['utility'] / s['reference']:.1f} %" for s in scores)
    minutes = (about.get("cpu_seconds") or 0.0) / 60
    return {
        "name": name,
        "model": card.model,
        "parameters": sum(value.numel() for value in card.tensors.values()),
        "share of the reference": ", ".join(shares),
        "trained": f"{about.get('steps')} steps, seed {about.get('seed')}, {minutes:.1f} CPU min",
        "command": about.get("command", f"holobeam train {name}"),
        "licence": about.get("licence", ""),
    }


def solve(
    channels: Channels,
    frontend: Annotated[str, typer.Option("--frontend", "-f", help="Hardware.")] = "rhs",
    solver: Annotated[
        str, typer.Option("--solver", "-s", help="Method; +w behind it refits V.")
    ] = "mmse-fast",
    snr: Annotated[float | None, typer.Option(help="Transmit SNR, dB.")] = None,
    dbm: Annotated[float | None, typer.Option(help="Transmit power, dBm.")] = None,
    utility: Annotated[str, typer.Option(help="sum_rate or proportional_fair.")] = "sum_rate",
    starts: Annotated[int, typer.Option(help="Take the best of so many starts.")] = 1,
    perturbations: Annotated[
        int, typer.Option(help="Disturb the best point and solve again, so many times.")
    ] = 0,
    iterations: Annotated[int | None, typer.Option(help="At most so many iterations.")] = None,
    save: Annotated[Path | None, typer.Option(help="Write precoders to .npz or .mat.")] = None,
    count: Count = 64,
    users: Users = 4,
    shape: Shape = None,
    rf_chains: Chains = 4,
    subcarriers: Tones = 1,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Design the beamformers of a batch of channels with one solver."""
    if save is not None:
        check_writable(save, (".npz", ".mat"))
    source = _source(channels, count, users, shape, subcarriers, seed)
    given = _points(source, None if snr is None else str(snr), None if dbm is None else str(dbm))
    hardware = frontends.build(frontend, source.array, rf_chains)
    settings: dict[str, Any] = {} if iterations is None else {"max_iterations": iterations}
    at = torch.full((source.h.shape[0],), given[0], dtype=torch.float64)
    problem = source.problem(source.h, hardware, at, utility)
    with progress(f"{hardware.name} / {solver}") as step:
        solution = solvers.solve(
            problem,
            solver,
            seed=seed,
            starts=starts,
            perturbations=perturbations,
            progress=step,
            **settings,
        )
    if save is not None:
        solution.save(save)
    summary = {
        "channels": source.description,
        "frontend": hardware.name,
        "solver": solver,
        "unit": "dBm" if source.physical else "dB SNR",
        "point": given[0],
        **_found(solution),
        "saved": None if save is None else str(save),
    }
    if as_json:
        print_json({**summary, "sum_rates": solution.sum_rate.tolist()})
        return
    out.print(_overview(source, summary))


def _found(solution: solvers.Solution) -> dict[str, Any]:
    """What one solve found, in the numbers that one reads first."""
    rate = studies.estimate(solution.sum_rate)
    counts = torch.bincount(solution.status, minlength=len(solvers.Status)).tolist()
    return {
        "sum_rate": rate.mean,
        "confidence_95": rate.half_width,
        "worst_user_rate": float(solution.rates.amin(dim=1).mean()),
        "starved": studies.starved_share(solution.rates),
        "iterations": float(solution.iterations.double().mean()),
        "status": {s.name.lower(): n for s, n in zip(solvers.Status, counts, strict=True) if n},
        "milliseconds_per_channel": 1e3 * solution.seconds / len(solution.rates),
        "violation": float(solution.violation.max()),
    }


def _overview(source: sources.Source, summary: dict[str, Any]) -> Table:
    """Table of what one solve found."""
    table = Table(show_header=False, title=source.description, title_justify="left")
    table.add_row(
        "transmit power" if source.physical else "transmit SNR",
        f"{summary['point']:g} {'dBm' if source.physical else 'dB'}",
    )
    for name, value in summary.items():
        if name not in {"channels", "unit", "point"} and value is not None:
            table.add_row(name.replace("_", " "), _plain(value))
    return table


def compare(
    channels: Channels = "munich",
    frontend: Annotated[str, typer.Option("--frontends", "-f", help="Comma-separated.")] = (
        "digital,phase-shifters,dma,rhs"
    ),
    solver: Annotated[str, typer.Option("--solvers", "-s", help="Comma-separated.")] = (
        "wmmse-digital,vp,wmmse-cd,mmse-fast,mmse"
    ),
    snr: Snr = None,
    dbm: Dbm = None,
    utility: Annotated[str, typer.Option(help="sum_rate or proportional_fair.")] = "sum_rate",
    count: Count = 64,
    users: Users = 4,
    shape: Shape = None,
    rf_chains: Chains = 4,
    subcarriers: Tones = 1,
    seed: Seed = 0,
    as_json: AsJson = False,
    save: Annotated[Path | None, typer.Option(help="Write the rows to a .json file.")] = None,
) -> None:
    """Compare solvers and front-ends on the same channels, paired.

    Pairs that don't go together are left out and said so; rates come with 95 % confidence
    intervals, and with the paired difference to the best at the same operating point.
    """
    if save is not None:
        check_writable(save, (".json",))
    source = _source(channels, count, users, shape, subcarriers, seed)
    points = _points(source, snr, dbm)
    hardware = [frontends.build(name, source.array, rf_chains) for name in _names(frontend)]

    def problem_at(h: Any, which: Any, at: Any) -> Any:
        return source.problem(h, which, at, utility)

    def sample(which: Any) -> Any:
        return problem_at(source.h[:1], which, torch.tensor(points[:1]))

    pairs, left_out = studies.contestants(hardware, _names(solver), sample)
    results = []
    for number, pair in enumerate(pairs, 1):
        with progress(f"[{number}/{len(pairs)}] {pair.label}") as step:
            results += studies.run(source.h, pair, points, problem_at, seed=seed, progress=step)[0]
    rows = studies.table(results)
    report = {
        "channels": source.description,
        "unit": "dBm" if source.physical else "dB SNR",
        "command": " ".join(["holobeam", *sys.argv[1:]]),
        "rows": [row.as_dict() for row in rows],
        "left_out": left_out,
    }
    if save is not None:
        save.write_text(json.dumps(report, indent=1) + "\n")
    if as_json:
        print_json(report)
        return
    out.print(_table(rows, source))
    for line in left_out:
        err.print(f"left out: {line}", style="dim", highlight=False)


def _source(
    name: str, count: int, users: int, shape: str | None, subcarriers: int, seed: int
) -> sources.Source:
    return sources.load(name, sources.Request(count, users, _shape(shape), subcarriers, seed))


def _shape(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise InputError("shape", f"got {text!r}", "write it as 16x16")
    return int(parts[0]), int(parts[1])


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise InputError("names", f"got {text!r}", "give at least one, comma-separated")
    return names


def _points(source: sources.Source, snr: str | None, dbm: str | None) -> list[float]:
    if snr is not None and dbm is not None:
        raise InputError("snr", "--snr and --dbm were both given", "give one of them")
    if source.physical and snr is not None:
        raise InputError(
            "snr", "these channels carry a link budget", "give --dbm; noise is part of the channel"
        )
    if not source.physical and dbm is not None:
        raise InputError("dbm", "these channels are normalised", "give --snr")
    text = (snr if snr is not None else dbm) or ("20" if source.physical else "10")
    try:
        points = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        points = []
    if not points or not all(abs(point) < 1e3 for point in points):
        raise InputError("points", f"got {text!r}", "give finite numbers, comma-separated")
    return points


def _table(rows: list[studies.Row], source: sources.Source) -> Table:
    unit = "dBm" if source.physical else "dB"
    table = Table(
        title=source.description,
        title_justify="left",
        caption_justify="left",
        caption="rate: bits/s/Hz summed over users, ± 95 %; behind best: paired; "
        "starved: users below 0.1; time: whole batch over its channels",
    )
    for name in (unit, "front-end", "solver", "rate", "behind best", "starved", "ms", "violation"):
        left = name in {"front-end", "solver"}
        table.add_column(name, justify="left" if left else "right", no_wrap=True)
    last = None
    for row in rows:
        if last is not None and row.point != last:
            table.add_section()
        best = row.behind_best
        table.add_row(
            "" if row.point == last else f"{row.point:g}",
            row.frontend,
            row.solver,
            f"{row.rate.mean:.2f} ± {row.rate.half_width:.2f}",
            "best" if best.mean == 0 else f"{best.mean:+.2f} ± {best.half_width:.2f}",
            f"{row.starved:.0%}",
            f"{row.milliseconds:.2f}",
            f"{row.violation:.0e}",
        )
        last = row.point
    return table


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {number}" for key, number in value.items())
    return str(value)
