"""Comparisons over many channels, and the statistics that make them fair."""

from holobeam.studies.compare import Contestant, Result, Row, contestants, run, table
from holobeam.studies.statistics import (
    Estimate,
    Share,
    estimate,
    outage,
    paired_difference,
    paired_ratio,
    starved_share,
    wilson,
    win_rate,
)

__all__ = [
    "Contestant",
    "Estimate",
    "Result",
    "Row",
    "Share",
    "contestants",
    "estimate",
    "outage",
    "paired_difference",
    "paired_ratio",
    "run",
    "starved_share",
    "table",
    "wilson",
    "win_rate",
]
