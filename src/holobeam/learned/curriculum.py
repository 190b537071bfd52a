"""Where training problems come from: channels drawn anew for every step, from derived seeds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Int
from torch import Tensor

from holobeam.errors import InputError, check_count
from holobeam.frontends.frontend import Frontend
from holobeam.problems.downlink import Downlink
from holobeam.problems.inputs import PowerAt

Draw = Callable[[int, int, int], Tensor]
"""``(count, seed, start) -> h``: channel i of a seed depends on the seed and on i alone."""


@dataclass(frozen=True, eq=False)
class Scenario:
    """One kind of problem.

    Attributes
    ----------
    draw
        Channels ``start .. start + count - 1`` of a seed, ``(B, F, K, N)``.
    frontend
        The hardware.
    snr_db
        Lowest and highest transmit SNR; each channel is given one in between.
    power_at
        Where power is counted.
    """

    draw: Draw
    frontend: Frontend
    snr_db: tuple[float, float]
    power_at: PowerAt = "radiated"

    def problem(self, h: Complex[Tensor, "batch f k n"], snr_db: float | Tensor) -> Downlink:
        """Pose the problem for some channels."""
        power = 1.0 / self.frontend.rf_chains if self.power_at == "per_rf_chain" else 1.0
        return Downlink(h, self.frontend, snr_db=snr_db, power=power, power_at=self.power_at)


@dataclass(frozen=True, eq=False)
class Curriculum:
    """Problems of every training step.

    Attributes
    ----------
    scenarios
        A step takes one of them, by a draw of its own.
    batch
        Channels of a step.
    seed
        Of channels, SNRs and scenarios.
    samples
        Size of a fixed training set, gone through in a new order each time; None: every step
        draws channels that nobody has seen before.
    dtype, device
        Of the channels.
    """

    scenarios: tuple[Scenario, ...]
    batch: int = 128
    seed: int = 0
    samples: int | None = None
    dtype: torch.dtype = torch.complex64
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        if not self.scenarios:
            raise InputError("scenarios", "there are none", "give at least one")
        check_count("batch", self.batch)
        if self.samples is not None and check_count("samples", self.samples) < self.batch:
            wrong = f"{self.samples} samples in batches of {self.batch}"
            raise InputError("samples", wrong, "need at least one batch")

    def problem(self, step: int, first: int = 0, count: int | None = None) -> Downlink:
        """Problem of a step, or the part of its batch that one of several workers takes.

        Parameters
        ----------
        step
            Counted from 0.
        first, count
            Which channels of the batch; all of them by default.
        """
        count = self.batch - first if count is None else count
        generator = derived_generator(self.seed, step)
        choice = int(torch.randint(len(self.scenarios), (), generator=generator))
        scenario = self.scenarios[choice]
        low, high = scenario.snr_db
        spread = torch.rand(self.batch, generator=generator, dtype=torch.float64)
        snr_db = (low + (high - low) * spread)[first : first + count]
        h = self._channels(scenario, choice, step)[first : first + count]
        return scenario.problem(h.to(self.device, self.dtype), snr_db.to(self.device, h.real.dtype))

    def _channels(self, scenario: Scenario, choice: int, step: int) -> Tensor:
        seed = derived_seed(self.seed, 1_000_000_007 + choice)
        if self.samples is None:
            return scenario.draw(self.batch, seed, step * self.batch)
        rows = self._rows(step)
        # Whole blocks are drawn anyway; a set of some thousand channels is kept.
        return self._kept(scenario, seed)[rows]

    def _kept(self, scenario: Scenario, seed: int) -> Tensor:
        cache: dict[int, Tensor] = self.__dict__.setdefault("_cache", {})
        if seed not in cache:
            cache[seed] = scenario.draw(self.samples or 0, seed, 0).to(self.dtype)
        return cache[seed]

    def _rows(self, step: int) -> Int[Tensor, " batch"]:
        assert self.samples is not None
        steps = self.samples // self.batch
        epoch, place = divmod(step, steps)
        generator = derived_generator(self.seed, -1 - epoch)
        order = torch.randperm(self.samples, generator=generator)
        return order[place * self.batch : (place + 1) * self.batch]


def derived_seed(seed: int, index: int) -> int:
    """Seed that belongs to one step of a seed."""
    digest = hashlib.blake2b(f"train:{seed}:{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def derived_generator(seed: int, index: int) -> torch.Generator:
    """Generator that belongs to one step of a seed."""
    return torch.Generator().manual_seed(derived_seed(seed, index))
