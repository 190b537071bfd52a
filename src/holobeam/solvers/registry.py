"""Solvers by name: built-in ones, and those that other packages register."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from holobeam.analog.accelerated import accelerated_projected_gradient, block_coordinate_descent
from holobeam.analog.majorize import majorize
from holobeam.analog.projection import closest_point
from holobeam.analog.two_level import hidden_convexity, sphere, tabu
from holobeam.errors import InputError, check_count, unknown_name
from holobeam.problems.problem import Problem
from holobeam.solvers.base import Progress, Restart, Solver, State
from holobeam.solvers.fairness import ProportionalFair
from holobeam.solvers.refit import refitted
from holobeam.solvers.solution import Solution

ENTRY_POINT_GROUP = "holobeam.solvers"

REFIT = "+w"
"""Behind any solver's name: re-optimise the digital part with the controls held."""


@dataclass(frozen=True)
class Entry:
    """One registered solver.

    Attributes
    ----------
    name
        What users type.
    factory
        ``module:attribute`` of something that makes the solver from keyword options.
    summary
        One line.
    source
        Where the method is defined: a paper, and sections of docs/methods.md.
    serves
        Which front-ends it serves.
    options
        Defaults that make this name what it is.
    """

    name: str
    factory: str
    summary: str
    source: str
    serves: str
    options: tuple[tuple[str, Any], ...] = ()

    def make(self, **options: Any) -> Solver:
        """Make the solver; unknown options are answered with the nearest names."""
        module, _, attribute = self.factory.partition(":")
        factory: Callable[..., Solver] = getattr(import_module(module), attribute)
        merged = {"name": self.name, **dict(self.options), **options}
        try:
            return factory(**merged)
        except TypeError as error:
            known = _option_names(factory)
            wrong = next((name for name in options if known and name not in known), None)
            if wrong is None:
                raise InputError("options", str(error), f"known: {', '.join(known)}") from None
            raise unknown_name(f"option of {self.name}", wrong, known) from None


def _option_names(factory: Any) -> list[str]:
    made = factory if isinstance(factory, type) else type(factory())
    return sorted(field.name for field in fields(made))


_CLOSED = "holobeam.solvers.closed_form:ClosedForm"
_ALTERNATING = "holobeam.solvers.alternating:Alternating"
_FACTORS = "holobeam.solvers.factorisation:Factorisation"
_MSE = "holobeam.solvers.manifold_alternation:WeightedErrorAlternation"
_BASELINE = "holobeam.solvers.two_stage:HybridBaseline"

