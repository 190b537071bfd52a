"""Analog updates on sets of two levels: the quadratic written in signs, then :mod:`.binary`.

Each is a function ``(Quadratic, q, element_set) -> q`` that never returns worse controls than it
was given (but :func:`closest_point`, which does not look). They form the N x N matrix.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Complex
from torch import Tensor

from holobeam.analog.binary import minimize_binary
from holobeam.analog.projection import closest_point
from holobeam.analog.quadratic import Quadratic
from holobeam.errors import InputError
from holobeam.frontends.element_sets import ElementSet, Plane, Points

Controls = Complex[Tensor, "batch antennas controls"]


def signs_of(quadratic: Quadratic, q: Controls, element_set: ElementSet) -> tuple[Tensor, ...]:
    """Quadratic in signs: ``q = middle + half x`` gives ``x' Q x - 2 c' x`` plus a constant.

    Returns
    -------
    tuple of Tensor
        Q ``(B, N C, N C)``, c ``(B, N C)``, the signs x of the controls ``(B, N C)``, all float64,
        and the two numbers ``middle`` and ``half``.

    Raises
    ------
    InputError
        Unless the set has exactly two different levels.
    """
    if not isinstance(element_set, Points) or len(set(element_set.levels)) != 2:
        raise InputError(
            "element_set", f"got {element_set!r}", "this method needs Points of two levels"
        )
    low, high = dict.fromkeys(element_set.levels)
    middle, half = torch.tensor([0.5 * (low + high), 0.5 * (high - low)], dtype=torch.complex128)
    a, b = quadratic.wide().dense()
    b = b - a.sum(dim=-1) * middle
    flat = q.detach().to(torch.complex128).flatten(1)
    x = torch.where(((flat - middle.to(q.device)) * half.conj().to(q.device)).real >= 0, 1.0, -1.0)
    matrix = half.abs().square().item() * a.real
    return matrix, (half.conj().to(b.device) * b).real, x.double(), middle, half


def _minimise(quadratic: Quadratic, q: Tensor, element_set: ElementSet, **options: Any) -> Tensor:
    """Controls whose signs minimise; a channel with NaN keeps the controls it has."""
    matrix, c, x, middle, half = signs_of(quadratic, q, element_set)
    finite = torch.isfinite(matrix).all(dim=(1, 2)) & torch.isfinite(c).all(dim=1)
    if not bool(finite.any()):
        return q.clone()
    rows = finite.nonzero().squeeze(1)
    found = minimize_binary(matrix[rows], c[rows], start=x[rows], **options)
    levels = middle.to(found.x.device) + half.to(found.x.device) * found.x
    out = q.clone()
    out[rows] = levels.reshape(len(rows), *q.shape[1:]).to(q.dtype)
    return out


def one_opt(quadratic: Quadratic, q: Controls, element_set: ElementSet) -> Controls:
    """Flip in turn every control whose flip helps, until none does.

    Notes
    -----
    Source: multicell paper (our reading); docs/methods.md, section 14.
    """
    return _minimise(quadratic, q, element_set, method="1-opt")


def two_opt(quadratic: Quadratic, q: Controls, element_set: ElementSet) -> Controls:
    """Take the best single or pair flip until none helps.

    Notes
    -----
    Source: ours, after multicell; docs/methods.md, section 14.
    """
    return _minimise(quadratic, q, element_set, method="2-opt")


def hidden_convexity(
    quadratic: Quadratic, q: Controls, element_set: ElementSet, local_search: bool = True
) -> Controls:
    """Solve the norm relaxation exactly, round, keep the better of it and ``q``, then 1-opt.

    Notes
    -----
    Source: multicell paper (our reading); docs/methods.md, section 14.
    """
    return _minimise(quadratic, q, element_set, method="hc", local_search=local_search)


def tabu(
    quadratic: Quadratic, q: Controls, element_set: ElementSet, steps: int | None = None
) -> Controls:
    """Tabu search from the 1-opt point of ``q``, 10 steps a control by default.

    Notes
    -----
    Source: ours; docs/methods.md, section 14.
    """
    return _minimise(quadratic, q, element_set, method="tabu", tabu_steps=steps)


def sphere(quadratic: Quadratic, q: Controls, element_set: ElementSet, **options: Any) -> Controls:
    """Exact minimiser by sphere decoding; options as in :func:`minimize_binary`.

    Notes
    -----
    Source: multicell paper (our reading); docs/methods.md, section 14.
    """
    return _minimise(quadratic, q, element_set, **{"method": "sd", **options})


SEARCHES = (one_opt, two_opt, hidden_convexity, tabu, sphere)
"""Updates that flip controls between two levels, and serve nothing else."""

EXACT_CONTROLS = 64
"""Controls up to which an exact search ends in bearable time more often than not."""


def unfit(update: Any, element_set: ElementSet, controls: int) -> str | None:
    """Reason why an analog update can't serve so many controls on a set, or None."""
    search = getattr(update, "func", update)
    if search is closest_point and isinstance(element_set, Plane):
        return "it rounds unconstrained controls, and these need no rounding; use wmmse-cd"
    if search not in SEARCHES:
        return None
    if not isinstance(element_set, Points) or len(set(element_set.levels)) != 2:
        return "it flips elements between two levels, and these have others; use wmmse-cd"
    if search is sphere and controls > EXACT_CONTROLS:
        return (
            f"it searches exactly, up to {EXACT_CONTROLS} elements, not {controls}; use wmmse-tabu"
        )
    return None


def flips(quadratic: Quadratic, q: Controls, element_set: ElementSet) -> np.ndarray[Any, Any]:
    """Change of the value by flipping each control alone, ``(B, N C)``: >= 0 at a 1-opt point."""
    matrix, c, x, _, _ = signs_of(quadratic, q, element_set)
    pull = torch.einsum("bij,bj->bi", matrix, x) - c
    change = 4.0 * (matrix.diagonal(dim1=1, dim2=2) - x * pull)
    return change.cpu().numpy()
