"""Users that move through ray-traced paths, and paths that fade."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from holobeam import arrays
from holobeam.channels.panel import Panel
from holobeam.channels.raypaths import LINE_OF_SIGHT_TOLERANCE, RayPaths
from holobeam.errors import InputError, ShapeError, check_count
from holobeam.units import SPEED_OF_LIGHT


def headings(
    users: int, speed: float, seed: int, turn_deg: tuple[float, float] = (0.0, 360.0)
) -> Float[Tensor, "users 3"]:
    """Horizontal velocities of one speed, in random directions.

    Parameters
    ----------
    users
        Number of users U.
    speed
        m/s.
    seed
        Of the directions.
    turn_deg
        Range of the directions, degrees from the global x axis.
    """
    check_count("users", users)
    if not (math.isfinite(speed) and speed >= 0):
        raise InputError("speed", f"got {speed!r} m/s", "it must be finite and >= 0")
    generator = torch.Generator().manual_seed(seed)
    part = torch.rand(users, generator=generator, dtype=torch.float64)
    turn = torch.deg2rad(turn_deg[0] + (turn_deg[1] - turn_deg[0]) * part)
    return speed * torch.stack([turn.cos(), turn.sin(), torch.zeros_like(turn)], dim=1)


def arrival_directions(paths: RayPaths) -> Float[Tensor, "users paths 3"]:
    """Unit vectors in which waves travel when they reach the users.

    A line of sight goes on as it left. Of a reflection, departure and length are known: the bounce
    is put where one mirror gives both. Of several bounces that is one direction that fits, not
    necessarily the true one.
    """
    way = (paths.user_position - paths.bs_position).unsqueeze(1)
    length = SPEED_OF_LIGHT * paths.delay
    left = arrays.direction(paths.zenith, paths.azimuth)
    slack = length - (left * way).sum(dim=2)
    detour = length.square() - way.square().sum(dim=2)
    straight = (slack < LINE_OF_SIGHT_TOLERANCE) | (detour <= 0) | (paths.gain == 0)
    bounce = detour / (2.0 * torch.where(straight, torch.ones_like(slack), slack))
    bounce = torch.where(straight, torch.zeros_like(bounce), bounce)
    rest = way - bounce.unsqueeze(2) * left
    size = rest.square().sum(dim=2, keepdim=True).sqrt()
    return rest / torch.where(size > 0, size, torch.ones_like(size))


def moved(paths: RayPaths, velocity: Float[Tensor, "users 3"], seconds: float) -> RayPaths:
    """Paths of users that have moved for a while.

    Every path keeps its image of the base station, a mirror image behind flat walls: its length is
    the new distance from there, which turns its phase by its own Doppler shift. Lines of sight get
    their new direction; reflections keep gain and departure, which holds while users move by
    much less than their distance.

    Parameters
    ----------
    paths
        At time 0.
    velocity
        ``(U, 3)`` m/s in the global frame.
    seconds
        Time gone by.
    """
    if tuple(velocity.shape) != (paths.users, 3):
        right = f"need ({paths.users}, 3) in m/s"
        raise ShapeError("velocity", f"got shape {tuple(velocity.shape)}", right)
    if not math.isfinite(seconds):
        raise InputError("seconds", f"got {seconds!r}", "it must be finite")
    length = SPEED_OF_LIGHT * paths.delay
    step = (velocity.to(paths.delay) * seconds).unsqueeze(1)
    longer = (length.unsqueeze(2) * arrival_directions(paths) + step).square().sum(dim=2).sqrt()
    way = paths.user_position - paths.bs_position
    seen = (length - paths.distance.unsqueeze(1)).abs() < LINE_OF_SIGHT_TOLERANCE
    zenith, azimuth = _turned(way + step[:, 0])
    before_zenith, before_azimuth = _turned(way)
    return replace(
        paths,
        delay=longer / SPEED_OF_LIGHT,
        # Changes, so that the rounding of the stored angles stays what it is.
        zenith=paths.zenith + torch.where(seen, (zenith - before_zenith).unsqueeze(1), 0.0),
        azimuth=paths.azimuth + torch.where(seen, (azimuth - before_azimuth).unsqueeze(1), 0.0),
        user_position=paths.user_position + step[:, 0],
    )


def _turned(way: Tensor) -> tuple[Tensor, Tensor]:
    """Zenith and azimuth of vectors."""
    x, y, z = way.unbind(dim=1)
    return torch.atan2(torch.hypot(x, y), z), torch.atan2(y, x)


def channel_track(
    paths: RayPaths,
    panel: Panel,
    users: Int[Tensor, "batch users"],
    *,
    velocity: Float[Tensor, "all_users 3"],
    times: Float[Tensor, " slots"],
    **options: Any,
) -> Complex[Tensor, "slots batch subcarriers users antennas"]:
    """Channels of moving users, slot after slot.

    Parameters
    ----------
    paths, panel, users
        As for :meth:`RayPaths.channel`.
    velocity
        ``(U, 3)`` m/s of every user of the paths, see :func:`headings`.
    times
        ``(T,)`` seconds.
    options
        Others of :meth:`RayPaths.channel`, e.g. ``noise_dbm``.

    Notes
    -----
    Source: docs/methods.md, section 26.
    """
    distinct, place = torch.unique(users, return_inverse=True)
    chosen, velocity = paths.select(distinct), velocity[distinct]
    slots = [moved(chosen, velocity, t).channel(panel, place, **options) for t in times.tolist()]
    return torch.stack(slots)


def faded(
    paths: RayPaths,
    panel: Panel,
    users: Int[Tensor, "batch users"],
    *,
    samples: int,
    seed: int,
    **options: Any,
) -> Complex[Tensor, "samples batch subcarriers users antennas"]:
    """Channels whose paths have random phases: what is known of users for long.

    A user that moves by some wavelengths meets every combination of the phases of its paths, while
    gains and directions stay.

    Parameters
    ----------
    paths, panel, users
        As for :meth:`RayPaths.channel`.
    samples
        Number of samples S.
    seed
        Of the phases.
    options
        Others of :meth:`RayPaths.channel`.
    """
    check_count("samples", samples)
    distinct, place = torch.unique(users, return_inverse=True)
    chosen = paths.select(distinct)
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(samples):
        turn = torch.rand(chosen.gain.shape, generator=generator, dtype=torch.float64)
        turned = chosen.gain * torch.polar(torch.ones_like(turn), 2 * math.pi * turn)
        found.append(replace(chosen, gain=turned).channel(panel, place, **options))
    return torch.stack(found)
