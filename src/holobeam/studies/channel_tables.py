"""Channels as study files describe them: each class is a table that draws what it describes.

Channel i of a table depends on the seed and on i alone, whatever the shard that it is drawn in.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import torch
from jaxtyping import Complex, Float, Int
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt
from torch import Tensor

from holobeam import channels as models
from holobeam.arrays import ula, upa
from holobeam.channels import munich, munich_drops, munich_panel, subcarrier_offsets
from holobeam.channels.bundled import MUNICH_FREQUENCY
from holobeam.errors import InputError, ShapeError
from holobeam.studies.source import Source
from holobeam.units import noise_power_dbm, wavelength

Shape = tuple[PositiveInt, PositiveInt]
Span = tuple[float, float]

WAVELENGTH = 0.01
"""Metres, 30 GHz: what normalised channels are given, so that guided waves have lengths."""


class Table(BaseModel):
    """A table of a study file: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ChannelTable(Table):
    """What every channel table has in common."""

    users: PositiveInt = 4

    def source(self, count: int, seed: int, start: int = 0) -> Source:
        """Draw channels ``start .. start + count - 1`` of the seed."""
        raise NotImplementedError


class PathWise(ChannelTable):
    """Equal plane waves on a planar array (mmse paper)."""

    model: Literal["path-wise"]
    shape: Shape = (8, 8)
    spacing: PositiveFloat = 1 / 3
    paths: PositiveInt = 4

    def source(self, count: int, seed: int, start: int = 0) -> Source:
        """Draw channels."""
        model = models.PlanarPaths(self.shape, self.users, self.spacing, (1.0,) * self.paths)
        array = upa(self.shape, WAVELENGTH, self.spacing)
        name = f"path-wise ({self.paths} equal paths)"
        return Source.drawn(model.sample(count, seed, start=start), array, name)


class SparsePaths(ChannelTable):
    """One strong plane wave and weaker ones (mb-dnn paper)."""

    model: Literal["sparse-paths"]
    users: PositiveInt = 3
    shape: Shape = (5, 5)
    spacing: PositiveFloat = 0.25
    path_variances: tuple[float, ...] = (1.0, 0.01)

    def source(self, count: int, seed: int, start: int = 0) -> Source:
        """Draw channels."""
        model = models.PlanarPaths(self.shape, self.users, self.spacing, self.path_variances)
        array = upa(self.shape, WAVELENGTH, self.spacing)
        name = f"sparse paths ({' and '.join(f'{v:g}' for v in self.path_variances)})"
        return Source.drawn(model.sample(count, seed, start=start), array, name)


class SalehValenzuela(ChannelTable):
    """Paths from all around on a linear array (unfolded-pga paper)."""

    model: Literal["saleh-valenzuela"]
    antennas: PositiveInt = 32
    paths: PositiveInt = 10
    normalization: Literal["unit", "paper"] = "unit"
    subcarriers: PositiveInt = 1
    longest_delay: float = 0.25

    def source(self, count: int, seed: int, start: int = 0) -> Source:
        """Draw channels."""
        model = models.SalehValenzuela(
            self.antennas, self.users, self.paths, self.normalization,
            self.subcarriers, self.longest_delay,
        )  # fmt: skip
        drawn = model.sample(count, seed, start=start)
        return Source.drawn(drawn, ula(self.antennas, WAVELENGTH), "SalehValenzuela")


class LaplacianClusters(ChannelTable):
    """Clusters of rays on a linear array (ggml paper)."""

    model: Literal["laplacian-clusters"]
    antennas: PositiveInt = 64
    clusters: PositiveInt = 3
    rays: PositiveInt = 30
    spread_deg: float = 10.0

    def source(self, count: int, seed: int, start: int = 0) -> Source:
        """Draw channels."""
        model = models.LaplacianClusters(
            self.antennas, self.users, self.clusters, self.rays, self.spread_deg
        )
        drawn = model.sample(count, seed, start=start)
        return Source.drawn(drawn, ula(self.antennas, WAVELENGTH), "LaplacianClusters")


