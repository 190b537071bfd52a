"""Channels of several cells: a cellular drop model, and facings of a ray-traced base station.

Everything here ends in ``h (B, L, L, K, M, N)``: from base station i (axis 1) to user k of cell j.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from holobeam.channels.base import ChannelModel, complex_normal, uniform
from holobeam.channels.drops import draw_drops
from holobeam.channels.panel import Panel
from holobeam.channels.raypaths import RayPaths
from holobeam.errors import InputError, ShapeError, check_count
from holobeam.units import db_to_linear, wavelength

PATH_LOSS_AT_ONE_METRE_DB = 61.4
"""28 GHz line of sight: free space at one metre."""


@dataclass(frozen=True)
class CellularDrops(ChannelModel):
    """Sectors on a ring that face its centre, users dropped into each, one strong path and a few.

    Base station l stands at ``distance / sqrt(3) exp(j (2 pi l / L + pi / 2))`` and faces the
    centre: three of them are the sectors of one hexagonal corner. Amplitudes carry the link budget
    in square roots of mW and are divided by the noise, so that ``noise_power=1.0`` and powers in mW
    go with them. A line of sight of random phase, and scattered paths around it; a user hears along
    a half-wavelength linear array.

    Attributes
    ----------
    users_per_cell
        K, or one number per cell: smaller cells are padded with users whose h is zero.
    cells
        Base stations L.
    receivers
        Antennas M of a user.
    rf_chains, elements
        Strips R of a base station and elements on each; element e of strip r is ``r elements + e``.
    spacing, pitch
        Between elements along a strip (horizontal) and between strips (vertical), wavelengths.
    inter_site_distance
        Metres.
    radius
        Users drop uniformly over the area between these distances from their base station, metres.
    sector_deg
        Half width of the sector, degrees.
    height
        Of the base stations over the users, metres.
    path_loss_exponent
        2 in free space; the intercept is 61.4 dB at one metre.
    scattered_paths, scattered_db
        How many, and their total power relative to the line of sight.
    noise_dbm
        Noise power of a receive antenna.
    element_area
        Power gain of one element: area relative to a cell of a half-wavelength array.

    Notes
    -----
    Source: multicell paper; its numbers are lost, these are ours. docs/methods.md, section 15.
    """

    users_per_cell: int | tuple[int, ...] = 2
    cells: int = 3
    receivers: int = 2
    rf_chains: int = 4
    elements: int = 8
    spacing: float = 0.2
    pitch: float = 0.5
    inter_site_distance: float = 200.0
    radius: tuple[float, float] = (20.0, 100.0)
    sector_deg: float = 60.0
    height: float = 8.0
    path_loss_exponent: float = 2.0
    scattered_paths: int = 3
    scattered_db: float = -10.0
    noise_dbm: float = -94.0
    element_area: float = 1.0

    def __post_init__(self) -> None:
        for name in ("cells", "receivers", "rf_chains", "elements"):
            check_count(name, getattr(self, name))
        check_count("scattered_paths", self.scattered_paths, least=0)
        for count in self.cell_sizes:
            check_count("users_per_cell", count, least=0)
        if len(self.cell_sizes) != self.cells or not any(self.cell_sizes):
            raise ShapeError(
                "users_per_cell",
                f"got {self.users_per_cell!r} for {self.cells} cells",
                "need a number, or one per cell, with a user somewhere",
            )
        positive = (
            "spacing", "pitch", "inter_site_distance", "sector_deg", "height", "path_loss_exponent",
            "element_area",
        )  # fmt: skip
        for name in positive:
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(name, f"got {value!r}", "it must be positive")
        near, far = self.radius
        if not 0 < near <= far < math.inf:
            raise InputError("radius", f"got {self.radius!r}", "need 0 < nearest <= farthest")

    @property
    def cell_sizes(self) -> tuple[int, ...]:
        """Users of each cell."""
        given = self.users_per_cell
        return (given,) * self.cells if isinstance(given, int) else tuple(given)

    @property
    def antennas(self) -> int:
        """Number of elements N."""
        return self.rf_chains * self.elements

    @property
    def users(self) -> int:
        """Users of the largest cell, K."""
        return max(self.cell_sizes)

    @property
    def wavelength(self) -> float:
        """Metres, at 28 GHz."""
        return wavelength(28e9)

    @property
    def mean_gain(self) -> float:
        """Mean power of one entry from a user's own base station."""
        near, far = (r**2 for r in self.radius)
        power = self.path_loss_exponent / 2.0
        if near == far:
            mean = float(near**-power)
        elif power == 1.0:
            mean = math.log(far / near) / (far - near)
        else:
            mean = float(far ** (1 - power) - near ** (1 - power)) / ((1 - power) * (far - near))
        scattered = db_to_linear(self.scattered_db) if self.scattered_paths else 0.0
        level = db_to_linear(-PATH_LOSS_AT_ONE_METRE_DB - self.noise_dbm)
        return self.element_area * level * mean * (1.0 + scattered)

    def draw(
        self, count: int, generator: torch.Generator
    ) -> Complex[Tensor, "count cells cells users receivers antennas"]:
        """Draw ``count`` channels."""
        size = (count, self.cells, self.users)
        near, far = (r**2 for r in self.radius)
        distance = uniform(size, near, far, generator).sqrt()
        width = math.radians(self.sector_deg)
        bearing = uniform(size, -width, width, generator)
        site, facing = self._sites()
        ahead = torch.polar(torch.ones_like(bearing), facing[:, None] + bearing)
        place = site[:, None] + distance * ahead
        away = place[:, None] - site[:, None, None]
        azimuth = (away / torch.polar(torch.ones_like(facing), facing)[:, None, None]).angle()
        gain, azimuth, elevation, arrival = self._paths(away.abs(), azimuth, generator)
        leaving = self._departure(azimuth, elevation)
        across = torch.arange(self.receivers, dtype=torch.float64) * math.pi
        received = gain.unsqueeze(-1) * _turn(across * arrival.sin().unsqueeze(-1))
        h = received.mT @ leaving.conj()
        here = torch.arange(self.users) < torch.tensor(self.cell_sizes)[:, None]
        return h * here[:, :, None, None]

    def _sites(self) -> tuple[Tensor, Tensor]:
        """Places of the base stations as complex numbers, and their facings in rad."""
        turn = 2.0 * math.pi * torch.arange(self.cells, dtype=torch.float64) / self.cells
        angle = turn + math.pi / 2
        reach = torch.full_like(angle, self.inter_site_distance / math.sqrt(3.0))
        return torch.polar(reach, angle), angle + math.pi

    def _paths(
        self, distance: Tensor, azimuth: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, ...]:
        """Gains, azimuths, elevations and arrivals, ``(B, L, L, K, 1 + scattered)``."""
        size = (*distance.shape, self.scattered_paths)
        loss = PATH_LOSS_AT_ONE_METRE_DB + 10 * self.path_loss_exponent * distance.log10()
        amplitude = (self.element_area * 10.0 ** ((-loss - self.noise_dbm) / 10.0)).sqrt()
        phase = uniform(tuple(distance.shape), 0.0, 2.0 * math.pi, generator)
        scale = math.sqrt(db_to_linear(self.scattered_db) / max(self.scattered_paths, 1))
        gains = torch.cat([_turn(phase).unsqueeze(-1), scale * complex_normal(size, generator)], -1)
        quarter = math.pi / 2
        azimuths = [azimuth.unsqueeze(-1), uniform(size, -quarter, quarter, generator)]
        sight = -torch.atan2(torch.full_like(distance, self.height), distance)
        elevations = [sight.unsqueeze(-1), uniform(size, -math.pi / 6, math.pi / 6, generator)]
        arrivals = uniform((*distance.shape, 1 + size[-1]), -quarter, quarter, generator)
        gains = gains * amplitude.unsqueeze(-1)
        return gains, torch.cat(azimuths, -1), torch.cat(elevations, -1), arrivals

    def _departure(
        self, azimuth: Float[Tensor, "*paths"], elevation: Float[Tensor, "*paths"]
    ) -> Complex[Tensor, "*paths antennas"]:
        """Steering vectors ``exp(j k (x sin az cos el + z sin el))``."""
        k = 2.0 * math.pi
        along = k * self.spacing * torch.arange(self.elements, dtype=torch.float64)
        up = k * self.pitch * torch.arange(self.rf_chains, dtype=torch.float64)
        strip = _turn(along * (azimuth.sin() * elevation.cos()).unsqueeze(-1))
        stack = _turn(up * elevation.sin().unsqueeze(-1))
        return (stack.unsqueeze(-1) * strip.unsqueeze(-2)).flatten(-2)


