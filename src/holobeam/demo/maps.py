"""Maps of the city: the poster with one beam per panel, and who starves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from holobeam.demo.runs import Fairness, Outcome
from holobeam.demo.scenario import POSTER_DROP, Scenario
from holobeam.solvers import Solution
from holobeam.studies import starved_share
from holobeam.studies.statistics import STARVED
from holobeam.units import linear_to_db

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

    from holobeam.report.figures import Picture

NIGHT, FROST, CYAN = "#0a0c14", "#d9deea", "#54e0ff"
"""The poster is always dark: light falls on a city at night."""

SCALE_DBM = (-110.0, -60.0)
SECTOR_DEG = 60.0
VIEW = ((-74.0, 200.0), (-6.0, 160.0))
"""Metres shown, x and y."""

CELL = 0.4
SHARP, REACH = 2.0, 6.0
"""Metres: resolution of the map; a user lights up its surroundings fully up to the second and
fading to nothing at the third."""


def received_dbm(scenario: Scenario, solution: Solution) -> Tensor:
    """Power that every user of the city receives of every beam, ``(city, beams)`` in dBm."""
    heard = scenario.everyone @ solution.precoder[0, 0]
    floor = torch.finfo(torch.float64).tiny
    return linear_to_db(heard.abs().square().clamp(min=floor)) + scenario.noise_dbm


def poster(outcome: Outcome) -> Picture:
    """Draw one beam per panel over all users of the city."""
    from matplotlib.figure import Figure

    from holobeam.report.figures import Picture, style

    scenario, solution = outcome.scenario, outcome.poster["rhs"]
    power = received_dbm(scenario, solution).numpy()
    place = scenario.paths.user_position.numpy()
    with style():
        figure = Figure(figsize=(15.0, 8.5), facecolor=NIGHT)
        grid = figure.subplots(2, 2, sharex=True, sharey=True)
        image = None
        ground = _ground(place[:, :2])
        for beam, ax in enumerate(grid.flat):
            image = _light(ax, place[:, :2], ground, power[:, beam])
            _station(ax, scenario)
            _served(ax, place, beam)
            user = POSTER_DROP[beam]
            how = "line of sight" if bool(scenario.line_of_sight[user]) else "reflections only"
            rate = float(solution.rates[0, beam])
            _caption(ax, f"BEAM {beam + 1}", f"{rate:.1f} bit/s/Hz · {how}")
        assert image is not None
        _scale_bar(grid[1, 1])
        bar = figure.colorbar(image, ax=grid, shrink=0.5, aspect=34, pad=0.015)
        bar.outline.set_visible(False)
        bar.ax.tick_params(color=FROST, labelcolor=FROST)
        bar.set_label("received power (dBm)", color=FROST)
    header = ("x_m", "y_m", *(f"beam_{b + 1}_dbm" for b in range(power.shape[1])))
    rows = [
        (float(p[0]), float(p[1]), *(float(v) for v in dbm))
        for p, dbm in zip(place, power, strict=True)
    ]
    alt = "Received power of each of four beams at all users of the city, seen from above"
    return Picture("beams-city", figure, header, rows, alt)


def _caption(ax: Axes, title: str, line: str) -> None:
    for height, text, size, weight, ink in (
        (0.275, title, 17, "bold", CYAN),
        (0.205, line, 12, "normal", FROST),
    ):
        ax.text(
            0.975,
            height,
            text,
            transform=ax.transAxes,
            color=ink,
            fontsize=size,
            fontweight=weight,
            ha="right",
        )


def _ground(place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest user of every pixel, and how much the pixel shows of its light."""
    from scipy.spatial import cKDTree

    (left, right), (low, high) = VIEW
    x = np.arange(left + CELL / 2, right, CELL)
    y = np.arange(low + CELL / 2, high, CELL)
    away, nearest = cKDTree(place).query(np.stack(np.meshgrid(x, y), axis=-1))
    fade = np.clip((REACH - away) / (REACH - SHARP), 0.0, 1.0)
    return np.asarray(nearest), fade * fade * (3.0 - 2.0 * fade)


