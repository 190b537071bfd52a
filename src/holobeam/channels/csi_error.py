"""What a base station knows of its channels: models of the error of an estimate.

An estimate obeys ``h = estimate + error`` with an error that is drawn independently of the true
channel (pilots excepted, where both depend on the noise). Drawn with a seed, the error of channel i
depends on the seed, the draw and i alone, whatever the batch.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.channels.base import BLOCK, complex_normal
from holobeam.errors import InputError, ShapeError, check_choice, check_count

Reading = Literal["vector", "element"]


@dataclass(frozen=True, eq=False)
class Estimate:
    """Estimated channels, and how wrong they are.

    Attributes
    ----------
    h
        Shape of the true channels, with an axis of draws in front where draws were asked for.
    error_variance
        Mean power of one entry of the error, as the estimator believes it: ``(..., K)`` of a
        downlink, ``(..., L, L, K)`` of many cells.
    """

    h: Complex[Tensor, "*shape"]
    error_variance: Float[Tensor, "*users"]

    def flat(self) -> Estimate:
        """Draws as further batch entries: entry ``d B + b`` is draw d of channel b."""
        return Estimate(self.h.flatten(0, 1), self.error_variance.flatten(0, 1))


@dataclass(frozen=True)
class RelativeError:
    """Independent errors ``CN(0, delta ||h_k||^2 / N)`` on every entry.

    Attributes
    ----------
    delta
        Mean power of the error over that of the user's channel, >= 0. The mean is over antennas
        and subcarriers (receive antennas, with many cells, for each base station).

    Notes
    -----
    The estimator does not know the norm of the true channel: it reports the variance
    ``delta / (1 + delta)`` times the mean power of the estimate. Source: ggml paper;
    docs/methods.md, section 23.
    """

    delta: float = 0.1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.delta) and self.delta >= 0):
            raise InputError("delta", f"got {self.delta!r}", "it must be finite and >= 0")

    def observe(
        self,
        h: Complex[Tensor, "*shape"],
        seed: int | None = None,
        generator: torch.Generator | None = None,
        *,
        draws: int | None = None,
        start: int = 0,
    ) -> Estimate:
        """Estimate channels.

        Parameters
        ----------
        h
            ``(B, F, K, N)`` of a downlink or ``(B, L, L, K, M, N)`` of many cells.
        seed, generator
            Exactly one of the two; a seed reproduces channel by channel.
        draws
            Error draws of each channel; None is one without an axis of its own.
        start
            Index of the first channel, with a seed.
        """
        error = draw_error(h, seed, generator, draws=draws, start=start)
        size = (self.delta * mean_power(h)).sqrt()
        seen = h - per_user(size, h) * error
        return Estimate(seen, self.delta / (1.0 + self.delta) * _each(mean_power, seen, draws))


@dataclass(frozen=True, eq=False)
class PilotEstimate:
    """Channels estimated from pilots that arrive through the analog front-end.

    Users send orthogonal pilots. In every slot the front-end takes other controls, and its chains
    hear ``h_k A_t`` plus noise of their own; all slots side by side, ``y = h_k W + n``.

    Attributes
    ----------
    combiner
        ``(N, T)``: W, the analog parts of all slots side by side. With ``T < N`` only a subspace
        is seen. See :func:`holobeam.robust.training_combiner`.
    snr_db
        SNR at the chains: mean power there, of the strongest user, over that of the noise.
    rule
        ``ls``: least squares of least norm. ``lmmse``: linear minimum mean square error.
    covariance
        ``(N, N)`` of the rows ``h_k``, ``E h^H h``, up to each user's scale; None is white. For
        ``lmmse`` and for what either rule reports of its error. See :func:`sample_covariance`.

    Notes
    -----
    Each user's mean power counts as known. Source: docs/methods.md, section 23.
    """

    combiner: Complex[Tensor, "antennas heard"]
    snr_db: float = 10.0
    rule: Literal["ls", "lmmse"] = "lmmse"
    covariance: Complex[Tensor, "antennas antennas"] | None = None

    def __post_init__(self) -> None:
        check_choice("rule", self.rule, ("ls", "lmmse"))
        if not math.isfinite(self.snr_db):
            raise InputError("snr_db", f"got {self.snr_db!r}", "it must be finite, in dB")
        if self.combiner.ndim != 2 or not self.combiner.is_complex():
            wrong = f"got {self.combiner.dtype} of shape {tuple(self.combiner.shape)}"
            raise ShapeError("combiner", wrong, "need complex (antennas, heard)")
        antennas = self.combiner.shape[0]
        covariance = self.covariance
        if covariance is not None and tuple(covariance.shape) != (antennas, antennas):
            right = f"need ({antennas}, {antennas}), as many as the combiner has antennas"
            raise ShapeError("covariance", f"got shape {tuple(covariance.shape)}", right)

    def observe(
        self,
        h: Complex[Tensor, "batch subcarriers users antennas"],
        seed: int | None = None,
        generator: torch.Generator | None = None,
        *,
        draws: int | None = None,
        start: int = 0,
    ) -> Estimate:
        """Estimate channels; parameters as for :meth:`RelativeError.observe`."""
        if h.ndim != 4 or h.shape[3] != self.combiner.shape[0]:
            right = f"need (B, F, K, {self.combiner.shape[0]}), the antennas of the combiner"
            raise ShapeError("h", f"got shape {tuple(h.shape)}", right)
        combiner = self.combiner.to(h)
        heard = h @ combiner
        power = mean_power(h)
        level = mean_power(heard).amax(dim=1) * 10.0 ** (-self.snr_db / 10.0)
        noise = draw_error(heard, seed, generator, draws=draws, start=start)
        heard = heard + level.sqrt()[:, None, None, None] * noise
        filters, variance = self._filters(combiner, power.double(), level.double())
        seen = torch.einsum("...bfkt,bktn->...bfkn", heard, filters.to(h))
        variance = variance.to(h.real.dtype)
        many = variance if draws is None else variance.expand(draws, -1, -1).clone()
        return Estimate(seen, many)

    def _filters(
        self, combiner: Tensor, power: Float[Tensor, "batch users"], level: Float[Tensor, " batch"]
    ) -> tuple[Complex[Tensor, "batch users heard antennas"], Float[Tensor, "batch users"]]:
        """What the heard rows are multiplied by, and the mean power of an entry of the error."""
        w = combiner.to(torch.complex128)
        antennas = w.shape[0]
        eye = torch.eye(antennas, dtype=w.dtype, device=w.device)
        prior = eye if self.covariance is None else self.covariance.to(w)
        prior = prior * (antennas / prior.diagonal().real.sum())
        scale = power[:, :, None, None]
        noise = level[:, None, None, None]
        cross = w.mH @ prior
        if self.rule == "ls":
            inverse = torch.linalg.pinv(w)
            filters = inverse.expand(*power.shape, -1, -1)
            lost = eye - w @ inverse
            bias = (lost.mH @ prior @ lost).diagonal().real.mean()
            return filters, power * bias + level[:, None] * inverse.abs().square().sum() / antennas
        quiet = noise * torch.eye(w.shape[1], dtype=w.dtype, device=w.device)
        filters = torch.linalg.solve(scale * (cross @ w) + quiet, scale * cross)
        gain = (scale * (cross.mH @ filters)).diagonal(dim1=2, dim2=3).real.mean(dim=2)
        return filters, (power - gain).clamp(min=0.0)


def draw_error(
    h: Complex[Tensor, "*shape"],
    seed: int | None,
    generator: torch.Generator | None,
    *,
    draws: int | None = None,
    start: int = 0,
) -> Complex[Tensor, "*drawn"]:
    """Circular complex Gaussians of unit mean power in the shape of channels.

    Parameters
    ----------
    h
        Leads with the batch axis.
    seed, generator
        Exactly one of the two. With a seed an entry depends on the seed, its draw, its channel's
        index and its place alone, and has nothing to do with channels drawn from the same seed.
    draws
        Length of an axis in front, or None for none.
    start
        Index of the first channel; with a seed only.
    """
    count = 1 if draws is None else check_count("draws", draws)
    check_count("start", start, 0)
    if (seed is None) == (generator is None):
        given = "neither" if seed is None else "both"
        raise InputError("seed", f"got {given} seed and generator", "give exactly one of them")
    batch, rest = h.shape[0], tuple(h.shape[1:])
    if generator is not None:
        if start:
            raise InputError("start", f"got {start} with a generator", "only a seed has an index")
        drawn = complex_normal((count, batch, *rest), generator)
    else:
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise InputError("seed", f"got {seed!r}", "it must be a whole number")
        first, last = start // BLOCK, (start + batch - 1) // BLOCK
        skip = start - first * BLOCK
        rows = [
            torch.cat([_block((BLOCK, *rest), seed, draw, b) for b in range(first, last + 1)])
            for draw in range(count)
        ]
        drawn = torch.stack(rows)[:, skip : skip + batch]
    return (drawn[0] if draws is None else drawn).to(h)


def _block(shape: tuple[int, ...], seed: int, draw: int, block: int) -> Tensor:
    """Errors of one block of channels; told apart from what the channels' own generator gives."""
    digest = hashlib.blake2b(f"error:{seed}:{draw}:{block}".encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
    return complex_normal(shape, generator)


def entry_axes(h: Complex[Tensor, "*shape"]) -> tuple[int, int]:
    """Axes of a user's entries: subcarriers and antennas, or receive antennas and antennas."""
    if h.ndim not in {4, 6}:
        wrong = f"got shape {tuple(h.shape)}"
        raise ShapeError("h", wrong, "need (B, F, K, N), or (B, L, L, K, M, N) of many cells")
    return (1, 3) if h.ndim == 4 else (4, 5)


def mean_power(h: Complex[Tensor, "*shape"]) -> Float[Tensor, "*users"]:
    """Mean power of an entry of each user's channel: ``(B, K)``, or ``(B, L, L, K)``."""
    return h.abs().square().mean(dim=entry_axes(h))


def per_user(value: Float[Tensor, "*users"], h: Complex[Tensor, "*shape"]) -> Tensor:
    """Give a value a user the axes of channels."""
    first, second = entry_axes(h)
    return value.unsqueeze(first).unsqueeze(second)


def _each(function: Callable[[Tensor], Tensor], h: Tensor, draws: int | None) -> Tensor:
    """Apply a function of channels to every draw."""
    if draws is None:
        return function(h)
    found = function(h.flatten(0, 1))
    return found.view(h.shape[0], h.shape[1], *found.shape[1:])


def sample_covariance(
    h: Complex[Tensor, "*shape antennas"], error_variance: float = 0.0
) -> Complex[Tensor, "antennas antennas"]:
    """Mean of ``h^H h`` over all rows, each scaled to mean power 1: a prior learned from the past.

    Parameters
    ----------
    h
        Channels or estimates of them; every row counts alike. All-zero rows are left out.
    error_variance
        Mean power of an entry of the rows' errors relative to their own; it is taken off the
        diagonal, as far as the matrix stays positive semidefinite.
    """
    rows = h.reshape(-1, h.shape[-1]).to(torch.complex128)
    power = rows.abs().square().mean(dim=1, keepdim=True)
    rows = (rows / torch.where(power > 0, power, torch.ones_like(power)).sqrt())[power[:, 0] > 0]
    if not len(rows):
        raise InputError("h", "every row is zero", "need channels to learn from")
    covariance = rows.mH @ rows / len(rows)
    values, basis = torch.linalg.eigh(covariance)
    found: Tensor = (basis * (values - error_variance).clamp(min=0.0)) @ basis.mH
    return found


# -- worst cases ---------------------------------------------------------------------------------


def error_quantile(
    entries: int,
    *,
    reading: Reading = "vector",
    outage: float = 0.05,
    draws: int = 100_000,
    seed: int = 0,
) -> float:
    """Monte-Carlo quantile of the norm of ``entries`` independent ``CN(0, 1)`` (or of one modulus).

    Parameters
    ----------
    entries
        Length N of the error vector.
    reading
        ``vector``: of its norm. ``element``: of the modulus of one entry, as if it were the norm.
    outage
        Probability of a larger one.
    draws
        Random vectors.
    seed
        Of their generator.

    Notes
    -----
    A norm is drawn as the root of a sum of exponentials. Source: ggml paper (our two readings);
    docs/methods.md, section 23.
    """
    check_count("entries", entries)
    check_count("draws", draws)
    check_choice("reading", reading, ("vector", "element"))
    if not 0.0 < outage < 1.0:
        raise InputError("outage", f"got {outage!r}", "need a probability in (0, 1)")
    length = entries if reading == "vector" else 1
    generator = torch.Generator().manual_seed(seed)
    at_once = max(1, 2**24 // length)
    norms = [
        torch.empty(min(at_once, draws - done), length, dtype=torch.float64)
        .exponential_(generator=generator)
        .sum(dim=1)
        for done in range(0, draws, at_once)
    ]
    ordered = torch.cat(norms).sort().values
    place = min(draws - 1, math.ceil((1.0 - outage) * draws) - 1)
    return math.sqrt(float(ordered[place]))


def error_radius(
    h: Complex[Tensor, "*shape"],
    error_variance: Float[Tensor, "*users"],
    **options: Any,
) -> Float[Tensor, "*users"]:
    """Radius of each user's ball of errors: what the norm exceeds with the outage probability.

    Parameters
    ----------
    h
        Estimates; their shape counts alone.
    error_variance
        Mean power of an entry of the error.
    options
        As for :func:`error_quantile`.
    """
    first, second = entry_axes(h)
    quantile = error_quantile(int(h.shape[first] * h.shape[second]), **options)
    return quantile * error_variance.sqrt()


def shrunk_channels(
    h: Complex[Tensor, "*shape"], radius: Float[Tensor, "*users"]
) -> Complex[Tensor, "*shape"]:
    """Scale each user's estimate by ``sqrt(1 - 2 radius / ||h_k||)``, the paper's worst channel.

    Raises
    ------
    InputError
        If the radius is half the norm of an estimate or more: nothing would be left of it.

    Notes
    -----
    Directions stay as they are: it is a design for users with more noise. Source: ggml paper;
    docs/methods.md, section 23.
    """
    size = h.abs().square().sum(dim=entry_axes(h)).sqrt()
    left = 1.0 - 2.0 * radius / torch.where(size > 0, size, torch.ones_like(size))
    gone = (left <= 0) & (size > 0)
    if bool(gone.any()):
        worst = float((radius[gone] / size[gone]).max())
        raise InputError(
            "radius",
            f"errors of up to {worst:.3f} of the estimate's norm annihilate the worst-case channel "
            f"of {int(gone.sum())} users",
            "it must be below 0.5: expect smaller errors, allow more outage, or read the "
            "radius as that of one element",
        )
    return h * per_user(left.clamp(min=0.0).sqrt(), h)
