"""From a study to units of work: points, cases, shards of channels, and what is left out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from pydantic import TypeAdapter, ValidationError

from holobeam.errors import InputError, unknown_name
from holobeam.solvers import registry
from holobeam.studies.cases import AnyCase, Case, ComputedCase, TimingUnit, Unit
from holobeam.studies.channel_tables import Channels, ChannelTable
from holobeam.studies.computed import Computation, Computations
from holobeam.studies.knowledge import Knowledge, quick_tables, tables
from holobeam.studies.reading import split_path
from holobeam.studies.scenario import FrontendChoice, FrontendTable, Operation
from holobeam.studies.spec import SolverTable, Study
from holobeam.studies.training_table import PREFIX, TrainingTable, merged
from holobeam.studies.trainings import Training, make_training
from holobeam.studies.versions import training_versions

NOMINAL = ""
"""Setting of the points at which nothing is varied."""

Versions = tuple[tuple[str, str], ...]
"""Names and versions of packages."""

_CHANNELS: TypeAdapter[ChannelTable] = TypeAdapter(Channels)
_FRONTEND: TypeAdapter[FrontendTable] = TypeAdapter(FrontendChoice)
_COMPUTATION: TypeAdapter[Computation] = TypeAdapter(Computations)


@dataclass(frozen=True)
class Point:
    """Where in the sweep: the value on each axis, and the setting that is varied, if any."""

    coordinates: tuple[tuple[str, Any], ...] = ()
    setting: str = NOMINAL

    def at(self, axis: str) -> Any:
        """Value on an axis."""
        for name, value in self.coordinates:
            if axis in axis_paths(name) or axis == name:
                return value
        raise unknown_name("axis", axis, [name for name, _ in self.coordinates])

    def matches(self, where: Mapping[str, Sequence[Any]]) -> bool:
        """Whether the point lies in a part of the sweep."""
        return all(same_in(self.at(axis), values) for axis, values in where.items())

    @property
    def label(self) -> str:
        """For messages."""
        parts = [f"{axis.split('.')[-1]}={show(value)}" for axis, value in self.coordinates]
        return ", ".join([*parts, *([self.setting] if self.setting else [])]) or "the point"


@dataclass(frozen=True)
class Entry:
    """One contestant at one point."""

    point: Point
    label: str
    case: AnyCase
    count: int
    shard: int

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        """Shards of its channels."""
        edges = range(0, self.count, self.shard)
        return tuple(Unit(self.case, a, min(a + self.shard, self.count)) for a in edges)


@dataclass(frozen=True)
class Plan:
    """A study as work to do.

    Attributes
    ----------
    study
        As read, quick values put in where ``quick``.
    entries
        Contestants at points, in order.
    timings
        What is timed afterwards, with the point and the label of each.
    left_out
        One line for each contestant that is not there (yet).
    skipped
        Why nothing is run at all, or an empty text.
    versions
        That trainings go by.
    """

    study: Study
    quick: bool
    entries: tuple[Entry, ...] = ()
    timings: tuple[tuple[Point, str, TimingUnit], ...] = ()
    left_out: tuple[str, ...] = ()
    skipped: str = ""
    versions: Versions = ()

    @cached_property
    def trainings(self) -> tuple[Training, ...]:
        """Trainings that contestants depend on, each once."""
        cases = (entry.case for entry in self.entries)
        made = (case.training for case in cases if isinstance(case, Case))
        return tuple({one.key: one for one in made if one is not None}.values())

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        """Units of all entries, each once."""
        found = {unit.key: unit for entry in self.entries for unit in entry.units}
        return tuple(found.values())

    @property
    def channels(self) -> int:
        """Channel-solver results in all."""
        return sum(unit.stop - unit.start for unit in self.units)


def make_plan(study: Study, quick: bool = False, versions: Versions | None = None) -> Plan:
    """Lay out the work of a study.

    Parameters
    ----------
    study
        What to do.
    quick
        Few channels and a thin sweep, for a look in minutes.
    versions
        That trainings go by; those of this machine by default.

    Raises
    ------
    InputError
        If an axis leads nowhere or a value can't be put there; unknown solvers are answered with
        their nearest neighbours.
    """
    study = quickened(study) if quick else study
    versions = training_versions() if versions is None else versions
    known = {entry.name for entry in registry.available()}
    if study.computed is not None:
        known = set(study.computed.methods())
    missing = [name for name in study.needs if registry.base_name(name) not in known]
    if missing:
        skipped = f"{study.name} waits for {', '.join(missing)}"
        return Plan(study, quick, skipped=skipped)
    present, left_out = _present(study, known)
    if not present:
        return Plan(study, quick, left_out=tuple(left_out), skipped=f"{study.name}: nobody is left")
    points = list(_points(study))
    entries = tuple(
        Entry(point, table.label, _case(study, table, point, versions), study.count, study.shard)
        for point in points
        for table in present
    )
    timings = tuple(_timings(study, entries))
    return Plan(study, quick, entries, timings, tuple(left_out), versions=versions)


def quickened(study: Study) -> Study:
    """Study with its quick values in place."""
    quick = study.quick
    solvers = [
        table.model_copy(update={"options": {**table.options, **quick.options[table.label]}})
        if table.label in quick.options
        else table
        for table in study.solvers
    ]
    for axis in quick.sweep:
        if axis not in study.sweep:
            raise unknown_name("quick.sweep", axis, study.sweep)
    changes: dict[str, Any] = {
        "count": min(study.count, quick.channels),
        "sweep": {**study.sweep, **quick.sweep},
        "variations": quick.variations,
        "solvers": solvers,
        "trainings": {
            name: table.model_copy(update={"set": merged(table.set, quick.trainings)})
            for name, table in study.trainings.items()
        },
        **quick_tables(study),
    }
    if study.timing is not None:
        timing = study.timing
        changed = {"repeats": timing.quick_repeats, "batches": quick.batches or timing.batches}
        changes["timing"] = study.timing.model_copy(update=changed)
    return study.model_copy(update=changes)


def _present(study: Study, known: set[str]) -> tuple[list[SolverTable], list[str]]:
    present, left_out = [], []
    for table in study.solvers:
        if registry.base_name(table.name) in known:
            present.append(table)
        elif table.awaited:
            left_out.append(f"{study.name}: {table.label} waits for the solver {table.name}")
        else:
            raise unknown_name(f"{study.name}: solver", table.name, known)
    return present, left_out


def _points(study: Study) -> Iterator[Point]:
    axes = [[(axis, value) for value in values] for axis, values in study.sweep.items()]
    nominal = [Point(tuple(combination)) for combination in itertools.product(*axes)]
    yield from nominal
    for path, values in study.variations.items():
        for value in values:
            setting = f"{path}={show(value)}"
            for point in nominal:
                yield Point((*point.coordinates, (path, value)), setting)


def axis_paths(axis: str) -> list[str]:
    """Paths that an axis assigns its value to."""
    return [part.strip() for part in axis.split("&")]


def show(value: Any) -> str:
    """Short text of a value of an axis."""
    if isinstance(value, Mapping):
        return str(value.get("label", ", ".join(show(v) for v in value.values())))
    if isinstance(value, (list, tuple)):
        return "x".join(show(v) for v in value)
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return brief(value) if isinstance(value, (int, float)) else str(value)


def brief(value: float) -> str:
    """Short text of a number; millions and thousands of millions with their prefix."""
    for factor, prefix in ((1e9, "G"), (1e6, "M")):
        if abs(value) >= factor:
            return f"{value / factor:.10g} {prefix}"
    # As many digits as tell two settings apart.
    return f"{value:.10g}" if abs(value) >= 1e4 else f"{value:g}"


def same_in(value: Any, values: Sequence[Any]) -> bool:
    """Whether a value is among some, lists and tuples being alike."""
    return any(show(value) == show(other) for other in values)


def number(value: Any) -> float | None:
    """Place of a value on a numeric axis (shapes: their product; tables: ``x``), or None."""
    if isinstance(value, Mapping):
        return number(value["x"]) if "x" in value else None
    if isinstance(value, (list, tuple)) and all(isinstance(v, (int, float)) for v in value):
        total = 1.0
        for part in value:
            total *= float(part)
        return total
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    return None


def _case(study: Study, table: SolverTable, point: Point, versions: Versions) -> AnyCase:
    """Put the values of a point where its axes say."""
    tree = _tree(study)
    for axis, value in point.coordinates:
        if isinstance(value, Mapping):
            for path, inner in value.items():
                if path not in {"label", "x"}:
                    _assign(tree, path, inner, axis)
        else:
            for path in axis_paths(axis):
                _assign(tree, path, value, axis)
    solver = tree["solvers"][table.label]
    options = dict(solver["options"])
    try:
        if study.computed is not None:
            computation = _COMPUTATION.validate_python(tree["computed"])
            computation.options(table.name, options)
            return ComputedCase(computation, table.name, _sorted(options), study.seed)
        frontend_name = table.frontend or next(iter(study.frontends))
        channels = _CHANNELS.validate_python(tree["channels"])
        frontend = _FRONTEND.validate_python(tree["frontends"][frontend_name])
        problem = Operation.model_validate(tree["problem"])
        knowledge = Knowledge.of(tree, table)
        tables = (channels, frontend, problem)
        training = _training(study, tree, options.get("weights"), tables, versions)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(key) for key in first["loc"])
        raise InputError(
            f"{study.name}: {where}", f"{first['msg'].lower()} at {point.label}", "mend the axis"
        ) from None
    if training is not None:
        options["weights"] = f"{PREFIX}{training.key}"
    starts = int(solver["starts"])
    return Case(
        channels,
        frontend,
        problem,
        table.name,
        _sorted(options),
        starts,
        table.history,
        study.seed,
        knowledge,
        training,
    )


def _sorted(options: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(options.items()))


def _training(
    study: Study,
    tree: Mapping[str, Any],
    weights: Any,
    tables: tuple[ChannelTable, FrontendTable, Operation],
    versions: Versions,
) -> Training | None:
    """Training that a contestant's weights come from, if they come from one."""
    if not isinstance(weights, str) or not weights.startswith(PREFIX):
        return None
    name = weights.removeprefix(PREFIX)
    if name not in tree["trainings"]:
        raise unknown_name(f"{study.name}: training", name, tree["trainings"])
    return make_training(
        name, TrainingTable.model_validate(tree["trainings"][name]), tables, versions
    )


