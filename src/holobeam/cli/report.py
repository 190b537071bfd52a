"""The command that makes the site of a folder of results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from holobeam.cli.terminal import check_writable, err, out, stages
from holobeam.errors import InputError


def report(
    results: Annotated[
        list[Path], typer.Argument(metavar="RESULTS...", help="Folders that `holobeam run` wrote.")
    ],
    folder: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the site; default: RESULTS/site.")
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--assert",
            help="Exit with 1 unless every expectation is confirmed and every series feasible.",
        ),
    ] = False,
) -> None:
    """Write the site of some results: each paper a page, each figure beside the paper's claim.

    The site needs no other host: open its index.html, or copy the folder to any web server.
    """
    if folder is None and len(results) > 1:
        raise InputError("out", "several folders of results", "name the folder of the site by -o")
    where = folder or results[0] / "site"
    from holobeam.report.standing import assertions, read_standings

    standings = read_standings(results)
    check_writable(where / "index.html")
    from holobeam.report.site import build_site

    with stages() as stage:
        index = build_site(standings, where, stage)
    out.print(f"report: {index}", highlight=False, soft_wrap=True)
    if not check:
        return
    found = assertions(standings)
    for word, style, lines in (
        ("not asserted", "bold yellow", found.not_asserted),
        ("failed", "bold red", found.broken),
    ):
        for line in lines:
            err.print(f"{word}: {line}", style=style, markup=False, highlight=False, soft_wrap=True)
    if found.broken:
        raise typer.Exit(1)
    expected = sum(len(standing.expectations) for standing in standings)
    held = expected - len(found.not_asserted)
    out.print(f"asserted: {held} of {expected} expectations confirmed, all series feasible")
