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
from holobeam.channels.csi_error import (
    Estimate,
    PilotEstimate,
    RelativeError,
    error_quantile,
    error_radius,
    sample_covariance,
    shrunk_channels,
)
from holobeam.channels.denoising import AngularPrior, beamspace_wiener
from holobeam.channels.drops import draw_drops
from holobeam.channels.files import read_channels, write_channels
from holobeam.channels.mobility import channel_track, faded, headings, moved
from holobeam.channels.multicell import CellularDrops, draw_sector_drops, sector_channels
from holobeam.channels.panel import Panel
from holobeam.channels.path_error import PathError
from holobeam.channels.path_model import PathModel, Paths
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
    "AngularPrior",
    "CellularDrops",
    "ChannelModel",
    "Estimate",
    "LaplacianClusters",
    "Panel",
    "PathError",
    "PathModel",
    "Paths",
    "PilotEstimate",
    "PlanarPaths",
    "RayPaths",
    "Rayleigh",
    "RelativeError",
    "SalehValenzuela",
    "SphericalWave",
    "SurfaceBenchmark",
    "beamspace_wiener",
    "channel_track",
    "draw_drops",
    "draw_sector_drops",
    "error_quantile",
    "error_radius",
    "faded",
    "headings",
    "moved",
    "munich",
    "munich_drops",
    "munich_panel",
    "path_wise",
    "read_channels",
    "sample_covariance",
    "sector_channels",
    "shrunk_channels",
    "sparse_paths",
    "subcarrier_offsets",
    "surface_benchmark",
    "write_channels",
]