def _tree(study: Study) -> dict[str, Any]:
    """What axes may assign to."""
    solvers = {
        made.label: {"options": dict(made.options), "starts": made.starts} for made in study.solvers
    }
    if study.computed is not None:
        return {"computed": study.computed.model_dump(exclude_unset=True), "solvers": solvers}
    if study.channels is None:
        raise InputError(study.name, "it has no channels", "complete the study file")
    frontends = {
        name: made.model_dump(exclude_unset=True) for name, made in study.frontends.items()
    }
    return {
        "channels": study.channels.model_dump(exclude_unset=True),
        "problem": study.problem.model_dump(exclude_unset=True),
        **tables(study),
        "trainings": {name: made.model_dump() for name, made in study.trainings.items()},
        "frontends": frontends,
        "solvers": solvers,
    }


def _assign(tree: dict[str, Any], path: str, value: Any, axis: str) -> None:
    *parents, last = split_path(path)
    place: Any = tree
    for part in parents:
        if not isinstance(place, dict) or part not in place:
            known = place if isinstance(place, dict) else ()
            raise unknown_name(f"axis {axis!r}", part, known)
        place = place[part]
    if not parents or not isinstance(place, dict):
        raise InputError(f"axis {axis!r}", "leads nowhere", "write it as problem.snr_db")
    place[last] = value


def _timings(study: Study, entries: Sequence[Entry]) -> Iterator[tuple[Point, str, TimingUnit]]:
    timing = study.timing
    if timing is None:
        return
    for entry in entries:
        wanted = not timing.solvers or entry.label in timing.solvers
        if entry.point.setting != NOMINAL or not wanted or not entry.point.matches(timing.where):
            continue
        assert isinstance(entry.case, Case), "computed numbers are not timed"
        case = replace(entry.case, history=False)
        for batch in timing.batches:
            yield entry.point, entry.label, TimingUnit(case, batch, timing.repeats)
