"""Running the solvers of the demonstration and keeping what its pictures need."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.demo.scenario import POSTER_DROP, Scenario, problem_at
from holobeam.frontends import LOSSLESS, Frontend
from holobeam.solvers import Solution, Solver, solve
from holobeam.solvers.closed_form import DigitalWmmse
from holobeam.studies import Contestant, Result, compare
from holobeam.units import db_to_linear

Report = Callable[[str, float], None]
"""Called with what is being done and the share that is done."""


@dataclass(frozen=True)
class Entrant:
    """A solver on a front-end, and how it is drawn.

    Attributes
    ----------
    key
        Short name, unique.
    label
        For figures.
    frontend, method
        Names.
    colour
        Name in the palette.
    baseline
        Whether others are measured against it: drawn dashed.
    """

    key: str
    label: str
    frontend: str
    method: str
    colour: str
    baseline: bool = False

    @property
    def hardware(self) -> str:
        """Name of the front-end for people."""
        return HARDWARE[self.frontend]


HARDWARE = {
    "digital": "digital",
    "phase-shifters": "phase shifters",
    "dma": "DMA",
    "rhs": "RHS",
    "rhs-binary": "RHS on/off",
}

ENTRANTS = (
    Entrant("digital", "digital", "digital", "wmmse-digital", "slate"),
    Entrant("ps", "phase shifters", "phase-shifters", "vp", "blue"),
    Entrant("dma", "DMA", "dma", "wmmse-cd", "teal"),
    Entrant("rhs", "RHS mmse-fast", "rhs", "mmse-fast", "red"),
    Entrant("learned", "RHS learned", "rhs", "unrolled-mmse", "green"),
    Entrant("binary", "RHS on/off", "rhs-binary", "wmmse-cd", "pink"),
    Entrant("mmse", "RHS mmse", "rhs", "mmse", "orange", baseline=True),
    Entrant("wmmse-hbf", "RHS wmmse-hbf", "rhs", "wmmse-hbf", "brown", baseline=True),
    Entrant("zf-hbf", "RHS zf-hbf", "rhs", "zf-hbf", "violet", baseline=True),
    Entrant("random", "RHS random", "rhs", "random", "grey", baseline=True),
)

FRONT_RUNNERS = ("digital", "ps", "dma", "rhs")
"""The best entrant of each kind of hardware."""

ASSUMED_LOSS_DB = {"digital": 0.0, "phase-shifters": 10.0, "dma": 3.0, "rhs": 3.0}
"""Loss between amplifier and air for the second panel of rate against DC power: round numbers to
show what losses do. A fully connected network splits, shifts and recombines passively, surfaces
leak what their guide doesn't radiate."""


@dataclass(frozen=True)
class Plan:
    """How much is computed.

    Attributes
    ----------
    powers
        Radiated, dBm.
    focus
        The power that most pictures are drawn at; one of ``powers``.
    iterations
        Cap for every solver; None leaves their own.
    tones, wideband_drops
        Size of the wideband part.
    fair_rounds
        Rounds of proportional fairness.
    """

    powers: tuple[float, ...] = (0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0)
    focus: float = 20.0
    table: tuple[float, ...] = (10.0, 20.0, 30.0)
    iterations: int | None = None
    tones: int = 16
    wideband_drops: int = 8
    fair_rounds: int = 60

    def options(self, **more: Any) -> dict[str, Any]:
        """Options of a solver under this plan."""
        return more if self.iterations is None else {**more, "max_iterations": self.iterations}


@dataclass(frozen=True, eq=False)
class Run:
    """One entrant at all powers.

    Attributes
    ----------
    entrant
        Who.
    results
        One per power.
    solution
        Of all powers, which lead.
    clock
        Milliseconds per channel after each iteration, the whole batch solved at once.
    """

    entrant: Entrant
    results: list[Result]
    solution: Solution
    clock: Float[Tensor, " iterations"]

    @property
    def powers(self) -> list[float]:
        """Radiated, dBm."""
        return [result.point for result in self.results]

    def at(self, power: float) -> Result:
        """Result at one power."""
        return next(result for result in self.results if result.point == power)

    def history(self, power: float) -> Float[Tensor, "drops iterations"]:
        """Best sum rate of each drop after each iteration, the start first."""
        assert self.solution.history is not None
        place = self.powers.index(power)
        batch = len(self.results[0].rates)
        return self.solution.history[place * batch : (place + 1) * batch]


