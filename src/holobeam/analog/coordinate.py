"""Exact coordinate descent on the quadratic: compiled for CPU tensors, and its torch twin."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Complex
from torch import Tensor

from holobeam.analog.quadratic import Quadratic
from holobeam.frontends.element_sets import ElementSet


class AnalogUpdate(Protocol):
    """What an alternating solver asks of an analog method: better controls, same shape."""

    def __call__(self, quadratic: Quadratic, q: Tensor, element_set: ElementSet) -> Tensor:
        """Return controls on the element set whose value is not above that of ``q``."""
        ...


def coordinate_descent(
    quadratic: Quadratic,
    q: Complex[Tensor, "batch antennas controls"],
    element_set: ElementSet,
    sweeps: int = 1,
) -> Complex[Tensor, "batch antennas controls"]:
    """Visit every control in turn and move it to its exact minimiser on the element set.

    Compiled for CPU tensors and the three built-in sets, otherwise
    :func:`coordinate_descent_torch`. Cost per element: ``O(F (J S + C S))``.

    Parameters
    ----------
    quadratic
        What to minimise.
    q
        Where to start; not changed.
    element_set
        Where every control lives.
    sweeps
        Passes over all elements.

    Notes
    -----
    Source: mmse and multicell papers (our reading); docs/methods.md, section 3.
    """
    code = getattr(element_set, "kernel_code", None)
    if q.device.type != "cpu" or code is None or q.requires_grad:
        return coordinate_descent_torch(quadratic, q, element_set, sweeps)
    from holobeam.kernels import cpu, factored

    kind, levels = code()

    _, subcarriers, antennas, controls, streams = quadratic.d.shape
    z = quadratic.z
    if z is None and factored.serves(
        subcarriers, quadratic.y.shape[2], antennas, controls, streams
    ):
        out = as_array(q).copy()
        factored.factored_sweep(
            as_array(quadratic.y),
            as_array(quadratic.t),
            as_array(quadratic.d),
            as_array(quadratic.rho),
            out,
            kind,
            np.asarray(levels, dtype=complex),
            sweeps,
            cpu.available_threads(),
        )
        return torch.from_numpy(out).to(q.dtype)
    target = np.zeros((0, subcarriers, antennas, streams), complex) if z is None else as_array(z)
    out = as_array(q).copy()
    residual = as_array(quadratic.residual(q)).copy()
    cpu.coordinate_sweep(
        as_array(quadratic.y),
        residual,
        as_array(quadratic.d),
        as_array(quadratic.rho),
        target,
        out,
        kind,
        np.asarray(levels, dtype=complex),
        sweeps,
        cpu.available_threads(),
    )
    return torch.from_numpy(out).to(q.dtype)


def as_array(tensor: Tensor) -> np.ndarray[Any, Any]:
    """Double-precision NumPy view (or copy, where the dtype or the layout asks for one)."""
    wide = complex if tensor.is_complex() else float
    # NumPy converts: its calls cost a fraction of torch's, and one channel is mostly calls.
    return np.asarray(tensor.detach().resolve_conj().numpy(), dtype=wide, order="C")


def coordinate_descent_torch(
    quadratic: Quadratic,
    q: Complex[Tensor, "batch antennas controls"],
    element_set: ElementSet,
    sweeps: int = 1,
) -> Complex[Tensor, "batch antennas controls"]:
    """Do the same sweep in torch: any device, any element set; the oracle of the kernel."""
    y, d, rho = quadratic.y, quadratic.d, quadratic.rho.unsqueeze(2)
    q = q.clone()
    residual = quadratic.residual(q)
    energy = y.abs().square().sum(dim=2)
    for _ in range(sweeps):
        for n in range(quadratic.antennas):
            rows = (q[:, None, n, :, None] * d[:, :, n]).sum(dim=2)
            away = rows if quadratic.z is None else rows - quadratic.z[:, :, n]
            column = y[:, :, :, n]
            pull = (column.conj().unsqueeze(-1) * residual).sum(dim=2) + rho * away
            stiffness = energy[:, :, n].unsqueeze(2) + rho
            moved = torch.zeros_like(pull)
            for c in range(q.shape[2]):
                branch = d[:, :, n, c]
                curvature = (stiffness * branch.abs().square()).sum(dim=(1, 2))
                slope = (pull * branch.conj()).sum(dim=(1, 2))
                free = curvature > 0
                wanted = q[:, n, c] - slope / torch.where(free, curvature, 1.0)
                new = torch.where(free, element_set.project(wanted), q[:, n, c])
                step = (new - q[:, n, c])[:, None, None]
                q[:, n, c] = new
                moved = moved + step * branch
                pull = pull + stiffness * step * branch
            residual = residual + column.unsqueeze(-1) * moved.unsqueeze(2)
    return q
