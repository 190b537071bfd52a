"""Solvers by name: built-in ones, and those that other packages register."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from holobeam.errors import InputError, check_count, unknown_name
from holobeam.problems.problem import Problem
from holobeam.solvers.base import Progress, Restart, Solver, State
from holobeam.solvers.blind import Blind
from holobeam.solvers.built_in import BUILT_IN
from holobeam.solvers.entry import Entry
from holobeam.solvers.fairness import Fair, ProportionalFair
from holobeam.solvers.perturb import Perturb
from holobeam.solvers.refit import refitted
from holobeam.solvers.solution import Solution

ENTRY_POINT_GROUP = "holobeam.solvers"

REFIT = "+w"
"""Behind any solver's name: re-optimise the digital part with the controls held."""

BLIND = "+blind"
"""Behind any solver's name: design each cell as if it were alone."""

FAIR = "+fair"
"""Behind any solver's name: maximise proportional fairness in place of the sum rate."""

SUFFIXES = {
    REFIT: "behind any solver's name: its controls, V re-optimised by 50 WMMSE steps",
    BLIND: "behind any solver's name: the channels between cells are hidden from it",
    FAIR: "behind any solver's name: proportional fairness in place of the sum rate",
}
"""What may follow a solver's name, with one line each."""


@cache
def _entries() -> dict[str, Entry]:
    found = {entry.name: entry for entry in BUILT_IN}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        found[point.name] = Entry(
            point.name, point.value, _first_line(point.load()), point.value, "ask its package"
        )
    return found


def _first_line(factory: Any) -> str:
    return (factory.__doc__ or str(factory)).strip().splitlines()[0]


def available() -> tuple[Entry, ...]:
    """Every registered solver, with one line, its source and what it serves."""
    return tuple(_entries().values())


def solver(name: str, **options: Any) -> Solver:
    """Make a solver by name.

    Parameters
    ----------
    name
        One of :func:`available`; an unknown name is answered with its nearest neighbours. With
        ``+w`` behind it the digital part is re-optimised by 50 WMMSE steps on the controls found;
        with ``+blind`` behind it the channels between cells are hidden from it (many cells);
        with ``+fair`` behind it users' weights follow their rates until these are fair.
    options
        Fields of the solver, e.g. ``max_iterations=60``.
    """
    entries = _entries()
    if name in entries:
        return entries[name].make(**options)
    if name.endswith(REFIT):
        return refitted(solver(name.removesuffix(REFIT), **options), name)
    if name.endswith(BLIND):
        return Blind(name=name, solver=solver(name.removesuffix(BLIND), **options))
    if name.endswith(FAIR):
        inner = solver(name.removesuffix(FAIR), **options)
        if isinstance(inner, Blind):  # fair among those whom it sees
            return replace(inner, name=name, solver=Fair(name=name, solver=inner.solver))
        return Fair(name=name, solver=inner)
    raise unknown_name("solver", name, entries)


def base_name(name: str) -> str:
    """Name of a solver without what :func:`solver` allows behind it."""
    before = ""
    while before != name:
        before = name
        for suffix in SUFFIXES:
            name = name.removesuffix(suffix)
    return name


def solve(
    problem: Problem,
    method: str | Solver,
    *,
    seed: int | None = None,
    starts: int = 1,
    perturbations: int = 0,
    start: State | Solution | None = None,
    history: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Solution:
    """Design the beamformers of a batch of channels.

    Parameters
    ----------
    problem
        What to solve; with ``utility="proportional_fair"`` the solver is wrapped in
        :class:`ProportionalFair`.
    method
        Name of a solver, or a solver.
    seed
        Seed of random starts.
    starts
        How many starts to take the best of.
    perturbations
        How often to disturb the controls of the best point and solve again from there, keeping
        what is better; see :class:`Perturb`.
    start
        Where to begin.
    history
        Whether to keep the utility after each iteration.
    progress
        Called with the iterations done and the iterations at most.
    options
        Options of a solver given by name.

    Raises
    ------
    UnsupportedError
        If the solver can't serve the problem, before anything is computed.
    """
    chosen = solver(method, **options) if isinstance(method, str) else method
    if not isinstance(method, str) and options:
        raise InputError(
            "options",
            f"got {sorted(options)} beside a ready solver",
            "give options only with a solver's name",
        )
    if problem.utility_name == "proportional_fair" and not chosen.closed_form:
        chosen = ProportionalFair(name=chosen.name, inner=chosen)
    if check_count("starts", starts) > 1:
        chosen = Restart(name=chosen.name, solver=chosen, starts=starts)
    if check_count("perturbations", perturbations, 0) > 0:
        chosen = Perturb(name=chosen.name, solver=chosen, rounds=perturbations)
    return chosen(problem, seed=seed, start=start, history=history, progress=progress)
