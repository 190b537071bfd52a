"""The surrogate of successive convex approximation as a cone program, through cvxpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Complex
from torch import Tensor

from holobeam.digital.sca import Surrogate
from holobeam.errors import MissingDependencyError


def cvxpy() -> Any:
    """Import cvxpy, or say how to get it.

    Raises
    ------
    MissingDependencyError
        If it is not installed.
    """
    try:
        import cvxpy as package
    except ImportError as error:
        raise MissingDependencyError(
            "the cone program needs cvxpy: pip install 'holobeam[cvxpy]', or use surrogate='dual'"
        ) from error
    return package


def cone_step(
    surrogate: Surrogate, digital: Complex[Tensor, "batch 1 rf_chains users"]
) -> Complex[Tensor, "batch 1 rf_chains users"]:
    """Solve the program of each channel; a channel that the solver gives up on keeps its V."""
    new = digital.clone()
    for index in range(digital.shape[0]):
        found = solve_cone(
            surrogate.e[index, 0].numpy(force=True),
            surrogate.phi[index, 0].numpy(force=True),
            surrogate.weights[index, 0].numpy(force=True),
        )
        if found is not None:
            new[index, 0] = torch.from_numpy(found).to(new)
    worse = ~(surrogate.value(new) >= surrogate.value(digital))
    return torch.where(worse[:, None, None, None], digital, new)


def solve_cone(e: Any, phi: Any, weights: Any) -> Any:
    """Precoder ``(R, K)`` of one channel at noise and budget 1, or None.

    Variables W, SINRs g, amplitudes b of interference and noise: ``Im(e_k w_k) = 0``,
    ``||[e_k w_l (l != k); 1]|| <= b_k``, ``(phi_k / 2) b_k^2 + g_k / (2 phi_k) <= Re(e_k w_k)``,
    ``||W|| <= 1``; the geometric mean of ``1 + g`` is maximised (``sum alpha log(1 + g)`` where
    weights differ).
    """
    cp = cvxpy()
    users, chains = e.shape
    w = cp.Variable((chains, users), complex=True)
    g, b = cp.Variable(users), cp.Variable(users)
    heard = e @ w
    conditions = [cp.norm(w, "fro") <= 1.0]
    for k in range(users):
        if phi[k] == 0 or weights[k] == 0:
            conditions += [g[k] == 0, b[k] == 1.0, w[:, k] == 0]
            continue
        rest = cp.hstack([*(heard[k, j] for j in range(users) if j != k), 1.0])
        conditions += [
            cp.imag(heard[k, k]) == 0,
            cp.norm(rest) <= b[k],
            phi[k] / 2 * cp.square(b[k]) + g[k] / (2 * phi[k]) <= cp.real(heard[k, k]),
        ]
    equal = np.ptp(weights) <= 1e-12 * np.max(weights)
    goal = cp.geo_mean(1.0 + g) if equal else weights @ cp.log(1.0 + g)
    program = cp.Problem(cp.Maximize(goal), conditions)
    try:
        program.solve(solver="CLARABEL")
    except cp.SolverError:
        return None
    return w.value
