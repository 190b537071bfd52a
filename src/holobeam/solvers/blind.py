"""What ``+blind`` behind a solver's name does: every cell is designed as if it were alone."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from holobeam.problems.multicell import MultiCell
from holobeam.solvers.base import AnyProblem, Solver, check_supported, refusal
from holobeam.solvers.solution import Solution


@dataclass(frozen=True, kw_only=True)
class Blind(Solver):
    """Design with the channels between cells hidden; judged with them.

    Attributes
    ----------
    solver
        Who designs; it sees :meth:`MultiCell.blind_to_other_cells`.

    Notes
    -----
    ``solution.design_rate`` is what the solver believed, ``solution.sum_rate`` what the users get
    with receivers matched to the true interference. Source: docs/methods.md, section 15.
    """

    problems: ClassVar[tuple[type, ...]] = (MultiCell,)

    name: str = "blind"
    solver: Solver = field(default_factory=Solver)

    def refuses(self, problem: AnyProblem) -> str | None:
        """Serve what the solver itself serves."""
        return refusal(self.solver, problem)

    def variant(self, index: int) -> Solver:
        """Start ``index`` of the solver itself."""
        return replace(self, solver=self.solver.variant(index))

    def refiner(self) -> Solver:
        """Return the solver itself, blind."""
        return replace(self, solver=self.solver.refiner())

    def __call__(self, problem: AnyProblem, **options: Any) -> Solution:
        """Solve; options as for :class:`Solver`."""
        check_supported(self, problem)
        found = self.solver(problem.blind_to_other_cells(), **options)
        return replace(found, solver=self.name)
