"""Turn what users pass to a multi-cell problem into checked tensors of known shape."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from holobeam.errors import InputError, ShapeError, check_choice, check_count, check_positive
from holobeam.frontends.frontend import Frontend
from holobeam.problems.inputs import PowerAt, broadcast, channel_tensor, real_tensor, user_weights

AXES = ("batch", "cells", "cells", "users", "receivers", "antennas")


def channels(name: str, h: Tensor) -> Tensor:
    """Return channels as ``(B, L, L, K, M, N)`` complex64 or complex128."""
    h = channel_tensor(name, h, (6,), f"({', '.join(AXES)})", AXES)
    if h.shape[1] != h.shape[2]:
        raise ShapeError(
            name,
            f"got shape {tuple(h.shape)}: {h.shape[1]} base stations, {h.shape[2]} cells of users",
            "axes 1 (base station) and 2 (cell of the user) must agree; pad cells without users",
        )
    return h


def true_channels(true_h: Tensor, h: Tensor) -> Tensor:
    """Return the true channels, of the same shape, dtype and device as the estimate."""
    true_h = channels("true_h", true_h)
    if true_h.shape != h.shape:
        raise ShapeError(
            "true_h", f"got shape {tuple(true_h.shape)}", f"need that of h, {tuple(h.shape)}"
        )
    return true_h.to(h)


def frontends(given: Frontend | Sequence[Frontend], h: Tensor) -> tuple[Frontend, ...]:
    """Return one front-end, or one per cell, that fit the channels and one another."""
    several = (given,) if isinstance(given, Frontend) else tuple(given)
    if not several or not all(isinstance(one, Frontend) for one in several):
        raise InputError(
            "frontend",
            f"got {type(given).__name__}",
            "need a Frontend or one per cell, e.g. from holobeam.frontends",
        )
    cells, antennas = h.shape[1], h.shape[5]
    if len(several) not in {1, cells}:
        raise ShapeError(
            "frontend", f"got {len(several)} front-ends", f"need one, or one for each of {cells}"
        )
    first = several[0]
    for one in several:
        if one.antennas != antennas:
            raise ShapeError(
                "h",
                f"its last axis has {antennas} antennas, the {one.name} front-end has "
                f"{one.antennas}",
                f"they must agree (h is ({', '.join(AXES)}))",
            )
        if one.feed is not None and one.feed.ndim == 3 and one.feed.shape[0] != 1:
            raise ShapeError(
                "frontend",
                f"its feed has {one.feed.shape[0]} subcarriers",
                "multi-cell problems have one; give a feed of shape (N, R)",
            )
        same = (one.rf_chains, one.controls, one.is_digital) == (
            first.rf_chains, first.controls, first.is_digital,
        )  # fmt: skip
        if not same or one.element_set != first.element_set:
            raise InputError(
                "frontend",
                f"{one.name} and {first.name} differ in RF chains, controls or element set",
                "cells may differ in their feeds, losses and power models only",
            )
    return tuple(one.to(h) for one in several)


def budgets(
    power: float | Tensor | None,
    power_per_rf_chain: float | Tensor | None,
    power_at: str | None,
    h: Tensor,
    chains: int,
) -> tuple[Tensor, PowerAt]:
    """Return budgets ``(B, L)``, or ``(B, L, R)`` under per-chain limits, and where they count."""
    if (power is None) == (power_per_rf_chain is None):
        got = "neither was given" if power is None else "both were given"
        raise InputError("power", f"of power and power_per_rf_chain {got}", "give exactly one")
    batch, cells = h.shape[:2]
    if power_per_rf_chain is not None:
        if power_at not in {None, "per_rf_chain"}:
            raise InputError(
                "power_at", f"got {power_at!r} with power_per_rf_chain", "leave it out there"
            )
        tensor = check_positive("power_per_rf_chain", real_tensor("power", power_per_rf_chain, h))
        return broadcast("power_per_rf_chain", tensor, (batch, cells, chains), h), "per_rf_chain"
    places: tuple[PowerAt, ...] = ("feeds", "radiated")
    place = check_choice("power_at", power_at if power_at is not None else "feeds", places)
    tensor = check_positive("power", real_tensor("power", power if power is not None else 1.0, h))
    return broadcast("power", tensor, (batch, cells), h), place


def noise(value: float | Tensor, h: Tensor) -> Tensor:
    """Return noise powers ``(B, L, K)``."""
    tensor = check_positive("noise_power", real_tensor("noise_power", value, h))
    return broadcast("noise_power", tensor, (h.shape[0], *h.shape[2:4]), h)


def weights(value: Tensor | None, h: Tensor) -> Tensor:
    """Return user weights ``(B, L, K)``."""
    return user_weights(value, (h.shape[0], *h.shape[2:4]), h)


def streams(value: int, h: Tensor) -> int:
    """Return the streams of each user: at most its antennas."""
    check_count("streams", value)
    if value > h.shape[4]:
        raise InputError(
            "streams",
            f"got {value} for users with {h.shape[4]} antennas",
            "a user can't separate more streams than it has antennas",
        )
    return value


def present(h: Tensor) -> Tensor:
    """Whether each user has a channel from anywhere, ``(B, L, K)``."""
    return torch.as_tensor((h != 0).any(dim=5).any(dim=4).any(dim=1))
