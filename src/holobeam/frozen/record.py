"""The best rates known of every channel, and who found them with what.

One JSON file an instance: a person can read the difference that an update makes, two updates of
different instances never conflict, and one rename puts a new state in place.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from holobeam.channels.foreign import reading, refusal
from holobeam.errors import FileError, InputError
from holobeam.frozen.entries import Entry, check_text, write_whole
from holobeam.frozen.instances import Instance, instance, seal
from holobeam.frozen.score import MARGIN, PointScore, values

MAX_BYTES = 2**22
"""Largest record file that is read."""

NOBODY = -1


@dataclass(frozen=True)
class Holder:
    """Who holds records, and how they were found.

    Attributes
    ----------
    by
        Who.
    how
        The command or method.
    date
        Day of the update, ``YYYY-MM-DD``.
    file_sha256
        Of the solution file that was scored; empty for what came with the data.
    """

    by: str
    how: str
    date: str
    file_sha256: str = ""


@dataclass(frozen=True, eq=False)
class Record:
    """Best known objectives of an instance.

    Attributes
    ----------
    instance
        Of what.
    values
        ``(P, B)`` bits/s/Hz at the points of the instance; 0 where nothing is known.
    held_by
        ``(P, B)`` index into ``holders``; -1 where nothing is known.
    holders
        Everyone who holds at least one channel.
    """

    instance: Instance
    values: Float[np.ndarray, "points batch"]
    held_by: Int[np.ndarray, "points batch"]
    holders: tuple[Holder, ...]

    def at(self, points: Sequence[float]) -> Float[np.ndarray, "points batch"]:
        """Values at some of the points."""
        return self.values[[self.instance.points.index(point) for point in points]]


def bundled_path(name: str) -> Path:
    """Path of the record that comes with the package."""
    return Path(str(files("holobeam.frozen") / "data" / "records" / f"{name}.json"))


def checkout_path(name: str) -> Path:
    """Return :func:`bundled_path` in a checkout of the sources, where updates belong.

    Raises
    ------
    FileError
        If holobeam is installed: its files are not to be changed.
    """
    path = bundled_path(name)
    if not (path.parents[5] / "pyproject.toml").is_file():
        raise FileError(
            "record",
            "holobeam is installed, not a checkout of its sources",
            "name a file of your own with --record; it is begun from the bundled record",
        )
    return path


def blank(chosen: Instance) -> Record:
    """Record of an instance that nobody has solved."""
    shape = (len(chosen.points), chosen.sizes[0])
    return Record(chosen, np.zeros(shape), np.full(shape, NOBODY), ())


@cache
def best_known(name: str) -> Record:
    """Record that comes with the package."""
    return read_record(bundled_path(name), instance(name))


def read_record(path: Path, chosen: Instance) -> Record:
    """Read a record.

    Raises
    ------
    FileError
        If the file is missing or damaged, or belongs to another instance.
    """
    with reading(path):
        if path.stat().st_size > MAX_BYTES:
            raise refusal(path, f"more than {MAX_BYTES:,} bytes", "that is no record")
        data = json.loads(path.read_text())
        if data["instance"] != chosen.name or data["sha256"] != seal(chosen):
            raise refusal(
                path, f"it is a record of {data['instance']!r}", f"need one of {chosen.name}"
            )
        holders = tuple(_holder(path, entry) for entry in data["holders"])
        rows = [row["best"] for row in data["points"]]
        best = np.array([[pair[0] for pair in row] for row in rows], dtype=np.float64)
        held_by = np.array([[pair[1] for pair in row] for row in rows], dtype=np.int64)
        points = tuple(float(row["point"]) for row in data["points"])
    shape = (len(chosen.points), chosen.sizes[0])
    if points != chosen.points or best.shape != shape or not np.isfinite(best).all():
        raise refusal(path, f"values of shape {best.shape}", f"need {shape} finite numbers")
    if held_by.min() < NOBODY or held_by.max() >= len(holders):
        raise refusal(path, "a holder is missing", "every value needs its holder")
    return Record(chosen, best, held_by, holders)


def _holder(path: Path, entry: dict[str, Any]) -> Holder:
    known = {field.name for field in fields(Holder)}
    if set(entry) != known or not all(isinstance(value, str) for value in entry.values()):
        raise refusal(path, f"a holder has {sorted(entry)}", f"need texts {sorted(known)}")
    for title, value in entry.items():
        check_text(title, value)
    return Holder(**entry)


def write_record(path: Path, record: Record) -> None:
    """Write a record, whole or not at all; one channel a line."""
    points = []
    for point, row, owners in zip(
        record.instance.points, record.values.tolist(), record.held_by.tolist(), strict=True
    ):
        pairs = ",\n   ".join(json.dumps(list(pair)) for pair in zip(row, owners, strict=True))
        points.append(f'  {{"point": {point}, "best": [\n   {pairs}]}}')
    holders = ",\n".join(f"  {json.dumps(asdict(holder))}" for holder in record.holders)
    text = (
        f'{{\n "instance": {json.dumps(record.instance.name)},\n'
        f' "sha256": "{seal(record.instance)}",\n'
        f' "holders": [\n{holders}],\n "points": [\n' + ",\n".join(points) + "]\n}\n"
    )
    write_whole(path, lambda aside: aside.write_text(text))


def score(entry: Entry, record: Record) -> list[PointScore]:
    """Judge a solution against a record.

    Raises
    ------
    InfeasibleError
        If it breaks a constraint.
    """
    return [
        PointScore(point, value, best)
        for point, value, best in zip(
            entry.points, values(entry), record.at(entry.points), strict=True
        )
    ]


def improve(record: Record, entry: Entry, holder: Holder) -> tuple[Record, dict[float, int]]:
    """Raise a record where a solution is better by more than the margin; never lower it.

    Returns
    -------
    tuple
        The new record, and the number of channels raised at each point of the solution.
    """
    check_text("by", holder.by)
    if not holder.by.strip():
        raise InputError("by", "it is empty", "say who found the solution")
    best, held_by = record.values.copy(), record.held_by.copy()
    raised = {}
    for result in score(entry, record):
        row = record.instance.points.index(result.point)
        better = result.values > best[row] + MARGIN
        # Rounded down: a record must be reached by whoever repeats it.
        best[row, better] = np.floor(result.values[better] * 1e9) / 1e9
        held_by[row, better] = len(record.holders)
        raised[result.point] = int(better.sum())
    return _tidy(record.instance, best, held_by, (*record.holders, holder)), raised


def merge(record: Record, floor: Float[np.ndarray, "points batch"], holder: Holder) -> Record:
    """Raise a record to values that came with the data, without a solution to score."""
    better = floor > record.values + MARGIN
    best = np.where(better, floor, record.values)
    held_by = np.where(better, len(record.holders), record.held_by)
    return _tidy(record.instance, best, held_by, (*record.holders, holder))


def _tidy(
    chosen: Instance,
    best: Float[np.ndarray, "points batch"],
    held_by: Int[np.ndarray, "points batch"],
    holders: tuple[Holder, ...],
) -> Record:
    """Drop those who hold nothing any more."""
    kept = [index for index in range(len(holders)) if (held_by == index).any()]
    renamed = np.full(len(holders) + 1, NOBODY)
    renamed[kept] = range(len(kept))
    return Record(chosen, best, renamed[held_by], tuple(holders[index] for index in kept))
