"""Data that come with holobeam; where they come from is told in ``data/ATTRIBUTION.md``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from holobeam.arrays import upa
from holobeam.channels.numpy_files import read_npz
from holobeam.channels.panel import Panel
from holobeam.channels.raypaths import RayPaths
from holobeam.units import wavelength

MUNICH_FREQUENCY = 28e9
"""Hz."""


@cache
def munich() -> RayPaths:
    """Ray-traced paths from one base station to 2000 users in central Munich at 28 GHz.

    Notes
    -----
    Buildings: OpenStreetMap contributors (ODbL); paths: Sionna RT, specular reflections only. The
    same object at each call: treat its tensors as read-only.
    """
    with as_file(files("holobeam.channels") / "data" / "munich_28ghz_paths.npz") as path:
        return RayPaths.load(path)


def munich_panel(
    shape: tuple[int, int] = (16, 16),
    spacing: float = 0.25,
    azimuth_deg: float = 60.0,
    tilt_deg: float = 15.0,
) -> Panel:
    """Make the panel of the Munich scenario; it faces the sector with most users.

    Parameters
    ----------
    shape
        Elements along y and along z.
    spacing
        In wavelengths.
    azimuth_deg, tilt_deg
        Facing and downtilt.
    """
    return Panel(upa(shape, wavelength(MUNICH_FREQUENCY), spacing), azimuth_deg, tilt_deg)


def munich_drops() -> Int[Tensor, "64 4"]:
    """64 random groups of 4 Munich users, as indices into :func:`munich`."""
    return _data("munich_drops.npz", "users")["users"].to(torch.int64)


@dataclass(frozen=True, eq=False)
class SurfaceBenchmark:
    """Channels of a 5x5 surface with the best sum rates known.

    Attributes
    ----------
    h
        ``(256, 1, 3, 25)`` complex128, a draw of :func:`holobeam.channels.sparse_paths`.
    feed
        ``(25, 3)`` complex128, the reference waves of three feeds beside the surface.
    snr_db
        ``(3,)`` transmit SNR.
    best_known_sum_rate
        ``(3, 256)`` bits/s/Hz at radiated power 1.
    """

    h: Complex[Tensor, "256 1 3 25"]
    feed: Complex[Tensor, "25 3"]
    snr_db: Float[Tensor, " 3"]
    best_known_sum_rate: Float[Tensor, "3 256"]


def surface_benchmark() -> SurfaceBenchmark:
    """Frozen instances to compare solvers on. For evaluation only: never train on them."""
    data = _data("rhs_5x5_benchmark.npz", "h", "feed", "snr_db", "best_known_sum_rate")
    return SurfaceBenchmark(
        h=data["h"].to(torch.complex128).unsqueeze(1),
        feed=data["feed"].to(torch.complex128),
        snr_db=data["snr_db"].to(torch.float64),
        best_known_sum_rate=data["best_known_sum_rate"].to(torch.float64),
    )


def _data(name: str, *members: str) -> dict[str, Tensor]:
    with as_file(files("holobeam.channels") / "data" / name) as path:
        return {key: torch.tensor(value) for key, value in read_npz(path, members).items()}
