"""What every channel model is: a frozen description that can draw channels.

Drawn with a seed, channel i depends on the seed and on i alone, whatever the size of the batch: so
solvers, shards and machines meet the same channels.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.errors import InputError, check_count

BLOCK = 64
"""Channels that share one generator; part of what a seed means, so never to be changed."""


@dataclass(frozen=True)
class ChannelModel(ABC):
    """A distribution of channels; subclasses say how to draw, this class how to be reproducible."""

    @property
    @abstractmethod
    def antennas(self) -> int:
        """Number of elements N."""

    @property
    @abstractmethod
    def users(self) -> int:
        """Number of users K."""

    @property
    @abstractmethod
    def mean_gain(self) -> float:
        """Mean power of one entry, ``E |h[k, n]|^2``."""

    @abstractmethod
    def draw(
        self, count: int, generator: torch.Generator
    ) -> Complex[Tensor, "count 1 users antennas"]:
        """Draw ``count`` channels in complex128 on the CPU; row k is ``h_k^H``."""

    def sample(
        self,
        batch: int,
        seed: int | None = None,
        generator: torch.Generator | None = None,
        *,
        start: int = 0,
        dtype: torch.dtype = torch.complex128,
        device: torch.device | str = "cpu",
    ) -> Complex[Tensor, "batch 1 users antennas"]:
        """Draw channels.

        Parameters
        ----------
        batch
            Number of channels B.
        seed
            Channel i of a seed depends on ``(seed, i)`` only.
        generator
            A CPU generator to draw from instead; exactly one of the two must be given.
        start
            Index of the first channel; with a seed only.
        dtype
            complex64 or complex128. Numbers are drawn in double precision and then rounded.
        device
            Where the result should be. The numbers are those of the CPU.

        Returns
        -------
        Tensor
            ``(B, 1, K, N)``; row k is ``h_k^H``: received ``y = h @ x``.

        Raises
        ------
        InputError
            If a count is not a whole number, or not exactly one of seed and generator is given.

        Examples
        --------
        >>> from holobeam.channels import Rayleigh
        >>> Rayleigh(antennas=16, users=2).sample(10, seed=0).shape
        torch.Size([10, 1, 2, 16])
        """
        check_count("batch", batch)
        check_count("start", start, least=0)
        if not dtype.is_complex:
            raise InputError("dtype", f"got {dtype}", "channels are complex64 or complex128")
        if seed is not None and generator is None:
            h = _sample_seeded(self, start, batch, seed)
        elif generator is not None and seed is None:
            h = _sample_stream(self, start, batch, generator)
        else:
            given = "neither" if seed is None else "both"
            raise InputError("seed", f"got {given} seed and generator", "give exactly one of them")
        return h.to(dtype=dtype, device=device)


def complex_normal(shape: tuple[int, ...], generator: torch.Generator) -> Complex[Tensor, "*shape"]:
    """Circular complex Gaussians of unit mean power, complex128."""
    return torch.randn(shape, generator=generator, dtype=torch.complex128)


def uniform(
    shape: tuple[int, ...], low: float, high: float, generator: torch.Generator
) -> Float[Tensor, "*shape"]:
    """Uniform numbers between two bounds, float64."""
    return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)


def block_generator(seed: int, block: int) -> torch.Generator:
    """Make the generator of one block of channels of a seed."""
    digest = hashlib.blake2b(f"{seed}:{block}".encode(), digest_size=8).digest()
    generator = torch.Generator()
    generator.manual_seed(int.from_bytes(digest, "little") >> 1)
    return generator


def _sample_seeded(
    model: ChannelModel, start: int, batch: int, seed: int
) -> Complex[Tensor, "batch 1 users antennas"]:
    """Draw whole blocks and cut out the channels asked for."""
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise InputError("seed", f"got {seed!r}", "it must be a whole number")
    first, last = start // BLOCK, (start + batch - 1) // BLOCK
    blocks = [model.draw(BLOCK, block_generator(seed, block)) for block in range(first, last + 1)]
    skip = start - first * BLOCK
    return torch.cat(blocks)[skip : skip + batch]


def _sample_stream(
    model: ChannelModel, start: int, batch: int, generator: torch.Generator
) -> Complex[Tensor, "batch 1 users antennas"]:
    """Draw from the caller's generator, block by block to bound the memory."""
    if start:
        raise InputError("start", f"got {start} with a generator", "only a seed has an index")
    if generator.device.type != "cpu":
        raise InputError("generator", f"it lives on {generator.device}", "need a CPU generator")
    counts = [min(BLOCK, batch - done) for done in range(0, batch, BLOCK)]
    return torch.cat([model.draw(count, generator) for count in counts])