class Rayleigh(ChannelTable):
    """Independent Gaussian entries."""

    model: Literal["rayleigh"]
    shape: Shape = (8, 8)

    def source(self, count: int, seed: int, start: int = 0) -> Source:
        """Draw channels."""
        model = models.Rayleigh(self.shape[0] * self.shape[1], self.users)
        return Source.drawn(
            model.sample(count, seed, start=start), upa(self.shape, WAVELENGTH), "Rayleigh"
        )


class SphericalWaves(ChannelTable):
    """Users in the near field of a planar array at 30 GHz."""

    model: Literal["spherical-wave"]
    shape: Shape = (16, 16)
    spacing: PositiveFloat = 0.5
    distance: Span = (5.0, 50.0)
    fraunhofer: Span | None = None
    azimuth_deg: Span = (-60.0, 60.0)
    elevation_deg: Span = (-30.0, 30.0)
    scatterers: Annotated[int, Field(ge=0)] = 0
    scatterer_gain_db: float = -10.0

    def model_of(self) -> models.SphericalWave:
        """Model with ``fraunhofer``, where given, as distances in metres."""
        array = upa(self.shape, WAVELENGTH, self.spacing)
        distance = self.distance
        if self.fraunhofer is not None:
            near, far = (multiple * array.fraunhofer_distance for multiple in self.fraunhofer)
            distance = (near, far)
        return models.SphericalWave(
            array=array,
            users=self.users,
            distance=distance,
            azimuth_deg=self.azimuth_deg,
            elevation_deg=self.elevation_deg,
            scatterers=self.scatterers,
            scatterer_gain_db=self.scatterer_gain_db,
        )

    def source(self, count: int, seed: int, start: int = 0) -> Source:
        """Draw channels."""
        model = self.model_of()
        drawn = model.sample(count, seed, start=start)
        return Source.drawn(drawn, model.array, "spherical waves, 30 GHz")


class Munich(ChannelTable):
    """Ray-traced Munich at 28 GHz, link budget included.

    Attributes
    ----------
    noise_bandwidth
        Hz over which noise is counted; the whole bandwidth by default.
    squint
        Whether steering follows the subcarrier's frequency, as it does in nature.
    drops
        The 64 drops that come with holobeam, or random ones of the same users.
    """

    model: Literal["munich"]
    shape: Shape = (16, 16)
    spacing: PositiveFloat = 0.25
    subcarriers: PositiveInt = 1
    bandwidth: PositiveFloat = 100e6
    noise_figure_db: float = 9.0
    noise_bandwidth: PositiveFloat | None = None
    squint: bool = True
    drops: Literal["bundled", "random"] = "random"

    def source(self, count: int, seed: int, start: int = 0) -> Source:
        """Trace channels of drops ``start .. start + count - 1``."""
        panel = munich_panel(self.shape, self.spacing)
        noise, offsets = self._band()
        drops = self._drops(start + count, seed)[start:]
        h = munich().channel(panel, drops, noise_dbm=noise, subcarriers=offsets, squint=self.squint)
        text = (
            f"Munich, 28 GHz, ray-traced; {count} drops of {self.users} users, noise {noise:g} dBm"
        )
        relative = 1.0 + offsets / MUNICH_FREQUENCY
        return Source(h, panel.array, True, text, relative)

    def track(
        self, count: int, seed: int, start: int, speed: float, times: Float[Tensor, " slots"]
    ) -> Complex[Tensor, "slots batch subcarriers users antennas"]:
        """Channels of the same drops as their users move on, each in a direction of its own."""
        noise, offsets = self._band()
        return models.channel_track(
            munich(),
            munich_panel(self.shape, self.spacing),
            self._drops(start + count, seed)[start:],
            velocity=models.headings(munich().users, speed, seed),
            times=times,
            noise_dbm=noise,
            subcarriers=offsets,
            squint=self.squint,
        )

    def _band(self) -> tuple[float, Tensor]:
        """Noise power in dBm, and offsets of the subcarriers."""
        noise = noise_power_dbm(self.noise_bandwidth or self.bandwidth, self.noise_figure_db)
        return noise, subcarrier_offsets(self.subcarriers, self.bandwidth)

    def _drops(self, stop: int, seed: int) -> Int[Tensor, "drops users"]:
        if self.drops == "random":
            # The users that the standard panel serves, so that every panel meets the same drops.
            return models.draw_drops(_served_users(), stop, self.users, seed=seed)
        drops = munich_drops()
        if self.users != drops.shape[1] or stop > len(drops):
            raise InputError(
                "channels.drops",
                f"there are {len(drops)} bundled drops of {drops.shape[1]} users, not {stop} of "
                f"{self.users}",
                'use drops = "random"',
            )
        return drops[:stop]


