"""The quadratic in the controls, and who minimises it."""

from holobeam.analog import scaling_law
from holobeam.analog.accelerated import accelerated_projected_gradient, block_coordinate_descent
from holobeam.analog.binary import BinarySolution, minimize_binary
from holobeam.analog.coordinate import AnalogUpdate, coordinate_descent
from holobeam.analog.majorize import majorize
from holobeam.analog.manifold import manifold_descent
from holobeam.analog.projected_gradient import ascent_direction, projected_step
from holobeam.analog.projection import closest_point
from holobeam.analog.quadratic import Quadratic
from holobeam.analog.two_level import (
    hidden_convexity,
    one_opt,
    sphere,
    tabu,
    two_opt,
)

__all__ = [
    "AnalogUpdate",
    "BinarySolution",
    "Quadratic",
    "accelerated_projected_gradient",
    "ascent_direction",
    "block_coordinate_descent",
    "closest_point",
    "coordinate_descent",
    "hidden_convexity",
    "majorize",
    "manifold_descent",
    "minimize_binary",
    "one_opt",
    "projected_step",
    "scaling_law",
    "sphere",
    "tabu",
    "two_opt",
]
