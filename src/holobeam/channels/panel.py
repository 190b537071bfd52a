"""A flat antenna array mounted somewhere, facing somewhere."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from holobeam.arrays import Array
from holobeam.errors import InputError


@dataclass(frozen=True, eq=False)
class Panel:
    """An array, where it faces, and how far it sits from the base station's reference point.

    Attributes
    ----------
    array
        The elements, in the local frame (broadside +x, +y left, +z up).
    azimuth_deg
        Facing from the global +x axis towards +y, degrees.
    tilt_deg
        Downtilt, degrees.
    position
        Offset of the array's centre from the base station, metres in the global frame.
    """

    array: Array
    azimuth_deg: float = 0.0
    tilt_deg: float = 0.0
    position: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        values = {"azimuth_deg": (self.azimuth_deg,), "tilt_deg": (self.tilt_deg,)}
        for name, value in {**values, "position": self.position}.items():
            if not all(math.isfinite(v) for v in value):
                raise InputError(name, f"got {value!r}", "it must be finite")
        if len(self.position) != 3:
            raise InputError("position", f"got {self.position!r}", "need (x, y, z) in metres")

    @property
    def frame(self) -> Float[Tensor, "3 3"]:
        """Rows: broadside n, ey (to the left looking out) and ez (up), in the global frame."""
        a, t = math.radians(self.azimuth_deg), math.radians(self.tilt_deg)
        broadside = (math.cos(t) * math.cos(a), math.cos(t) * math.sin(a), -math.sin(t))
        left = (-math.sin(a), math.cos(a), 0.0)
        up = (math.sin(t) * math.cos(a), math.sin(t) * math.sin(a), math.cos(t))
        return torch.tensor([broadside, left, up], dtype=torch.float64)

    def to_local(self, directions: Float[Tensor, "*shape 3"]) -> Float[Tensor, "*shape 3"]:
        """Turn vectors of the global frame into the local frame of the array."""
        return directions @ self.frame.to(directions).mT

    def to_global(self, directions: Float[Tensor, "*shape 3"]) -> Float[Tensor, "*shape 3"]:
        """Turn vectors of the local frame of the array into the global frame."""
        return directions @ self.frame.to(directions)

    def element_positions(self) -> Float[Tensor, "antennas 3"]:
        """Elements relative to the base station, metres in the global frame, float64."""
        offset = torch.tensor(self.position, dtype=torch.float64)
        return self.to_global(self.array.positions.to(torch.float64)) + offset