class Cells(ChannelTable):
    """Several cells that disturb each other, link budget included; users of each cell."""

    model: Literal["cells"]
    users: PositiveInt = 2
    cells: PositiveInt = 3
    receivers: PositiveInt = 2
    rf_chains: PositiveInt = 4
    elements: PositiveInt = 8
    spacing: PositiveFloat = 0.2
    inter_site_distance: PositiveFloat = 200.0
    radius: Span = (20.0, 100.0)
    sector_deg: PositiveFloat = 60.0
    element_area: PositiveFloat = 1.0

    def source(self, count: int, seed: int, start: int = 0) -> Source:
        """Draw channels ``(B, L, L, K, M, N)``."""
        model = models.CellularDrops(
            users_per_cell=self.users,
            cells=self.cells,
            receivers=self.receivers,
            rf_chains=self.rf_chains,
            elements=self.elements,
            spacing=self.spacing,
            inter_site_distance=self.inter_site_distance,
            radius=self.radius,
            sector_deg=self.sector_deg,
            element_area=self.element_area,
        )
        h = model.sample(count, seed, start=start)
        # Strips in rows: waveguides need the distance along them.
        shape = (self.rf_chains, self.elements)
        array = upa(shape, wavelength(MUNICH_FREQUENCY), self.spacing)
        text = f"{self.cells} cells of {self.users} users; {count} drops"
        return Source(h, array, True, text)


class ChannelFile(ChannelTable):
    """Channels from a file: rows h_k^H."""

    model: Literal["file"]
    path: str
    variable: str | None = None
    shape: Shape | None = None
    spacing: PositiveFloat = 0.5

    def source(self, count: int, seed: int, start: int = 0) -> Source:
        """Take channels ``start .. start + count - 1`` of the file; ``users`` of each."""
        h = models.read_channels(Path(self.path), self.variable)
        if h.shape[0] < start + count or h.shape[2] < self.users:
            raise ShapeError(
                "channels.path",
                f"{self.path} holds {h.shape[0]} channels of {h.shape[2]} users",
                f"need {start + count} of {self.users}",
            )
        h = h[start : start + count, :, : self.users].to(torch.complex128)
        shape = self.shape or (int(h.shape[3]), 1)
        if shape[0] * shape[1] != h.shape[3]:
            raise ShapeError(
                "shape",
                f"{shape[0]}x{shape[1]} against {h.shape[3]} antennas in {self.path}",
                "its product must be the number of antennas",
            )
        return Source.drawn(h, upa(shape, WAVELENGTH, self.spacing), Path(self.path).name)


Channels = Annotated[
    PathWise
    | SparsePaths
    | SalehValenzuela
    | LaplacianClusters
    | Rayleigh
    | SphericalWaves
    | Munich
    | Cells
    | ChannelFile,
    Field(discriminator="model"),
]


@cache
def _served_users() -> Int[Tensor, " kept"]:
    noise = noise_power_dbm(100e6, 9.0)
    return munich().keep_users(munich_panel(), noise_dbm=noise)
