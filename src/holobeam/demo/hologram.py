"""The hologram of one drop: what the surface is set to, what it radiates and where that goes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.arrays import element_pattern, steering_vector
from holobeam.channels.panel import Panel
from holobeam.demo.maps import received_dbm
from holobeam.demo.runs import Outcome
from holobeam.demo.scenario import POSTER_DROP, RF_CHAINS
from holobeam.frontends import feed_positions
from holobeam.solvers import Solution

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

    from holobeam.report.figures import Picture, Row

GUIDE_INDEX = math.sqrt(3.0)
"""Of the surface's waveguide: the default of :func:`holobeam.frontends.reference_wave`."""

PIXELS = 201
FLOOR_DBI = -10.0
NAMES = {"rhs": "RHS", "dma": "DMA", "ps": "phase shifters"}


def ghost_height(panel: Panel) -> float:
    """Direction cosine towards which the second order of the hologram is shifted.

    A real hologram makes the wanted wave and its conjugate; the latter has twice the wavenumber
    of the guide along the surface, less one turn per element because the surface is sampled.
    """
    return 2.0 * GUIDE_INDEX - panel.array.wavelength / panel.array.spacing


def directivity_dbi(
    panel: Panel,
    precoder: Complex[Tensor, "antennas beams"],
    directions: Float[Tensor, "*shape 3"],
) -> Float[Tensor, "*shape"]:
    """Gain of all beams together over their radiated power."""
    field = steering_vector(panel.array, directions).to(precoder.dtype) @ precoder
    field = field * element_pattern(panel.array, directions).unsqueeze(-1)
    gain = field.abs().square().sum(dim=-1) / precoder.abs().square().sum()
    return 10.0 * gain.clamp(min=1e-12).log10()


def far_field(
    panel: Panel, precoder: Complex[Tensor, "antennas beams"], pixels: int = PIXELS
) -> tuple[Float[Tensor, " pixels"], Float[Tensor, "pixels pixels"]]:
    """Direction cosines of a grid and the gain there in dBi, rows v; NaN behind the horizon.

    On the grid the steering vector is a product of one factor along y and one along z, which is
    some hundred times cheaper than :func:`directivity_dbi` at each of its points.
    """
    array = panel.array
    cosine = torch.linspace(-1.0, 1.0, pixels, dtype=torch.float64)
    along_y = array.positions[:: array.shape[1], 1]
    along_z = array.positions[: array.shape[1], 2]
    factor_y, factor_z = (
        torch.exp(1j * array.wavenumber * cosine.unsqueeze(1) * place).to(precoder.dtype)
        for place in (along_y, along_z)
    )
    weights = precoder.reshape(*array.shape, -1)
    field = torch.einsum("uy,vz,yzk->vuk", factor_y, factor_z, weights)
    ahead = 1.0 - cosine.unsqueeze(1) ** 2 - cosine**2
    cell = array.element_gain * ahead.clamp(min=0.0).sqrt()
    gain = cell * field.abs().square().sum(dim=-1) / precoder.abs().square().sum()
    decibels = 10.0 * gain.clamp(min=1e-12).log10()
    return cosine, decibels.masked_fill(ahead <= 0, math.nan)


def hologram(outcome: Outcome) -> Picture:
    """Draw surface, radiation, received powers and far fields of the poster's drop."""
    from matplotlib.figure import Figure

    from holobeam.report.figures import Picture, style

    solution = outcome.poster["rhs"]
    with style():
        figure = Figure(figsize=(13.5, 8.9))
        axes = figure.subplots(2, 3, height_ratios=(1.0, 1.08))
        rows = _surface(figure, list(axes[0]), outcome, solution)
        rows += _fields(figure, list(axes[1]), outcome)
    header = ("panel", "row", "column", "value")
    alt = "Amplitudes of the hologram, what it radiates, received powers and far fields"
    return Picture("hologram", figure, header, rows, alt)


def _surface(figure: Figure, axes: list[Axes], outcome: Outcome, solution: Solution) -> list[Row]:
    panel = outcome.scenario.panel
    shape = panel.array.shape
    amplitude = solution.control[0, :, 0].real
    shown = (amplitude / torch.quantile(amplitude, 0.9).clamp(min=1e-12)).clamp(max=1.0)
    radiated = solution.precoder[0, 0].abs().square().sum(dim=1).sqrt()
    grids = {
        "Hologram": shown.reshape(shape),
        "Radiated amplitude": (radiated / radiated.max()).reshape(shape),
    }
    rows: list[Row] = []
    for ax, (title, grid) in zip(axes, grids.items(), strict=False):
        image = _panel_image(ax, panel, grid.numpy())
        ax.set_title(title)
        _bar(figure, image, ax)
        rows += [(title, i, k, float(grid[i, k])) for i in range(shape[0]) for k in range(shape[1])]
    power = received_dbm(outcome.scenario, solution)[list(POSTER_DROP)]
    _bar(figure, _matrix(axes[2], power.numpy()), axes[2])
    rows += [
        ("Received power", k, j, float(power[k, j])) for k in range(len(power)) for j in range(4)
    ]
    return rows


