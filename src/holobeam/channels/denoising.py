"""Better estimates from noisy ones: what is known of angles tells channels from errors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.channels.csi_error import Estimate, mean_power, per_user
from holobeam.errors import InputError, ShapeError, check_count

_WIDE = torch.complex128


def beamspace_wiener(
    h: Complex[Tensor, "batch subcarriers users antennas"],
    error_variance: Float[Tensor, "batch users"],
    *,
    shape: tuple[int, ...] | None = None,
    shifts: int = 4,
) -> Estimate:
    """Weigh each beam of an estimate by how much of its power is signal.

    On grids of beams shifted by ``s / shifts`` of a beam along each axis: unitary FFT over the
    elements, bin i times ``max(1 - error / P_i, 0)`` with P_i the mean power of the bin and its
    neighbours (cyclic), inverse FFT; then the mean over the grids.

    Parameters
    ----------
    h
        ``(B, F, K, N)`` estimates.
    error_variance
        ``(B, K)`` mean power of an entry of their errors.
    shape
        Elements along the axes of the array, row-major; ``(N,)`` by default. Elements should be
        equally spaced, half a wavelength or less.
    shifts
        Grids along each axis.

    Returns
    -------
    Estimate
        With the error variance that the filter leaves, as it believes.

    Notes
    -----
    Users are taken alone, and subcarriers too. Source: docs/methods.md, section 23.
    """
    check_count("shifts", shifts)
    shape = check_array_shape(shape, h)
    axes = tuple(range(3, 3 + len(shape)))
    folded = h.to(_WIDE).reshape(*h.shape[:3], *shape)
    noise = error_variance.double().unsqueeze(1)[(...,) + (None,) * len(shape)]
    total = torch.zeros_like(folded)
    left = torch.zeros(folded.shape[:3], dtype=torch.float64, device=h.device)
    grids = torch.cartesian_prod(*[torch.arange(shifts)] * len(shape)).reshape(-1, len(shape))
    for offsets in grids.tolist():
        turn = _shift(shape, [offset / shifts for offset in offsets], h.device)
        beams = torch.fft.fftn(folded * turn, dim=axes, norm="ortho")
        power = _smoothed(beams.abs().square(), axes)
        gain = (1.0 - noise / power.clamp(min=torch.finfo(torch.float64).tiny)).clamp(min=0.0)
        total += torch.fft.ifftn(gain * beams, dim=axes, norm="ortho") * turn.conj()
        left += gain.mean(dim=axes)
    mean = (total / len(grids)).flatten(3).to(h.dtype)
    share = (left / len(grids)).mean(dim=1)
    return Estimate(mean, error_variance * share.to(error_variance))


def check_array_shape(shape: tuple[int, ...] | None, h: Tensor) -> tuple[int, ...]:
    """Return the elements along the axes of an array, ``(N,)`` by default."""
    if h.ndim != 4:
        raise ShapeError("h", f"got shape {tuple(h.shape)}", "need (B, F, K, N)")
    antennas = int(h.shape[3])
    shape = (antennas,) if shape is None else tuple(shape)
    if math.prod(shape) != antennas or not shape:
        raise ShapeError("shape", f"got {shape}", f"its product must be {antennas} antennas")
    return shape


def _shift(shape: tuple[int, ...], parts: list[float], device: torch.device) -> Tensor:
    """Phase ramp that moves the beams by parts of a beam."""
    ramp = torch.zeros((), dtype=torch.float64, device=device)
    for axis, (count, part) in enumerate(zip(shape, parts, strict=True)):
        line = torch.arange(count, dtype=torch.float64, device=device) * (-part / count)
        ramp = ramp + line.view(-1, *[1] * (len(shape) - 1 - axis))
    return torch.polar(torch.ones_like(ramp), 2 * math.pi * ramp)


def _smoothed(power: Tensor, axes: tuple[int, ...]) -> Tensor:
    for axis in axes:
        power = (power + power.roll(1, dims=axis) + power.roll(-1, dims=axis)) / 3.0
    return power


@dataclass(frozen=True, eq=False)
class AngularPrior:
    """Where rows come from: a mixture over directions of clusters, to be fitted to each estimate.

    A user's row has the covariance ``sum_g w_g C_g``; the C_g are those of clusters around
    directions g, the weights are found by maximum likelihood from the one estimate. That shares
    strength between the antennas, not between users.

    Attributes
    ----------
    components
        ``(G, N, N)``: covariances ``E h^H h`` of rows of one cluster each, mean diagonal 1.

    Notes
    -----
    Source: ours; docs/methods.md, section 23.
    """

    components: Complex[Tensor, "components antennas antennas"]

    @classmethod
    def clusters(
        cls, antennas: int, *, directions: int = 96, spread_deg: float = 5.0, rays: int = 200
    ) -> AngularPrior:
        """Laplacian clusters seen by a half-wavelength linear array.

        Parameters
        ----------
        antennas
            N.
        directions
            Cluster centres G, equally spaced in angle over the half circle (a line does not tell
            front from back).
        spread_deg
            Standard deviation of a ray about its centre. Somewhat below the truth is best: the few
            rays of one channel are clumpier than their distribution.
        rays
            Points of the quadrature over a cluster.
        """
        check_count("antennas", antennas)
        check_count("directions", directions)
        check_count("rays", rays)
        if not 0.0 < spread_deg < math.inf:
            raise InputError("spread_deg", f"got {spread_deg!r}", "need degrees > 0")
        centre = (torch.arange(directions, dtype=torch.float64) + 0.5) / directions - 0.5
        middle = (torch.arange(rays, dtype=torch.float64) + 0.5) / rays - 0.5
        # Quantiles of the Laplace distribution.
        away = -middle.sign() * (1.0 - 2.0 * middle.abs()).log() / math.sqrt(2.0)
        angle = math.pi * centre[:, None] + math.radians(spread_deg) * away
        lag = torch.arange(antennas, dtype=torch.float64)
        # Entry (m, n) of E h^H h depends on m - n alone.
        phase = math.pi * angle.sin()[:, :, None] * lag
        line = torch.polar(torch.ones_like(phase), phase).mean(dim=1)
        return cls(_toeplitz(line))

    def __post_init__(self) -> None:
        found = self.components
        if found.ndim != 3 or found.shape[1] != found.shape[2] or not found.is_complex():
            wrong = f"got {found.dtype} of shape {tuple(found.shape)}"
            raise ShapeError("components", wrong, "need complex (components, antennas, antennas)")

    def fit(
        self,
        h: Complex[Tensor, "rows antennas"],
        noise: Float[Tensor, " rows"],
        iterations: int = 20,
    ) -> Float[Tensor, "rows components"]:
        """Weights of the components for each row: majorise-minimise on its likelihood.

        ``w_g <- w_g sqrt(h S^-1 C_g S^-1 h^H / tr(S^-1 C_g))``, ``S = sum_g w_g C_g + noise I``:
        the likelihood never falls.

        Parameters
        ----------
        h
            Estimates, scaled so that noise is positive.
        noise
            Variance of an entry's error.
        iterations
            From equal weights.
        """
        check_count("iterations", iterations)
        flat = self.components.to(h).flatten(1)
        excess = (h.abs().square().mean(dim=1) - noise).clamp(min=0.0)
        floor = 0.01 * h.abs().square().mean(dim=1)
        weights = torch.maximum(excess, floor)[:, None].expand(-1, len(flat)) / len(flat)
        for _ in range(iterations):
            inverse = _inverse(weights, flat, noise)
            seen = (inverse @ h.conj().unsqueeze(2)).squeeze(2)
            outer = (seen.unsqueeze(2) * seen.conj().unsqueeze(1)).flatten(1)
            heard = (outer @ flat.mH).real.clamp(min=0.0)
            expected = (inverse.flatten(1) @ flat.mH).real
            tiny = torch.finfo(expected.dtype).tiny
            weights = weights * (heard / expected.clamp(min=tiny)).sqrt()
        return weights

    def denoise(
        self,
        h: Complex[Tensor, "batch subcarriers users antennas"],
        error_variance: Float[Tensor, "batch users"],
        *,
        iterations: int = 20,
    ) -> Estimate:
        """Linear minimum mean square error with the covariance fitted to each row.

        Parameters
        ----------
        h
            ``(B, F, K, N)`` estimates.
        error_variance
            ``(B, K)`` mean power of an entry of their errors; users without error are left alone.
        iterations
            Of the fit.

        Returns
        -------
        Estimate
            With the error variance that is left, as the fitted covariance has it.
        """
        if h.ndim != 4 or h.shape[3] != self.components.shape[1]:
            right = f"need (B, F, K, {self.components.shape[1]}), the antennas of the prior"
            raise ShapeError("h", f"got shape {tuple(h.shape)}", right)
        size = mean_power(h)
        noisy = (error_variance > 0) & (size > 0)
        scale = torch.where(noisy, size, torch.ones_like(size))
        relative = torch.where(noisy, error_variance / scale, torch.ones_like(size))
        rows = (h / per_user(scale.sqrt(), h)).flatten(0, 2)
        noise = relative.unsqueeze(1).expand(h.shape[:3]).flatten()
        parts = [
            self._posterior(some, level, iterations)
            for some, level in zip(
                *(torch.split(whole, _AT_ONCE) for whole in (rows, noise)), strict=True
            )
        ]
        mean = torch.cat([part[0] for part in parts]).view_as(h) * per_user(scale.sqrt(), h)
        left = torch.cat([part[1] for part in parts]).view(h.shape[:3]).mean(dim=1) * scale
        keep = per_user(noisy, h)
        return Estimate(
            torch.where(keep, mean, h), torch.where(noisy, left.to(size), error_variance)
        )

    def _posterior(self, h: Tensor, noise: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
        flat = self.components.to(h).flatten(1)
        weights = self.fit(h, noise, iterations)
        inverse = _inverse(weights, flat, noise)
        # h - noise S^-1 h, and noise I - noise^2 S^-1.
        mean = h - noise[:, None] * (inverse @ h.conj().unsqueeze(2)).squeeze(2).conj()
        trace = inverse.diagonal(dim1=1, dim2=2).real.mean(dim=1)
        return mean, noise * (1.0 - noise * trace).clamp(min=0.0)


_AT_ONCE = 1024
"""Rows whose matrices are held at once."""


def _inverse(weights: Tensor, flat: Tensor, noise: Tensor) -> Tensor:
    """``(sum_g w_g C_g + noise I)^-1`` of each row."""
    size = math.isqrt(flat.shape[1])
    covariance = (weights.to(flat.dtype) @ flat).view(-1, size, size)
    covariance.diagonal(dim1=1, dim2=2).add_(noise[:, None])
    factor, _ = torch.linalg.cholesky_ex(covariance, check_errors=False)
    inverse: Tensor = torch.cholesky_inverse(factor)
    return inverse


def _toeplitz(line: Complex[Tensor, "count lags"]) -> Complex[Tensor, "count lags lags"]:
    """Hermitian Toeplitz matrices from their first columns."""
    size = line.shape[1]
    lag = torch.arange(size)[:, None] - torch.arange(size)[None, :]
    found = line[:, lag.abs()]
    return torch.where(lag >= 0, found, found.conj())
