"""Problems: they build links and quadratics, and judge what solvers return."""

from holobeam.problems.downlink import Downlink

__all__ = ["Downlink"]
