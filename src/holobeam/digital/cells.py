"""Many cells at fixed controls: links, matched receivers, and the capped digital step.

Users of all cells are one axis here, cell by cell: user k of cell j is ``u = j K + k``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.digital.link import solve_small
from holobeam.digital.wmmse import inverse_root


@dataclass(frozen=True, eq=False)
class CellLink:
    """Effective channels behind the RF chains of every base station, and the power metrics.

    Attributes
    ----------
    e
        ``(B, L, U, M, R)``: from base station l to every user, ``H A_l``.
    g
        ``(B, L, R, R)``: ``A_l^H A_l`` where radiated power counts, in double precision, else None.
    """

    e: Complex[Tensor, "batch cells users receivers rf_chains"]
    g: Complex[Tensor, "batch cells rf_chains rf_chains"] | None = None

    def received(
        self, digital: Complex[Tensor, "batch cells rf_chains streams"]
    ) -> Complex[Tensor, "batch cells users receivers streams"]:
        """What every user hears of the streams of every base station."""
        return self.e @ digital.unsqueeze(2).to(self.e.dtype)

    def power(
        self, digital: Complex[Tensor, "batch cells rf_chains streams"]
    ) -> Float[Tensor, "batch cells"]:
        """``tr(V^H G V)`` of each cell."""
        metric = digital if self.g is None else self.g @ digital.to(self.g.dtype)
        power = (digital.conj() * metric).real.sum(dim=(2, 3)).clamp(min=0.0)
        return power.to(self.e.real.dtype)


@dataclass(frozen=True, eq=False)
class CellWeights:
    """Receivers and weights of the mean-square-error problem at one operating point.

    Attributes
    ----------
    decoders
        U, ``(B, U, M, S)``.
    root
        ``(B, U, S, S)`` with ``root^H root = W``: user weight times the inverse error matrix.
    price
        ``(B, L)``: what a unit of radiated power is worth; 0 where it does not count.
    """

    decoders: Complex[Tensor, "batch users receivers streams"]
    root: Complex[Tensor, "batch users streams streams"]
    price: Float[Tensor, "batch cells"]

    @property
    def mse_weights(self) -> Complex[Tensor, "batch users streams streams"]:
        """W."""
        return self.root.mH @ self.root

    def whitened(
        self, channel: Complex[Tensor, "batch cells users receivers width"]
    ) -> Complex[Tensor, "batch cells rows width"]:
        """``W^(1/2) U^H H`` of all users under one another: rows of the quadratic of each cell."""
        filters = self.root @ self.decoders.mH
        return (filters.unsqueeze(1) @ channel).flatten(2, 3)

    def wanted(self, cells: int) -> Complex[Tensor, "batch cells rows streams"]:
        """``W^(1/2)`` at the streams of a cell's own users, 0 elsewhere."""
        batch, users, streams, _ = self.root.shape
        per_cell = users // cells
        own = torch.eye(users, dtype=self.root.dtype, device=self.root.device)
        own = own.view(cells, per_cell, users).permute(0, 2, 1)
        blocks = self.root[:, None, :, :, None, :] * own[None, :, :, None, :, None]
        return blocks.reshape(batch, cells, users * streams, per_cell * streams)


@dataclass(frozen=True, eq=False)
class _Heard:
    """Own streams of every user, and the covariance of all that disturbs them."""

    own: Tensor
    noise: Tensor

    def gain(self) -> tuple[Tensor, Tensor]:
        """``Q^-1 own`` and ``own^H Q^-1 own``: the error matrix is ``(I + gain)^-1``."""
        filtered = _solve(self.noise, self.own)
        gain = self.own.mH @ filtered
        return filtered, (gain + gain.mH) / 2


def _heard(
    link: CellLink,
    digital: Complex[Tensor, "batch cells rf_chains streams"],
    noise: Float[Tensor, "batch users"],
) -> _Heard:
    received = link.received(digital).to(torch.complex128)
    batch, cells, users, receivers, streams = received.shape
    mine, blocks = stream_blocks(received)
    own = blocks.masked_fill(~mine, 0.0).sum(dim=(1, 4))
    # Left out rather than subtracted: at high SNR the difference would keep no digit.
    others = blocks.masked_fill(mine, 0.0).permute(0, 2, 3, 1, 4, 5).reshape(
        batch, users, receivers, cells * streams
    )  # fmt: skip
    eye = torch.eye(receivers, dtype=received.dtype, device=received.device)
    return _Heard(own, others @ others.mH + noise.double()[:, :, None, None] * eye)


