"""Problems: they build links and quadratics, and judge what solvers return."""

from holobeam.problems.downlink import Downlink
from holobeam.problems.multicell import MultiCell
from holobeam.problems.problem import Problem

__all__ = ["Downlink", "MultiCell", "Problem"]
