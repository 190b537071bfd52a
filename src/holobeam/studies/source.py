"""Channels together with the array that they belong to."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.arrays import Array
from holobeam.frontends.frontend import Frontend
from holobeam.problems.downlink import Downlink
from holobeam.units import dbm_to_mw


@dataclass(frozen=True, eq=False)
class Source:
    """Channels with the array that they belong to.

    Attributes
    ----------
    h
        ``(B, F, K, N)``.
    array
        Elements, for front-ends that need their places.
    physical
        Whether channels carry a link budget (powers in dBm) or are normalised (SNR in dB).
    description
        One line.
    relative_frequency
        ``(F,)`` subcarrier over carrier frequency, for feeds that squint; None where unknown.
    """

    h: Complex[Tensor, "batch subcarriers users antennas"]
    array: Array
    physical: bool
    description: str
    relative_frequency: Float[Tensor, " subcarriers"] | None = None

    @classmethod
    def drawn(cls, h: Tensor, array: Array, name: str) -> Source:
        """Normalised channels of a model."""
        return cls(h, array, False, f"{name}; {h.shape[0]} channels of {h.shape[2]} users")

    def problem(
        self, h: Tensor, frontend: Frontend, point: Tensor, utility: str = "sum_rate"
    ) -> Downlink:
        """Problem at operating points in dBm (physical) or dB of transmit SNR."""
        if self.physical:
            power = dbm_to_mw(point)
            return Downlink(h, frontend, noise_power=1.0, power=power, utility=utility)  # type: ignore[arg-type]
        return Downlink(h, frontend, snr_db=point, utility=utility)  # type: ignore[arg-type]
