"""Successive convex approximation of the digital sum rate (``sca``)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from holobeam.digital.link import Link, widen
from holobeam.digital.sca import expand, surrogate_step
from holobeam.digital.zero_forcing import (
    equal_columns,
    water_filled_zero_forcing,
    zero_forcing,
)
from holobeam.problems.downlink import Downlink
from holobeam.solvers.base import Solver, State, make_state
from holobeam.solvers.starts import digital_start, matched_control


@dataclass(frozen=True, kw_only=True)
class SuccessiveConvex(Solver):
    """Maximise a concave lower bound of the rate around the last point, again and again.

    Attributes
    ----------
    begin
        ``zf``: zero forcing with every user at the same power; ``zf-water-filling``; ``rzf``: the
        same with regularised zero forcing, taken too where users outnumber antennas.
    surrogate
        ``dual``: our first-order method, a batch at once. ``cone``: the second-order cone program
        as it is published, channel by channel through cvxpy (the ``cvxpy`` extra).
    gap
        Duality gap, in nats a user, at which ``dual`` stops.

    Notes
    -----
    No step lowers the rate. Source: Tran et al. 2012 as the unfolded-pga paper cites it;
    docs/methods.md, section 13.
    """

    name: str = "sca"
    max_iterations: int = 100
    tolerance: float = 1e-6
    begin: Literal["zf", "zf-water-filling", "rzf"] = "zf"
    surrogate: Literal["dual", "cone"] = "dual"
    gap: float = 1e-10

    def refuses(self, problem: Downlink) -> str | None:
        """Serves fully digital arrays under one power budget."""
        if not problem.frontend.is_digital:
            return (
                f"it designs fully digital arrays, not {problem.frontend.name}; use sca-rmm, vp "
                "or wmmse-cd there"
            )
        if problem.power_at == "per_rf_chain":
            return "it knows one power budget, not a limit per RF chain; use wmmse-digital"
        if self.surrogate == "cone" and problem.h.shape[1] > 1:
            return "the cone program is written for one subcarrier; use surrogate='dual'"
        return None

    def init(
        self, problem: Downlink, generator: torch.Generator, start: State | None = None
    ) -> State:
        """Zero forcing in the span of the channel, or ``start``."""
        if start is not None:
            return replace(start, memory=problem.link(start.control))
        control = matched_control(problem, generator)
        link = problem.link(control)
        state = make_state(problem, control, self._first(problem, link))
        return replace(state, memory=link)

    def _first(self, problem: Downlink, link: Link) -> Tensor:
        if self.begin == "rzf" or problem.users > problem.chains:
            return digital_start(problem, link)
        if self.begin == "zf-water-filling":
            each = problem.budget == "each"
            return water_filled_zero_forcing(
                link, problem.noise_power, problem.power, each_subcarrier=each
            )
        return problem.rescale(link, equal_columns(link, zero_forcing(link)))

    def step(self, problem: Downlink, state: State) -> State:
        """Expand the rate around the precoder, maximise the surrogate."""
        wide = widen(state.memory)
        noise, budget = problem.noise_power.double(), problem.power.double()
        e = wide.e * (budget.unsqueeze(1) / noise).sqrt()[:, None, :, None]
        digital = state.digital.to(e.dtype) / budget.sqrt()[:, None, None, None]
        around = expand(e, digital, problem.user_weights.double(), joint=problem.budget == "mean")
        if self.surrogate == "cone":
            from holobeam.digital.cone import cone_step

            new = cone_step(around, digital)
        else:
            new = surrogate_step(around, digital, self.gap)
        new = problem.rescale(state.memory, new.to(state.digital.dtype))
        return State(state.control, new, problem.utility(state.memory, new), state.memory)
