"""Channels: drawn from models, traced through a city, or read from files.

Everything here ends in ``h (B, F, K, N)`` with rows ``h_k^H``: received ``y = h @ x``.
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
    "munich",
    "munich_drops",
    "munich_panel",
    "path_wise",
    "read_channels",
    "sparse_paths",
    "subcarrier_offsets",
    "surface_benchmark",
    "write_channels",
]