def _panel_image(ax: Axes, panel: Panel, grid: np.ndarray) -> AxesImage:
    """Elements as seen when looking out: +y is on the left."""
    from holobeam.report.figures import PALETTE

    step = 1e3 * panel.array.spacing
    half_y, half_z = panel.array.shape[0] * step / 2, panel.array.shape[1] * step / 2
    image = ax.imshow(
        grid.T, origin="lower", extent=(-half_y, half_y, -half_z, half_z), cmap="viridis",
        vmin=0, vmax=1,
    )  # fmt: skip
    feeds = 1e3 * feed_positions(panel.array, RF_CHAINS, "edge").numpy()
    ax.plot(
        feeds[:, 1], feeds[:, 2] - 0.55 * step, "^", ms=9, color=PALETTE["red"], clip_on=False,
        zorder=5,
    )  # fmt: skip
    ax.set_xlim(half_y, -half_y)
    ax.set_ylim(-half_z - 1.6 * step, half_z)
    ax.set(xlabel="mm, left to right looking out", ylabel="mm")
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    return image


def _matrix(ax: Axes, power: np.ndarray) -> AxesImage:
    image = ax.imshow(power, cmap="inferno", vmin=-130, vmax=-60)
    for k, row in enumerate(power):
        for j, value in enumerate(row):
            ink = "#101010" if value > -82 else "#f2f2f2"
            weight = "bold" if k == j else "normal"
            ax.text(j, k, f"{value:.0f}", ha="center", va="center", color=ink, fontweight=weight)
    names = [str(k + 1) for k in range(len(power))]
    ax.set_xticks(range(len(names)), names)
    ax.set_yticks(range(len(names)), names)
    ax.set(xlabel="beam", ylabel="user")
    ax.set_title("Received power (dBm)")
    ax.tick_params(length=0)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    return image


def _bar(figure: Figure, image: AxesImage, ax: Axes) -> None:
    bar = figure.colorbar(image, ax=ax, shrink=0.78, aspect=22, pad=0.02)
    bar.outline.set_visible(False)


def _fields(figure: Figure, axes: list[Axes], outcome: Outcome) -> list[Row]:
    panel = outcome.scenario.panel
    users = outcome.scenario.strongest_direction(torch.tensor(POSTER_DROP))
    fields = {
        key: tuple(part.numpy() for part in far_field(panel, solution.precoder[0, 0]))
        for key, solution in outcome.poster.items()
    }
    top = max(float(np.nanmax(gain)) for _, gain in fields.values())
    rows: list[Row] = []
    image = None
    for ax, (key, (cosine, gain)) in zip(axes, fields.items(), strict=True):
        image = _sky(ax, cosine, gain, top)
        _circles(ax, users.numpy())
        if key == "rhs":
            _mark_ghost(ax, ghost_height(panel), users.numpy())
        ax.set_title(f"Far field, {NAMES[key]}")
        # Every fourth direction is plenty for the file.
        rows += [
            (f"far field {key}", float(cosine[i]), float(cosine[k]), float(gain[i, k]))
            for i in range(0, PIXELS, 4)
            for k in range(0, PIXELS, 4)
            if math.isfinite(gain[i, k])
        ]
    assert image is not None
    bar = figure.colorbar(image, ax=axes, shrink=0.72, aspect=24, pad=0.01)
    bar.outline.set_visible(False)
    bar.set_label("gain of all beams (dBi)")
    return rows


def _sky(ax: Axes, cosine: np.ndarray, gain: np.ndarray, top: float) -> AxesImage:
    from matplotlib.patches import Circle

    image = ax.imshow(
        np.nan_to_num(gain, nan=FLOOR_DBI), origin="lower", extent=(-1, 1, -1, 1), cmap="magma",
        vmin=FLOOR_DBI, vmax=top, interpolation="bilinear",
    )  # fmt: skip
    horizon = Circle((0, 0), 0.995, transform=ax.transData, fc="none", ec="none")
    ax.add_patch(horizon)
    image.set_clip_path(horizon)
    ax.set_xlim(1.02, -1.02)
    ax.set_ylim(-1.02, 1.02)
    ax.set(xlabel="u (left to right looking out)", ylabel="v (up)", xticks=(-1, 0, 1))
    ax.set_yticks((-1, 0, 1))
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    return image


def _circles(ax: Axes, users: np.ndarray) -> None:
    from matplotlib.patheffects import withStroke

    for k, (_, u, v) in enumerate(users):
        ax.plot(u, v, "o", ms=17, mfc="none", mec="#54e0ff", mew=1.6)
        ax.annotate(
            str(k + 1), (u, v), (11, 9), textcoords="offset points", color="#54e0ff", fontsize=10,
            fontweight="bold", path_effects=[withStroke(linewidth=2.5, foreground="#15101f")],
        )  # fmt: skip


def _mark_ghost(ax: Axes, shift: float, users: np.ndarray) -> None:
    """Level about which the conjugate order mirrors the users."""
    height = shift - float(users[:, 2].mean())
    ax.axhline(height, color="#f2f2f2", lw=0.9, ls=(0, (2, 3)), alpha=0.8)
    ax.annotate(
        "ghost", (0, height), (0, -13), textcoords="offset points", color="#f2f2f2", fontsize=10,
        ha="center", fontstyle="italic",
    )  # fmt: skip
