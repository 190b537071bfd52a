"""Majorise and minimise: replace the quadratic by separate parabolas, project, repeat."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.analog.coordinate import as_array
from holobeam.analog.quadratic import Quadratic
from holobeam.errors import InputError, check_choice, check_count
from holobeam.frontends.element_sets import ElementSet

BOUNDS = ("eigenvalue", "gershgorin")

Controls = Complex[Tensor, "batch antennas controls"]


def majorize(
    quadratic: Quadratic,
    q: Controls,
    element_set: ElementSet,
    *,
    steps: int = 100,
    tolerance: float = 1e-7,
    bound: str = "eigenvalue",
    accelerate: bool = False,
) -> Controls:
    """Take monotone steps ``q <- project(q - gradient / majoriser)``.

    Compiled for CPU tensors, one subcarrier and one control an element; else in torch. On a
    circle this is the multicell paper's closed form for Lorentzian elements, on the unit
    circle that for phase shifters; on an interval it is a projected gradient step.

    Parameters
    ----------
    quadratic
        What to minimise.
    q
        Where to start; not changed.
    element_set
        Where every control lives.
    steps, tolerance
        At most so many steps (of two evaluations each where accelerated); a channel rests once its
        value falls by less than ``tolerance``, relatively.
    bound
        ``"eigenvalue"``: the largest eigenvalue, from the smaller Gram matrix; ``"gershgorin"``:
        row sums of ``|A|``, one per control.
    accelerate
        SQUAREM: extrapolate from two steps, and fall back on the second where that doesn't pay.

    Notes
    -----
    Source: multicell paper (our reading); docs/methods.md, section 14.
    """
    check_choice("bound", bound, BOUNDS)
    check_count("steps", steps)
    if not tolerance >= 0.0:
        raise InputError("tolerance", f"got {tolerance!r}", "it must be >= 0")
    exact = quadratic.wide()
    top = largest_eigenvalue(exact) if bound == "eigenvalue" else row_sums(exact)
    # The eigenvalue carries rounding errors; a majoriser must not fall short.
    top = top * (1.0 + 1e-10)
    top = top.expand(q.shape)
    rule = (steps, float(tolerance), accelerate)
    code = getattr(element_set, "kernel_code", None)
    plain = exact.d.shape[1] == 1 and exact.d.shape[3] == 1 and exact.z is None
    if q.device.type == "cpu" and plain and code is not None:
        return _compiled(exact, q, code(), top, rule)
    return majorize_torch(exact, q, element_set, top, rule)


def _compiled(
    quadratic: Quadratic,
    q: Tensor,
    code: tuple[int, tuple[complex, ...]],
    top: Tensor,
    rule: tuple[int, float, bool],
) -> Tensor:
    from holobeam.kernels import cpu
    from holobeam.kernels.majorize import majorize_batch

    kind, levels = code
    out = as_array(q)[:, :, 0].copy()
    majorize_batch(
        as_array(quadratic.y[:, 0]),
        as_array(quadratic.t[:, 0]),
        as_array(quadratic.d[:, 0, :, 0]),
        as_array(quadratic.rho[:, 0]),
        as_array(top[:, :, 0]),
        out,
        (kind, np.asarray(levels, dtype=complex)),
        rule,
        cpu.available_threads(),
    )
    return torch.from_numpy(out).unsqueeze(-1).to(q.dtype)


def majorize_torch(
    quadratic: Quadratic,
    q: Controls,
    element_set: ElementSet,
    top: Float[Tensor, "batch antennas controls"],
    rule: tuple[int, float, bool],
) -> Controls:
    """Take the same steps in torch: any shape, device and set; the oracle of the kernel.

    ``top`` is the majoriser, ``rule`` is (steps, tolerance, accelerate); double precision.
    """
    steps, tolerance, accelerate = rule
    active = torch.isfinite(top).all(dim=(1, 2)) & (top > 0).any(dim=2).any(dim=1)
    scale = torch.where(top > 0, top, 1.0)
    moves = top > 0

    def step(point: Tensor) -> Tensor:
        moved = element_set.project(point - quadratic.gradient(point) / scale)
        return torch.where(moves, moved, point)

    now = q.detach().to(torch.complex128)
    value = quadratic.value(now)
    for _ in range(steps):
        if not bool(active.any()):
            break
        new = step(now)
        if accelerate:
            new = _extrapolate(quadratic, now, new, step(new), element_set)
        reached = quadratic.value(new)
        # Rounding alone can make a step at a fixed point worse: then the channel rests as it is.
        better = active & (reached <= value)
        now = torch.where(better[:, None, None], new, now)
        active = better & (value - reached > tolerance * value.abs())
        value = torch.where(better, reached, value)
    return now.to(q.dtype)


def _extrapolate(
    quadratic: Quadratic, now: Tensor, first: Tensor, second: Tensor, element_set: ElementSet
) -> Tensor:
    """SQUAREM's point where it beats two plain steps, else the second of them."""
    change = first - now
    bend = second - first - change
    size, turn = (v.abs().square().sum(dim=(1, 2)).sqrt() for v in (change, bend))
    length = -torch.where(turn > 0, (size / turn.clamp(min=1e-300)).clamp(min=1.0), 1.0)
    goal = quadratic.value(second)
    found = second.clone()
    searching = length < -1.01
    while bool(searching.any()):
        a = length[:, None, None]
        point = element_set.project(now - 2.0 * a * change + a.square() * bend)
        good = searching & (quadratic.value(point) <= goal)
        found = torch.where(good[:, None, None], point, found)
        length = 0.5 * (length - 1.0)
        searching = searching & ~good & (length < -1.01)
    return found


def largest_eigenvalue(quadratic: Quadratic) -> Float[Tensor, "batch 1 1"]:
    """Largest eigenvalue of the matrix of the quadratic, or a bound just above it.

    From the Gram matrix of its factor, ``F J S`` wide, where that is smaller than ``N C``. The
    price of power adds its own largest eigenvalue: exact where C = 1 and all cost the same.
    """
    batch, _, antennas, controls, _ = quadratic.d.shape
    width = quadratic.y.shape[1] * quadratic.y.shape[2] * quadratic.d.shape[4]
    if width >= antennas * controls:
        a, _ = quadratic.dense()
        gram, price = a, torch.zeros_like(quadratic.rho[:, 0])
    else:
        # Row (n, c) of the factor: conj(Y[f, j, n] D[f, n, c, s]) over (f, j, s).
        factor = torch.einsum("bfjn,bfncs->bfjsnc", quadratic.y, quadratic.d)
        factor = factor.reshape(batch, width, antennas * controls)
        gram = factor @ factor.mH
        own = quadratic.d.abs().square().sum(dim=(3, 4))
        price = (quadratic.rho.unsqueeze(2) * own).sum(dim=1).amax(dim=1)
    finite = torch.isfinite(torch.view_as_real(gram)).all(dim=(1, 2, 3))
    safe = torch.where(finite[:, None, None], gram, torch.zeros_like(gram))
    top = torch.linalg.eigvalsh(safe)[:, -1].clamp(min=0.0) + price
    return torch.where(finite, top, torch.nan)[:, None, None]


def row_sums(quadratic: Quadratic) -> Float[Tensor, "batch antennas controls"]:
    """Sums of the absolute values of the rows of the matrix: their diagonal majorises it."""
    a, _ = quadratic.dense()
    return a.abs().sum(dim=2).reshape(a.shape[0], quadratic.antennas, -1)