def _turn(phase: Tensor) -> Tensor:
    return torch.polar(torch.ones_like(phase), phase)


def draw_sector_drops(
    paths: RayPaths,
    panels: Sequence[Panel],
    count: int,
    size: int = 2,
    *,
    seed: int,
    sector_deg: float = 60.0,
    **limits: float,
) -> Int[Tensor, "{count} cells {size}"]:
    """Draw users for each facing of a base station: cell l holds users of the sector of panel l.

    Parameters
    ----------
    paths, panels
        Ray-traced paths, and the facings: the cells.
    count, size
        Drops B and users K of each cell.
    seed
        Of the draws; cell l uses ``seed + l``.
    sector_deg
        Half width of each sector; where sectors overlap a user belongs to the first.
    limits
        ``power_dbm``, ``noise_dbm``, ``min_snr_db`` as of :meth:`RayPaths.keep_users`.

    Returns
    -------
    Tensor
        ``(B, L, K)`` int64 indices into ``paths``.

    Raises
    ------
    InputError
        If a sector has too few users that its panel can serve.
    """
    groups: list[Tensor] = []
    free = torch.ones(paths.users, dtype=torch.bool)
    for cell, panel in enumerate(panels):
        seen = paths.keep_users(panel, sector_deg=sector_deg, **limits)
        seen = seen[free[seen]]
        free[seen] = False
        groups.append(draw_drops(seen, count, size, seed=seed + cell))
    return torch.stack(groups, dim=1)


