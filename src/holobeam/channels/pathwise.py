"""Channel models that add up waves: a few paths, clusters of rays, or spherical wavefronts.

Every row is ``h_k^H``, as everywhere in holobeam; where a paper prints the column ``h_k``, its
conjugate is drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.arrays import Array, near_field_vector
from holobeam.channels.base import (
    BLOCK,
    ChannelModel,
    block_generator,
    complex_normal,
    uniform,
)
from holobeam.channels.path_model import PathModel, Paths
from holobeam.errors import InputError, check_choice, check_count
from holobeam.units import db_to_linear


@dataclass(frozen=True)
class Rayleigh(ChannelModel):
    """Independent entries ``CN(0, 1)``: no structure at all."""

    antennas: int = 64
    users: int = 4

    def __post_init__(self) -> None:
        check_count("antennas", self.antennas)
        check_count("users", self.users)

    @property
    def mean_gain(self) -> float:
        """Mean power of one entry: 1."""
        return 1.0

    def draw(
        self, count: int, generator: torch.Generator
    ) -> Complex[Tensor, "count 1 users antennas"]:
        """Draw ``count`` channels."""
        return complex_normal((count, 1, self.users, self.antennas), generator)


@dataclass(frozen=True)
class PlanarPaths(PathModel):
    """A few plane waves on a planar surface.

    ``h_k = I^(-1/2) sum_i alpha_i exp(j 2 pi d (m sin th cos ph + l sin th sin ph))`` for element
    (m, l), index ``m * shape[1] + l``; ``alpha_i ~ CN(0, path_variances[i])``, both angles uniform
    in (-pi/2, pi/2) and independent between paths and users.

    Attributes
    ----------
    shape
        Elements along both axes of the surface.
    users
        Number of users K.
    spacing
        Distance d between elements, in wavelengths.
    path_variances
        Mean powers of the I paths.

    See Also
    --------
    path_wise : four equal paths.
    sparse_paths : one strong path and one weak.
    """

    shape: tuple[int, int] = (8, 8)
    users: int = 4
    spacing: float = 1 / 3
    path_variances: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        for side in self.shape:
            check_count("shape", side)
        check_count("users", self.users)
        if not (math.isfinite(self.spacing) and self.spacing > 0):
            raise InputError("spacing", f"got {self.spacing!r} wavelengths", "it must be positive")
        variances = self.path_variances
        if not variances or not all(math.isfinite(v) and v >= 0 for v in variances):
            raise InputError("path_variances", f"got {variances!r}", "need powers >= 0, one a path")

    @property
    def antennas(self) -> int:
        """Number of elements N."""
        return self.shape[0] * self.shape[1]

    @property
    def mean_gain(self) -> float:
        """Mean power of one entry: the mean of the path variances."""
        return sum(self.path_variances) / len(self.path_variances)

    def draw_paths(self, count: int, generator: torch.Generator) -> Paths:
        """Draw gains (of the printed columns) and the angles theta and phi."""
        size = (count, self.users, len(self.path_variances))
        variances = torch.tensor(self.path_variances, dtype=torch.float64)
        gains = complex_normal(size, generator) * (variances / len(variances)).sqrt()
        theta = uniform(size, -math.pi / 2, math.pi / 2, generator)
        phi = uniform(size, -math.pi / 2, math.pi / 2, generator)
        return Paths(gains, torch.stack([theta, phi], dim=3))

    def combine(self, paths: Paths) -> Complex[Tensor, "batch 1 users antennas"]:
        """Channels that paths add up to."""
        gains, (theta, phi) = paths.gain, paths.angles.unbind(dim=3)
        first = phase_ramp(self.spacing * theta.sin() * phi.cos(), self.shape[0])
        second = phase_ramp(self.spacing * theta.sin() * phi.sin(), self.shape[1])
        columns = torch.einsum("bkp,bkpm,bkpl->bkml", gains, first, second)
        return columns.conj().resolve_conj().reshape(-1, 1, self.users, self.antennas)


def path_wise(
    shape: tuple[int, int] = (8, 8), users: int = 4, spacing: float = 1 / 3
) -> PlanarPaths:
    """Four equal paths, mean gain 1: Sheemar et al., MMSE holographic beamforming."""
    return PlanarPaths(shape, users, spacing, (1.0, 1.0, 1.0, 1.0))


def sparse_paths(
    shape: tuple[int, int] = (5, 5), users: int = 3, spacing: float = 0.25
) -> PlanarPaths:
    """One strong path and one 20 dB weaker, mean gain 0.505: the MB-DNN paper's model."""
    return PlanarPaths(shape, users, spacing, (1.0, 0.01))


