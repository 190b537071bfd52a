"""Antenna arrays: where the elements are, and what a wave from somewhere does to them.

The local frame of an array: elements lie in the y-z plane, broadside is +x. Looking out along
broadside, +y is to the left and +z is up. ``index = i * columns_z + l`` for element (i, l).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.errors import InputError, ShapeError, check_count, check_finite


@dataclass(frozen=True, eq=False)
class Array:
    """Positions of the elements of an antenna array.

    Attributes
    ----------
    positions
        ``(N, 3)`` metres, in the local frame (broadside +x).
    wavelength
        Metres.
    spacing
        Metres between neighbouring elements.
    shape
        Elements along y and along z; their product is N.
    """

    positions: Float[Tensor, "antennas 3"]
    wavelength: float
    spacing: float
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        if self.positions.ndim != 2 or self.positions.shape[1] != 3:
            raise ShapeError("positions", f"got shape {tuple(self.positions.shape)}", "need (N, 3)")
        check_finite("positions", self.positions)
        for name in ("wavelength", "spacing"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(name, f"got {value!r}", "it must be positive")
        if self.shape[0] * self.shape[1] != self.antennas:
            raise ShapeError(
                "shape",
                f"{self.shape} against {self.antennas} positions",
                "the product of shape must be the number of elements",
            )

    @property
    def antennas(self) -> int:
        """Number of elements N."""
        return int(self.positions.shape[0])

    @property
    def wavenumber(self) -> float:
        """``2 pi / wavelength`` in rad/m."""
        return 2.0 * math.pi / self.wavelength

    @property
    def fraunhofer_distance(self) -> float:
        """``2 D^2 / wavelength`` in metres, D the largest extent of the array."""
        extent = self.positions.max(dim=0).values - self.positions.min(dim=0).values
        return float(2.0 * extent.square().sum() / self.wavelength)

    @property
    def element_gain(self) -> float:
        """Broadside power gain of one cell, ``4 pi d^2 / wavelength^2``: gain follows area."""
        return 4.0 * math.pi * (self.spacing / self.wavelength) ** 2


def upa(shape: tuple[int, int], wavelength: float = 1.0, spacing: float = 0.5) -> Array:
    """Make a uniform planar array, centred on the origin.

    Parameters
    ----------
    shape
        Elements along y and along z.
    wavelength
        Metres.
    spacing
        In wavelengths.

    Examples
    --------
    >>> upa((16, 16), spacing=0.25).antennas
    256
    """
    along_y, along_z = (check_count("shape", n) for n in shape)
    step = spacing * wavelength
    y = (torch.arange(along_y, dtype=torch.float64) - (along_y - 1) / 2) * step
    z = (torch.arange(along_z, dtype=torch.float64) - (along_z - 1) / 2) * step
    grid_y, grid_z = torch.meshgrid(y, z, indexing="ij")
    flat_y, flat_z = grid_y.reshape(-1), grid_z.reshape(-1)
    positions = torch.stack([torch.zeros_like(flat_y), flat_y, flat_z], dim=1)
    return Array(positions, wavelength, step, (along_y, along_z))


def ula(antennas: int, wavelength: float = 1.0, spacing: float = 0.5) -> Array:
    """Make a uniform linear array along y, centred on the origin; ``spacing`` in wavelengths."""
    return upa((check_count("antennas", antennas), 1), wavelength, spacing)


def direction(
    zenith: Float[Tensor, "*shape"], azimuth: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape 3"]:
    """Unit vectors of directions given by zenith (from +z) and azimuth (from +x), in rad."""
    sine = zenith.sin()
    return torch.stack([sine * azimuth.cos(), sine * azimuth.sin(), zenith.cos()], dim=-1)


def steering_vector(
    array: Array, directions: Float[Tensor, "*shape 3"]
) -> Complex[Tensor, "*shape antennas"]:
    """Far-field phases of an array towards unit vectors in its local frame.

    Returns
    -------
    Tensor
        ``exp(j k <r_n, u>)``: what element n adds to the received signal ``h_k^H x`` of a user in
        direction u, relative to the origin of the array; unit modulus, complex128 for float64.
    """
    positions = array.positions.to(directions)
    phase = array.wavenumber * (directions @ positions.mT)
    return torch.polar(torch.ones_like(phase), phase)


def near_field_vector(
    array: Array, points: Float[Tensor, "*shape 3"]
) -> Complex[Tensor, "*shape antennas"]:
    """Spherical-wave response of an array at points in its local frame.

    Returns
    -------
    Tensor
        ``(d0 / d_n) exp(-j k (d_n - d0))`` with ``d_n = |p - r_n|`` and ``d0 = |p|``. Tends to
        :func:`steering_vector` beyond the Fraunhofer distance.
    """
    positions = array.positions.to(points)
    distance = (points.unsqueeze(-2) - positions).norm(dim=-1)
    reference = points.norm(dim=-1, keepdim=True)
    if bool((distance <= 0).any()):
        raise InputError("points", "a point coincides with an element", "keep users off the array")
    return torch.polar(reference / distance, -array.wavenumber * (distance - reference))


def element_pattern(array: Array, directions: Float[Tensor, "*shape 3"]) -> Float[Tensor, "*shape"]:
    """Amplitude pattern of one cell: ``sqrt(4 pi d^2 / lambda^2 max(cos, 0))``.

    Directivity follows the area of the aperture, so that denser arrays get no free gain, and
    nothing is heard through the back of the panel.
    """
    return (array.element_gain * directions[..., 0].clamp(min=0.0)).sqrt()