@dataclass(frozen=True, eq=False)
class Fairness:
    """Sum rate against proportional fairness of one entrant."""

    entrant: Entrant
    sum_rate: Float[Tensor, "drops users"]
    fair: Float[Tensor, "drops users"]


@dataclass(frozen=True, eq=False)
class Wideband:
    """The same drops on one carrier and on tones over the band: sum rates."""

    entrant: Entrant
    narrow: Float[Tensor, " drops"]
    wide: Float[Tensor, " drops"]


@dataclass(eq=False)
class Outcome:
    """Everything that was computed, and how long each part took (wall and CPU seconds)."""

    scenario: Scenario
    plan: Plan
    runs: dict[str, Run] = field(default_factory=dict)
    poster: dict[str, Solution] = field(default_factory=dict)
    fairness: list[Fairness] = field(default_factory=list)
    wideband: list[Wideband] = field(default_factory=list)
    spent: list[tuple[str, float, float]] = field(default_factory=list)

    def timed(self, part: str, begin: tuple[float, float]) -> None:
        """Note that a part which began then ended now."""
        wall, cpu = now()
        self.spent.append((part, wall - begin[0], cpu - begin[1]))


def now() -> tuple[float, float]:
    """Wall clock and CPU time, seconds."""
    return time.perf_counter(), time.process_time()


def run_everything(scenario: Scenario, plan: Plan, seed: int, report: Report) -> Outcome:
    """Run all parts in order; ``report`` hears shares of this function's work."""
    outcome = Outcome(scenario, plan)
    done, total = 0.0, sum(_EFFORT.values())
    _compile(scenario)
    for entrant in ENTRANTS:
        report(f"{entrant.label}, {len(plan.powers)} powers", done / total)
        done += _EFFORT[entrant.key]
        begin = now()
        outcome.runs[entrant.key] = sweep(scenario, entrant, plan, seed)
        outcome.timed(f"{entrant.label} ({entrant.method})", begin)
    for name, part in _PARTS:
        report(name, done / total)
        done += _EFFORT[name]
        begin = now()
        part(outcome, seed)
        outcome.timed(name, begin)
    return outcome


def _compile(scenario: Scenario) -> None:
    """Let the kernels compile before anything is timed."""
    for entrant in ENTRANTS:
        problem = problem_at(scenario.h[:1], scenario.frontends[entrant.frontend], 0.0)
        solve(problem, entrant.method, max_iterations=1, history=True)


class _Clock:
    """Times at the start and after each iteration; racing starts are walked side by side."""

    def __init__(self) -> None:
        self.begin = time.perf_counter()
        self.walks: list[list[float]] = []

    def __call__(self, done: int, _: int) -> None:
        elapsed = time.perf_counter() - self.begin
        if done == 0:
            self.walks.append([])
        self.walks[-1].append(elapsed)

    def per_channel(self, channels: int, columns: int) -> Tensor:
        """Milliseconds per channel, one entry per column of the history."""
        total = torch.zeros(columns, dtype=torch.float64)
        started = 0.0
        for walk in self.walks:
            times = list(walk)
            times += [times[-1]] * (columns - len(times))
            total += torch.tensor(times[:columns], dtype=torch.float64) - started
            started = walk[-1]
        return 1e3 * total / channels


def sweep(scenario: Scenario, entrant: Entrant, plan: Plan, seed: int) -> Run:
    """Solve all powers of one entrant as one batch."""
    clock = _Clock()
    options = tuple(plan.options(history=True).items())
    frontend = scenario.frontends[entrant.frontend]
    contestant = Contestant(frontend, entrant.method, options=options)
    results, solution = compare.run(
        scenario.h, contestant, plan.powers, problem_at, seed=seed, progress=clock
    )
    assert solution.history is not None
    channels = solution.history.shape[0]
    return Run(entrant, results, solution, clock.per_channel(channels, solution.history.shape[1]))


