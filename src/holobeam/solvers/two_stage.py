"""Baselines rebuilt from citations: the analog step ignores the power that it radiates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from holobeam.analog.coordinate import coordinate_descent
from holobeam.digital.link import Link
from holobeam.digital.wmmse import bisected_step, unregularised_step
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
        ``wmmse``: WMMSE step with a bisected multiplier; ``zf``: zero forcing with water-filling;
        ``paper``: WMMSE step without a regulariser, scaled to the budget (``mmse-paper``).
    multiplier
        With ``paper``: give the digital step the bisected multiplier that the lost formula may
        carry; that is ``wmmse``.
    power_term
        Whether the sweep over the amplitudes sees the power that they radiate, as the
        one of ``mmse`` does.
    begin
        ``matched`` (every amplitude one half) or ``random``.

    Notes
    -----
    Our reconstruction of the baselines that the mmse paper cites, and our reading of its own
    update; not monotone, so the best iterate is returned. The digital formula of the paper is lost
    in our copy: ``paper`` is it without a multiplier, ``wmmse`` with one. Source: docs/methods.md,
    section 5.
    """

    name: str = "wmmse-hbf"
    max_iterations: int = 60
    tolerance: float = 0.0
    rule: Literal["wmmse", "zf", "paper"] = "wmmse"
    multiplier: bool = False
    power_term: bool = False
    begin: Literal["matched", "random"] = "matched"

    def refuses(self, problem: Downlink) -> str | None:
        """Serves amplitude surfaces with one power budget; zero forcing needs K <= R."""
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
        plain = digital_start(problem, link, equal_power=False)
        digital = plain if self._leads else self._digital(problem, link, plain)
        return self._state(problem, control, digital)

    @property
    def _leads(self) -> bool:
        """Whether the digital step comes before the sweep, and the point after it is judged."""
        return self.rule == "wmmse" or (self.rule == "paper" and self.multiplier)

    def variant(self, index: int) -> Solver:
        """Random amplitudes for every start but the first."""
        return self if index == 0 else replace(self, begin="random")

    def step(self, problem: Downlink, state: State) -> State:
        """Digital step and a sweep over the amplitudes, by default blind to what they radiate.

        Zero forcing and the unregularised step invert the link of the amplitudes, so they follow
        the sweep and are judged with it; the WMMSE step depends on the precoder before it, so it
        leads.
        """
        link: Link = state.memory
        digital = state.digital
        if self._leads:
            digital = self._digital(problem, link, digital)
        seen = problem if self.power_term else problem.with_(power_at="feeds")
        quadratic = seen.analog_quadratic(problem.weights(link, digital), digital)
        control = coordinate_descent(quadratic, state.control, problem.frontend.element_set)
        if not self._leads:
            link = problem.link(control)
            digital = self._digital(problem, link, problem.rescale(link, digital))
        return self._state(problem, control, digital)

    def _digital(self, problem: Downlink, link: Link, digital: Tensor) -> Tensor:
        if self.rule == "zf":
            return _zero_forcing(problem, link)
        weights = problem.weights(link, digital)
        if self._leads:
            joint = problem.budget == "mean"
            return bisected_step(link, weights, problem.power, digital, joint=joint)
        return problem.rescale(link, unregularised_step(link, weights, digital))

    def _state(self, problem: Downlink, control: Tensor, digital: Tensor) -> State:
        link = problem.link(control)
        digital = problem.rescale(link, digital)
        return State(control, digital, problem.utility(link, digital), link)


def _zero_forcing(problem: Downlink, link: Link) -> Tensor:
    each = problem.budget == "each"
    return water_filled_zero_forcing(link, problem.noise_power, problem.power, each_subcarrier=each)