@dataclass(frozen=True)
class SalehValenzuela(PathModel):
    """Paths from all around on a half-wavelength linear array.

    ``h_k = g sum_p alpha_p a(phi_p)`` with ``alpha ~ CN(0, 1)``, ``phi ~ U(0, 2 pi)`` and
    ``a_n = exp(j pi n sin phi) / sqrt(N)``.

    Attributes
    ----------
    antennas, users, paths
        N, K and the number of paths P of each user.
    normalization
        ``"unit"``: ``g = sqrt(N / P)``, entries of mean power 1. ``"paper"``: ``g = 1`` as printed
        in the unfolded-gradient paper, entries of mean power P/N.
    subcarriers
        F: with more than one, path p turns by ``exp(-2 pi j f tau_p)`` on subcarrier f.
    longest_delay
        In OFDM symbols: ``tau ~ U(0, longest_delay)``.
    """

    antennas: int = 32
    users: int = 4
    paths: int = 10
    normalization: Literal["unit", "paper"] = "unit"
    subcarriers: int = 1
    longest_delay: float = 0.25

    def __post_init__(self) -> None:
        for name in ("antennas", "users", "paths", "subcarriers"):
            check_count(name, getattr(self, name))
        check_choice("normalization", self.normalization, ("unit", "paper"))
        if not 0.0 <= self.longest_delay <= 1.0:
            wrong = f"got {self.longest_delay!r} OFDM symbols"
            raise InputError("longest_delay", wrong, "it lies between 0 and 1")

    @property
    def mean_gain(self) -> float:
        """Mean power of one entry: 1, or P/N."""
        return 1.0 if self.normalization == "unit" else self.paths / self.antennas

    def draw_paths(self, count: int, generator: torch.Generator) -> Paths:
        """Draw gains (of the printed columns), angles and, over a band, delays."""
        size = (count, self.users, self.paths)
        gains = complex_normal(size, generator) * math.sqrt(self.mean_gain / self.paths)
        phi = uniform(size, 0.0, 2 * math.pi, generator)
        if self.subcarriers == 1:
            return Paths(gains, phi.unsqueeze(3))
        delay = uniform(size, 0.0, self.longest_delay, generator)
        return Paths(gains, phi.unsqueeze(3), delay)

    def combine(self, paths: Paths) -> Complex[Tensor, "batch f users antennas"]:
        """Channels that paths add up to."""
        # Rows are h_k^H: the conjugate of the steering vector as printed.
        steering = phase_ramp(-paths.angles[..., 0].sin() / 2, self.antennas)
        if paths.delay is None:
            return torch.einsum("bkp,bkpn->bkn", paths.gain.conj(), steering).unsqueeze(1)
        turns = phase_ramp(paths.delay, self.subcarriers)
        return torch.einsum("bkp,bkpf,bkpn->bfkn", paths.gain.conj(), turns, steering)


@dataclass(frozen=True)
class LaplacianClusters(PathModel):
    """Clusters of rays with Laplacian angles on a half-wavelength linear array.

    Row k is ``(C I)^(-1/2) sum g exp(-j pi n sin phi)`` over C clusters of I rays,
    ``g ~ CN(0, 1)``; cluster angles uniform in (0, 2 pi), rays Laplacian around them. The
    generator behind the channels published with "Robust Hybrid Precoding for Millimeter Wave
    MU-MISO System Via Meta-Learning".

    Attributes
    ----------
    antennas, users, clusters, rays
        N, K, C and I.
    spread_deg
        Standard deviation of a ray's angle about its cluster, degrees.
    """

    antennas: int = 64
    users: int = 4
    clusters: int = 3
    rays: int = 30
    spread_deg: float = 10.0

    def __post_init__(self) -> None:
        for name in ("antennas", "users", "clusters", "rays"):
            check_count(name, getattr(self, name))
        if not (math.isfinite(self.spread_deg) and self.spread_deg >= 0):
            raise InputError("spread_deg", f"got {self.spread_deg!r}", "need degrees >= 0")

    @property
    def mean_gain(self) -> float:
        """Mean power of one entry: 1."""
        return 1.0

    def draw_paths(self, count: int, generator: torch.Generator) -> Paths:
        """Draw gains and angles of all rays."""
        size = (count, self.users, self.clusters, self.rays)
        centre = uniform((*size[:3], 1), 0.0, 2 * math.pi, generator)
        phi = centre + math.radians(self.spread_deg) * _laplace(size, generator)
        gains = complex_normal(size, generator) / math.sqrt(self.clusters * self.rays)
        return Paths(gains.flatten(2), phi.flatten(2).unsqueeze(3))

    def combine(self, paths: Paths) -> Complex[Tensor, "batch 1 users antennas"]:
        """Channels that rays add up to."""
        steering = phase_ramp(-paths.angles[..., 0].sin() / 2, self.antennas)
        return torch.einsum("bkp,bkpn->bkn", paths.gain, steering).unsqueeze(1)


