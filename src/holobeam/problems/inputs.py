"""Turn what users pass to a problem into checked tensors of known shape."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Complex
from torch import Tensor

from holobeam.errors import InputError, ShapeError, check_choice, check_finite, check_positive
from holobeam.frontends.frontend import Frontend

PowerAt = Literal["radiated", "feeds", "per_rf_chain"]
Budget = Literal["mean", "each"]
Utility = Literal["sum_rate", "proportional_fair"]

_PLACES: tuple[PowerAt, ...] = ("radiated", "feeds", "per_rf_chain")
_BUDGETS: tuple[Budget, ...] = ("mean", "each")
_UTILITIES: tuple[Utility, ...] = ("sum_rate", "proportional_fair")


def channels(name: str, h: Tensor) -> Tensor:
    """Return channels as ``(B, F, K, N)`` complex64 or complex128."""
    axes = ("batch", "subcarriers", "users", "antennas")
    right = "(batch, subcarriers, users, antennas) or (batch, users, antennas)"
    return channel_tensor(name, h, (3, 4), right, axes)


def channel_tensor(
    name: str, h: Tensor, ranks: tuple[int, ...], right: str, axes: tuple[str, ...]
) -> Tensor:
    """Return a finite complex tensor of one of the ranks, without empty axes."""
    if not isinstance(h, Tensor):
        raise InputError(name, f"got {type(h).__name__}", "need a complex torch.Tensor")
    if h.dtype not in {torch.complex64, torch.complex128}:
        raise InputError(name, f"got dtype {h.dtype}", "need complex64 or complex128")
    if h.ndim not in ranks:
        wrong = f"got shape {tuple(h.shape)} with {h.ndim} axes"
        raise ShapeError(name, wrong, f"need {right}")
    h = h.unsqueeze(1) if h.ndim < len(axes) else h
    empty = [axis for axis, size in zip(axes, h.shape, strict=True) if size == 0]
    if empty:
        raise ShapeError(name, f"got shape {tuple(h.shape)}", f"axis {empty[0]} is empty")
    return check_finite(name, h)


def true_channels(true_h: Tensor, h: Tensor) -> Tensor:
    """Return the true channels, of the same shape, dtype and device as the estimate."""
    true_h = channels("true_h", true_h)
    if true_h.shape != h.shape:
        raise ShapeError(
            "true_h", f"got shape {tuple(true_h.shape)}", f"need that of h, {tuple(h.shape)}"
        )
    return true_h.to(h)


def frontend_fits(frontend: Frontend, h: Tensor) -> None:
    """Raise unless the front-end has as many elements (and subcarriers) as the channels."""
    if not isinstance(frontend, Frontend):
        raise InputError(
            "frontend",
            f"got {type(frontend).__name__}",
            "need a Frontend, e.g. from holobeam.frontends",
        )
    if frontend.antennas != h.shape[3]:
        raise ShapeError(
            "h",
            f"its last axis has {h.shape[3]} antennas, the {frontend.name} front-end has "
            f"{frontend.antennas}",
            "they must agree (h is (batch, subcarriers, users, antennas))",
        )
    feed = frontend.feed
    if feed is not None and feed.ndim == 3 and feed.shape[0] not in {1, h.shape[1]}:
        raise ShapeError(
            "frontend",
            f"its feed has {feed.shape[0]} subcarriers, h has {h.shape[1]}",
            "they must agree",
        )


def power_place(value: str, frontend: Frontend) -> PowerAt:
    """Return where power is counted: at what is radiated, where gains are unlimited."""
    place: PowerAt = check_choice("power_at", value, _PLACES)
    if place != "radiated" and frontend.has_free_gain:
        raise InputError(
            "power_at",
            f"got {place!r} with {frontend.name}, whose gain is unlimited",
            'power at the feeds bounds nothing there; use power_at="radiated"',
        )
    return place


def budget(value: str) -> Budget:
    """Return over what the budget holds."""
    return check_choice("budget", value, _BUDGETS)


def utility(value: str) -> Utility:
    """Return what is maximised."""
    return check_choice("utility", value, _UTILITIES)


def power(value: float | Tensor, place: str, h: Tensor, frontend: Frontend) -> Tensor:
    """Return budgets ``(B,)``, or ``(B, R)`` under per-chain limits."""
    batch = h.shape[0]
    tensor = check_positive("power", real_tensor("power", value, h))
    if place != "per_rf_chain":
        return broadcast("power", tensor, (batch,), h)
    chains = frontend.rf_chains
    if tensor.ndim == 1 and tensor.shape[0] == batch and batch != chains:
        tensor = tensor.unsqueeze(1)
    return broadcast("power", tensor, (batch, chains), h)


def noise(
    snr_db: float | Tensor | None,
    noise_power: float | Tensor | None,
    watts: Tensor,
    h: Tensor,
    place: str,
) -> Tensor:
    """Return noise powers ``(B, K)`` from an SNR or from the powers themselves."""
    if (snr_db is None) == (noise_power is None):
        got = "neither was given" if snr_db is None else "both were given"
        raise InputError("snr_db", f"of snr_db and noise_power {got}", "give exactly one of them")
    shape = (h.shape[0], h.shape[2])
    if noise_power is not None:
        tensor = check_positive("noise_power", real_tensor("noise_power", noise_power, h))
        return broadcast("noise_power", tensor, shape, h)
    tensor = check_finite("snr_db", real_tensor("snr_db", snr_db if snr_db is not None else 0.0, h))
    total = watts.sum(dim=1) if place == "per_rf_chain" else watts
    ratio = 10.0 ** (-broadcast("snr_db", tensor, (h.shape[0],), h) / 10.0)
    return (total * ratio).unsqueeze(1).expand(shape).contiguous()


def weights(value: Tensor | None, h: Tensor) -> Tensor:
    """Return user weights ``(B, K)``."""
    return user_weights(value, (h.shape[0], h.shape[2]), h)


def user_weights(value: Tensor | None, shape: tuple[int, ...], h: Tensor) -> Tensor:
    """Return user weights of a shape, >= 0 and not all 0."""
    if value is None:
        return torch.ones(shape, dtype=h.real.dtype, device=h.device)
    tensor = check_finite("weights", real_tensor("weights", value, h))
    if bool((tensor < 0).any()) or not bool((tensor > 0).any()):
        raise InputError(
            "weights",
            f"smallest {float(tensor.min()):g}, largest {float(tensor.max()):g}",
            "need weights >= 0, at least one positive",
        )
    return broadcast("weights", tensor, shape, h)


def variance(value: float | Tensor | None, shape: tuple[int, ...], h: Tensor) -> Tensor | None:
    """Return the error variance of each user's entries, or None where nothing is known of it."""
    if value is None:
        return None
    tensor = check_finite("error_variance", real_tensor("error_variance", value, h))
    if bool((tensor < 0).any()):
        raise InputError("error_variance", f"got {float(tensor.min()):g}", "it must be >= 0")
    return broadcast("error_variance", tensor, shape, h)


def real_tensor(name: str, value: float | Tensor, h: Tensor) -> Tensor:
    """Return a number or real tensor in the precision and on the device of h."""
    # A Python number must not pass through torch's default single precision.
    tensor = value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=torch.float64)
    if tensor.is_complex():
        raise InputError(name, f"got dtype {tensor.dtype}", "need a real number or tensor")
    return tensor.to(dtype=h.real.dtype, device=h.device)


def broadcast(name: str, tensor: Tensor, shape: tuple[int, ...], h: Tensor) -> Tensor:
    """Expand to a shape, or say what would broadcast."""
    try:
        return tensor.expand(shape).contiguous()
    except RuntimeError:
        raise ShapeError(
            name,
            f"got shape {tuple(tensor.shape)}",
            f"need a number or something that broadcasts to {shape}",
        ) from None


def span(h: Complex[Tensor, "batch subcarriers users antennas"]) -> Tensor:
    """Orthonormal basis of the rows of H, ``(B, F, N, min(K, N))``."""
    basis: Tensor = torch.linalg.qr(h.mH)[0]
    return basis.resolve_conj().contiguous()
