"""Baselines rebuilt from citations: the analog step ignores the power that it radiates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from holobeam.analog.coordinate import coordinate_descent
from holobeam.digital.link import Link
from holobeam.digital.wmmse import bisected_step
from holobeam.digital.zero_forcing import water_filled_zero_forcing
from holobeam.frontends.element_sets import Interval
from holobeam.problems.downlink import Downlink
from holobeam.solvers.base import Solver, State
from holobeam.solvers.closed_form import needs_chains
from holobeam.solvers.starts import digital_start, matched_control, random_control


@dataclass(frozen=True, kw_only=True)
class HybridBaseline(Solver):
    """Alternate a budgeted digital step with an analog sweep that ignores radiated power.

    Attributes
    ----------
    rule
        ``wmmse``: WMMSE step with a bisected multiplier; ``zf``: zero forcing with water-filling.
    begin
        ``matched`` (every amplitude one half) or ``random``.

    Notes
    -----
    Our reconstruction of the baselines that the mmse paper cites; not monotone, so the best
    iterate is returned. Source: docs/methods.md, section 5.
    """

    name: str = "wmmse-hbf"
    max_iterations: int = 60
    tolerance: float = 0.0
    rule: Literal["wmmse", "zf"] = "wmmse"
    begin: Literal["matched", "random"] = "matched"

    def supports(self, problem: Downlink) -> str | None:
        """Serves amplitude surfaces with one power budget; zero forcing needs K <= R."""
        if (mismatch := super().supports(problem)) is not None:
            return mismatch
        if not isinstance(problem.frontend.element_set, Interval):
            return (
                f"it designs amplitude surfaces, not {problem.frontend.name}; use wmmse-cd or "
                "vp there"
            )
        if problem.power_at == "per_rf_chain":
            return "it knows one power budget, not a limit per RF chain; use wmmse-cd or vp"
        return needs_chains(problem) if self.rule == "zf" else None

    def init(
        self, problem: Downlink, generator: torch.Generator, start: State | None = None
    ) -> State:
        """Begin at amplitudes of one half, at random, or at ``start``."""
        if start is not None:
            return self._state(problem, start.control, start.digital)
        pick = random_control if self.begin == "random" else matched_control
        control = pick(problem, generator)
        link = problem.link(control)
        if self.rule == "zf":
            return self._state(problem, control, _zero_forcing(problem, link))
        return self._state(problem, control, digital_start(problem, link, equal_power=False))

    def variant(self, index: int) -> Solver:
        """Random amplitudes for every start but the first."""
        return self if index == 0 else replace(self, begin="random")

    def step(self, problem: Downlink, state: State) -> State:
        """Digital step and a sweep over the amplitudes that leaves out the power they radiate.

        Zero forcing depends on the amplitudes alone, so it follows the sweep and is judged with
        them; the WMMSE step depends on the precoder before it, so it leads.
        """
        link: Link = state.memory
        digital = state.digital
        if self.rule == "wmmse":
            weights = problem.weights(link, digital)
            joint = problem.budget == "mean"
            digital = bisected_step(link, weights, problem.power, digital, joint=joint)
        weights = problem.weights(link, digital)
        quadratic = problem.with_(power_at="feeds").analog_quadratic(weights, digital)
        control = coordinate_descent(quadratic, state.control, problem.frontend.element_set)
        if self.rule == "zf":
            digital = _zero_forcing(problem, problem.link(control))
        return self._state(problem, control, digital)

    def _state(self, problem: Downlink, control: Tensor, digital: Tensor) -> State:
        link = problem.link(control)
        digital = problem.rescale(link, digital)
        return State(control, digital, problem.utility(link, digital), link)


def _zero_forcing(problem: Downlink, link: Link) -> Tensor:
    each = problem.budget == "each"
    return water_filled_zero_forcing(link, problem.noise_power, problem.power, each_subcarrier=each)
