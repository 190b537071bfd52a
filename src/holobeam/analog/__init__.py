"""The quadratic in the controls, and who minimises it."""

from holobeam.analog import scaling_law
from holobeam.analog.accelerated import accelerated_projected_gradient, block_coordinate_descent
from holobeam.analog.coordinate import AnalogUpdate, coordinate_descent
from holobeam.analog.manifold import manifold_descent
from holobeam.analog.projected_gradient import ascent_direction, projected_step
from holobeam.analog.projection import closest_point
from holobeam.analog.quadratic import Quadratic

__all__ = [
    "AnalogUpdate",
    "Quadratic",
    "accelerated_projected_gradient",
    "ascent_direction",
    "block_coordinate_descent",
    "closest_point",
    "coordinate_descent",
    "manifold_descent",
    "projected_step",
    "scaling_law",
]