@dataclass(frozen=True)
class SphericalWave(ChannelModel):
    """Users near enough for the curvature of the wave to be felt.

    Row k is the response from the elements to the user,
    ``(d0 / d_n) exp(-j k (d_n - d0))`` with a random common phase: the phase gathered on the way
    from element n, so already ``h_k^H`` and not to be conjugated. Each scatterer adds such a
    response from a point of the same box, with a gain ``CN(0, scatterer_gain)``; all is scaled so
    that the mean power of an entry is 1 up to the amplitudes ``d0 / d_n``.

    Attributes
    ----------
    array
        The antenna array.
    users
        Number of users K.
    distance
        Smallest and largest distance from the centre of the array, metres.
    azimuth_deg, elevation_deg
        Smallest and largest angles seen from the array, degrees; 0 is broadside, azimuth positive
        to the left, elevation positive upwards.
    scatterers
        Scatterers of each user.
    scatterer_gain_db
        Mean power of one scatterer relative to the direct wave, dB.

    Notes
    -----
    Distance, azimuth and elevation are drawn uniformly and independently. Beyond
    ``array.fraunhofer_distance`` the rows tend to plane waves.
    """

    array: Array
    users: int = 4
    distance: tuple[float, float] = (5.0, 50.0)
    azimuth_deg: tuple[float, float] = (-60.0, 60.0)
    elevation_deg: tuple[float, float] = (-30.0, 0.0)
    scatterers: int = 0
    scatterer_gain_db: float = -10.0

    def __post_init__(self) -> None:
        check_count("users", self.users)
        check_count("scatterers", self.scatterers, least=0)
        check_range("distance", self.distance, 0.0, math.inf)
        if self.distance[0] <= 0:
            raise InputError("distance", f"got {self.distance[0]!r} m", "it must be positive")
        check_range("azimuth_deg", self.azimuth_deg, -180.0, 180.0)
        check_range("elevation_deg", self.elevation_deg, -90.0, 90.0)
        if not math.isfinite(self.scatterer_gain_db):
            raise InputError("scatterer_gain_db", f"got {self.scatterer_gain_db!r}", "need dB")

    @property
    def antennas(self) -> int:
        """Number of elements N."""
        return self.array.antennas

    @property
    def mean_gain(self) -> float:
        """Mean power of one entry: 1, up to the near-field amplitudes."""
        return 1.0

    def draw(
        self, count: int, generator: torch.Generator
    ) -> Complex[Tensor, "count 1 users antennas"]:
        """Draw ``count`` channels."""
        points = self._points((count, self.users, 1 + self.scatterers), generator)
        gains = self._gains((count, self.users), generator)
        rows = torch.einsum("bkp,bkpn->bkn", gains, near_field_vector(self.array, points))
        return rows.unsqueeze(1)

    def user_positions(
        self, batch: int, seed: int, *, start: int = 0
    ) -> Float[Tensor, "batch users 3"]:
        """Where the users of the channels of a seed are, metres in the local frame."""
        first, last = start // BLOCK, (start + batch - 1) // BLOCK
        size = (BLOCK, self.users, 1 + self.scatterers)
        # Positions are the first numbers that a block's generator gives: see draw.
        blocks = [
            self._points(size, block_generator(seed, block)) for block in range(first, last + 1)
        ]
        skip = start - first * BLOCK
        return torch.cat(blocks)[skip : skip + batch, :, 0]

    def _points(
        self, size: tuple[int, ...], generator: torch.Generator
    ) -> Float[Tensor, "count users points 3"]:
        """Positions in the box, metres in the local frame; point 0 is the user."""
        distance = uniform(size, *self.distance, generator)
        azimuth = uniform(size, *self.azimuth_deg, generator).deg2rad()
        elevation = uniform(size, *self.elevation_deg, generator).deg2rad()
        return distance.unsqueeze(-1) * torch.stack(
            [elevation.cos() * azimuth.cos(), elevation.cos() * azimuth.sin(), elevation.sin()],
            dim=-1,
        )

    def _gains(
        self, size: tuple[int, int], generator: torch.Generator
    ) -> Complex[Tensor, "count users points"]:
        """Gains of the direct wave (unit modulus before scaling) and of the scatterers."""
        phase = uniform((*size, 1), 0.0, 2 * math.pi, generator)
        direct = torch.polar(torch.ones_like(phase), phase)
        power = db_to_linear(self.scatterer_gain_db)
        scattered = complex_normal((*size, self.scatterers), generator) * math.sqrt(power)
        return torch.cat([direct, scattered], dim=-1) / math.sqrt(1 + self.scatterers * power)


def phase_ramp(turns: Float[Tensor, "*shape"], count: int) -> Complex[Tensor, "*shape {count}"]:
    """Plane wave on a line of elements, ``exp(j 2 pi turns n)`` for ``n = 0 .. count - 1``."""
    phase = 2 * math.pi * turns.unsqueeze(-1) * torch.arange(count, dtype=turns.dtype)
    return torch.polar(torch.ones_like(phase), phase)


def check_range(name: str, value: tuple[float, float], low: float, high: float) -> None:
    """Raise :class:`InputError` unless ``low <= value[0] <= value[1] <= high``, all finite."""
    ordered = len(value) == 2 and low <= value[0] <= value[1] <= high
    if not ordered or not all(math.isfinite(v) for v in value):
        right = f"need (smallest, largest) between {low:g} and {high:g}"
        raise InputError(name, f"got {value!r}", right)


def _laplace(size: tuple[int, ...], generator: torch.Generator) -> Float[Tensor, "*shape"]:
    """Laplacian numbers of standard deviation 1: a difference of two exponentials."""
    first, second = (
        torch.empty(size, dtype=torch.float64).exponential_(generator=generator) for _ in range(2)
    )
    return (first - second) / math.sqrt(2)