_BUILT_IN = (
    Entry(
        "mrt",
        _CLOSED,
        "maximum-ratio transmission on the link",
        "methods 6",
        "every front-end",
        (("rule", "mrt"),),
    ),
    Entry(
        "zf",
        _CLOSED,
        "zero forcing, scaled as a whole",
        "methods 6",
        "every front-end, K <= R",
        (("rule", "zf"),),
    ),
    Entry(
        "zf-equal-power",
        _CLOSED,
        "zero forcing, every user at the same power",
        "methods 6",
        "every front-end, K <= R",
        (("rule", "zf-equal-power"),),
    ),
    Entry(
        "zf-water-filling",
        _CLOSED,
        "zero forcing, budget water-filled over users",
        "methods 6",
        "every front-end, K <= R",
        (("rule", "zf-water-filling"),),
    ),
    Entry(
        "rzf",
        _CLOSED,
        "regularised zero forcing on the link",
        "methods 6",
        "every front-end",
        (("rule", "rzf"),),
    ),
    Entry(
        "wmmse-digital",
        "holobeam.solvers.closed_form:digital_bound",
        "converged WMMSE in the span of the channel, best of three starts",
        "methods 6",
        "digital",
    ),
    Entry(
        "random",
        "holobeam.solvers.closed_form:DigitalWmmse",
        "controls drawn once, digital part by 100 WMMSE steps",
        "methods 5",
        "every front-end",
        (("controls", "random"), ("max_iterations", 100)),
    ),
    Entry(
        "mmse",
        _ALTERNATING,
        "noise-folded block-coordinate MMSE from half amplitudes",
        "mmse paper (our reading); methods 3",
        "every front-end",
        (("begin", "matched"), ("max_iterations", 60), ("equal_power", False)),
    ),
    Entry(
        "mmse-gradient",
        "holobeam.solvers.inner_steps:InnerSteps",
        "mmse with gradient steps in place of the sweep: what the sweep saves",
        "mmse paper, remark (our reading); methods 3",
        "every front-end but digital",
    ),
    Entry(
        "mmse-fp",
        "holobeam.solvers.inner_steps:InnerSteps",
        "mmse with the auxiliaries of a fractional programme, renewed once an iteration",
        "mmse paper, remark (our reading); methods 3",
        "every front-end but digital",
        (("rule", "fp"),),
    ),
    Entry(
        "mmse-fast",
        "holobeam.solvers.alternating:surface_solver",
        "digital fit, annealed noise, sweeps with guarded extrapolation",
        "methods 4",
        "every front-end",
    ),
    Entry(
        "mmse-apg",
        "holobeam.solvers.alternating:surface_solver",
        "mmse-fast with accelerated projected gradient steps: no loop over elements, any device",
        "methods 3, 4",
        "every front-end",
        (("analog", accelerated_projected_gradient),),
    ),
    Entry(
        "mmse-block",
        "holobeam.solvers.alternating:surface_solver",
        "mmse-fast with blocks of elements moved together, any device",
        "methods 3, 4",
        "every front-end",
        (("analog", block_coordinate_descent),),
    ),
    Entry(
        "mmse-analog",
        "holobeam.solvers.one_chain:OneChainPerUser",
        "the fully analog array: one RF chain a user, no digital mixing",
        "mmse paper (our reading); methods 5",
        "every front-end but digital, K <= R, one budget",
    ),
    Entry(
        "mmse-paper",
        _BASELINE,
        "the mmse paper's own update (our reading): no regulariser, sweep blind to power",
        "mmse paper (our reading); methods 5",
        "amplitude surfaces",
        (("rule", "paper"),),
    ),
    Entry(
        "wmmse-hbf",
        _BASELINE,
        "WMMSE with bisection, analog sweep blind to power (our reconstruction)",
        "methods 5",
        "amplitude surfaces",
        (("rule", "wmmse"),),
    ),
    Entry(
        "zf-hbf",
        _BASELINE,
        "zero forcing with water-filling, analog sweep blind to power (our reconstruction)",
        "methods 5",
        "amplitude surfaces, K <= R",
        (("rule", "zf"),),
    ),
    Entry(
        "wmmse-cd",
        "holobeam.solvers.alternating:coordinate_solver",
        "WMMSE with exact coordinate descent, annealed and extrapolated",
        "multicell paper (our reading); methods 3, 4",
        "every front-end",
    ),
    Entry(
        "wmmse-projection",
        _ALTERNATING,
        "WMMSE with unconstrained controls, each moved to its nearest allowed value",
        "multicell paper (our reading); methods 15",
        "every front-end",
        (("analog", closest_point), ("begin", "random"), ("max_iterations", 60)),
    ),
    Entry(
        "wmmse-hc",
        _ALTERNATING,
        "WMMSE with hidden convexity and single flips on two levels",
        "multicell paper (our reading); methods 14, 15",
        "two-level elements",
        (("analog", hidden_convexity), ("begin", "random"), ("max_iterations", 60)),
    ),
    Entry(
        "wmmse-tabu",
        _ALTERNATING,
        "WMMSE with tabu search on two levels: nearly exact, for a fraction of the time",
        "methods 14, 15",
        "two-level elements",
        (("analog", tabu), ("begin", "random"), ("max_iterations", 60)),
    ),
    Entry(
        "wmmse-sd",
        _ALTERNATING,
        "WMMSE with exact search (sphere decoding) on two levels",
        "multicell paper (our reading); methods 14, 15",
        "two-level elements, up to 64",
        (("analog", sphere), ("begin", "random"), ("max_iterations", 60)),
    ),
    Entry(
        "wmmse-mm",
        _ALTERNATING,
        "WMMSE with up to 100 majorise-minimise steps on the controls",
        "multicell paper (our reading); methods 14, 15",
        "every front-end",
        (("analog", majorize), ("begin", "random"), ("max_iterations", 60)),
    ),
    Entry(
        "zf-hc",
        "holobeam.solvers.zero_forcing_cells:ZeroForcingAlternating",
        "zero forcing within each cell, controls by hidden convexity",
        "multicell paper (our reading); methods 14, 15",
        "MultiCell with limits per RF chain, K S <= R, two-level elements",
        (("analog", hidden_convexity),),
    ),
    Entry(
        "zf-cd",
        "holobeam.solvers.zero_forcing_cells:ZeroForcingAlternating",
        "zero forcing within each cell, controls by exact coordinate descent",
        "multicell paper (our reading); methods 15",
        "MultiCell with limits per RF chain, K S <= R",
    ),
    Entry(
        "vp",
        "holobeam.solvers.gradient:VariableProjection",
        "normalised projected gradient, digital part in closed form",
        "variant of the unfolded-pga paper; methods 7",
        "every front-end",
    ),
    Entry(
        "pga",
        "holobeam.solvers.ascent:ProjectedGradientAscent",
        "projected gradient ascent with fixed steps, 10 on the phases for one on the digital part",
        "unfolded-pga paper; methods 11",
        "phase shifters, one power budget",
    ),
    Entry(
        "sca",
        "holobeam.solvers.successive_convex:SuccessiveConvex",
        "successive convex approximation of the sum rate, from zero forcing",
        "methods 13",
        "digital, one power budget",
    ),
    Entry(
        "sca-rmm",
        _FACTORS,
        "digital SCA, then Riemannian factorisation, digital part by least squares",
        "baseline of the unfolded-pga paper; methods 12, 13",
        "phase shifters",
        (("target", "sca"), ("target_iterations", 30)),
    ),
    Entry(
        "manifold-cg",
        _FACTORS,
        "Riemannian conjugate gradients on the factorisation of the digital optimum",
        "methods 12",
        "phase shifters",
    ),
    Entry(
        "pe-altmin",
        _FACTORS,
        "phase extraction: alternating factorisation with a semi-unitary digital part",
        "methods 12",
        "phase shifters",
        (("rule", "pe"), ("max_iterations", 50)),
    ),
    Entry(
        "omp",
        "holobeam.solvers.factorisation:OrthogonalMatchingPursuit",
        "orthogonal matching pursuit of the digital optimum over 128 beams",
        "methods 12",
        "fully connected phase shifters",
    ),
    Entry(
        "vpk",
        "holobeam.solvers.reduced:ReducedSearch",
        "reduced L-BFGS over phases and a K x K matrix, digital part eliminated",
        "methods 17",
        "fully connected phase shifters, K <= R, one subcarrier, radiated power",
    ),
    Entry(
        "wmmse-mo",
        _MSE,
        "WMMSE with Riemannian conjugate gradients over the phases",
        "baseline of the ggml paper; methods 18",
        "phase shifters",
    ),
    Entry(
        "mm-altmin",
        _MSE,
        "WMMSE with majorise-minimise steps over the phases",
        "baseline of the ggml paper; methods 18",
        "phase shifters",
        (("rule", "mm"), ("inner_steps", 20), ("max_iterations", 200)),
    ),
    Entry(
        "element-altmax",
        "holobeam.solvers.element_altmax:ElementWise",
        "one phase after the other at zero forcing, water-filled powers",
        "baseline of the ggml paper; methods 18",
        "fully connected phase shifters, K <= R, one subcarrier, radiated power",
    ),
    Entry(
        "ggml",
        "holobeam.solvers.meta:MetaPrecoding",
        "two untrained networks an Adam run makes a channel's precoder of, as its authors run it",
        "ggml paper and its authors' code; methods 18",
        "fully connected phase shifters, K <= R, one subcarrier, radiated power",
    ),
    Entry(
        "ggml-paper",
        "holobeam.solvers.meta:MetaPrecoding",
        "ggml with its gradients cleared in each iteration, as printed",
        "ggml paper; methods 18",
        "fully connected phase shifters, K <= R, one subcarrier, radiated power",
        (("accumulate", False),),
    ),
)


@cache
def _entries() -> dict[str, Entry]:
    found = {entry.name: entry for entry in _BUILT_IN}
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
        ``+w`` behind it the digital part is re-optimised by 50 WMMSE steps on the controls found.
    options
        Fields of the solver, e.g. ``max_iterations=60``.
    """
    entries = _entries()
    base = name.removesuffix(REFIT)
    if base != name and name not in entries:
        return refitted(solver(base, **options), name)
    if name not in entries:
        raise unknown_name("solver", name, entries)
    return entries[name].make(**options)


def solve(
    problem: Problem,
    method: str | Solver,
    *,
    seed: int | None = None,
    starts: int = 1,
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
    return chosen(problem, seed=seed, start=start, history=history, progress=progress)
