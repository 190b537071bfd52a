"""What ``+w`` behind a solver's name does: re-optimise the digital part, the controls held."""

from __future__ import annotations

from holobeam.solvers.base import Chain, Solver
from holobeam.solvers.closed_form import DigitalWmmse

REFIT_STEPS = 50


def digital_refit(name: str = "digital-refit", max_iterations: int = REFIT_STEPS) -> DigitalWmmse:
    """WMMSE steps on the digital part from a given start, whose controls stay as they are.

    Notes
    -----
    Source: docs/methods.md, section 12. Without a start the controls are drawn at random.
    """
    return DigitalWmmse(name=name, controls="random", max_iterations=max_iterations, tolerance=0.0)


def refitted(solver: Solver, name: str) -> Chain:
    """``solver`` followed by :func:`digital_refit`."""
    return Chain(name=name, solvers=(solver, digital_refit()))
