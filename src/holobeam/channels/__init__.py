"""Channels: drawn from models, traced through a city, or read from files.

Everything here ends in ``h (B, F, K, N)`` with rows ``h_k^H``: received ``y = h @ x``; channels of
several cells in ``(B, L, L, K, M, N)``.
"""

from holobeam.channels.base import ChannelModel
from holobeam.channels.bundled import (
    SurfaceBenchmark,
    munich,
    munich_drops,
    munich_panel,
    surface_benchmark,
)
from holobeam.channels.drops import draw_drops
from holobeam.channels.files import read_channels, write_channels
from holobeam.channels.multicell import CellularDrops, draw_sector_drops, sector_channels
from holobeam.channels.panel import Panel
from holobeam.channels.pathwise import (
    LaplacianClusters,
    PlanarPaths,
    Rayleigh,
    SalehValenzuela,
    SphericalWave,
    path_wise,
    sparse_paths,
)
from holobeam.channels.raypaths import RayPaths, subcarrier_offsets

__all__ = [
    "CellularDrops",
    "ChannelModel",
    "LaplacianClusters",
    "Panel",
    "PlanarPaths",
    "RayPaths",
    "Rayleigh",
    "SalehValenzuela",
    "SphericalWave",
    "SurfaceBenchmark",
    "draw_drops",
    "draw_sector_drops",
    "munich",
    "munich_drops",
    "munich_panel",
    "path_wise",
    "read_channels",
    "sector_channels",
    "sparse_paths",
    "subcarrier_offsets",
    "surface_benchmark",
    "write_channels",
]
