"""L-BFGS on a batch of unconstrained problems, each channel with its own steps and memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

Objective = Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor]]
"""Value ``(rows,)`` and gradient ``(rows, D)`` of points ``(rows, D)``.

The second argument holds the indices of the channels that the points belong to; None is all.
"""

FIRST = 0.3
"""Length of the very first step."""

_SUFFICIENT = 1e-4
_SHRINK = 0.3
_TRIES = 6
_FLAT = 1e-12


@dataclass(frozen=True, eq=False)
class Memory:
    """Where a run stands; every tensor leads with the batch axis.

    Attributes
    ----------
    x, value, gradient
        Point, objective and gradient.
    moves, turns
        ``(B, m, D)``: last changes of the point and of the gradient, the newest last.
    inverse
        ``(B, m)``: 1 over their products; 0 marks an empty place.
    scale
        ``(B,)``: size of the first guess of the inverse Hessian.
    stuck
        ``(B,)``: steps in a row that found no decrease.
    count
        Steps made.
    """

    x: Float[Tensor, "batch dimension"]
    value: Float[Tensor, " batch"]
    gradient: Float[Tensor, "batch dimension"]
    moves: Float[Tensor, "batch memory dimension"]
    turns: Float[Tensor, "batch memory dimension"]
    inverse: Float[Tensor, "batch memory"]
    scale: Float[Tensor, " batch"]
    stuck: Int[Tensor, " batch"]
    count: int


def begin_memory(
    x: Float[Tensor, "batch dimension"],
    value: Float[Tensor, " batch"],
    gradient: Float[Tensor, "batch dimension"],
    size: int,
) -> Memory:
    """Start at ``x`` with an empty memory of ``size`` pairs."""
    empty = x.new_zeros(x.shape[0], size, x.shape[1])
    stuck = torch.zeros(x.shape[0], dtype=torch.long, device=x.device)
    return Memory(
        x, value, gradient, empty, empty, empty[:, :, 0], torch.full_like(x[:, 0], 0.1), stuck, 0
    )


def limited_memory_step(objective: Objective, memory: Memory, first: float = FIRST) -> Memory:
    """One step with backtracking: no channel's objective rises.

    The first step has length ``first``. A channel without an acceptable step stays where it is,
    forgets its pairs, and turns to steepest descent. Pairs without curvature are skipped.

    Notes
    -----
    Source: docs/methods.md, section 17. Cost: one value and gradient per step tried, and
    ``O(m D)``.
    """
    direction = _direction(memory)
    slope = _dot(direction, memory.gradient)
    length = _dot(memory.gradient, memory.gradient).clamp(min=torch.finfo(slope.dtype).tiny).sqrt()
    reach = first if memory.count == 0 else 0.1
    steepest = -(reach / length)[:, None] * memory.gradient
    bad = ~(slope < 0) if memory.count else torch.ones_like(slope, dtype=torch.bool)
    direction = torch.where(bad[:, None], steepest, direction)
    slope = torch.where(bad, -reach * length, slope)
    x, value, gradient, moved = _search(objective, memory, direction, slope)
    return _remember(memory, x, value, gradient, moved)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    product: Tensor = torch.linalg.vecdot(a, b)
    return product


def _direction(memory: Memory) -> Tensor:
    """Two-loop recursion."""
    size = memory.inverse.shape[1]
    places = range(size - min(memory.count, size), size)
    along, shares = memory.gradient, {}
    for i in reversed(places):
        shares[i] = (memory.inverse[:, i] * _dot(memory.moves[:, i], along))[:, None]
        along = along - shares[i] * memory.turns[:, i]
    along = memory.scale[:, None] * along
    for i in places:
        back = (memory.inverse[:, i] * _dot(memory.turns[:, i], along))[:, None]
        along = along + (shares[i] - back) * memory.moves[:, i]
    return -along


def _search(
    objective: Objective, memory: Memory, direction: Tensor, slope: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Shorten the step until the objective falls enough: point, value, gradient, moved.

    Channels that have found their step leave the search.
    """
    trial = memory.x + direction
    value, gradient = objective(trial, None)
    moved = value <= memory.value + _SUFFICIENT * slope
    left = (~moved).nonzero().squeeze(1)
    stride = 1.0
    for _ in range(_TRIES - 1):
        if left.numel() == 0:
            break
        stride *= _SHRINK
        shorter = memory.x[left] + stride * direction[left]
        at, turned = objective(shorter, left)
        enough = at <= memory.value[left] + _SUFFICIENT * stride * slope[left]
        into = left[enough]
        trial = trial.index_copy(0, into, shorter[enough])
        value = value.index_copy(0, into, at[enough])
        gradient = gradient.index_copy(0, into, turned[enough])
        moved = moved.index_fill(0, into, True)
        left = left[~enough]
    x = torch.where(moved[:, None], trial, memory.x)
    gradient = torch.where(moved[:, None], gradient, memory.gradient)
    return x, torch.where(moved, value, memory.value), gradient, moved


def _remember(memory: Memory, x: Tensor, value: Tensor, gradient: Tensor, moved: Tensor) -> Memory:
    move, turn = x - memory.x, gradient - memory.gradient
    product, energy = _dot(move, turn), _dot(turn, turn)
    curved = moved & (product > _FLAT * energy) & (energy > 0)
    safe = torch.where(curved, product, torch.ones_like(product))

    def pushed(old: Tensor, new: Tensor) -> Tensor:
        keep = curved.view(-1, *[1] * (old.ndim - 1))
        return torch.where(keep, torch.cat([old[:, 1:], new.unsqueeze(1)], dim=1), old)

    inverse = pushed(memory.inverse, 1.0 / safe)
    scale = product / torch.where(curved, energy, torch.ones_like(energy))
    return Memory(
        x,
        value,
        gradient,
        pushed(memory.moves, move),
        pushed(memory.turns, turn),
        torch.where(moved[:, None], inverse, torch.zeros_like(inverse)),
        torch.where(curved, scale, memory.scale),
        torch.where(moved, 0, memory.stuck + 1),
        memory.count + 1,
    )
