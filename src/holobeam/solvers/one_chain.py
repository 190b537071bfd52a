"""The fully analog array: every user has one RF chain to itself, and nothing mixes streams."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from holobeam.analog.coordinate import coordinate_descent
from holobeam.digital.link import Link, Weights
from holobeam.problems.downlink import Downlink
from holobeam.solvers.alternating import move_controls
from holobeam.solvers.base import Solver, State
from holobeam.solvers.starts import matched_control, random_control


@dataclass(frozen=True, eq=False)
class Memory:
    """Link at the controls, and which chain serves which user: ``(B, R, K)``."""

    link: Link
    served: Tensor


@dataclass(frozen=True, kw_only=True)
class OneChainPerUser(Solver):
    """Noise-folded block-coordinate MMSE with one entry in every column of V.

    Attributes
    ----------
    begin
        ``matched`` (amplitudes of one half, chains pointed at users) or ``random``.

    Notes
    -----
    Chains go to users by their gains at the first controls, the strongest pair first. A start with
    a V that mixes streams is taken for its controls and its strongest pairs: what it reaches beyond
    that is not reachable here, so the last point is returned, not the best of all. No iteration
    lowers the utility. Source: mmse paper (our reading); docs/methods.md, section 5.
    """

    stackable: ClassVar[bool] = True

    name: str = "mmse-analog"
    max_iterations: int = 60
    keep: str = "last"
    begin: str = "matched"

    def refuses(self, problem: Downlink) -> str | None:
        """Needs a chain for every user, an analog part, and one power budget."""
        if problem.frontend.is_digital:
            return "a fully digital array has no analog part; use wmmse-digital"
        if problem.users > problem.chains:
            return (
                f"one RF chain a user needs R >= K, got {problem.users} users on "
                f"{problem.chains} RF chains; use wmmse-cd or vp"
            )
        if problem.power_at == "per_rf_chain":
            return "it knows one power budget, not a limit per RF chain; use wmmse-cd or vp"
        return None

    def init(
        self, problem: Downlink, generator: torch.Generator, start: State | None = None
    ) -> State:
        """Pair chains and users at the first controls, every user at the same power."""
        if start is not None:
            served = paired(start.digital.abs().square().sum(dim=1))
            digital = start.digital * served.unsqueeze(1)
            return self._state(problem, start.control, digital, served)
        pick = random_control if self.begin == "random" else matched_control
        control = problem.frontend.project(pick(problem, generator))
        link = problem.link(control)
        gain = link.e.abs().square().sum(dim=1).mT / problem.noise_power.unsqueeze(1)
        served = paired(gain / _chain_power(link).sum(dim=1).unsqueeze(2))
        scale = _chain_power(link).clamp(min=torch.finfo(gain.dtype).tiny).rsqrt()
        digital = served.unsqueeze(1) * scale.unsqueeze(3).to(problem.h.dtype)
        return self._state(problem, control, digital, served)

    def variant(self, index: int) -> Solver:
        """Random controls for every start but the first."""
        return self if index == 0 else replace(self, begin="random")

    def step(self, problem: Downlink, state: State) -> State:
        """Receivers and weights, the entries of V, the controls."""
        memory: Memory = state.memory
        link = memory.link
        digital = self._entries(problem, memory, problem.weights(link, state.digital), state)
        weights = problem.weights(link, digital)
        control, digital = move_controls(
            coordinate_descent, problem, weights, state.control, digital
        )
        return self._state(problem, control, digital, memory.served)

    @staticmethod
    def _entries(problem: Downlink, memory: Memory, weights: Weights, state: State) -> Tensor:
        """Exact minimiser over the entries of V: the columns don't meet, so each is a scalar."""
        link, served = memory.link, memory.served.unsqueeze(1)
        heard = (weights.cost.unsqueeze(3) * link.e.abs().square()).sum(dim=2)
        price = problem.price(weights).unsqueeze(2)
        stiffness = (heard + price * _chain_power(link)).unsqueeze(3)
        wanted = (weights.mse_weights * weights.decoders).unsqueeze(2) * link.e.mH
        safe = torch.where(stiffness > 0, stiffness, torch.ones_like(stiffness))
        new = torch.where(served & (stiffness > 0), wanted / safe, torch.zeros_like(wanted))
        alive = (new != 0).flatten(1).any(dim=1)[:, None, None, None]
        return torch.where(alive, new, state.digital)

    def _state(self, problem: Downlink, control: Tensor, digital: Tensor, served: Tensor) -> State:
        link = problem.link(control)
        digital = problem.rescale(link, digital)
        memory: Any = Memory(link, served)
        return State(control, digital, problem.utility(link, digital), memory)


def _chain_power(link: Link) -> Tensor:
    """Power counted for a unit fed into each chain, ``(B, F, R)``."""
    if link.g is None:
        return torch.ones_like(link.e[:, :, 0].real)
    return link.g.diagonal(dim1=2, dim2=3).real.to(link.e.real.dtype)


def paired(
    gain: Float[Tensor, "batch rf_chains users"],
) -> Bool[Tensor, "batch rf_chains users"]:
    """Pair every user with a chain of its own, the largest gain left first."""
    batch, _, users = gain.shape
    left = torch.nan_to_num(gain, nan=0.0, posinf=torch.finfo(gain.dtype).max)
    served = torch.zeros_like(left, dtype=torch.bool)
    rows = torch.arange(batch, device=gain.device)
    for _ in range(users):
        best = left.flatten(1).argmax(dim=1)
        chain, user = best // users, best % users
        served[rows, chain, user] = True
        left = left.index_put((rows, chain), torch.full_like(left[:, 0], -1.0))
        left[rows, :, user] = -1.0
    return served