def _light(
    ax: Axes, place: np.ndarray, ground: tuple[np.ndarray, np.ndarray], dbm: np.ndarray
) -> ScalarMappable:
    """Colour the ground around every user by what the user receives."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    nearest, fade = ground
    colours = ScalarMappable(Normalize(*SCALE_DBM), "inferno")
    light = colours.to_rgba(dbm)[nearest]
    light[..., 3] = fade
    ax.set_facecolor(NIGHT)
    extent = (*VIEW[0], *VIEW[1])
    ax.imshow(light, extent=extent, origin="lower", zorder=2, interpolation="bilinear")
    ax.scatter(
        place[:, 0], place[:, 1], s=1.6, color=FROST, alpha=0.35, lw=0, zorder=3, rasterized=True
    )
    ax.set(xlim=VIEW[0], ylim=VIEW[1], aspect="equal", xticks=[], yticks=[])
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return colours


def _station(ax: Axes, scenario: Scenario, ink: str = FROST) -> None:
    """Base station, where it looks, and the edges of its sector."""
    x, y, _ = scenario.paths.bs_position.tolist()
    facing = np.deg2rad(scenario.panel.azimuth_deg)
    for side in (-1, 1):
        angle = facing + side * np.deg2rad(SECTOR_DEG)
        far = 400.0 * np.array([np.cos(angle), np.sin(angle)])
        ax.plot([x, x + far[0]], [y, y + far[1]], ls=(0, (1, 3)), lw=1, color=ink, zorder=3)
    ax.annotate(
        "",
        (x + 26 * np.cos(facing), y + 26 * np.sin(facing)),
        (x, y),
        arrowprops={"arrowstyle": "-|>", "color": ink, "lw": 2, "mutation_scale": 18},
        zorder=7,
    )
    ax.plot(x, y, "s", ms=9, mfc=NIGHT, mec=ink, mew=1.8, zorder=8)


def _served(ax: Axes, place: np.ndarray, beam: int) -> None:
    for other, user in enumerate(POSTER_DROP):
        x, y = place[user, :2]
        if other == beam:
            ax.plot(x, y, "*", ms=25, mfc=CYAN, mec=NIGHT, mew=1.5, zorder=9)
        else:
            ax.plot(x, y, "o", ms=13, mfc="none", mec=NIGHT, mew=3.6, zorder=8)
            ax.plot(x, y, "o", ms=13, mfc="none", mec=CYAN, mew=1.7, zorder=9)


def _scale_bar(ax: Axes) -> None:
    x, y = VIEW[0][1] - 62, VIEW[1][0] + 8
    ax.plot([x, x + 50], [y, y], color=FROST, lw=2.5, solid_capstyle="butt")
    ax.text(x + 25, y + 3, "50 m", color=FROST, ha="center", fontsize=10)


def fairness_map(outcome: Outcome) -> Picture:
    """Draw the users of all drops, coloured by rate, under two objectives."""
    from matplotlib.figure import Figure

    from holobeam.report.figures import PALETTE, Picture, style

    fairness = outcome.fairness[0]
    place = outcome.scenario.paths.user_position[:, :2].numpy()
    users = outcome.scenario.drops.flatten().numpy()
    top = float(torch.quantile(fairness.sum_rate.flatten(), 0.98))
    with style():
        figure = Figure(figsize=(14.0, 4.7))
        image = None
        for ax, (title, rates) in zip(figure.subplots(1, 2), _objectives(fairness), strict=True):
            ax.scatter(*place.T, s=9, color=PALETTE["grey"], alpha=0.28, lw=0, rasterized=True)
            flat = rates.flatten().numpy()
            hungry = flat < STARVED
            image = ax.scatter(
                *place[users[~hungry]].T,
                s=46,
                c=flat[~hungry],
                cmap="viridis",
                vmin=0,
                vmax=top,
                lw=0,
                zorder=3,
            )
            ax.scatter(
                *place[users[hungry]].T,
                s=60,
                marker="x",
                color=PALETTE["red"],
                lw=2.2,
                zorder=5,
            )
            _station(ax, outcome.scenario, PALETTE["muted"])
            ax.set(xlim=(-50, 200), ylim=(8, 157), aspect="equal", xticks=[], yticks=[])
            ax.grid(visible=False)
            ax.spines[:].set_visible(False)
            ax.set_title(f"{title}: {100 * starved_share(rates):.1f} % starved")
        assert image is not None
        bar = figure.colorbar(image, ax=figure.axes, shrink=0.75, aspect=28, pad=0.01)
        bar.outline.set_visible(False)
        bar.set_label("rate of the user (bit/s/Hz)")
    rows = [
        (int(user), float(place[user, 0]), float(place[user, 1]), float(a), float(b))
        for user, a, b in zip(
            users, fairness.sum_rate.flatten(), fairness.fair.flatten(), strict=True
        )
    ]
    header = ("user", "x_m", "y_m", "rate_sum_rate", "rate_proportional_fair")
    alt = "Map of served users under the sum rate and under proportional fairness"
    return Picture("fairness-map", figure, header, list(rows), alt)


def _objectives(fairness: Fairness) -> tuple[tuple[str, Tensor], ...]:
    return ("Sum rate", fairness.sum_rate), ("Proportional fairness", fairness.fair)
