"""Where the power of each user's beam goes, over range and angle."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from holobeam.arrays import near_field_vector
from holobeam.errors import UnsupportedError
from holobeam.studies.cases import AnyCase, Case
from holobeam.studies.channel_tables import SphericalWaves
from holobeam.studies.work import answer, pose


@dataclass(frozen=True, eq=False)
class Field:
    """Power density of the beams of one channel in the horizontal plane.

    Attributes
    ----------
    distance
        ``(D,)`` in Fraunhofer distances.
    azimuth_deg
        ``(A,)`` degrees, positive to the left of broadside.
    power_db
        ``(K, D, A)`` received power of each user's beam by a receiver with the gain of the users,
        dB over the strongest point of all.
    users
        ``(K, 2)`` distance and azimuth of the users.
    """

    distance: Float[Tensor, " ranges"]
    azimuth_deg: Float[Tensor, " angles"]
    power_db: Float[Tensor, "users ranges angles"]
    users: Float[Tensor, "users 2"]


def beam_field(case: AnyCase, channel: int = 0, resolution: tuple[int, int] = (160, 160)) -> Field:
    """Solve one channel of a near-field case and look where its beams go.

    Parameters
    ----------
    case
        Of a study with spherical waves.
    channel
        Index of the channel.
    resolution
        Points along distance (logarithmic) and angle.

    Raises
    ------
    UnsupportedError
        If the channels have no places.
    """
    if not isinstance(case, Case) or not isinstance(case.channels, SphericalWaves):
        raise UnsupportedError("a field needs users at known places: use spherical-wave channels")
    model = case.channels.model_of()
    unit = model.array.fraunhofer_distance
    places = model.user_positions(1, case.seed, start=channel)[0]
    users = torch.stack(
        [places.norm(dim=1) / unit, torch.atan2(places[:, 1], places[:, 0]).rad2deg()], dim=1
    )
    low, high = float(users[:, 0].min()) / 2.5, float(users[:, 0].max()) * 2.5
    distance = torch.logspace(math.log10(low), math.log10(high), resolution[0], dtype=torch.float64)
    middle = float(users[:, 1].mean())
    reach = max(20.0, 1.6 * float((users[:, 1] - middle).abs().max()))
    angles = torch.linspace(
        max(middle - reach, -85.0), min(middle + reach, 85.0), resolution[1], dtype=torch.float64
    )
    ranges, azimuth = torch.meshgrid(distance * unit, angles.deg2rad(), indexing="ij")
    points = torch.stack(
        [ranges * azimuth.cos(), ranges * azimuth.sin(), torch.zeros_like(ranges)], dim=-1
    )
    solution = answer(case, pose(case, channel, channel + 1))
    beams = solution.precoder[0, 0].to(torch.complex128)
    heard = (near_field_vector(model.array, points).to(beams) @ beams).abs().square()
    power = 10.0 * (heard / heard.max()).clamp(min=1e-12).log10()
    return Field(distance, angles, power.permute(2, 0, 1), users)
