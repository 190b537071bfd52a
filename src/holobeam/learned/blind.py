"""As good as any design that treats elements alike and never sees the feed (``blind-ceiling``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from holobeam.learned.ceiling import Ceiling, Head, blind_ceiling, grid_of
from holobeam.learned.scene import unserved
from holobeam.learned.symmetry import canonical_turn, grid_symmetries
from holobeam.learned.turned import STEPS
from holobeam.problems.downlink import Downlink
from holobeam.solvers.base import Solver, State, make_state


@dataclass(frozen=True, kw_only=True)
class Blind(Solver):
    """The ceiling's amplitudes, on the feed that is really there.

    Attributes
    ----------
    head
        Where the precoder comes from, see :func:`holobeam.learned.ceiling.blind_ceiling`.
    shape
        Elements along both axes; empty for a square.
    tries
        Starts of the search.
    steps, polish
        Iterations of each, and of the ascent that follows.
    draw
        Seed of the search. It is the solver's own, and restarts give the same answer: choosing
        between designs by what they reach on the true feed would be looking at it.

    Notes
    -----
    Each channel is first turned into a pose of its own, so that turned channels get turned
    amplitudes: a map that a network could learn. On one channel its rate may be above or below the
    symmetry average; over channels whose law the turns leave alone the means are the same.
    Source: docs/methods.md, section 22.
    """

    closed_form: ClassVar[bool] = True

    name: str = "blind-ceiling"
    max_iterations: int = 0
    head: Head = "optimal"
    shape: tuple[int, ...] = ()
    tries: int = 16
    steps: int = 100
    polish: int = STEPS
    draw: int = 0

    def refuses(self, problem: Downlink) -> str | None:
        """Reason of surface networks, or that the grid is not known."""
        reason = unserved(problem)
        if reason is None and grid_of(problem, self._given) is None:
            count = problem.frontend.antennas
            reason = f"it must know the grid of the {count} elements; give its shape"
        return reason

    def init(
        self, problem: Downlink, generator: torch.Generator, start: State | None = None
    ) -> State:
        """Design for all turns of the feed at once, or stay at ``start``."""
        del generator
        if start is not None:
            return start
        shape = grid_of(problem, self._given)
        assert shape is not None
        group = grid_symmetries(shape).to(problem.h.device)
        turn = canonical_turn(problem.h[:, 0], shape, group)
        posed = problem.with_(
            h=problem.h.gather(3, group[turn][:, None, None].expand_as(problem.h))
        )
        found = blind_ceiling(
            posed,
            shape=shape,
            head=self.head,
            starts=self.tries,
            max_iterations=self.steps,
            polish=self.polish,
            seed=self.draw,
        )
        control, digital = _turned_back(problem, found, group, turn)
        return make_state(problem, control, digital)

    @property
    def _given(self) -> tuple[int, int] | None:
        return (int(self.shape[0]), int(self.shape[1])) if len(self.shape) == 2 else None


def _turned_back(
    problem: Downlink, found: Ceiling, group: Int[Tensor, "symmetries antennas"], turn: Tensor
) -> tuple[Tensor, Tensor]:
    """Amplitudes in the channel's own pose, and the precoder in the true feed's own basis."""
    control = torch.empty_like(found.control)
    control.scatter_(1, group[turn].unsqueeze(2), found.control)
    place = found.place[turn]
    # In that pose the true feed spans what feed ``place`` spans, in another basis.
    feed = problem.frontend.scaled_feed()[0].to(found.feeds.dtype)
    change = torch.linalg.pinv(feed[group]) @ found.feeds[found.place]
    chosen = found.digital[torch.arange(len(turn), device=turn.device), place]
    digital = change[turn] @ chosen
    return control.to(problem.h.dtype), digital.unsqueeze(1).to(problem.h.dtype)
