"""Zero forcing within each cell under a power limit on every RF chain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.digital.cells import CellLink, CellWeights
from holobeam.digital.link import solve_small
from holobeam.errors import MissingDependencyError

ROUNDS = 60
"""Newton steps at most; some fifteen to forty are needed."""

_GAP = 1e-12
"""Price times slack of a row at the end of the path, relative to the mean diagonal of the form."""

_SINGULAR_GAP = 1e-8
"""The same for a form that lacks rank: prices as small as the gap are all that fills it."""

_CENTRED = 0.1
"""Relative error of the slacks below which the path is followed further, not yet closer."""


def cell_zero_forcing(
    link: CellLink,
    weights: CellWeights,
    limit: Float[Tensor, "batch cells rf_chains"],
) -> Complex[Tensor, "batch cells rf_chains streams"]:
    """Minimise the weighted mean-square error with no interference between users of a cell.

    ``min tr(V^H C V) - 2 Re tr(D^H V)`` with ``U_j^H B_j V_k = 0`` for the other users j of the
    cell and ``||row r of V||^2 <= P_r``; needs R >= K S.

    Notes
    -----
    Each user's columns live in the null space of the others, of basis N_k; given prices p of the
    rows, ``V_k = N_k (N_k^H (C + diag p) N_k)^-1 N_k^H D_k``. The dual is concave and smooth in R
    numbers; Newton follows its central path (price times slack equal in all rows), all cells of
    the batch at once. Where many precoders are optimal (more chains than rows) the path ends at
    one of them, whatever the order of users and chains.
    Source: docs/methods.md, section 15.
    """
    form, right, bases = _pieces(link, weights)
    batch, cells, chains = limit.shape
    root = limit.reshape(batch * cells, chains).double().sqrt()
    programme = _Programme.scaled(form, right, bases, root)
    columns = _central_path(programme, _final_gap(programme.form)) * root[:, None, :, None]
    columns = columns.permute(0, 2, 1, 3).reshape(batch, cells, chains, -1)
    over = (columns.abs().square().sum(dim=3) / limit).amax(dim=2).clamp(min=1.0)
    scaled: Tensor = columns * over.rsqrt()[:, :, None, None]
    return scaled.to(link.e.dtype)


@dataclass(frozen=True, eq=False)
class _Programme:
    """C, D and the bases N_k of every cell, in units of the limits, C of mean diagonal 1."""

    form: Tensor
    right: Tensor
    bases: Tensor

    @classmethod
    def scaled(cls, form: Tensor, right: Tensor, bases: Tensor, root: Tensor) -> _Programme:
        form = form * (root.unsqueeze(2) * root.unsqueeze(1))
        level = form.diagonal(dim1=1, dim2=2).real.mean(dim=1).clamp(min=1e-300)
        right = right * (root / level.unsqueeze(1))[:, None, :, None]
        bases = torch.linalg.qr(bases / root[:, None, :, None])[0]
        return cls(form / level[:, None, None], right, bases)

    def at(self, price: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Columns at given prices, by how much rows exceed 1, and minus the dual's Hessian."""
        priced = (self.form + torch.diag_embed(price).to(self.form.dtype)).unsqueeze(1)
        inner = self.bases.mH @ priced @ self.bases
        inverse = self.bases @ solve_small(inner, self.bases.mH, ridge=0.0)
        columns = inverse @ self.right
        excess = columns.abs().square().sum(dim=(1, 3)) - 1.0
        curvature = 2.0 * (inverse * (columns @ columns.mH).mT).real.sum(dim=1)
        return columns, excess, curvature


def _final_gap(form: Tensor) -> Tensor:
    """Where the path of each cell ends, ``(cells, 1)``."""
    values = torch.linalg.eigvalsh(form)
    singular = values[:, :1] < 1e-9 * values[:, -1:].clamp(min=1e-300)
    return torch.where(singular, _SINGULAR_GAP, _GAP)


def _central_path(programme: _Programme, final: Tensor) -> Tensor:
    """Columns where price times slack is ``final`` in every row: primal-dual Newton.

    The target falls only while slacks are close to what the prices leave: prices that run ahead
    of the slacks of a singular form never come back.
    """
    price = programme.right.abs().square().sum(dim=(1, 3)).sqrt().clamp(min=1e-6)
    slack = torch.ones_like(price)
    columns, excess, curvature = programme.at(price)
    for _ in range(ROUNDS):
        error = (excess + slack).abs().amax(dim=1)
        apart = (price * slack / final - 1.0).abs().amax(dim=1)
        # Rounding leaves the slacks of a form without rank about 1e-7 off.
        live = (error > 100.0 * final[:, 0]) | (apart > 1e-6)
        if not bool(live.any()):
            break
        gap = (price * slack).mean(dim=1, keepdim=True)
        closer = error.unsqueeze(1) < _CENTRED
        target = torch.maximum(torch.where(closer, 0.05 * gap, gap), final)
        system = curvature + torch.diag_embed(slack / price)
        rise = solve_small(system, (excess + target / price).unsqueeze(2), ridge=0.0).squeeze(2)
        change = (target - slack * price - slack * rise) / price
        rise = rise * _within(price, rise)
        price = torch.where(live.unsqueeze(1), price + rise, price)
        slack = torch.where(live.unsqueeze(1), slack + change * _within(slack, change), slack)
        columns, excess, curvature = programme.at(price)
    return columns


