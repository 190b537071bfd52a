"""Zero forcing within every cell, and an exchangeable analog method: a baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from holobeam.digital.zero_forcing_cells import cell_zero_forcing, published_zero_forcing
from holobeam.problems.multicell import MultiCell
from holobeam.solvers.alternating import Alternating, Begin
from holobeam.solvers.base import AnyProblem


@dataclass(frozen=True, kw_only=True)
class ZeroForcingAlternating(Alternating):
    """WMMSE alternation whose digital step forces the interference within each cell to zero.

    Attributes
    ----------
    precoder
        ``newton``: Newton along the dual's central path, all cells at once; ``cvxpy``: a general
        convex solver on every cell, as published (extra ``cvxpy``).

    Notes
    -----
    Not monotone: the constraint moves with the receivers. The best point is returned. Source:
    multicell paper, its zero-forcing baseline (our reading); docs/methods.md, section 15.
    """

    problems: ClassVar[tuple[type, ...]] = (MultiCell,)

    name: str = "zf-cd"
    max_iterations: int = 60
    begin: Begin = "random"
    precoder: Literal["newton", "cvxpy"] = "newton"

    def refuses(self, problem: AnyProblem) -> str | None:
        """Serves limits per RF chain, and at least as many chains as streams in a cell."""
        if problem.power_at != "per_rf_chain":
            return "it knows a limit per RF chain, not one per cell; use wmmse-cd or vp"
        if problem.columns > problem.chains:
            return (
                f"zero forcing needs K S <= R, got {problem.columns} streams a cell on "
                f"{problem.chains} RF chains; use wmmse-cd or vp"
            )
        return super().refuses(problem)

    def _digital(self, problem: AnyProblem, link: Any, weights: Any, digital: Tensor) -> Tensor:
        step = published_zero_forcing if self.precoder == "cvxpy" else cell_zero_forcing
        return step(link, weights, problem.power)
