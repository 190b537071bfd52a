"""Digital step of many cells under limits per RF chain: rows in closed form, visit after visit."""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.digital.cells import CellLink, CellWeights


def cell_rows(
    link: CellLink,
    weights: CellWeights,
    limit: Float[Tensor, "batch cells rf_chains"],
    digital: Complex[Tensor, "batch cells rf_chains streams"],
    *,
    visits: int = 1,
    tolerance: float = 0.0,
) -> Complex[Tensor, "batch cells rf_chains streams"]:
    """Minimise ``||rows V - wanted||^2`` of every cell over one row of V after the other.

    Parameters
    ----------
    link, weights, digital
        Where things stand.
    limit
        Largest power of each row.
    visits
        Passes over the rows, at most.
    tolerance
        A cell is done once a pass moves its V by no more than ``tolerance ||V||``.

    Returns
    -------
    Tensor
        Precoders within their limits. No visit raises the objective of a cell.

    Notes
    -----
    Row r, the others held: ``t / C_rr`` with ``t = D_r - sum_{i != r} C_ri V_i``, or
    ``sqrt(P_r) t / |t|`` where that is too much. Source: multicell paper (our reading);
    docs/methods.md, sections 8 and 15. Compiled for CPU tensors without gradients, threads over
    channels; otherwise in torch.
    """
    tracked = (link.e, weights.decoders, weights.root, digital)
    if digital.device.type != "cpu" or any(tensor.requires_grad for tensor in tracked):
        return cell_rows_torch(link, weights, limit, digital, visits=visits, tolerance=tolerance)
    from holobeam.analog.coordinate import as_array
    from holobeam.kernels import cells, cpu

    out = as_array(digital).copy()
    cells.cell_rows(
        as_array(link.e),
        as_array(weights.decoders),
        as_array(weights.root),
        as_array(limit),
        out,
        visits,
        tolerance,
        cpu.available_threads(),
    )
    return torch.from_numpy(out).to(digital.dtype)


def cell_rows_torch(
    link: CellLink,
    weights: CellWeights,
    limit: Float[Tensor, "batch cells rf_chains"],
    digital: Complex[Tensor, "batch cells rf_chains streams"],
    *,
    visits: int = 1,
    tolerance: float = 0.0,
) -> Complex[Tensor, "batch cells rf_chains streams"]:
    """Do the same visits in torch: any device, gradients; the oracle of the kernel."""
    wide = torch.complex128
    rows = weights.whitened(link.e).to(wide)
    wanted = weights.wanted(link.e.shape[1]).to(wide)
    stiffness = rows.abs().square().sum(dim=2)
    v, limit = digital.to(wide), limit.double()
    live = torch.ones_like(stiffness[..., 0], dtype=torch.bool)
    for _ in range(visits):
        new = torch.where(live[..., None, None], _visited(rows, wanted, stiffness, limit, v), v)
        moved = (new - v).abs().square().sum(dim=(2, 3))
        live = live & (moved > tolerance**2 * new.abs().square().sum(dim=(2, 3)))
        v = new
        if tolerance > 0 and not bool(live.any()):
            break
    return v.to(digital.dtype)


def _visited(rows: Tensor, wanted: Tensor, stiffness: Tensor, limit: Tensor, v: Tensor) -> Tensor:
    """One visit to every row, all cells at once."""
    away = wanted - rows @ v
    done = []
    for r in range(v.shape[2]):
        path = rows[..., r]
        t = stiffness[..., r, None] * v[:, :, r] + (path.conj().unsqueeze(3) * away).sum(dim=2)
        size = t.abs().square().sum(dim=2)
        held = (stiffness[..., r] > 0) & (size > 0)
        full = (limit[..., r] / torch.where(held, size, 1.0)).sqrt()
        scale = torch.minimum(1.0 / torch.where(held, stiffness[..., r], 1.0), full)
        new = torch.where(held, scale, 0.0).unsqueeze(2) * t
        away = away - path.unsqueeze(3) * (new - v[:, :, r]).unsqueeze(2)
        done.append(new)
    return torch.stack(done, dim=2)
