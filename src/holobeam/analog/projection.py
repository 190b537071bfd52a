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
    Source: multicell paper, its projection baselines (our reading); docs/methods.md, section 20.
    """
    if bool((quadratic.rho != 0).any()):
        a, b = quadratic.dense()
        free = torch.linalg.pinv(a.to(torch.complex128), hermitian=True, rtol=1e-12)
        wanted = (free @ b.to(free.dtype).unsqueeze(2)).squeeze(2)
    else:
        wanted = _least_norm(quadratic)
    nearest: Tensor = element_set.project(wanted.to(q.dtype).view_as(q))
    return nearest


def _least_norm(quadratic: Quadratic) -> Tensor:
    y, t, d = (v.to(torch.complex128) for v in (quadratic.y, quadratic.t, quadratic.d))
    batch, _, antennas, controls, _ = d.shape
    rows = torch.einsum("bfjn,bfncs->bfjsnc", y, d).reshape(batch, -1, antennas * controls)
    gram = torch.linalg.pinv(rows @ rows.mH, hermitian=True, rtol=1e-12)
    wanted: Tensor = rows.mH @ (gram @ t.reshape(batch, -1, 1))
    return wanted.squeeze(2)
