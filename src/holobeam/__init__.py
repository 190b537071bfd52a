"""Design, compare, train and deploy hybrid and holographic MIMO beamformers."""

from holobeam import (
    analog,
    arrays,
    channels,
    digital,
    errors,
    frontends,
    problems,
    robust,
    solvers,
    units,
)
from holobeam.errors import HolobeamError
from holobeam.problems import Downlink, MultiCell
from holobeam.robust import robustness, two_timescale
from holobeam.solvers import Solution, Solver, Status, solve, solver

__version__ = "0.1.0"

__all__ = [
    "Downlink",
    "HolobeamError",
    "MultiCell",
    "Solution",
    "Solver",
    "Status",
    "__version__",
    "analog",
    "arrays",
    "channels",
    "digital",
    "errors",
    "frontends",
    "problems",
    "robust",
    "robustness",
    "solve",
    "solver",
    "solvers",
    "two_timescale",
    "units",
]
