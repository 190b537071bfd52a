"""Front-ends: feed networks whose elements software controls."""

from holobeam.frontends.element_sets import Circle, ElementSet, Interval, Plane, Points
from holobeam.frontends.feeds import (
    feed_positions,
    microstrips,
    reference_wave,
    strips_of_array,
)
from holobeam.frontends.frontend import (
    Frontend,
    dma,
    fully_digital,
    phase_shifters,
    rhs,
    vector_modulators,
)
from holobeam.frontends.power_model import LOSSLESS, PowerModel
from holobeam.frontends.registry import available, build

__all__ = [
    "LOSSLESS",
    "Circle",
    "ElementSet",
    "Frontend",
    "Interval",
    "Plane",
    "Points",
    "PowerModel",
    "available",
    "build",
    "dma",
    "feed_positions",
    "fully_digital",
    "microstrips",
    "phase_shifters",
    "reference_wave",
    "rhs",
    "strips_of_array",
    "vector_modulators",
]
