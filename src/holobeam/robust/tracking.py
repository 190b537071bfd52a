"""Following channels that change: a few iterations a slot, from scratch or from the last slot."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.errors import ShapeError, check_count
from holobeam.problems.downlink import Downlink
from holobeam.robust.steps import on_channels
from holobeam.robust.worst_case import as_solver
from holobeam.solvers.base import Solver, State, choose, make_state
from holobeam.solvers.solution import Solution
from holobeam.solvers.starts import digital_start


def follow_track(
    problem: Downlink,
    track: Complex[Tensor, "slots batch subcarriers users antennas"],
    solver: Solver | str,
    *,
    iterations: int,
    warm: bool = True,
    first: Solution | None = None,
    seed: int = 0,
) -> Float[Tensor, "slots batch users"]:
    """Design slot after slot with a fixed number of iterations each.

    Parameters
    ----------
    problem
        Power, noise, weights and hardware; its channels are replaced by those of the slots.
    track
        Channels of the slots, see :func:`holobeam.channels.channel_track`.
    solver
        What designs, or its name; for warm starts one that takes them.
    iterations
        In each slot.
    warm
        Begin at the controls of the slot before, with the better of its V and equal-power RZF (at
        high SNR the nulls of an old V are where interference comes from); else at the solver's own
        start.
    first
        Design that a warm track begins from; the solver's own start by default.
    seed
        Of random starts, the same in each slot.

    Returns
    -------
    Tensor
        Rates of the users in each slot, ``(T, B, K)``.

    Notes
    -----
    Source: docs/methods.md, section 26.
    """
    check_count("iterations", iterations)
    if track.ndim != 5 or tuple(track.shape[1:]) != tuple(problem.h.shape):
        right = f"need (slots, {', '.join(map(str, problem.h.shape))})"
        raise ShapeError("track", f"got shape {tuple(track.shape)}", right)
    chosen = replace(as_solver(solver), max_iterations=iterations)
    before, rates = first, []
    for h in track:
        now = on_channels(problem.with_(true_h=None), h.to(problem.h), None)
        start = _renewed(now, before) if warm and before is not None else None
        before = chosen(now, seed=seed, start=start)
        rates.append(before.rates)
    return torch.stack(rates)


def _renewed(problem: Downlink, before: Solution) -> State:
    """Old controls with the better of the old V and a fresh one, on the channels of now."""
    with torch.no_grad():
        old = make_state(problem, *problem.feasible(before.control, before.digital))
        fresh = digital_start(problem, problem.link(before.control))
        new = make_state(problem, old.control, fresh)
    better: State = choose(new.utility > old.utility, new, old)
    return better