def sector_channels(
    paths: RayPaths,
    panels: Sequence[Panel],
    users: Int[Tensor, "batch cells users"],
    *,
    noise_dbm: float | None = None,
    dtype: torch.dtype = torch.complex128,
    device: torch.device | str = "cpu",
) -> Complex[Tensor, "batch cells cells users 1 antennas"]:
    """Channels from every facing of one base station to the users of every sector.

    The sectors are the cells: they share the site and disturb each other through reflections and
    the edges of their patterns. Users have one antenna (the paths hold no arrivals).

    Parameters
    ----------
    paths
        Ray-traced paths from the common site.
    panels
        One per cell, with the same number of elements.
    users
        ``(B, L, K)`` indices, see :func:`draw_sector_drops`.
    noise_dbm, dtype, device
        As of :meth:`RayPaths.channel`.
    """
    if users.ndim != 3 or users.shape[1] != len(panels):
        raise ShapeError(
            "users", f"got shape {tuple(users.shape)}", f"need (batch, {len(panels)}, users)"
        )
    sizes = {panel.array.antennas for panel in panels}
    if len(sizes) != 1:
        raise ShapeError("panels", f"they have {sorted(sizes)} elements", "need the same number")
    batch, cells, per_cell = users.shape
    flat = users.reshape(batch, cells * per_cell)
    heard = [
        paths.channel(panel, flat, noise_dbm=noise_dbm, dtype=dtype, device=device)[:, 0]
        for panel in panels
    ]
    h = torch.stack(heard, dim=1)
    return h.view(batch, cells, cells, per_cell, 1, -1)
