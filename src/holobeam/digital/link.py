"""What is left of the problem once the controls are fixed: all that a digital step needs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Link:
    """Effective channel behind the RF chains and the metric that counts power.

    Attributes
    ----------
    e
        ``(B, F, K, R)``: ``H A``.
    g
        ``(B, F, R, R)``: ``A^H A`` where radiated power counts, in double precision whatever the
        dtype of ``e``; None for the identity (power at the feeds, per chain, or an orthonormal
        basis).

    Notes
    -----
    G squares the condition of A. Large entries of V that cancel in the air have a power that
    single precision knows too little of: too small a power reads as too high a rate.
    """

    e: Complex[Tensor, "batch subcarriers users rf_chains"]
    g: Complex[Tensor, "batch subcarriers rf_chains rf_chains"] | None = None

    def metric(self, digital: Tensor) -> Tensor:
        """``G V``."""
        return digital if self.g is None else self.g @ digital.to(self.g.dtype)

    def received(self, digital: Complex[Tensor, "batch subcarriers rf_chains users"]) -> Tensor:
        """``E V``: entry (k, j) is what user k hears of the stream of user j."""
        return self.e @ digital.to(self.e.dtype)

    def power(
        self, digital: Complex[Tensor, "batch subcarriers rf_chains users"]
    ) -> Float[Tensor, "batch subcarriers"]:
        """``tr(V^H G V)``."""
        power = (digital.conj() * self.metric(digital)).real.sum(dim=(2, 3)).clamp(min=0.0)
        return power.to(self.e.real.dtype)

    def column_power(
        self, digital: Complex[Tensor, "batch subcarriers rf_chains users"]
    ) -> Float[Tensor, "batch subcarriers users"]:
        """Power of each user's column."""
        power = (digital.conj() * self.metric(digital)).real.sum(dim=2).clamp(min=0.0)
        return power.to(self.e.real.dtype)


@dataclass(frozen=True, eq=False)
class Weights:
    """Receivers and weights of the mean-square-error problem at one operating point.

    Attributes
    ----------
    decoders
        u, ``(B, F, K)`` complex.
    mse_weights
        w, ``(B, F, K)`` real: user weight over mean-square error.
    """

    decoders: Complex[Tensor, "batch subcarriers users"]
    mse_weights: Float[Tensor, "batch subcarriers users"]

    @property
    def cost(self) -> Float[Tensor, "batch subcarriers users"]:
        """``w |u|^2``: what a unit of interference at user k costs."""
        return self.mse_weights * self.decoders.abs().square()


def solve_small(matrix: Tensor, right: Tensor, ridge: float = 1e-14) -> Tensor:
    """Solve a batch of small Hermitian systems without ever raising.

    A ridge relative to the mean diagonal keeps rank-deficient systems finite, also an all-zero one
    (a surface that is switched off); what is still not finite comes back as it is, for the caller
    to replace channel by channel.
    """
    size = matrix.shape[-1]
    level = matrix.diagonal(dim1=-2, dim2=-1).real.mean(dim=-1)[..., None, None]
    level = torch.where(level > 0, level, torch.ones_like(level))
    eye = torch.eye(size, dtype=matrix.dtype, device=matrix.device)
    solution: Tensor = torch.linalg.solve_ex(
        matrix + ridge * level * eye, right, check_errors=False
    )[0]
    return solution


def power_metric(analog: Complex[Tensor, "*batch antennas rf_chains"]) -> Tensor:
    """``A^H A`` in double precision."""
    wide = analog.to(torch.complex128)
    return wide.mH @ wide


def widen(link: Link) -> Link:
    """Link in double precision: small systems are solved there whatever the input's dtype."""
    return Link(
        link.e.to(torch.complex128), None if link.g is None else link.g.to(torch.complex128)
    )


def inverse_metric(link: Link, right: Tensor) -> Tensor:
    """``G^-1 right``, finite also where G is rank-deficient."""
    return right if link.g is None else solve_small(link.g, right)


def priced_metric(link: Link, price: Tensor) -> Tensor:
    """``price G`` as a full matrix, ``(B, F, R, R)``; ``price`` is ``(B, F)``."""
    if link.g is not None:
        return price[:, :, None, None] * link.g
    eye = torch.eye(link.e.shape[3], dtype=link.e.dtype, device=link.e.device)
    return price[:, :, None, None] * eye
