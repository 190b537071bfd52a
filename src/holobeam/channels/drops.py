"""Choosing which users are served together."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Complex, Int
from torch import Tensor

from holobeam.errors import InputError, ShapeError, check_count

ATTEMPTS = 100
"""Shuffles tried before a separated drop is called impossible."""


def draw_drops(
    users: Int[Tensor, " known"],
    count: int,
    size: int = 4,
    *,
    seed: int,
    h: Complex[Tensor, "1 1 known antennas"] | None = None,
    max_correlation: float | None = None,
) -> Int[Tensor, "{count} {size}"]:
    """Draw groups of users at random, without a user twice in a group.

    Parameters
    ----------
    users
        ``(U,)`` int64, the users to choose from.
    count
        Number of groups B.
    size
        Users K of a group.
    seed
        Of ``numpy.random.default_rng``.
    h
        ``(1, 1, U, N)`` their channels, needed for ``max_correlation`` only.
    max_correlation
        Largest ``|h_i^H h_k| / (|h_i| |h_k|)`` within a group: users join greedily in random order
        where they keep it. None takes users as they come.

    Returns
    -------
    Tensor
        ``(B, K)`` int64.

    Raises
    ------
    InputError
        If there are too few users, or no group so well separated is found.
    """
    check_count("count", count)
    check_count("size", size)
    if users.ndim != 1 or users.numel() < size:
        raise ShapeError("users", f"got shape {tuple(users.shape)}", f"need at least {size} users")
    rng = np.random.default_rng(seed)
    if max_correlation is None:
        known = users.cpu().numpy()
        groups = [rng.choice(known, size, replace=False) for _ in range(count)]
        return torch.from_numpy(np.stack(groups))
    unit = _directions(users, h, max_correlation)
    rows = [_separated(unit, size, max_correlation, rng) for _ in range(count)]
    return users.cpu()[torch.tensor(rows)]


def _directions(
    users: Int[Tensor, " known"], h: Tensor | None, max_correlation: float
) -> Complex[Tensor, "known antennas"]:
    """Channels of unit norm; a user without a channel is orthogonal to everyone."""
    if h is None:
        raise InputError("h", "not given with max_correlation", "pass the channels of the users")
    if not 0 < max_correlation <= 1:
        raise InputError("max_correlation", f"got {max_correlation!r}", "need a number in (0, 1]")
    if h.ndim != 4 or tuple(h.shape[:3]) != (1, 1, users.numel()):
        right = f"need (1, 1, {users.numel()}, N), one row a user"
        raise ShapeError("h", f"got shape {tuple(h.shape)}", right)
    return torch.nn.functional.normalize(h[0, 0].cpu(), dim=-1)


def _separated(
    unit: Complex[Tensor, "known antennas"],
    size: int,
    max_correlation: float,
    rng: np.random.Generator,
) -> list[int]:
    """Walk through a shuffle and take every user that is far enough from those taken."""
    for _ in range(ATTEMPTS):
        free = torch.from_numpy(rng.permutation(unit.shape[0]))
        taken: list[int] = []
        while len(taken) < size and free.numel():
            taken.append(int(free[0]))
            correlation = (unit[free[1:]] @ unit[taken[-1]].conj()).abs()
            free = free[1:][correlation <= max_correlation]
        if len(taken) == size:
            return taken
    raise InputError(
        "max_correlation",
        f"no {size} users within {max_correlation:g} in {ATTEMPTS} shuffles",
        "allow more correlation, or smaller groups",
    )
