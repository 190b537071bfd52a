"""Solvers: same problem in, same solution out."""

from holobeam.solvers.alternating import Alternating
from holobeam.solvers.base import BestOf, Chain, Restart, Solver, State, make_state
from holobeam.solvers.fairness import ProportionalFair
from holobeam.solvers.gradient import VariableProjection
from holobeam.solvers.perturb import Perturb
from holobeam.solvers.registry import SUFFIXES, available, solve, solver
from holobeam.solvers.solution import Solution, Status

__all__ = [
    "SUFFIXES",
    "Alternating",
    "BestOf",
    "Chain",
    "Perturb",
    "ProportionalFair",
    "Restart",
    "Solution",
    "Solver",
    "State",
    "Status",
    "VariableProjection",
    "available",
    "make_state",
    "solve",
    "solver",
]
