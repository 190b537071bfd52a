"""Meta-learned precoding on worst-case channels (``ggml-imcsi``)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from holobeam.channels.csi_error import Reading, error_radius, shrunk_channels
from holobeam.digital.rate_gradient import product_loss
from holobeam.errors import InputError, check_choice
from holobeam.problems.downlink import Downlink
from holobeam.solvers.base import State
from holobeam.solvers.meta import Memory, MetaPrecoding, Precoding


@dataclass(frozen=True, kw_only=True)
class RobustMetaPrecoding(MetaPrecoding):
    """Train two networks on the worst-case channels of a ball around the estimate.

    Attributes
    ----------
    delta
        Mean power of the error over that of the estimate; None takes the problem's
        ``error_variance``.
    reading
        ``element``: the radius is what one entry's modulus exceeds with probability ``outage``,
        feasible for every error; ``vector``: what the norm of the whole error exceeds. The vector's
        radius annihilates the channel from ``delta = 0.206`` on (64 antennas): refused then.
    outage, draws
        Of the Monte-Carlo quantile.

    Notes
    -----
    The loss is the product of the users' errors with a variance penalty; the best iterate is chosen
    by it, on the worst-case channels: never by a rate on the true ones. Source: ggml paper (our
    readings); docs/methods.md, section 18.
    """

    problems: ClassVar[tuple[type, ...]] = (Downlink,)
    free_gain: ClassVar[bool] = False

    name: str = "ggml-imcsi"
    delta: float | None = None
    reading: Reading = "element"
    outage: float = 0.05
    draws: int = 100_000

    def refuses(self, problem: Downlink) -> str | None:
        """Serves what ``ggml`` does, where something says how large errors are."""
        if self.delta is None and getattr(problem, "error_variance", None) is None:
            return "nothing says how wrong its channels are; give the problem error_variance"
        return super().refuses(problem)

    def init(
        self, problem: Downlink, generator: torch.Generator, start: State | None = None
    ) -> State:
        """Draw networks and phases for the worst-case channels.

        Raises
        ------
        InputError
            If nothing would be left of a channel.
        """
        check_choice("reading", self.reading, ("vector", "element"))
        state = super().init(self._worst(problem), generator, start)
        memory: Memory = state.memory
        return _judged(state, memory.loss, memory.analog, memory.digital)

    def _worst(self, problem: Downlink) -> Downlink:
        power = problem.h.abs().square().mean(dim=(1, 3))
        variance = problem.error_variance
        if self.delta is not None:
            if not 0.0 <= self.delta < float("inf"):
                raise InputError("delta", f"got {self.delta!r}", "it must be finite and >= 0")
            variance = self.delta * power
        options: dict[str, Any] = {"outage": self.outage, "draws": self.draws}
        variance = torch.zeros_like(power) if variance is None else variance
        radius = error_radius(problem.h, variance, reading=self.reading, **options)
        return problem.with_(h=shrunk_channels(problem.h, radius.to(problem.h.real.dtype)))

    def _memory(self, problem: Downlink, *parts: Any) -> Memory:
        memory = super()._memory(problem, *parts)
        return replace(memory, loss=replace(memory.loss, judge=product_loss))

    def _state(self, problem: Downlink, analog: Tensor, digital: Tensor, memory: Memory) -> State:
        return _judged(
            super()._state(problem, analog, digital, memory), memory.loss, analog, digital
        )


def _judged(state: State, loss: Precoding, analog: Tensor, digital: Tensor) -> State:
    """Utility of a state: minus the loss on the worst-case channels."""
    return replace(state, utility=-loss.slopes(analog, digital)[0])
