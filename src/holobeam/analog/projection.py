"""Closest-point projection: solve without constraints, then round onto the element set."""

from __future__ import annotations

import torch
from jaxtyping import Complex
from torch import Tensor

from holobeam.analog.quadratic import Quadratic
from holobeam.frontends.element_sets import ElementSet


def closest_point(
    quadratic: Quadratic,
    q: Complex[Tensor, "batch antennas controls"],
    element_set: ElementSet,
) -> Complex[Tensor, "batch antennas controls"]:
    """Least-norm unconstrained minimiser, each control moved to its nearest allowed value.

    A baseline: its value may well be above that of ``q``, and at high power binary elements drift
    towards "all off". Without a price of power the minimiser is the least-norm solution of
    ``Y X(q) = T``, found from a Gram matrix of size F J S; otherwise from the N C x N C form.

    Notes
    -----
    Source: multicell paper, its projection baselines (our reading); docs/methods.md, section 15.
    """
    if bool((quadratic.rho != 0).any()):
        # In single precision what is rounded off would be inverted as well.
        a, b = quadratic.wide().dense()
        wanted = (_pseudo_inverse(a) @ b.unsqueeze(2)).squeeze(2)
    else:
        wanted = _least_norm(quadratic)
    nearest = element_set.project(wanted.to(q.dtype).view_as(q))
    # A channel whose quadratic is not finite stays where it is.
    finite = torch.isfinite(torch.view_as_real(wanted)).flatten(1).all(dim=1)
    return torch.where(finite[:, None, None], nearest, q)


def _least_norm(quadratic: Quadratic) -> Tensor:
    y, t, d = (v.to(torch.complex128) for v in (quadratic.y, quadratic.t, quadratic.d))
    batch, _, antennas, controls, _ = d.shape
    rows = torch.einsum("bfjn,bfncs->bfjsnc", y, d).reshape(batch, -1, antennas * controls)
    wanted: Tensor = rows.mH @ (_pseudo_inverse(rows @ rows.mH) @ t.reshape(batch, -1, 1))
    return wanted.squeeze(2)


def _pseudo_inverse(matrix: Tensor) -> Tensor:
    """Of Hermitian matrices, NaN where a matrix is not finite (a batch must not fail for one)."""
    wide = matrix.to(torch.complex128)
    finite = torch.isfinite(torch.view_as_real(wide)).flatten(1).all(dim=1)[:, None, None]
    inverse: Tensor = torch.linalg.pinv(torch.where(finite, wide, 0.0), hermitian=True, rtol=1e-12)
    return torch.where(finite, inverse, torch.nan)
