"""Comparisons over many channels, and the statistics that make them fair."""

from holobeam.studies.compare import Contestant, Result, Row, contestants, run, table
from holobeam.studies.statistics import (
    Estimate,
    estimate,
    outage,
    paired_difference,
    starved_share,
)

__all__ = [
    "Contestant",
    "Estimate",
    "Result",
    "Row",
    "contestants",
    "estimate",
    "outage",
    "paired_difference",
    "run",
    "starved_share",
    "table",
]
