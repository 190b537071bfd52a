"""The page of the demonstration: sections in order, captions made from measured numbers."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch

from holobeam import __version__
from holobeam.demo import captions, numbers
from holobeam.demo.runs import Outcome
from holobeam.report.figures import PALETTE, Picture
from holobeam.report.html import Page, inline_svg
from holobeam.report.tables import Column, Value, write_csv

PACKAGES = ("torch", "numpy", "numba", "scipy", "matplotlib")


def build(
    outcome: Outcome,
    pictures: dict[str, Picture],
    svg: dict[str, str],
    *,
    out: Path,
    command: str,
    seed: int,
) -> Path:
    """Write the page and its main table into ``out``; returns the page."""
    page = Page(
        "Holographic beamforming in Munich at 28\N{NO-BREAK SPACE}GHz", captions.lead(outcome)
    )
    _headline(page, outcome, out)

    def show(anchor: str, title: str, name: str, caption: str, wide: bool = False) -> None:
        page.section(anchor, title)
        picture = pictures[name]
        inlined = inline_svg(svg[name], picture.name, PALETTE, picture.alt)
        page.figure(picture.name, inlined, caption, wide)

    show("city", "Four beams over the city", "poster", captions.poster(outcome), wide=True)
    show("power", "Rate against radiated power", "rate_power", captions.rate_power(outcome))
    show("dc", "Rate against DC power", "rate_dc", captions.rate_dc(outcome))
    show("hologram", "The hologram", "hologram", captions.hologram(outcome))
    show("users", "Who gets what", "rate_cdf", captions.rate_cdf(outcome))
    show("fair", "Fairness", "fairness_map", captions.fairness(outcome))
    page.table(*numbers.fairness_table(outcome))
    show("time", "Rate against time", "rate_time", captions.rate_time(outcome))
    show("convergence", "Convergence", "convergence", captions.convergence(outcome))
    show("wideband", "The whole band", "wideband", captions.wideband(outcome))
    _made(page, outcome, command, seed)
    path = out / "index.html"
    path.write_text(page.render(), encoding="utf-8")
    return path


def _headline(page: Page, outcome: Outcome, out: Path) -> None:
    page.section("headline", "Headline")
    page.tiles(captions.tiles(outcome))
    columns, rows = numbers.headline(outcome)
    page.table(columns, rows, captions.headline(outcome))
    write_csv(out / "results.csv", *numbers.result_rows(outcome))
    page.text('All powers as <a href="results.csv">CSV</a>. Click a head to sort.')


def _made(page: Page, outcome: Outcome, command: str, seed: int) -> None:
    page.section("made", "How this page was made")
    packages = ", ".join(f"{name} {version(name).split('+')[0]}" for name in PACKAGES)
    wall = sum(part[1] for part in outcome.spent)
    page.facts(
        [
            ("command", command),
            ("seed", str(seed)),
            ("drops", f"{len(outcome.scenario.drops)} of {outcome.scenario.drops.shape[1]} users"),
            ("holobeam", __version__),
            ("Python", f"{platform.python_version()} with {packages}"),
            (
                "machine",
                f"{platform.machine()}, {os.cpu_count()} cores, "
                f"{torch.get_num_threads()} threads, double precision",
            ),
            ("run time", f"{wall:.0f} s"),
            ("buildings", "© OpenStreetMap contributors (ODbL)"),
            ("paths", "Sionna RT, line of sight and specular reflections"),
        ]
    )
    page.table(*_timings(outcome.spent), "Seconds on this machine, drawing included.")


def _timings(
    spent: Sequence[tuple[str, float, float]],
) -> tuple[list[Column], list[list[Value | str | float]]]:
    columns = [Column("part"), Column("wall (s)"), Column("CPU (s)")]
    return columns, [
        [part, Value(f"{wall:.1f}", wall), Value(f"{cpu:.1f}", cpu)] for part, wall, cpu in spent
    ]