def stream_blocks(
    received: Complex[Tensor, "batch cells users receivers streams"],
) -> tuple[Tensor, Complex[Tensor, "batch cells users receivers blocks streams"]]:
    """What is received, one block a user served; and which block each user listens to."""
    batch, cells, users, receivers, _ = received.shape
    mine = torch.eye(users, dtype=torch.bool, device=received.device)
    # From base station l, stream block k: user l K + k listens to it.
    mine = mine.view(users, cells, 1, users // cells, 1).permute(1, 0, 2, 3, 4)
    return mine, received.reshape(batch, cells, users, receivers, users // cells, -1)


def _solve(matrix: Tensor, right: Tensor) -> Tensor:
    """Small Hermitian solves; a division where there is nothing to solve."""
    return right / matrix if matrix.shape[-1] == 1 else solve_small(matrix, right, ridge=0.0)


def _factor(gain: Tensor) -> Tensor:
    """Upper triangular R with ``R^H R = I + gain``."""
    eye = torch.eye(gain.shape[-1], dtype=gain.dtype, device=gain.device)
    if gain.shape[-1] == 1:
        return (1.0 + gain).sqrt()
    lower: Tensor = torch.linalg.cholesky_ex(eye + gain, check_errors=False)[0]
    return lower.mH


def cell_rates(
    link: CellLink,
    digital: Complex[Tensor, "batch cells rf_chains streams"],
    noise: Float[Tensor, "batch users"],
) -> Float[Tensor, "batch users"]:
    """Rate of each user in bits/s/Hz: ``log2 det(I + own^H Q^-1 own)``."""
    _, gain = _heard(link, digital, noise).gain()
    if gain.shape[-1] == 1:
        nats = gain[..., 0, 0].real.clamp(min=0.0).log1p()
    else:
        nats = 2.0 * _factor(gain).diagonal(dim1=2, dim2=3).real.log().sum(dim=2).clamp(min=0.0)
    return (nats / math.log(2.0)).to(noise.dtype)


def cell_weights(
    link: CellLink,
    digital: Complex[Tensor, "batch cells rf_chains streams"],
    noise: Float[Tensor, "batch users"],
    user_weights: Float[Tensor, "batch users"],
    budget: Float[Tensor, "batch cells"] | None,
) -> CellWeights:
    """Matched receivers ``U = J^-1 own`` and weights ``W = alpha E^-1``.

    With Q the covariance without the user's own streams, ``E^-1 = I + own^H Q^-1 own`` and
    ``U = Q^-1 own E``: no difference of nearly equal numbers at any SNR. With a ``budget`` on
    radiated power the price is the multiplier that the stationary precoder of each cell has.

    Notes
    -----
    Source: multicell paper (our reading); docs/methods.md, section 15.
    """
    filtered, gain = _heard(link, digital, noise).gain()
    factor = _factor(gain)
    inverse = factor.mH @ factor
    decoders = _solve(inverse, filtered.mH).mH
    root = user_weights.double().sqrt()[:, :, None, None] * factor
    price = noise.new_zeros(noise.shape[0], link.e.shape[1])
    found = CellWeights(decoders.to(link.e.dtype), root.to(link.e.dtype), price)
    if budget is None:
        return found
    heard = found.whitened(link.e) @ digital
    away = found.wanted(link.e.shape[1]) - heard
    value = (heard.conj() * away).real.sum(dim=(2, 3)).clamp(min=0.0)
    return CellWeights(found.decoders, found.root, value / budget)


def capped_step(
    rows: Complex[Tensor, "batch cells rows rf_chains"],
    wanted: Complex[Tensor, "batch cells rows streams"],
    metric: Complex[Tensor, "batch cells rf_chains rf_chains"] | None,
    budget: Float[Tensor, "batch cells"],
    digital: Complex[Tensor, "batch cells rf_chains streams"],
) -> Complex[Tensor, "batch cells rf_chains streams"]:
    """Minimiser of ``||rows V - wanted||^2`` with ``tr(V^H G V) <= budget`` in every cell.

    In the basis of ``rows G^-1 rows^H`` the power is ``sum e / (lambda + mu)^2``: one
    eigendecomposition of the size of the rows, then a scalar search. A cell without a finite
    answer keeps its precoder.

    Notes
    -----
    Source: docs/methods.md, section 15.
    """
    wide = rows.to(torch.complex128)
    root = None if metric is None else inverse_root(metric.to(torch.complex128))
    turned = wide if root is None else wide @ root
    values, basis = torch.linalg.eigh(turned @ turned.mH)
    top = values.amax(dim=-1, keepdim=True)
    values = torch.where(values > 1e-13 * top, values, 0.0)
    pulled = basis.mH @ wanted.to(wide.dtype)
    mu = capping_price(values, values * pulled.abs().square().sum(dim=3), budget.double())
    scale = values + mu.unsqueeze(2)
    kept = values > 0
    inverse = torch.where(kept, 1.0 / torch.where(kept, scale, 1.0), 0.0)
    new = turned.mH @ (basis @ (inverse.unsqueeze(3) * pulled))
    new = (new if root is None else root @ new).to(digital.dtype)
    good = torch.isfinite(new).all(dim=3, keepdim=True).all(dim=2, keepdim=True)
    return torch.where(good, new, digital)


def capping_price(
    values: Float[Tensor, "*cells rows"],
    energy: Float[Tensor, "*cells rows"],
    budget: Float[Tensor, "*cells"],
) -> Float[Tensor, "*cells"]:
    """Smallest mu >= 0 with ``sum energy / (values + mu)^2 <= budget``.

    Newton on ``1 / sqrt(power)``, which is concave in mu: it comes from the left and stays there.
    """
    mu = torch.zeros_like(budget)
    live = energy > 0
    for _ in range(60):
        scale = torch.where(live, values + mu.unsqueeze(-1), 1.0)
        power = (energy / scale.square()).sum(dim=-1)
        over = power > budget * (1.0 + 1e-14)
        if not bool(over.any()):
            break
        slope = (energy / scale**3).sum(dim=-1)
        step = power / slope * ((power / budget).sqrt() - 1.0)
        mu = torch.where(over, mu + step, mu)
    return mu
