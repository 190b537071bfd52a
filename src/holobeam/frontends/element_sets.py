"""What every controlled element lives on: an interval, a circle, a list of points, or the plane.

An element set knows its nearest member, which is the exact minimiser over the set of every
isotropic quadratic ``a |q - z|^2``. A new kind of hardware is a feed and one of these sets, or any
object with the same methods.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.errors import InputError

KernelCode = tuple[int, tuple[complex, ...]]


@runtime_checkable
class ElementSet(Protocol):
    """What the rest of the house needs to know of a set of control values."""

    def project(self, z: Complex[Tensor, "*shape"]) -> Complex[Tensor, "*shape"]:
        """Nearest members."""
        ...

    def sample(
        self, shape: Sequence[int], generator: torch.Generator, dtype: torch.dtype
    ) -> Complex[Tensor, "*shape"]:
        """Members drawn at random, on the CPU."""
        ...

    def violation(self, q: Complex[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Distance of each entry from the set; 0 for members."""
        ...


@dataclass(frozen=True)
class Interval:
    """Real controls between two bounds: amplitudes, ``[0, 1]`` by default."""

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise InputError("high", f"got {self.high!r} with low={self.low!r}", "need low < high")

    def project(self, z: Complex[Tensor, "*shape"]) -> Complex[Tensor, "*shape"]:
        """Clip the real part to the bounds."""
        return z.real.clamp(self.low, self.high).to(z.dtype)

    def sample(
        self, shape: Sequence[int], generator: torch.Generator, dtype: torch.dtype
    ) -> Complex[Tensor, "*shape"]:
        """Draw uniformly between the bounds (which must be finite)."""
        if not math.isfinite(self.high - self.low):
            raise InputError(
                "high",
                f"interval [{self.low}, {self.high}]",
                "only a bounded interval can be sampled",
            )
        draw = torch.rand(tuple(shape), generator=generator, dtype=torch.float64)
        return (self.low + (self.high - self.low) * draw).to(dtype)

    def violation(self, q: Complex[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Distance from the interval, imaginary parts included."""
        return (q - self.project(q)).abs()

    def relaxation(self) -> Interval:
        """Itself: an interval is already continuous."""
        return self

    def kernel_code(self) -> KernelCode:
        """Kind and parameters for the compiled sweep."""
        return 0, (complex(self.low), complex(self.high))


@dataclass(frozen=True)
class Circle:
    """Controls on a circle: phase shifters (centre 0, radius 1), Lorentzian elements (j/2, 1/2)."""

    centre: complex = 0.0
    radius: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.radius) and self.radius > 0):
            raise InputError("radius", f"got {self.radius!r}", "it must be positive")

    def project(self, z: Complex[Tensor, "*shape"]) -> Complex[Tensor, "*shape"]:
        """Move along the ray from the centre; the centre itself goes to its right."""
        away = z - self.centre
        size = away.abs()
        unit = torch.where(size > 0, away / size, torch.ones_like(away))
        return self.centre + self.radius * unit

    def sample(
        self, shape: Sequence[int], generator: torch.Generator, dtype: torch.dtype
    ) -> Complex[Tensor, "*shape"]:
        """Draw uniform phases."""
        angle = 2.0 * math.pi * torch.rand(tuple(shape), generator=generator, dtype=torch.float64)
        return (self.centre + torch.polar(torch.full_like(angle, self.radius), angle)).to(dtype)

    def violation(self, q: Complex[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Distance from the circle."""
        return ((q - self.centre).abs() - self.radius).abs()

    def relaxation(self) -> Circle:
        """Itself: a circle is already continuous."""
        return self

    def kernel_code(self) -> KernelCode:
        """Kind and parameters for the compiled sweep."""
        return 1, (complex(self.centre), complex(self.radius))


@dataclass(frozen=True)
class Plane:
    """Any complex number: vector modulators, which set the gain and the phase of a branch.

    There is no compiled sweep for it. Its scale is free: only radiated power can be bounded.
    """

    def project(self, z: Complex[Tensor, "*shape"]) -> Complex[Tensor, "*shape"]:
        """Nothing to do: every number is a member."""
        return z.clone()

    def sample(
        self, shape: Sequence[int], generator: torch.Generator, dtype: torch.dtype
    ) -> Complex[Tensor, "*shape"]:
        """Draw circular complex Gaussians of unit mean power."""
        return torch.randn(tuple(shape), generator=generator, dtype=torch.complex128).to(dtype)

    def violation(self, q: Complex[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """0 for every finite number, infinite for the rest."""
        return torch.zeros_like(q.real).masked_fill(~torch.isfinite(q), math.inf)

    def relaxation(self) -> Plane:
        """Itself: the plane is already continuous."""
        return self


@dataclass(frozen=True)
class Points:
    """Controls from a list of levels: on/off, stepped amplitudes, b-bit phases."""

    levels: tuple[complex, ...]

    def __post_init__(self) -> None:
        levels = tuple(complex(level) for level in self.levels)
        if not levels or not all(cmath.isfinite(level) for level in levels):
            raise InputError("levels", f"got {self.levels!r}", "give at least one finite level")
        object.__setattr__(self, "levels", levels)

    @classmethod
    def amplitudes(cls, count: int) -> Points:
        """Make ``count`` equal amplitude steps from 0 to 1."""
        if count < 2:
            raise InputError("levels", f"got {count!r}", "a stepped amplitude needs at least 2")
        return cls(tuple(complex(i / (count - 1)) for i in range(count)))

    @classmethod
    def phases(cls, bits: int) -> Points:
        """Make the ``2 ** bits`` equally spaced unit phases."""
        if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= 12:
            raise InputError("bits", f"got {bits!r}", "need a whole number from 1 to 12")
        count = 2**bits
        return cls(tuple(cmath.rect(1.0, 2.0 * math.pi * i / count) for i in range(count)))

    def _table(self, z: Tensor) -> Tensor:
        return torch.tensor(self.levels, dtype=torch.complex128, device=z.device).to(z.dtype)

    def project(self, z: Complex[Tensor, "*shape"]) -> Complex[Tensor, "*shape"]:
        """Take the nearest level; the first one listed where two are equally near."""
        table = self._table(z)
        best, away = table[0].expand_as(z), (z - table[0]).abs()
        for level in table[1:]:
            distance = (z - level).abs()
            best = torch.where(distance < away, level, best)
            away = torch.minimum(distance, away)
        return best.clone()

    def sample(
        self, shape: Sequence[int], generator: torch.Generator, dtype: torch.dtype
    ) -> Complex[Tensor, "*shape"]:
        """Draw levels with equal probability."""
        index = torch.randint(len(self.levels), tuple(shape), generator=generator)
        return torch.tensor(self.levels, dtype=torch.complex128)[index].to(dtype)

    def violation(self, q: Complex[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Distance from the nearest level."""
        return (q - self.project(q)).abs()

    def relaxation(self) -> Interval | Circle | Points:
        """Continuous set that holds the levels: a circle for phases, an interval for amplitudes."""
        sizes = [abs(level) for level in self.levels]
        if len(sizes) > 1 and max(sizes) - min(sizes) <= 1e-9 * max(sizes):
            return Circle(0.0, sizes[0])
        if len(sizes) > 1 and all(level.imag == 0 for level in self.levels):
            reals = [level.real for level in self.levels]
            return Interval(min(reals), max(reals))
        return self

    def kernel_code(self) -> KernelCode:
        """Kind and parameters for the compiled sweep."""
        return 2, self.levels
