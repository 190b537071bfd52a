"""Results of a study, put together from its files: one series a contestant and point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holobeam.errors import FileError
from holobeam.studies.cases import Case
from holobeam.studies.plan import NOMINAL, Entry, Plan, Point, make_plan
from holobeam.studies.spec import Study
from holobeam.studies.store import CorruptFileError, Store, read_table, read_units, table_meta
from holobeam.studies.trainings import TrainingRecord, read_trainings

Floats = NDArray[np.float64]

OUTAGE = 0.05
"""Share of users that are below the rate that is called that at outage."""

ESTIMATED = ("outage_rate", "worst_rate")
"""Columns that units of designs on estimates have besides."""

CONTENDED = 0.35
"""Cores that others kept busy while a time was measured, above which it does not count as idle."""


@dataclass(frozen=True, eq=False)
class Series:
    """What a contestant reached at a point, channel by channel.

    Attributes
    ----------
    point, label
        Where, and who.
    channel
        ``(B,)`` indices of the channels, ascending.
    rates
        ``(B, K)`` bits/s/Hz.
    status, iterations, violation, dc_power
        ``(B,)``.
    history
        ``(B, iterations + 1)`` best utility so far, or None.
    unsupported
        Why there are no channels, or an empty text.
    outage_rate, worst_rate
        ``(B,)`` sum rates of designs on estimates: missed with 5 % of the errors, and mean worst
        case over the ball; or None.
    """

    point: Point
    label: str
    channel: NDArray[np.int32]
    rates: Floats
    status: NDArray[np.int8]
    iterations: NDArray[np.int32]
    violation: Floats
    dc_power: Floats
    history: Floats | None = None
    unsupported: str = ""
    outage_rate: Floats | None = None
    worst_rate: Floats | None = None

    @property
    def sum_rate(self) -> Floats:
        """``(B,)`` bits/s/Hz summed over users."""
        total: Floats = self.rates.sum(axis=1)
        return total

    @property
    def worst_user(self) -> Floats:
        """``(B,)`` rate of the worst user."""
        worst: Floats = self.rates.min(axis=1)
        return worst

    @property
    def snr_db(self) -> Floats | None:
        """``(B,)`` SNR that the rate of the only user says, dB; None where there are several."""
        if self.rates.shape[1] != 1:
            return None
        snr: Floats = 10.0 * np.log10(np.maximum(np.exp2(self.sum_rate) - 1.0, 1e-300))
        return snr

    @property
    def decades(self) -> Floats:
        """``(B,)`` decimal logarithm of the sum rate, or of what a computed study counts."""
        logarithm: Floats = np.log10(np.maximum(self.sum_rate, 1e-300))
        return logarithm

    def __len__(self) -> int:
        return len(self.channel)


@dataclass(frozen=True)
class Timing:
    """How long a contestant takes at a point.

    Attributes
    ----------
    batch
        Channels solved at once.
    seconds, cpu_seconds
        Of each repeat, the whole batch.
    others_busy
        Cores that other processes kept busy meanwhile, each repeat.
    machine, device, threads
        What it ran on.
    """

    point: Point
    label: str
    batch: int
    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]
    others_busy: tuple[float, ...]
    machine: Mapping[str, Any]
    device: str
    threads: int

    @property
    def milliseconds(self) -> float:
        """Median time of one channel."""
        return 1e3 * float(np.median(self.seconds)) / self.batch

    @property
    def contended(self) -> bool:
        """Whether other work ran beside most repeats: the time is an upper bound then."""
        return float(np.median(self.others_busy)) > CONTENDED


@dataclass(frozen=True, eq=False)
class Results:
    """All that is there of a study.

    Attributes
    ----------
    plan
        What was asked for.
    series
        By point and contestant; only what is finished.
    timings
        By point, contestant and batch.
    missing
        Channel results that are not there yet.
    versions
        Every combination of versions that results were made with.
    trainings
        By key: what came of each that is finished.
    """

    plan: Plan
    series: Mapping[tuple[str, str], Series]
    timings: Mapping[tuple[str, str, int], Timing]
    missing: int
    versions: tuple[str, ...]
    trainings: Mapping[str, TrainingRecord] = field(default_factory=dict)

    @property
    def study(self) -> Study:
        """What was studied."""
        return self.plan.study

    def get(self, point: Point, label: str) -> Series | None:
        """Series of a contestant at a point; None if nothing is there, or it can't serve it."""
        found = self.series.get((point.label, label))
        return found if found is not None and len(found) else None

    def timing(self, point: Point, label: str, batch: int) -> Timing | None:
        """Time of a contestant at a point."""
        return self.timings.get((point.label, label, batch))

    def training(self, point: Point, label: str) -> TrainingRecord | None:
        """What the training of a contestant's weights took; None where it has none."""
        return self.trainings.get(self._trained.get((point.label, label), ""))

    @cached_property
    def _trained(self) -> dict[tuple[str, str], str]:
        return {
            (entry.point.label, entry.label): entry.case.training.key
            for entry in self.plan.entries
            if isinstance(entry.case, Case) and entry.case.training is not None
        }

    def points(
        self, where: Mapping[str, Sequence[Any]] | None = None, setting: str = NOMINAL
    ) -> list[Point]:
        """Points of a setting, in order, each once."""
        found = {entry.point.label: entry.point for entry in self.plan.entries}
        return [p for p in found.values() if p.setting == setting and p.matches(where or {})]

    def settings(self) -> list[str]:
        """Settings in order, the nominal one first."""
        return list(dict.fromkeys(entry.point.setting for entry in self.plan.entries))

    def labels(self) -> list[str]:
        """Contestants in order."""
        return list(dict.fromkeys(entry.label for entry in self.plan.entries))


