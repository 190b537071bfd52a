"""The frozen benchmark: hashed instances, an independent judge, and the best rates known."""

from holobeam.frozen.entries import Entry, from_solution, read_entry, write_arrays, write_entry
from holobeam.frozen.instances import INSTANCES, FrozenError, Instance, describe, instance, seal
from holobeam.frozen.record import (
    Holder,
    Record,
    best_known,
    blank,
    bundled_path,
    checkout_path,
    improve,
    merge,
    read_record,
    score,
    write_record,
)
from holobeam.frozen.score import MARGIN, TOLERANCE, InfeasibleError, PointScore, values

__all__ = [
    "INSTANCES",
    "MARGIN",
    "TOLERANCE",
    "Entry",
    "FrozenError",
    "Holder",
    "InfeasibleError",
    "Instance",
    "PointScore",
    "Record",
    "best_known",
    "blank",
    "bundled_path",
    "checkout_path",
    "describe",
    "from_solution",
    "improve",
    "instance",
    "merge",
    "read_entry",
    "read_record",
    "score",
    "seal",
    "values",
    "write_arrays",
    "write_entry",
    "write_record",
]
