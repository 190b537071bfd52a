"""Pictures of beams in the near field: where the power of each user's beam goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from holobeam.errors import InputError
from holobeam.report.figures import Picture, Row
from holobeam.report.style import style
from holobeam.studies.fields import Field, beam_field
from holobeam.studies.plan import Entry
from holobeam.studies.results import Results
from holobeam.studies.spec import FigureTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

RESOLUTION = (72, 72)
"""Points along distance and angle: the numbers go into a file as well."""

FLOOR_DB = -30.0
"""Where the colours end."""

MOST_USERS = 2
"""Users whose beams are shown."""

BRIGHT, DARK = "#fffffe", "#101010"
"""Of marks on the map: not of the palette, for the map stays dark in every theme."""

HEADER: Row = ("solver", "user", "distance", "azimuth_deg", "power_db")


def beam_pictures(figure: FigureTable, results: Results, name: str) -> Picture | None:
    """Draw the beams of the first channel: a column a contestant, a row a user.

    Raises
    ------
    InputError
        If the figure's part of the sweep is more than one point.
    UnsupportedError
        If the channels have no places.
    """
    entries = _entries(figure, results)
    if not entries:
        return None
    fields = [(entry.label, beam_field(entry.case, resolution=RESOLUTION)) for entry in entries]
    rows = [row for label, field in fields for row in _rows(label, field)]
    alt = f"{figure.title}: received power over azimuth and distance, {len(fields)} contestants"
    return Picture(name, _draw(figure.title, fields), HEADER, rows, alt)


def _entries(figure: FigureTable, results: Results) -> list[Entry]:
    points = results.points(figure.where)
    if len(points) > 1:
        raise InputError("where", f"{len(points)} points for one field", "name one point")
    wanted = figure.solvers or results.labels()
    return [e for e in results.plan.entries if e.point in points and e.label in wanted]


def _rows(label: str, field: Field) -> list[Row]:
    distances, angles = field.distance.tolist(), field.azimuth_deg.tolist()
    return [
        (label, user, round(distance, 6), round(angle, 3), round(level, 2))
        for user, power in enumerate(field.power_db[:MOST_USERS].tolist())
        for distance, line in zip(distances, power, strict=True)
        for angle, level in zip(angles, line, strict=True)
    ]


def _draw(title: str, fields: Sequence[tuple[str, Field]]) -> Figure:
    from matplotlib.figure import Figure

    users = min(MOST_USERS, *(field.power_db.shape[0] for _, field in fields))
    with style():
        figure = Figure(figsize=(9.2, 2.5 * users + 1.1))
        axes = figure.subplots(users, len(fields), squeeze=False, sharex=True, sharey=True)
        figure.suptitle(title, x=0.008, ha="left", fontsize=13, fontweight="bold")
        for column, (label, field) in enumerate(fields):
            for user in range(users):
                mesh = _map(axes[user, column], field, user)
            axes[0, column].set_title(_short(label, len(fields)), fontsize=10)
            axes[-1, column].set_xlabel("azimuth (°)", fontsize=9)
        for user in range(users):
            axes[user, 0].set_ylabel(f"beam {user + 1}: distance\n(Fraunhofer)", fontsize=9)
        bar = figure.colorbar(mesh, ax=axes, shrink=0.85, pad=0.015, aspect=30)
        bar.set_label("received power (dB)", fontsize=9)
        bar.outline.set_visible(False)
    return figure


def _short(label: str, columns: int) -> str:
    from textwrap import fill

    return fill(label, max(10, 70 // columns))


def _map(ax: Axes, field: Field, user: int) -> QuadMesh:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    mesh = ax.pcolormesh(
        field.azimuth_deg.numpy(),
        field.distance.numpy(),
        field.power_db[user].numpy(),
        vmin=FLOOR_DB,
        vmax=0.0,
        cmap="magma",
        shading="gouraud",
        rasterized=True,
    )
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.grid(visible=False)
    ax.tick_params(labelsize=8)
    for other, (distance, azimuth) in enumerate(field.users.tolist()):
        mine = other == user
        ax.plot(
            azimuth,
            distance,
            marker="*" if mine else "o",
            ms=11.0 if mine else 7.0,
            mfc=BRIGHT if mine else "none",
            mec=DARK if mine else BRIGHT,
            mew=0.8 if mine else 1.6,
            lw=0.0,
        )
    return mesh