def load_results(folder: str | Path) -> Results:
    """Read what is there of a study; half a study is read as half a study.

    Parameters
    ----------
    folder
        A folder that a run wrote.

    Raises
    ------
    FileError
        If it holds no results.
    """
    store = Store(Path(folder))
    manifest = store.manifest()
    try:
        study = Study.model_validate(manifest["study"])
        quick = bool(manifest["quick"])
        versions_then = tuple(manifest.get("versions", {}).items())
    except (KeyError, ValueError):
        wrong = f"{folder}/study.json is of another version or damaged"
        raise FileError("results", wrong, "run the study again") from None
    # The manifest holds the study as it was run: quick values are in place already.
    plan = replace(make_plan(study, versions=versions_then), quick=quick)
    series, missing, versions = _series(store, plan)
    trained = Path(folder) / str(manifest.get("trainings", "trainings"))
    trainings = dict(read_trainings(trained, plan.trainings))
    timings = _timings(store, plan)
    return Results(plan, series, timings, missing, tuple(sorted(versions)), trainings)


def find_results(folder: str | Path) -> list[Path]:
    """Folders of results below a folder, itself included.

    Raises
    ------
    FileError
        If there are none.
    """
    root = Path(folder)
    found = sorted(path.parent for path in root.rglob("study.json"))
    if not found:
        right = "name a folder that `holobeam run` wrote"
        raise FileError("results", f"no results in {root}", right)
    return found


def _series(store: Store, plan: Plan) -> tuple[dict[tuple[str, str], Series], int, set[str]]:
    wanted: dict[str, list[tuple[Entry, int, int]]] = {}
    for entry in plan.entries:
        for unit in entry.units:
            wanted.setdefault(unit.key, []).append((entry, unit.start, unit.stop))
    parts: dict[tuple[str, str], list[tuple[int, Any]]] = {}
    reasons: dict[tuple[str, str], str] = {}
    versions: set[str] = set()
    try:
        for key, table, meta in read_units(store, set(wanted)):
            versions.add(_line(meta["versions"]))
            columns = _columns(table) if table.num_rows else None
            for entry, start, _ in wanted.pop(key):
                place = (entry.point.label, entry.label)
                if columns is None:
                    reasons[place] = meta.get("unsupported", "")
                else:
                    parts.setdefault(place, []).append((start, columns))
    except CorruptFileError as error:
        raise FileError("results", error.wrong, "run the study again: it mends itself") from error
    missing = sum(stop - start for places in wanted.values() for _, start, stop in places[:1])
    entries = {(e.point.label, e.label): e for e in plan.entries}
    series = {
        place: _joined(entries[place], sorted(found, key=lambda part: part[0]))
        for place, found in parts.items()
    }
    for place, reason in reasons.items():
        series.setdefault(place, _empty(entries[place], reason))
    return series, missing, versions


def _columns(table: Any) -> dict[str, Any]:
    found = {
        name: table[name].to_numpy()
        for name in ("channel", "status", "iterations", "violation", "dc_power")
    }
    rows = table.num_rows
    for name in ("rates", "history"):
        if name in table.column_names and table[name].null_count == 0:
            flat = table[name].combine_chunks().flatten().to_numpy()
            found[name] = flat.reshape(rows, -1)
    for name in ESTIMATED:
        if name in table.column_names:
            found[name] = table[name].to_numpy()
    return found


def _joined(entry: Entry, parts: Sequence[tuple[int, dict[str, Any]]]) -> Series:
    columns = [part for _, part in parts]

    def join(name: str) -> Any:
        return np.concatenate([part[name] for part in columns])

    history = None
    if all("history" in part for part in columns):
        width = max(part["history"].shape[1] for part in columns)
        history = np.concatenate([_stretched(part["history"], width) for part in columns])
    return Series(
        entry.point,
        entry.label,
        join("channel"),
        join("rates"),
        join("status"),
        join("iterations"),
        join("violation"),
        join("dc_power"),
        history,
        **{name: join(name) for name in ESTIMATED if all(name in part for part in columns)},
    )


def _stretched(history: Floats, width: int) -> Floats:
    """Repeat the last column: a shard whose channels all converged early stopped early."""
    missing = width - history.shape[1]
    return np.concatenate([history, np.repeat(history[:, -1:], missing, axis=1)], axis=1)


def _empty(entry: Entry, reason: str) -> Series:
    none = np.zeros(0)
    return Series(
        entry.point,
        entry.label,
        none.astype(np.int32),
        np.zeros((0, 1)),
        none.astype(np.int8),
        none.astype(np.int32),
        none,
        none,
        None,
        reason,
    )


def _timings(store: Store, plan: Plan) -> dict[tuple[str, str, int], Timing]:
    found = {}
    for point, label, unit in plan.timings:
        path = store.timing_path(unit.key)
        if not path.exists():
            continue
        try:
            table = read_table(path)
        except CorruptFileError:
            continue
        meta = table_meta(table)
        if table.num_rows == 0:
            continue
        found[point.label, label, unit.batch] = Timing(
            point,
            label,
            unit.batch,
            tuple(table["seconds"].to_pylist()),
            tuple(table["cpu_seconds"].to_pylist()),
            tuple(table["others_busy"].to_pylist()),
            meta["machine"],
            meta["device"],
            meta["threads"],
        )
    return found


def _line(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(versions.items()))
