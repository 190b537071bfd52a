"""Decibels, milliwatts, noise power and wavelength.

Physical powers are in milliwatts throughout holobeam, so that 0 dBm is 1.
"""

from __future__ import annotations

import math
from typing import TypeVar

from torch import Tensor

from holobeam.errors import InputError

Number = TypeVar("Number", float, Tensor)

SPEED_OF_LIGHT = 299_792_458.0
"""Metres per second."""

THERMAL_NOISE_DBM_PER_HZ = -174.0
"""Thermal noise density at 290 K, rounded as 3GPP link budgets do."""


def db_to_linear(decibels: Number) -> Number:
    """Convert a power ratio from decibels: ``10 ** (decibels / 10)``."""
    ratio: Number = 10.0 ** (decibels / 10.0)
    return ratio


def linear_to_db(ratio: Number) -> Number:
    """Convert a power ratio to decibels: ``10 log10(ratio)``; zero gives minus infinity."""
    if isinstance(ratio, Tensor):
        return 10.0 * ratio.log10()
    if ratio < 0:
        raise InputError("ratio", f"got {ratio:g}", "a power ratio can't be negative")
    return 10.0 * math.log10(ratio) if ratio > 0 else -math.inf


def dbm_to_mw(dbm: Number) -> Number:
    """Convert dBm to milliwatts."""
    return db_to_linear(dbm)


def mw_to_dbm(milliwatts: Number) -> Number:
    """Convert milliwatts to dBm."""
    return linear_to_db(milliwatts)


def noise_power_dbm(bandwidth: float, noise_figure_db: float = 0.0) -> float:
    """Thermal noise power of a receiver.

    Parameters
    ----------
    bandwidth
        Hz.
    noise_figure_db
        Noise figure of the receiver, dB.

    Returns
    -------
    float
        dBm: ``-174 + 10 log10(bandwidth) + noise_figure_db``.

    Examples
    --------
    >>> noise_power_dbm(100e6, 9.0)
    -85.0
    """
    if not bandwidth > 0:
        raise InputError("bandwidth", f"got {bandwidth!r} Hz", "it must be positive")
    return THERMAL_NOISE_DBM_PER_HZ + 10.0 * math.log10(bandwidth) + noise_figure_db


def wavelength(frequency: float) -> float:
    """Free-space wavelength in metres of a frequency in Hz."""
    if not frequency > 0:
        raise InputError("frequency", f"got {frequency!r} Hz", "it must be positive")
    return SPEED_OF_LIGHT / frequency
