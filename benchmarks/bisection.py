"""WMMSE's textbook step for many cells: one budget, its multiplier by bisection, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit

from holobeam.analog.coordinate import as_array
from holobeam.kernels.blocks import solve
from holobeam.kernels.cells import filters, normal_equations, whiten
from holobeam.kernels.options import FAST


@njit(**FAST)
def _spent(c: Any, d: Any, mu: float, system: Any, v: Any) -> float:
    """``V = (C + mu I)^-1 D`` in place, and its power."""
    system[:] = c
    v[:] = d
    for r in range(c.shape[0]):
        system[r, r] += mu
    if not solve(system, v, 1e-14):
        return np.inf
    total = 0.0
    for r in range(v.shape[0]):
        for s in range(v.shape[1]):
            total += v[r, s].real * v[r, s].real + v[r, s].imag * v[r, s].imag
    return total


@njit(**FAST)
def _bisect(c: Any, d: Any, budget: float, precision: float, room: Any) -> None:
    """Halve the interval of the multiplier until ``precision`` below the budget."""
    system, v = room
    if _spent(c, d, 0.0, system, v) <= budget:
        return
    size = 0.0
    for r in range(d.shape[0]):
        for s in range(d.shape[1]):
            size += d[r, s].real * d[r, s].real + d[r, s].imag * d[r, s].imag
    low, high = 0.0, np.sqrt(size / budget)
    for _ in range(100):
        middle = 0.5 * (low + high)
        power = _spent(c, d, middle, system, v)
        if power > budget:
            low = middle
        else:
            high = middle
            if power > budget * (1.0 - precision):
                return
    _spent(c, d, high, system, v)


@njit(**FAST)
def _bisect_spectrum(c: Any, d: Any, budget: float, precision: float, v: Any) -> None:
    """The same after one eigendecomposition: a halving is then a sum of R terms."""
    values, basis = np.linalg.eigh(c)
    turned = basis.conj().T @ d
    chains, columns = d.shape
    energy = np.zeros(chains)
    top = max(values[chains - 1], 1e-300)
    for r in range(chains):
        values[r] = max(values[r], 1e-14 * top)
        for s in range(columns):
            energy[r] += turned[r, s].real ** 2 + turned[r, s].imag ** 2
    low, high, mu = 0.0, np.sqrt(energy.sum() / budget), 0.0
    if (energy / values**2).sum() > budget:
        for _ in range(100):
            mu = 0.5 * (low + high)
            power = 0.0
            for r in range(chains):
                power += energy[r] / (values[r] + mu) ** 2
            if power > budget:
                low = mu
            else:
                high = mu
                if power > budget * (1.0 - precision):
                    break
        mu = high
    for r in range(chains):
        for s in range(columns):
            turned[r, s] /= values[r] + mu
    v[:] = basis @ turned


@njit(**FAST)
def _batch(given: Any, budget: Any, precision: float, spectrum: bool, v: Any) -> None:
    e, decoders, root = given
    cells, users, receivers, chains = e.shape[1:]
    streams, columns = root.shape[2], v.shape[3]
    filtered = np.empty((users, streams, receivers), dtype=np.complex128)
    y = np.empty((users * streams, chains), dtype=np.complex128)
    c = np.empty((chains, chains), dtype=np.complex128)
    system = np.empty_like(c)
    d = np.empty((chains, columns), dtype=np.complex128)
    for b in range(e.shape[0]):
        filters(decoders[b], root[b], filtered)
        for cell in range(cells):
            whiten(filtered, e[b, cell], y)
            normal_equations(y, root[b], cell, c, d)
            if spectrum:
                _bisect_spectrum(c, d, budget[b, cell], precision, v[b, cell])
            else:
                _bisect(c, d, budget[b, cell], precision, (system, v[b, cell]))


def bisected(
    link: Any, weights: Any, budget: torch.Tensor, precision: float, *, spectrum: bool
) -> torch.Tensor:
    """Precoders ``(B, L, R, K S)`` of cells with a budget ``(B, L)`` each, at the feeds."""
    batch, cells, users, _, chains = link.e.shape
    out = np.empty((batch, cells, chains, users // cells * weights.root.shape[2]), dtype=complex)
    _batch(
        (as_array(link.e), as_array(weights.decoders), as_array(weights.root)), as_array(budget),
        precision, spectrum, out,
    )  # fmt: skip
    return torch.from_numpy(out).to(link.e.dtype)


def scaled_into(digital: torch.Tensor, limit: torch.Tensor) -> torch.Tensor:
    """Rows above their limits ``(B, L, R)`` scaled down to them, the others as they are."""
    load = digital.abs().square().sum(dim=3) / limit
    return digital * load.clamp(min=1.0).rsqrt().unsqueeze(3)


def bisected_in_numpy(
    link: Any, weights: Any, budget: torch.Tensor, precision: float
) -> list[np.ndarray[Any, Any]]:
    """The same as scripts do it: NumPy, one cell after the other."""
    rows = as_array(weights.whitened(link.e).flatten(0, 1))
    wanted = as_array(weights.wanted(link.e.shape[1]).flatten(0, 1))
    eye = np.eye(rows.shape[2])
    found = []
    for y, z, limit in zip(rows, wanted, as_array(budget).ravel(), strict=True):
        c, d = y.conj().T @ y + 1e-14 * eye, y.conj().T @ z
        v = np.linalg.solve(c, d)
        low, high = 0.0, np.linalg.norm(d) / np.sqrt(limit)
        power = np.linalg.norm(v) ** 2
        bound = power > limit
        while bound and not limit * (1 - precision) <= power <= limit:
            middle = 0.5 * (low + high)
            v = np.linalg.solve(c + middle * eye, d)
            power = np.linalg.norm(v) ** 2
            low, high = (middle, high) if power > limit else (low, middle)
        found.append(v)
    return found
