"""Zero forcing within each cell under a power limit on every RF chain."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.digital.cells import CellLink, CellWeights
from holobeam.digital.link import solve_small
from holobeam.errors import MissingDependencyError

ROUNDS = 60
"""Newton steps at most; quadratic convergence takes some ten."""

_RIDGE = 1e-6
"""Of a form with more chains than streams, relative to its mean diagonal."""

HALVINGS = 12
"""Of one Newton step; at the rounding of the dual none of them helps."""


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
    Each user's columns live in the null space of the others, of basis N_k; given multipliers
    lambda of the rows, ``V_k = N_k (N_k^H (C + diag lambda) N_k)^-1 N_k^H D_k``. The dual is
    concave and smooth in R numbers: projected Newton with step halving, all cells of the batch at
    once.
    Source: docs/methods.md, section 15.
    """
    form, right, bases = _pieces(link, weights)
    batch, cells, chains = limit.shape
    budget = limit.reshape(batch * cells, chains).double()
    size = right.abs().square().sum(dim=(1, 3)).sqrt()
    price = (size / budget.sqrt() - form.diagonal(dim1=1, dim2=2).real).clamp(min=0.0)
    point = _Dual(form, right, bases, budget, price)
    live = torch.ones_like(budget[:, 0], dtype=torch.bool)
    for _ in range(ROUNDS):
        live = live & (point.residual > 1e-11)
        if not bool(live.any()):
            break
        point, stuck = _newton(point, live)
        live = live & ~stuck
    columns = point.columns.permute(0, 2, 1, 3).reshape(batch, cells, chains, -1)
    over = (columns.abs().square().sum(dim=3) / limit).amax(dim=2).clamp(min=1.0)
    scaled: Tensor = columns * over.rsqrt()[:, :, None, None]
    return scaled.to(link.e.dtype)


class _Dual:
    """Precoder, row powers over their limits and dual value at given multipliers."""

    def __init__(
        self, form: Tensor, right: Tensor, bases: Tensor, budget: Tensor, price: Tensor
    ) -> None:
        self.parts = form, right, bases, budget
        self.price = price
        priced = (form + torch.diag_embed(price).to(form.dtype)).unsqueeze(1)
        inner = bases.mH @ priced @ bases
        self.inverse = bases @ solve_small(inner, bases.mH, ridge=1e-13)
        self.columns = self.inverse @ right
        self.slack = self.columns.abs().square().sum(dim=(1, 3)) - budget
        self.free = (price > 0) | (self.slack > 0)
        self.residual = (self.free * self.slack.abs() / budget).amax(dim=1)
        gain = (right.conj() * self.columns).real.sum(dim=(1, 2, 3))
        self.value = -gain - (price * budget).sum(dim=1)

    def curvature(self) -> Tensor:
        """Minus the Hessian of the dual, ``(cells, R, R)``."""
        outer = self.columns @ self.columns.mH
        return 2.0 * (self.inverse * outer.mT).real.sum(dim=1)

    def at(self, price: Tensor) -> _Dual:
        """Return the same dual at other multipliers."""
        return _Dual(*self.parts, price)


def _better(new: _Dual, old: _Dual) -> Tensor:
    """Whether the dual rises or, within its rounding, the conditions are met more closely."""
    gain, rounding = new.value - old.value, 1e-13 * old.value.abs()
    return (gain > rounding) | ((gain >= -rounding) & (new.residual < old.residual))


def _newton(point: _Dual, live: Tensor) -> tuple[_Dual, Tensor]:
    """One projected Newton step of the live cells, halved where the dual would not rise.

    Cells that no step helps are at the dual's rounding, and done.
    """
    slack, free = point.slack, point.free
    both = free.unsqueeze(2) & free.unsqueeze(1)
    curvature = torch.where(both, point.curvature(), 0.0)
    held = torch.diag_embed((~free).to(curvature.dtype))
    level = curvature.diagonal(dim1=1, dim2=2).amax(dim=1).clamp(min=1e-300)
    step = solve_small(
        curvature / level[:, None, None] + held, (slack * free / level.unsqueeze(1)).unsqueeze(2)
    ).squeeze(2)
    # Where the projection spoils Newton's direction, the scaled gradient still ascends.
    slope = slack * free / curvature.diagonal(dim1=1, dim2=2).clamp(min=1e-300)
    best, waiting = point.price, live
    for direction in (step, slope):
        for halving in range(HALVINGS):
            price = (point.price + 0.5**halving * direction).clamp(min=0.0)
            rises = waiting & _better(point.at(price), point)
            best = torch.where(rises.unsqueeze(1), price, best)
            waiting = waiting & ~rises
            if not bool(waiting.any()):
                return point.at(best), waiting
    return point.at(best), waiting


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
    form = rows.mH @ rows
    if chains > rows.shape[1]:
        # Prices may fall to 0 where the form itself is singular: Newton then finds no step.
        level = form.diagonal(dim1=1, dim2=2).real.mean(dim=1)[:, None, None]
        form = form + _RIDGE * level * torch.eye(chains, dtype=wide, device=form.device)
    return form, right, basis[..., : chains - (per_cell - 1) * streams]


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
