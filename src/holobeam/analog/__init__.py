"""The quadratic in the controls, and who minimises it."""

from holobeam.analog import scaling_law
from holobeam.analog.coordinate import AnalogUpdate, coordinate_descent
from holobeam.analog.projected_gradient import ascent_direction, projected_step
from holobeam.analog.projection import closest_point
from holobeam.analog.quadratic import Quadratic

__all__ = [
    "AnalogUpdate",
    "Quadratic",
    "ascent_direction",
    "closest_point",
    "coordinate_descent",
    "projected_step",
    "scaling_law",
]
