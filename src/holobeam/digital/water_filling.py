"""Water-filling of a power budget over parallel streams."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def water_filling(
    cost: Float[Tensor, "*batch streams"],
    noise: Float[Tensor, "*batch streams"],
    budget: Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch streams"]:
    """Powers that maximise ``sum log(1 + p_k / noise_k)`` under ``sum cost_k p_k <= budget``.

    Parameters
    ----------
    cost
        Power spent per unit of received power, > 0; streams of zero or infinite cost get nothing.
    noise
        Noise power of each stream, > 0.
    budget
        Total, > 0.

    Returns
    -------
    Tensor
        ``p_k = max(0, mu / cost_k - noise_k)``, exact: streams are sorted by their threshold
        ``cost_k noise_k`` and the level mu follows in closed form.
    """
    usable = torch.isfinite(cost) & (cost > 0)
    threshold = torch.where(usable, cost * noise, torch.inf)
    ordered, _ = threshold.sort(dim=-1)
    count = torch.arange(1, cost.shape[-1] + 1, dtype=cost.dtype, device=cost.device)
    filled = torch.where(torch.isfinite(ordered), ordered, 0.0).cumsum(dim=-1)
    level = (budget.unsqueeze(-1) + filled) / count
    active = (level > ordered).sum(dim=-1, keepdim=True).clamp(min=1)
    mu = level.gather(-1, active - 1)
    power = (mu - threshold).clamp(min=0.0) / torch.where(usable, cost, 1.0)
    return torch.where(usable, power, 0.0)
