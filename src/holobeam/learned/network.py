"""What a learned beamformer is: a module that walks a problem layer by layer, and its solver."""

from __future__ import annotations

import math
import time
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from holobeam.problems.downlink import Downlink
from holobeam.solvers.base import Solver, State, check_supported, make_generator
from holobeam.solvers.judged import judged_state
from holobeam.solvers.loop import Progress
from holobeam.solvers.solution import Solution, Status
from holobeam.solvers.starts import random_control

REAL = {torch.complex64: torch.float32, torch.complex128: torch.float64}
"""Precision of the weights that go with channels."""


@dataclass(frozen=True, eq=False)
class Trace:
    """Where the layers of a network led.

    Attributes
    ----------
    control, digital
        What the last layer set, ``(B, N, C)`` and ``(B, F, R, K)``, feasible up to the scale of
        the precoder.
    utilities
        Of the design after every layer, ``(B,)`` each, differentiable in the weights.
    """

    control: Complex[Tensor, "batch antennas controls"]
    digital: Complex[Tensor, "batch subcarriers rf_chains users"]
    utilities: tuple[Float[Tensor, " batch"], ...]


class Network(nn.Module):
    """A learned beamformer.

    Attributes
    ----------
    startable
        Whether :meth:`forward` makes use of a start.
    """

    startable: ClassVar[bool] = False

    def matching(self, problem: Downlink) -> Network:
        """Return itself in the dtype and on the device of a problem; copies are kept."""
        want = (REAL[problem.h.dtype], problem.h.device)
        first = first_weight(self)
        if first is None or (first.dtype, first.device) == want:
            return self
        copies: dict[tuple[torch.dtype, torch.device], Network]
        copies = self.__dict__.setdefault("_copies", {})
        if want not in copies:
            fresh = deepcopy(self)
            fresh.__dict__.pop("_copies", None)
            copies[want] = fresh.to(dtype=want[0], device=want[1])
        return copies[want]

    def refusal(self, problem: Downlink) -> str | None:
        """Reason why it can't serve the problem, or None."""
        raise NotImplementedError

    def start(self, problem: Downlink) -> Tensor:
        """Controls that it begins at, ``(B, N, C)``: everything is let through."""
        return problem.h.new_ones(problem.shapes["control"])

    def training_start(
        self, shape: tuple[int, ...], share: float, generator: torch.Generator
    ) -> Tensor | None:
        """Controls to train from, of the whole batch; the network's own start where None.

        A ``share`` of the channels begins at random controls, so that best-of-several starts have
        been practised.
        """
        del shape, share, generator
        return None

    def forward(self, problem: Downlink, control: Tensor | None = None) -> Trace:
        """Design for a batch of channels, from ``(B, N, C)`` controls where given."""
        raise NotImplementedError

    def best(self, problem: Downlink, passes: int) -> Trace:
        """Best design of every channel in some passes, each from where the last one ended."""
        best: Trace = self(problem)
        last = best
        for _ in range(passes - 1):
            last = self(problem, last.control)
            best = _better(best, last)
        return best


@dataclass(frozen=True, kw_only=True)
class Learned(Solver):
    """One pass through a network, or several, each from where the last one ended.

    Attributes
    ----------
    network
        In evaluation mode; it computes in the dtype of the problem.
    begin
        ``plain``: the network's own start; ``random``: controls drawn once.

    Notes
    -----
    The pass is one iteration. Where the start is better on some channel the start is kept.
    """

    stackable: ClassVar[bool] = True

    name: str = "learned"
    max_iterations: int = 1
    tolerance: float = 0.0
    network: Network = field(default_factory=Network)
    begin: str = "plain"

    def __call__(
        self,
        problem: Downlink,
        *,
        seed: int | None = None,
        generator: torch.Generator | None = None,
        start: State | Solution | None = None,
        history: bool = False,
        progress: Progress | None = None,
    ) -> Solution:
        """Solve a problem; options as for :class:`Solver`.

        Passes need no loop, unless they begin elsewhere, are watched, or aren't finite.
        """
        generator = make_generator(seed, generator)
        alone = start is None and not history and progress is None
        if alone and self.begin == "plain" and self.max_iterations >= 1:
            solution = self._at_once(problem)
            if solution is not None:
                return solution
        return super().__call__(
            problem, generator=generator, start=start, history=history, progress=progress
        )

    def _at_once(self, problem: Downlink) -> Solution | None:
        """Best answer of all passes; None where some channel's is not finite."""
        check_supported(self, problem)
        begin = time.perf_counter()
        with torch.no_grad():
            best = self.network.matching(problem).best(problem, self.max_iterations)
            control, digital = problem.feasible(best.control, best.digital)
            # Sums of finite numbers of size 1: not finite if one of them isn't.
            if not math.isfinite((control.sum() + digital.sum()).abs().item()):
                return None
        ones = torch.ones(problem.batch, dtype=torch.long, device=problem.h.device)
        return Solution(
            problem=problem,
            control=control,
            digital=digital,
            status=ones * int(Status.MAX_ITERATIONS),
            iterations=ones * self.max_iterations,
            solver=self.name,
            seconds=time.perf_counter() - begin,
        )

    def refuses(self, problem: Downlink) -> str | None:
        """Reason of the network."""
        return self.network.refusal(problem)

    def init(
        self, problem: Downlink, generator: torch.Generator, start: State | None = None
    ) -> State:
        """Return the start, or controls that the network begins at and one beam for all."""
        if start is not None:
            return judged_state(problem, start.control, start.digital, start.control)
        if self.begin == "random":
            control = random_control(problem, generator)
        else:
            control = self.network.start(problem)
        # A feasible point that costs nothing: the network's answer is what counts.
        digital = problem.h.new_ones(problem.shapes["digital"])
        return judged_state(problem, control, digital, control)

    def variant(self, index: int) -> Solver:
        """Random controls for every start but the first, where the network can begin anywhere."""
        return self if index == 0 or not self.network.startable else replace(self, begin="random")

    def step(self, problem: Downlink, state: State) -> State:
        """Walk all layers."""
        trace = self.network.matching(problem)(problem, state.memory)
        return judged_state(problem, trace.control, trace.digital, trace.control, scaled=True)


def _better(first: Trace, second: Trace) -> Trace:
    """Channel by channel the design of the higher utility."""
    more = second.utilities[-1] > first.utilities[-1]
    utility = torch.maximum(first.utilities[-1], second.utilities[-1])
    control = torch.where(more[:, None, None], second.control, first.control)
    digital = torch.where(more[:, None, None, None], second.digital, first.digital)
    return Trace(control, digital, (utility,))


def first_weight(module: nn.Module) -> Tensor | None:
    """What ``next(parameters())`` gives, in a tenth of the time; None where there are none."""
    for weight in module._parameters.values():
        if weight is not None:
            return weight
    for child in module._modules.values():
        found = None if child is None else first_weight(child)
        if found is not None:
            return found
    return None
