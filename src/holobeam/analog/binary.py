"""Signs that minimise a quadratic: heuristics, bounds, exact search; one problem or a batch."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from holobeam.analog.search import Options, solve_arrays
from holobeam.errors import InputError, ShapeError, check_choice, check_count, check_finite

METHODS = ("brute", "1-opt", "2-opt", "hc", "tabu", "sd")
SHIFTS = ("sdp", "mixing", "hc", "minimal")
ORDERS = ("adaptive", "fixed")

BRUTE_LIMIT = 26
"""Largest n that is enumerated: 2^26 sign vectors are some seconds."""

_UNLIMITED = 2**62

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class BinarySolution:
    """Signs and what is known about them; axes lead with the batch where the problem had one.

    Attributes
    ----------
    x
        ``(n,)`` or ``(B, n)``, entries -1 and 1, dtype of ``q_matrix``.
    value
        ``x' Q x - 2 c' x``, float64.
    bound
        No sign vector has a smaller value (beyond a relative 1e-9 of ``|value| + sqrt(n) ||Q||``).
        Equal to ``value`` where that is proven optimal; ``-inf`` from a method without a bound.
    nodes
        Children evaluated by the search; sign vectors visited by ``brute``; 0 otherwise.
    seconds
        Wall-clock time of the call, the whole batch.
    """

    x: Float[Tensor, "*batch n"]
    value: Float[Tensor, "*batch"]
    bound: Float[Tensor, "*batch"]
    nodes: Int[Tensor, "*batch"]
    seconds: float

    @property
    def gap(self) -> Float[Tensor, "*batch"]:
        """``value - bound``: how much better the optimum can be."""
        return self.value - self.bound

    @property
    def proven(self) -> Bool[Tensor, "*batch"]:
        """Whether the value is proven to be the minimum."""
        return self.bound >= self.value


def minimize_binary(
    q_matrix: Float[Tensor, "*batch n n"],
    c_vector: Float[Tensor, "*batch n"],
    method: str = "sd",
    *,
    node_budget: int | None = None,
    time_budget: float | None = None,
    shift: str = "sdp",
    pre_decision: bool = False,
    hc_bound: bool = False,
    start: Float[Tensor, "*batch n"] | None = None,
    order: str | None = None,
    local_search: bool = True,
    tabu_steps: int | None = None,
) -> BinarySolution:
    """Minimise ``x' Q x - 2 c' x`` over ``{-1, 1}^n``.

    Parameters
    ----------
    q_matrix
        ``(n, n)`` or ``(B, n, n)``, real, symmetric, finite; need not be definite.
    c_vector
        ``(n,)`` or ``(B, n)``.
    method
        ``"brute"`` (n <= 26), ``"1-opt"`` (coordinate descent), ``"2-opt"`` (best single or pair
        flip), ``"hc"`` (hidden convexity: the norm relaxation ``|x|^2 = n``, rounded, then 1-opt;
        its value is ``bound``), ``"tabu"``, or ``"sd"`` (sphere decoding, exact).
    node_budget, time_budget
        End the search of a problem after so many nodes, or seconds; the best signs so far and a
        valid bound come back. What comes before the search (incumbent, shift) is not interrupted.
        With a time budget results depend on the machine, without one they don't.
    shift
        Diagonal added by ``"sd"``: ``"sdp"`` (the best one at the root, barrier method),
        ``"mixing"`` (the same by the mixing method), ``"hc"`` (multiplier of the norm relaxation)
        or ``"minimal"`` (just enough to factorise, the paper's sphere decoder).
    pre_decision, hc_bound
        Fix at the root the entries that every minimiser shares; bound each node by the norm
        relaxation. With ``shift="minimal"`` these are the four variants of the paper.
    start
        Signs to start from, of the same shape as ``c_vector``; the result is never worse. By
        default the signs of c.
    order
        ``"fixed"``: signs are fixed from the last to the first, as in the paper. ``"adaptive"``:
        where the bound grows most, node by node; by far the fastest, for ``shift="sdp"`` without
        ``hc_bound`` only, where it is the default.
    local_search
        Whether ``"hc"`` ends with 1-opt.
    tabu_steps
        Steps of ``"tabu"``; 10 n by default.

    Returns
    -------
    BinarySolution
        Signs, value, lower bound, nodes.

    Raises
    ------
    InputError
        Naming the argument: not symmetric, not finite, a wrong size, a start that is not made of
        signs, a budget that is not positive, n too large for ``"brute"``.
    UnknownNameError
        With the nearest names.

    Notes
    -----
    Source: multicell paper (our reading); docs/methods.md, section 14. ``order="adaptive"`` and the
    barrier method are ours.
    """
    options = _check_options(
        Options(
            method,
            shift,
            order or ("adaptive" if shift == "sdp" and not hc_bound else "fixed"),
            pre_decision,
            hc_bound,
            local_search,
            tabu_steps,
            _UNLIMITED if node_budget is None else check_count("node_budget", node_budget),
            time_budget,
        )
    )
    q, c = _check_problem(q_matrix, c_vector)
    x = _check_start(start, c_vector, c)
    n = c.shape[1]
    if method == "brute" and n > BRUTE_LIMIT:
        raise InputError(
            "method",
            f"'brute' would visit 2^{n} sign vectors",
            f"it serves n <= {BRUTE_LIMIT}; take 'sd'",
        )
    begin = time.perf_counter()
    x, value, bound, nodes = solve_arrays(q, c, x, options)
    seconds = time.perf_counter() - begin
    lead, device = c_vector.shape[:-1], q_matrix.device

    def out(array: Array) -> Tensor:
        return torch.from_numpy(array).reshape(lead).to(device)

    signs = torch.from_numpy(x).reshape(c_vector.shape).to(q_matrix)
    return BinarySolution(signs, out(value), out(bound), out(nodes), seconds)


def _check_options(options: Options) -> Options:
    check_choice("method", options.method, METHODS)
    check_choice("shift", options.shift, SHIFTS)
    check_choice("order", options.order, ORDERS)
    if options.order == "adaptive" and (options.shift != "sdp" or options.hc_bound):
        raise InputError(
            "order",
            f"'adaptive' with shift={options.shift!r}, hc_bound={options.hc_bound}",
            "it goes with shift='sdp' and without hc_bound",
        )
    if options.tabu_steps is not None:
        check_count("tabu_steps", options.tabu_steps)
    budget = options.time_budget
    if budget is not None and not (math.isfinite(budget) and budget > 0):
        raise InputError("time_budget", f"got {budget!r}", "it must be positive seconds, or None")
    return options


def _check_problem(q_matrix: Tensor, c_vector: Tensor) -> tuple[Array, Array]:
    """Return double-precision arrays (B, n, n) and (B, n)."""
    if q_matrix.is_complex() or c_vector.is_complex():
        name = "q_matrix" if q_matrix.is_complex() else "c_vector"
        raise InputError(name, "got a complex tensor", "signs take a real quadratic")
    shape = tuple(q_matrix.shape)
    if len(shape) not in (2, 3) or shape[-1] != shape[-2] or shape[-1] < 1:
        raise ShapeError("q_matrix", f"got shape {shape}", "need (n, n) or (B, n, n), n >= 1")
    if tuple(c_vector.shape) != shape[:-1]:
        raise ShapeError(
            "c_vector",
            f"got shape {tuple(c_vector.shape)}",
            f"need {shape[:-1]} to go with q_matrix",
        )
    check_finite("q_matrix", q_matrix)
    check_finite("c_vector", c_vector)
    q = q_matrix.detach().double().cpu().reshape(-1, shape[-1], shape[-1])
    size = q.abs().amax(dim=(1, 2)) if q.numel() else q.new_zeros(0)
    skew = (q - q.mT).abs().amax(dim=(1, 2)) if q.numel() else size
    narrow = q_matrix.dtype in (torch.float32, torch.float16, torch.bfloat16)
    if bool((skew > (1e-5 if narrow else 1e-9) * size).any()):
        worst = int((skew / size.clamp(min=torch.finfo(size.dtype).tiny)).argmax())
        raise InputError(
            "q_matrix",
            f"not symmetric: entries differ by {float(skew[worst]):.3g} from their mirror images",
            "give (Q + Q') / 2, which has the same values",
        )
    q = 0.5 * (q + q.mT)
    c = c_vector.detach().double().cpu().reshape(-1, shape[-1])
    return np.ascontiguousarray(q.numpy()), np.ascontiguousarray(c.numpy())


def _check_start(start: Tensor | None, c_vector: Tensor, c: Array) -> Array:
    if start is None:
        return np.where(c >= 0.0, 1.0, -1.0)
    if start.shape != c_vector.shape:
        raise ShapeError(
            "start", f"got shape {tuple(start.shape)}", f"need {tuple(c_vector.shape)}, as c_vector"
        )
    x = start.detach().double().cpu().reshape(c.shape).numpy()
    if not np.all(np.abs(x) == 1.0):
        raise InputError("start", "has entries other than -1 and 1", "give a vector of signs")
    return np.array(x)
