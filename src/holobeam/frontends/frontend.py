"""Every front-end is an element-wise controlled feed network: ``A = Q * Phi``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.errors import InputError, ShapeError, check_choice, check_count, check_finite
from holobeam.frontends.element_sets import Circle, ElementSet, Interval, Plane, Points
from holobeam.frontends.feeds import block_diagonal
from holobeam.frontends.power_model import (
    DIGITAL_POWER,
    LOSSLESS,
    PHASE_SHIFTER_POWER,
    SURFACE_POWER,
    PowerModel,
)


@dataclass(frozen=True, eq=False)
class Frontend:
    """A feed network and the set that its controls live on.

    Attributes
    ----------
    feed
        Phi, complex ``(N, R)``, or ``(F, N, R)`` where it differs between subcarriers. None for a
        fully digital array, whose link is taken in the span of the channel.
    element_set
        Where each control lives.
    controls
        Controls per element: 1 (shared by all feeds) or R (one per branch).
    name
        For tables and messages.
    insertion_loss_db
        Loss between amplifier and air, dB; it scales the feed.
    power_model
        What the parts draw; nothing by default. The named front-ends below carry cited figures.
    array_size
        Antennas of a fully digital array; read from ``feed`` otherwise.
    """

    feed: Tensor | None
    element_set: ElementSet
    controls: int = 1
    name: str = "custom"
    insertion_loss_db: float = 0.0
    power_model: PowerModel = LOSSLESS
    array_size: int | None = None

    def __post_init__(self) -> None:
        if self.feed is None:
            check_count("array_size", self.array_size if self.array_size is not None else 0)
        else:
            _check_feed(self.feed)
            if self.controls not in {1, self.rf_chains}:
                raise InputError(
                    "controls",
                    f"got {self.controls}",
                    f"use 1 (shared) or rf_chains={self.rf_chains} (one per branch)",
                )
        if not 0.0 <= self.insertion_loss_db < float("inf"):
            raise InputError(
                "insertion_loss_db", f"got {self.insertion_loss_db!r}", "it must be finite and >= 0"
            )

    @property
    def is_digital(self) -> bool:
        """Whether every antenna has a chain of its own and nothing is left to control."""
        return self.feed is None

    @property
    def has_free_gain(self) -> bool:
        """Whether controls may be of any size: power at the feeds then bounds nothing."""
        return isinstance(self.element_set, Plane)

    @property
    def antennas(self) -> int:
        """Number of elements N."""
        return int(self.feed.shape[-2]) if self.feed is not None else int(self.array_size or 0)

    @property
    def rf_chains(self) -> int:
        """Number of RF chains R (N for a fully digital array)."""
        return int(self.feed.shape[-1]) if self.feed is not None else self.antennas

    @property
    def loss_amplitude(self) -> float:
        """Amplitude factor of the insertion loss."""
        return float(10.0 ** (-self.insertion_loss_db / 20.0))

    def scaled_feed(self) -> Complex[Tensor, "subcarriers antennas rf_chains"]:
        """Feed as ``(F or 1, N, R)`` with the insertion loss applied."""
        if self.feed is None:
            raise InputError(
                "frontend",
                "a fully digital array has no feed",
                "take the link in the span of the channel",
            )
        feed = self.feed if self.feed.ndim == 3 else self.feed.unsqueeze(0)
        return feed * self.loss_amplitude if self.insertion_loss_db else feed

    def analog(
        self, control: Complex[Tensor, "batch antennas controls"]
    ) -> Complex[Tensor, "batch subcarriers antennas rf_chains"]:
        """Analog beamformer ``A = Q * Phi``; the subcarrier axis is 1 for a flat feed."""
        return control.unsqueeze(1) * self.scaled_feed()

    def branches(
        self, digital: Complex[Tensor, "batch subcarriers rf_chains users"]
    ) -> Complex[Tensor, "batch subcarriers antennas controls users"]:
        """What each control lets through, D: the radiated rows are ``sum_c q[n, c] D[n, c]``.

        ``Phi V`` where one control is shared by all feeds, ``Phi[n, r] V[r]`` on each branch.
        """
        feed = self.scaled_feed()
        if self.controls == 1:
            return (feed @ digital).unsqueeze(3)
        return feed.unsqueeze(3) * digital.unsqueeze(2)

    def project(self, control: Tensor) -> Tensor:
        """Nearest controls that the hardware can set."""
        return self.element_set.project(control)

    def sample(
        self, batch: int, generator: torch.Generator, dtype: torch.dtype, device: torch.device
    ) -> Complex[Tensor, "batch antennas controls"]:
        """Random controls, the same for every channel of the batch.

        They are drawn without a batch axis, so that a channel's numbers don't depend on its mates.
        """
        shape = (self.antennas, self.controls)
        one = self.element_set.sample(shape, generator, dtype).to(device)
        return one.expand(batch, *shape).clone()

    def violation(self, control: Tensor) -> Float[Tensor, " batch"]:
        """Largest distance of a control from its set, per channel."""
        return self.element_set.violation(control).flatten(1).amax(dim=1)

    def dc_power(self, amplifier_output: Tensor) -> Tensor:
        """DC power in mW from the power that leaves the amplifiers in mW."""
        controls = 0 if self.is_digital else self.antennas * self.controls
        return self.power_model.total(amplifier_output, self.rf_chains, controls)

    def to(self, like: Tensor) -> Frontend:
        """Move the feed to the dtype and device of a complex tensor; the last move is kept."""
        feed = self.feed
        if feed is None or (feed.dtype, feed.device) == (like.dtype, like.device):
            return self
        if feed.requires_grad or feed.is_inference():
            return replace(self, feed=feed.to(dtype=like.dtype, device=like.device))
        # The version tells whether anybody has written to the feed since.
        key = (like.dtype, like.device, feed._version)
        kept: tuple[Any, Frontend] | None = self.__dict__.get("_moved")
        if kept is None or kept[0] != key:
            kept = key, replace(self, feed=feed.to(dtype=like.dtype, device=like.device))
            self.__dict__["_moved"] = kept
        return kept[1]

    def with_power_model(
        self, power_model: PowerModel, insertion_loss_db: float | None = None
    ) -> Frontend:
        """Copy of the front-end with other consumption and, where given, another loss."""
        loss = self.insertion_loss_db if insertion_loss_db is None else insertion_loss_db
        return replace(self, power_model=power_model, insertion_loss_db=loss)


def _check_feed(feed: Tensor) -> None:
    if feed.ndim not in {2, 3}:
        raise ShapeError("feed", f"got shape {tuple(feed.shape)}", "need (N, R) or (F, N, R)")
    if not feed.is_complex():
        raise InputError("feed", f"got dtype {feed.dtype}", "it must be complex")
    if 0 in feed.shape:
        raise ShapeError("feed", f"got shape {tuple(feed.shape)}", "no axis may be empty")
    check_finite("feed", feed)


def rhs(feed: Complex[Tensor, "antennas rf_chains"], levels: int | None = None) -> Frontend:
    """Make a reconfigurable holographic surface.

    Parameters
    ----------
    feed
        Reference wave, see :func:`holobeam.frontends.reference_wave`.
    levels
        None for any amplitude in [0, 1], else so many equal steps (2 is on/off).
    """
    if levels is None:
        return Frontend(feed, Interval(0.0, 1.0), 1, "rhs", power_model=SURFACE_POWER)
    name = "rhs-binary" if levels == 2 else f"rhs-{levels}level"
    return Frontend(feed, Points.amplitudes(levels), 1, name, power_model=SURFACE_POWER)


def dma(
    feed: Complex[Tensor, "antennas rf_chains"],
    control: Literal["lorentzian", "binary"] = "lorentzian",
) -> Frontend:
    """Make a dynamic metasurface antenna: Lorentzian circle ``(j + exp(j phi)) / 2`` or on/off."""
    control = check_choice("control", control, ("lorentzian", "binary"))
    if control == "binary":
        return Frontend(feed, Points((0.0, 1.0)), 1, "dma-binary", power_model=SURFACE_POWER)
    return Frontend(feed, Circle(0.5j, 0.5), 1, "dma", power_model=SURFACE_POWER)


def phase_shifters(
    antennas: int,
    rf_chains: int,
    connection: Literal["full", "sub"] = "full",
    bits: int | None = None,
) -> Frontend:
    """Make a phase-shifter network.

    Parameters
    ----------
    antennas, rf_chains
        N and R.
    connection
        ``full``: every chain reaches every antenna through a shifter of its own; ``sub``: each
        chain drives ``N / R`` antennas.
    bits
        None for any phase, else ``2 ** bits`` phases.
    """
    feed, controls, ending = _branches(antennas, rf_chains, connection)
    element_set: ElementSet = Circle() if bits is None else Points.phases(bits)
    name = f"phase-shifters{ending}" + ("" if bits is None else f"-{bits}bit")
    return Frontend(feed, element_set, controls, name, power_model=PHASE_SHIFTER_POWER)


def vector_modulators(
    antennas: int, rf_chains: int, connection: Literal["full", "sub"] = "full"
) -> Frontend:
    """Make a network of vector modulators: any gain and any phase on every branch.

    Parameters
    ----------
    antennas, rf_chains
        N and R.
    connection
        As for :func:`phase_shifters`.

    Notes
    -----
    Gains are relative to what is radiated, so only ``power_at="radiated"`` makes sense. What a
    modulator draws is not known here: the power model counts nothing until you give one with
    :meth:`Frontend.with_power_model`.
    """
    feed, controls, ending = _branches(antennas, rf_chains, connection)
    return Frontend(feed, Plane(), controls, f"vector-modulators{ending}")


def _branches(antennas: int, rf_chains: int, connection: str) -> tuple[Tensor, int, str]:
    """Feed, controls per antenna and ending of the name: a part of its own on each branch."""
    check_count("antennas", antennas)
    check_count("rf_chains", rf_chains)
    if check_choice("connection", connection, ("full", "sub")) == "full":
        return torch.ones(antennas, rf_chains, dtype=torch.complex128), rf_chains, ""
    if antennas % rf_chains:
        raise InputError(
            "antennas",
            f"{antennas} is not a multiple of rf_chains={rf_chains}",
            "a sub-connected array splits its antennas evenly",
        )
    ones = torch.ones(antennas // rf_chains, 1, dtype=torch.complex128)
    return block_diagonal(ones, rf_chains), 1, "-sub"


def fully_digital(antennas: int) -> Frontend:
    """Make an array with one RF chain behind every antenna: the bound for all others."""
    check_count("antennas", antennas)
    return Frontend(
        None, Points((1.0,)), 1, "digital", power_model=DIGITAL_POWER, array_size=antennas
    )