def _within(value: Tensor, change: Tensor) -> Tensor:
    """Share of a step, at most 1, that keeps positive numbers positive."""
    room = torch.where(change < 0, -value / change, torch.inf).amin(dim=1, keepdim=True)
    return (0.99 * room).clamp(max=1.0)


def _pieces(link: CellLink, weights: CellWeights) -> tuple[Tensor, Tensor, Tensor]:
    """C ``(b, R, R)``, D ``(b, K, R, S)`` and null-space bases ``(b, K, R, r)``; cells stacked."""
    wide = torch.complex128
    batch, cells, users, _, chains = link.e.shape
    per_cell, streams = users // cells, weights.root.shape[2]
    rows = weights.whitened(link.e).to(wide).flatten(0, 1)
    wanted = weights.wanted(cells).to(wide).flatten(0, 1)
    right = (rows.mH @ wanted).view(batch * cells, chains, per_cell, streams).transpose(1, 2)
    # Receivers without the weights: a user of weight 0 is protected all the same.
    heard = (weights.decoders.mH.unsqueeze(1) @ link.e).to(wide)
    heard = heard.view(batch, cells, cells, per_cell, streams, chains)
    own = heard.diagonal(dim1=1, dim2=2).permute(0, 4, 1, 2, 3).flatten(0, 1)
    own = own / own.abs().amax(dim=(2, 3), keepdim=True).clamp(min=1e-300)
    alike = own.mH @ own
    others = alike.sum(dim=1, keepdim=True) - alike
    _, basis = torch.linalg.eigh(others)
    return rows.mH @ rows, right, basis[..., : chains - (per_cell - 1) * streams]


def published_zero_forcing(
    link: CellLink,
    weights: CellWeights,
    limit: Float[Tensor, "batch cells rf_chains"],
) -> Complex[Tensor, "batch cells rf_chains streams"]:
    """Solve the same programme cell by cell with a general convex solver, as published.

    Raises
    ------
    MissingDependencyError
        Without the extra ``cvxpy``.
    """
    form, right, bases = _pieces(link, weights)
    batch, cells, chains = limit.shape
    bound = limit.reshape(batch * cells, chains).double().sqrt()
    columns = [_programme(*parts) for parts in zip(form, right, bases, bound, strict=True)]
    return torch.stack(columns).view(batch, cells, chains, -1).to(link.e)


def _programme(form: Tensor, right: Tensor, bases: Tensor, bound: Tensor) -> Tensor:
    cp = _cvxpy()
    chains, users, streams = form.shape[0], right.shape[0], right.shape[2]
    values, basis = torch.linalg.eigh(form)
    root = (values.clamp(min=0.0).sqrt().unsqueeze(1) * basis.mH).numpy()
    v = cp.Variable((chains, users * streams), complex=True)
    wanted = right.permute(1, 0, 2).reshape(chains, -1).resolve_conj().numpy()
    value = cp.sum_squares(root @ v) - 2 * cp.real(cp.trace(wanted.conj().T @ v))
    limits = [cp.norm(v[r]) <= float(bound[r]) for r in range(chains)]
    for k in range(users):
        # Orthogonal to the complement of the null space: what the other users hear.
        outside = torch.eye(chains, dtype=form.dtype) - bases[k] @ bases[k].mH
        left = torch.linalg.svd(outside)[0][:, : chains - bases.shape[2]]
        if left.shape[1]:
            heard = left.mH.resolve_conj().numpy() @ v[:, k * streams : (k + 1) * streams]
            limits.append(heard == 0)
    cp.Problem(cp.Minimize(value), limits).solve(solver="CLARABEL")
    return torch.as_tensor(v.value, dtype=form.dtype)


def _cvxpy() -> Any:
    try:
        import cvxpy
    except ImportError:
        raise MissingDependencyError(
            "the published zero-forcing step needs CVXPY; install holobeam[cvxpy]"
        ) from None
    return cvxpy
