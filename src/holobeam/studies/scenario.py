"""Front-ends and operating points as study files describe them, and how they are built."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from holobeam.arrays import Array
from holobeam.errors import InputError
from holobeam.frontends import registry
from holobeam.frontends.feeds import (
    MICROSTRIP_ATTENUATION,
    MICROSTRIP_WAVENUMBER,
    FeedLayout,
    feed_positions,
    microstrips,
    reference_wave,
    strips_of_array,
)
from holobeam.frontends.frontend import (
    Frontend,
    dma,
    fully_digital,
    phase_shifters,
    rhs,
    vector_modulators,
)
from holobeam.problems.downlink import Downlink
from holobeam.problems.inputs import Budget, PowerAt, Utility
from holobeam.problems.multicell import MultiCell
from holobeam.solvers.base import AnyProblem
from holobeam.studies.channel_tables import Table
from holobeam.studies.source import Source
from holobeam.units import dbm_to_mw


class FrontendTable(Table):
    """What every front-end table has in common."""

    rf_chains: PositiveInt = 4
    insertion_loss_db: Annotated[float, Field(ge=0)] = 0.0

    def build(self, source: Source) -> Frontend:
        """Make the front-end for the array of some channels."""
        frontend = self._bare(source)
        if self.insertion_loss_db:
            frontend = frontend.with_power_model(frontend.power_model, self.insertion_loss_db)
        return frontend

    def _bare(self, source: Source) -> Frontend:
        raise NotImplementedError


class Surface(FrontendTable):
    """A holographic surface."""

    kind: Literal["rhs"]
    feeds: FeedLayout = "edge"
    levels: Annotated[int, Field(ge=2)] | None = None
    index: PositiveFloat = 3**0.5
    squint: bool = False

    def _bare(self, source: Source) -> Frontend:
        array = source.array
        feeds = feed_positions(array, self.rf_chains, self.feeds)

        def wave(relative: float) -> Tensor:
            return reference_wave(array.positions, feeds, array.wavelength / relative, self.index)

        return rhs(_over_band(wave, source, self.squint), self.levels)


class Metasurface(FrontendTable):
    """A dynamic metasurface antenna."""

    kind: Literal["dma"]
    control: Literal["lorentzian", "binary"] = "lorentzian"
    feeding: Literal["left", "centre"] = "left"
    split_power: bool = False
    strips: Literal["columns", "rows"] = "columns"
    attenuation: Annotated[float, Field(ge=0)] = MICROSTRIP_ATTENUATION
    wavenumber: PositiveFloat = MICROSTRIP_WAVENUMBER
    squint: bool = False

    def _bare(self, source: Source) -> Frontend:
        array = source.array

        def wave(relative: float) -> Tensor:
            guide = {"attenuation": self.attenuation, "wavenumber": self.wavenumber * relative}
            if self.strips == "columns" and self.feeding == "left":
                return strips_of_array(array, self.rf_chains, **guide)
            return microstrips(
                self.rf_chains,
                _elements_a_strip(array, self.rf_chains),
                array.spacing,
                self.feeding,
                split_power=self.split_power,
                **guide,
            )

        return dma(_over_band(wave, source, self.squint), self.control)


class PhaseShifters(FrontendTable):
    """Phase shifters, fully or sub-connected."""

    kind: Literal["phase-shifters"]
    connection: Literal["full", "sub"] = "full"
    bits: PositiveInt | None = None

    def _bare(self, source: Source) -> Frontend:
        return phase_shifters(source.array.antennas, self.rf_chains, self.connection, self.bits)


class VectorModulators(FrontendTable):
    """Vector modulators, fully or sub-connected."""

    kind: Literal["vector-modulators"]
    connection: Literal["full", "sub"] = "full"

    def _bare(self, source: Source) -> Frontend:
        return vector_modulators(source.array.antennas, self.rf_chains, self.connection)


class Digital(FrontendTable):
    """A chain behind every antenna."""

    kind: Literal["digital"]

    def _bare(self, source: Source) -> Frontend:
        return fully_digital(source.array.antennas)


class Registered(FrontendTable):
    """A front-end by the name that it is registered under, third parties' included."""

    kind: Literal["registered"]
    name: str

    def _bare(self, source: Source) -> Frontend:
        return registry.build(self.name, source.array, self.rf_chains)


FrontendChoice = Annotated[
    Surface | Metasurface | PhaseShifters | VectorModulators | Digital | Registered,
    Field(discriminator="kind"),
]


def _over_band(wave: Callable[[float], Tensor], source: Source, squint: bool) -> Tensor:
    """One feed for all subcarriers, or one each where the guided wave squints."""
    if not squint or source.relative_frequency is None:
        return wave(1.0)
    return torch.stack([wave(float(relative)) for relative in source.relative_frequency])


def _elements_a_strip(array: Array, rf_chains: int) -> int:
    if array.antennas % rf_chains:
        raise InputError(
            "rf_chains",
            f"{rf_chains} strips of {array.antennas} elements",
            "the number of elements must be a multiple of rf_chains",
        )
    return array.antennas // rf_chains


class Operation(Table):
    """Where a problem is operated: power, noise, and what is maximised."""

    snr_db: float | None = None
    power_dbm: float | None = None
    power_at: PowerAt = "radiated"
    budget: Budget = "mean"
    utility: Utility = "sum_rate"
    streams: PositiveInt = 1
    dtype: Literal["complex128", "complex64"] = "complex128"

    def problem(self, source: Source, frontend: Frontend) -> AnyProblem:
        """Pose the problem of designing a front-end for some channels.

        Under limits per RF chain each chain of several cells may spend the power of a cell over
        its elements, the same for every kind of hardware.
        """
        h = source.h.to(getattr(torch, self.dtype))
        if h.ndim == 6:
            return self._of_cells(h, source, frontend)
        if self.streams != 1:
            raise InputError(
                "problem.streams", f"got {self.streams}", "users with one antenna take one stream"
            )
        shared: dict[str, Any] = {
            "power_at": self.power_at,
            "budget": self.budget,
            "utility": self.utility,
        }
        if source.physical:
            power = self._dbm_in_mw()
            if self.power_at == "per_rf_chain":
                power /= frontend.rf_chains
            return Downlink(h, frontend, noise_power=1.0, power=power, **shared)
        if self.snr_db is None:
            raise InputError(
                "problem.snr_db", "missing, and these channels are normalised", "give it in dB"
            )
        power = 1.0 / frontend.rf_chains if self.power_at == "per_rf_chain" else 1.0
        return Downlink(h, frontend, snr_db=self.snr_db, power=power, **shared)

    def _of_cells(self, h: Tensor, source: Source, frontend: Frontend) -> MultiCell:
        power = self._dbm_in_mw()
        shared: dict[str, Any] = {"streams": self.streams, "utility": self.utility}
        if self.power_at == "per_rf_chain":
            limit = power / source.array.antennas
            return MultiCell(h, frontend, power_per_rf_chain=limit, **shared)
        return MultiCell(h, frontend, power=power, power_at=self.power_at, **shared)

    def _dbm_in_mw(self) -> float:
        if self.power_dbm is None:
            raise InputError(
                "problem.power_dbm",
                "missing, and these channels carry a link budget",
                "give it in dBm",
            )
        return float(dbm_to_mw(self.power_dbm))
