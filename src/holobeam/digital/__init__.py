"""Links, and who solves them: zero forcing, WMMSE, row updates, water-filling."""

from holobeam.digital.link import Link, Weights
from holobeam.digital.water_filling import water_filling

__all__ = ["Link", "Weights", "water_filling"]
