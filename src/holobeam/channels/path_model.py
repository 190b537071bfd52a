"""Models that know the paths of their channels."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.channels.base import BLOCK, ChannelModel, block_generator


@dataclass(frozen=True, eq=False)
class Paths:
    """Waves that a channel is the sum of.

    Attributes
    ----------
    gain
        ``(B, K, P)`` amplitudes.
    angles
        ``(B, K, P, A)`` rad; what they mean is the model's.
    delay
        ``(B, K, P)`` OFDM symbols, where there is a band.
    """

    gain: Complex[Tensor, "batch users paths"]
    angles: Float[Tensor, "batch users paths angles"]
    delay: Float[Tensor, "batch users paths"] | None = None


class PathModel(ChannelModel):
    """A model that knows the paths of its channels."""

    @abstractmethod
    def draw_paths(self, count: int, generator: torch.Generator) -> Paths:
        """Draw the paths of ``count`` channels."""

    @abstractmethod
    def combine(self, paths: Paths) -> Complex[Tensor, "batch 1 users antennas"]:
        """Channels that paths add up to."""

    def draw(
        self, count: int, generator: torch.Generator
    ) -> Complex[Tensor, "count 1 users antennas"]:
        """Draw ``count`` channels."""
        return self.combine(self.draw_paths(count, generator))

    def sample_paths(self, batch: int, seed: int, *, start: int = 0) -> Paths:
        """Paths of the channels that :meth:`sample` draws from a seed."""
        first, last = start // BLOCK, (start + batch - 1) // BLOCK
        blocks = [self.draw_paths(BLOCK, block_generator(seed, b)) for b in range(first, last + 1)]
        rows = slice(start - first * BLOCK, start - first * BLOCK + batch)
        gain = torch.cat([block.gain for block in blocks])[rows]
        delays = [block.delay for block in blocks if block.delay is not None]
        delay = torch.cat(delays)[rows] if delays else None
        return Paths(gain, torch.cat([block.angles for block in blocks])[rows], delay)
