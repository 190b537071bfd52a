"""Where a study stands: what is there, what was found, what may be said, and what is asserted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from holobeam.errors import HolobeamError, InputError
from holobeam.studies.checks import Decision, Finding, infeasible, judge
from holobeam.studies.plan import Point, show
from holobeam.studies.results import Results, find_results, load_results
from holobeam.studies.spec import Exponent, Faster, Monotone, Relation
from holobeam.studies.store import Store
from holobeam.studies.verdicts import Judgement, Verdict, judge_claim

SLUGS = 2
"""Parts of a folder that name a study whose own words can't be read."""


FIT_POINTS = 3
"""Points that an exponent is fitted to at least."""


@dataclass(frozen=True)
class Standing:
    """A study of a report.

    Attributes
    ----------
    folder
        Of its results.
    paper, figure, title
        Where it belongs.
    results
        What is there; None if it can't be read.
    problem
        Why it can't be read, or an empty text.
    expectations
        Every relation that the study file asserts, with what was found.
    judgement
        Of the paper's claim; None where there is no claim or nothing was run.
    breaches
        One line for each series that breaks a constraint.
    manifest
        ``study.json``.
    """

    folder: Path
    paper: str
    figure: str
    title: str
    results: Results | None = None
    problem: str = ""
    expectations: tuple[tuple[Relation, Finding], ...] = ()
    judgement: Judgement | None = None
    breaches: tuple[str, ...] = ()
    manifest: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Paper and figure."""
        return f"{self.paper}/{self.figure}"

    @property
    def source(self) -> str:
        """The study file, word by word; empty where the run did not keep it."""
        return str(self.manifest.get("source", ""))

    @property
    def waiting(self) -> str:
        """Why the study is not run, or an empty text."""
        return self.results.plan.skipped if self.results else ""

    @property
    def state(self) -> str:
        """How far it is, in a word or two."""
        if self.results is None:
            return "unreadable"
        if self.waiting:
            return "skipped"
        if not any(len(series) for series in self.results.series.values()):
            return "no results yet"
        if self.results.missing:
            return "unfinished"
        return "quick run" if self.results.plan.quick else "finished"

    @property
    def has_numbers(self) -> bool:
        """Whether there is anything to show."""
        return self.state in {"unfinished", "quick run", "finished"}


def read_standings(folders: Sequence[str | Path]) -> list[Standing]:
    """Read all studies below some folders of results.

    Raises
    ------
    FileError
        If a folder holds no results.
    InputError
        If two of them hold the same study.
    """
    places = [place.resolve() for folder in folders for place in find_results(folder)]
    found = [read_standing(place) for place in dict.fromkeys(places)]
    names = [standing.name for standing in found]
    for standing in found:
        if names.count(standing.name) > 1:
            wrong = f"{standing.name} is there twice, once in {standing.folder}"
            raise InputError("results", wrong, "name folders that hold each study once")
    return found


def read_standing(folder: Path) -> Standing:
    """Read one study; one that can't be read is said to be so instead of raising."""
    manifest: dict[str, Any] = {}
    try:
        manifest = Store(folder).manifest()
        results = load_results(folder)
    except HolobeamError as error:
        paper, figure = ([*folder.parts][-SLUGS:] + ["unknown"] * SLUGS)[:SLUGS]
        return Standing(folder, paper, figure, figure, problem=str(error), manifest=manifest)
    study = results.study
    run = any(len(series) for series in results.series.values())
    return Standing(
        folder,
        study.paper,
        study.figure,
        study.title,
        results,
        expectations=tuple((relation, _judge(relation, results)) for relation in study.expect),
        judgement=_judge_claim(results) if run else None,
        breaches=tuple(infeasible(results)),
        manifest=manifest,
    )


def _judge(relation: Relation, results: Results) -> Finding:
    try:
        return judge(relation, results)
    except HolobeamError as error:
        return Finding(relation.kind, "", Decision.ABSENT, math.nan, str(error))


def _judge_claim(results: Results) -> Judgement | None:
    try:
        return judge_claim(results)
    except HolobeamError as error:
        return Judgement(Verdict.UNCONFIRMED, lacking=(f"it can't be judged: {error}",))


@dataclass(frozen=True)
class Assertions:
    """What an asserting report found: one line each."""

    broken: tuple[str, ...]
    not_asserted: tuple[str, ...]


def assertions(standings: Sequence[Standing]) -> Assertions:
    """Collect what is wrong, and what could not be asserted because somebody is not there.

    Wrong are expectations that are not confirmed, series that break a constraint, results that are
    missing, and studies that can't be read. Not asserted is what waits for a solver, or concerns a
    part of the sweep that a quick run leaves out.
    """
    broken: list[str] = []
    open_ones: list[str] = []
    for standing in standings:
        if standing.results is None:
            broken.append(f"{standing.name}: {standing.problem}")
            continue
        if standing.waiting:
            open_ones.append(f"{standing.name}: skipped, {standing.waiting}")
            continue
        if standing.results.missing:
            broken.append(f"{standing.name}: {standing.results.missing} channel results missing")
        broken += [f"{standing.name}: infeasible, {line}" for line in standing.breaches]
        for relation, finding in standing.expectations:
            if finding.decision is Decision.CONFIRMED:
                continue
            reason = _excuse(relation, finding, standing.results)
            line = f"{standing.name}: {finding.text}: {reason or finding.decision}"
            line += f" ({finding.detail})" if not reason else ""
            (open_ones if reason else broken).append(line)
    return Assertions(tuple(broken), tuple(open_ones))


def _excuse(relation: Relation, finding: Finding, results: Results) -> str:
    """Why a relation that is not there need not be, or an empty text."""
    if finding.decision is not Decision.ABSENT:
        return ""
    there = set(results.labels())
    away = [label for label in labels_of(relation) if label not in there]
    if away:
        return f"{', '.join(away)} left out"
    if isinstance(relation, Exponent | Faster) and not results.timings:
        return "no times were measured"
    try:
        points = results.points(relation.where)
    except HolobeamError:
        return ""
    if results.plan.quick and _thinned(relation, points):
        return "a quick run has too few points for it"
    cannot = [
        series.label
        for point in points
        for label in labels_of(relation)
        if (series := results.series.get((point.label, label))) is not None and series.unsupported
    ]
    return f"{', '.join(dict.fromkeys(cannot))} can't serve" if cannot else ""


def _thinned(relation: Relation, points: Sequence[Point]) -> bool:
    """Whether there are fewer values along an axis than a relation needs."""
    if not isinstance(relation, Exponent | Monotone):
        return not points
    needed = FIT_POINTS if isinstance(relation, Exponent) else 2
    return len({show(point.at(relation.along)) for point in points}) < needed


def labels_of(relation: Relation) -> list[str]:
    """Contestants that a relation is about; none if it is about all."""
    named = [getattr(relation, part, "") for part in ("above", "below", "solver", "than")]
    return [label for label in [*named, *getattr(relation, "solvers", [])] if label]