def on_hardware(solution: Solution, frontend: Frontend) -> Solution:
    """Play a solution on the same front-end with other losses or consumption.

    The radiated power is what the problem bounds, so that a lossy feed is driven harder and the
    rates stay; what changes is the DC power.
    """
    digital = solution.digital
    if not frontend.is_digital:
        old = solution.problem.frontend
        digital = digital * (old.loss_amplitude / frontend.loss_amplitude)
    problem = solution.problem.with_(frontend=frontend.to(solution.problem.h))
    return replace(solution, problem=problem, digital=digital)


def lossless_mismatch(run: Run) -> float:
    """Largest relative difference of DC and radiated power where parts draw nothing.

    Rate against DC power must then be rate against radiated power, shifted by the insertion loss:
    with none, and with the assumed one.
    """
    worst = 0.0
    radiated = run.solution.radiated_power
    for loss_db in (0.0, ASSUMED_LOSS_DB.get(run.entrant.frontend, 0.0)):
        frontend = run.solution.problem.frontend.with_power_model(LOSSLESS, loss_db)
        solution = on_hardware(run.solution, frontend)
        drawn = solution.dc_power / (radiated * db_to_linear(loss_db)) - 1.0
        worst = max(worst, float(drawn.abs().max()))
    return worst


def _poster(outcome: Outcome, seed: int) -> None:
    """Solve the drop of the poster on three front-ends."""
    scenario, plan = outcome.scenario, outcome.plan
    h = scenario.channel(torch.tensor([POSTER_DROP]))
    for key in ("rhs", "dma", "ps"):
        entrant = outcome.runs[key].entrant
        problem = problem_at(h, scenario.frontends[entrant.frontend], plan.focus)
        outcome.poster[key] = solve(problem, entrant.method, seed=seed, **plan.options())


def _fair(outcome: Outcome, seed: int) -> None:
    """Maximise proportional fairness on the surface and on the digital array."""
    from holobeam.solvers import ProportionalFair, solver

    scenario, plan = outcome.scenario, outcome.plan
    inner: dict[str, Solver] = {
        "rhs": solver("mmse-fast", **plan.options()),
        "digital": DigitalWmmse(**plan.options()),
    }
    for key, method in inner.items():
        entrant = outcome.runs[key].entrant
        frontend = scenario.frontends[entrant.frontend]
        problem = problem_at(scenario.h, frontend, plan.focus, "proportional_fair")
        fair = ProportionalFair(inner=method, max_iterations=plan.fair_rounds)
        solution = fair(problem, seed=seed)
        best = outcome.runs[key].at(plan.focus).rates
        outcome.fairness.append(Fairness(entrant, best, solution.rates))


def _wideband(outcome: Outcome, seed: int) -> None:
    """Serve a few drops on tones over the whole band: one hologram, a precoder per tone."""
    scenario, plan = outcome.scenario, outcome.plan
    count = min(plan.wideband_drops, len(scenario.drops))
    h = scenario.channel(scenario.drops[:count], plan.tones)
    for key in FRONT_RUNNERS:
        entrant = outcome.runs[key].entrant
        wide = _wide_rates(h, entrant, outcome, seed)
        narrow = outcome.runs[key].at(plan.focus).sum_rate[:count]
        outcome.wideband.append(Wideband(entrant, narrow, wide))


def _wide_rates(
    h: Complex[Tensor, "drops tones users antennas"], entrant: Entrant, outcome: Outcome, seed: int
) -> Float[Tensor, " drops"]:
    frontend = outcome.scenario.frontends[entrant.frontend]
    problem = problem_at(h, frontend, outcome.plan.focus)
    return solve(problem, entrant.method, seed=seed, **outcome.plan.options()).sum_rate


_PARTS: Sequence[tuple[str, Callable[[Outcome, int], None]]] = (
    ("poster", _poster),
    ("proportional fairness", _fair),
    ("wideband", _wideband),
)

_EFFORT = {
    "digital": 3.0,
    "ps": 3.0,
    "dma": 8.0,
    "learned": 0.5,
    "rhs": 4.0,
    "binary": 5.0,
    "mmse": 3.0,
    "wmmse-hbf": 3.0,
    "zf-hbf": 3.0,
    "random": 1.0,
    "poster": 1.0,
    "proportional fairness": 8.0,
    "wideband": 6.0,
}
"""Rough CPU time of the parts, so that progress moves evenly."""
