"""What a front-end draws from the mains: chains, shifters, elements and amplifiers."""

from __future__ import annotations

from dataclasses import dataclass, fields

from torch import Tensor

from holobeam.errors import InputError


@dataclass(frozen=True)
class PowerModel:
    """Consumption of the parts of a transmitter, in milliwatts.

    Attributes
    ----------
    rf_chain
        One chain: DAC, mixers, filters, its share of the oscillator.
    control
        One control (phase shifter or tunable element).
    fixed
        Everything that is there once (baseband, oscillator).
    amplifier_efficiency
        Radio-frequency power out over DC power in, 0 to 1.
    """

    rf_chain: float = 0.0
    control: float = 0.0
    fixed: float = 0.0
    amplifier_efficiency: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0.0 <= value < float("inf"):
                raise InputError(field.name, f"got {value!r}", "it must be finite and >= 0")
        if not 0.0 < self.amplifier_efficiency <= 1.0:
            raise InputError(
                "amplifier_efficiency",
                f"got {self.amplifier_efficiency!r}",
                "it must lie in (0, 1]",
            )

    def total(self, amplifier_output: Tensor, rf_chains: int, controls: int) -> Tensor:
        """DC power in mW, given the radio-frequency power that leaves the amplifiers in mW."""
        static = self.fixed + rf_chains * self.rf_chain + controls * self.control
        return static + amplifier_output / self.amplifier_efficiency


LOSSLESS = PowerModel()
"""Draws what it radiates: with it, rate against DC power is rate against radiated power."""

_AMPLIFIER = 0.27
_CHAIN, _BASEBAND, _SHIFTER, _TUNABLE_ELEMENT = 240.0, 200.0, 30.0, 1.5

DIGITAL_POWER = PowerModel(_CHAIN, 0.0, _BASEBAND, _AMPLIFIER)
PHASE_SHIFTER_POWER = PowerModel(_CHAIN, _SHIFTER, _BASEBAND, _AMPLIFIER)
SURFACE_POWER = PowerModel(_CHAIN, _TUNABLE_ELEMENT, _BASEBAND, _AMPLIFIER)
"""Defaults of the front-ends, in mW: orders of magnitude, to be replaced by your own hardware's.

An RF chain with its converter 40 + 200, baseband 200, active phase shifter 30: Mendez-Rial et al.,
"Hybrid MIMO architectures for millimeter wave communications: phase shifters or switches?", IEEE
Access 2016. Amplifier efficiency 27 %: Ribeiro et al., "Energy efficiency of mmWave massive MIMO
precoding with low-resolution DACs", IEEE JSTSP 2018. Tunable element 1.5: Huang et al.,
"Reconfigurable intelligent surfaces for energy efficiency in wireless communication", IEEE TWC
2019 (3-bit element).
"""
