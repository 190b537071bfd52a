"""Studies of imperfect and ageing channel knowledge: what designs see, what they are judged on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from holobeam.channels import RelativeError
from holobeam.errors import InputError
from holobeam.problems.downlink import Downlink
from holobeam.robust.evaluation import outage_rate, robustness
from holobeam.robust.steps import Prepared, on_channels
from holobeam.robust.tracking import follow_track
from holobeam.robust.worst_case import WorstCase
from holobeam.solvers.base import AnyProblem, Restart, Solver
from holobeam.solvers.registry import solver as named_solver
from holobeam.solvers.solution import Solution
from holobeam.studies.channel_tables import Munich, Table

if TYPE_CHECKING:
    from holobeam.studies.spec import SolverTable, Study

Slots = Literal["cold", "warm", "converged"]
"""How the slots of moving users are designed."""

WORST_CASE = "worst-case"
"""Name of the adversarial design among the steps."""

Design = Literal[
    "denoise",
    "noise-equivalent",
    "shrink-vector",
    "shrink-element",
    "sample-average",
    "worst-case",
]
"""Steps before a solver: those of ``holobeam.robust.steps.STEPS``, and the adversarial design."""


class CsiTable(Table):
    """Designs see estimates and are judged on the true channels.

    Attributes
    ----------
    error
        ``relative``: independent errors of ``delta`` times each user's mean power.
    draws, quick_draws
        Estimates of each channel, each designed on anew; rates are means over them.
    worst
        Whether the worst case over the ball is searched, of radius what 5 % of errors exceed.
    """

    error: Literal["relative"] = "relative"
    delta: Annotated[float, Field(ge=0)] = 0.1
    draws: PositiveInt = 20
    quick_draws: PositiveInt = 2
    worst: bool = False


class MotionTable(Table):
    """Users walk or drive on, and every slot is designed with a fixed number of iterations.

    Attributes
    ----------
    speed
        m/s, each user in a direction of its own.
    slots, quick_slots
        Slots after the first, in which solvers converge; rates are means over them.
    slot_ms
        Length of a slot.
    iterations
        Of each slot.
    """

    speed: Annotated[float, Field(ge=0)] = 1.0
    slots: PositiveInt = 20
    quick_slots: PositiveInt = 4
    slot_ms: PositiveFloat = 0.125
    iterations: PositiveInt = 3


@dataclass(frozen=True)
class Knowledge:
    """What a case knows of its channels, and what its contestant makes of it.

    Attributes
    ----------
    csi, motion
        How channels are estimated, or how they change; None where they are known.
    design
        Steps before the solver, by name.
    slots
        How the slots of moving users are designed.
    """

    csi: CsiTable | None = None
    motion: MotionTable | None = None
    design: tuple[str, ...] = ()
    slots: Slots = "cold"

    @property
    def identity(self) -> dict[str, Any]:
        """What numbers depend on; nothing where channels are known, as ever."""
        parts: dict[str, Any] = {}
        if self.csi is not None:
            parts["csi"] = self.csi.model_dump(mode="json", exclude={"quick_draws"})
            parts["design"] = list(self.design)
        if self.motion is not None:
            parts["motion"] = self.motion.model_dump(mode="json", exclude={"quick_slots"})
            parts["slots"] = self.slots
        return parts

    @classmethod
    def of(cls, tree: Mapping[str, Any], table: SolverTable) -> Knowledge:
        """Knowledge at a point, from the tables as its axes have left them."""
        csi = CsiTable.model_validate(tree["csi"]) if "csi" in tree else None
        motion = MotionTable.model_validate(tree["motion"]) if "motion" in tree else None
        return cls(csi, motion, tuple(table.design), table.slots)


def misfit(study: Study) -> str | None:
    """Reason why the tables of a study don't go together, or None."""
    if study.motion is None:
        return None
    if study.csi is not None:
        return "users move ([motion]) or channels are estimates ([csi]), not both"
    if study.channels is not None and not isinstance(study.channels, Munich):
        return 'only munich channels say where users are: [motion] needs model = "munich"'
    return None


def tables(study: Study) -> dict[str, Any]:
    """Tables that axes may lead into."""
    found = {"csi": study.csi, "motion": study.motion}
    return {k: t.model_dump(exclude_unset=True) for k, t in found.items() if t is not None}


def quick_tables(study: Study) -> dict[str, Any]:
    """Tables of a quick run."""
    changes: dict[str, Any] = {}
    if study.csi is not None:
        draws = min(study.csi.draws, study.csi.quick_draws)
        changes["csi"] = study.csi.model_copy(update={"draws": draws})
    if study.motion is not None:
        slots = min(study.motion.slots, study.motion.quick_slots)
        changes["motion"] = study.motion.model_copy(update={"slots": slots})
    return changes


def prepared(name: str, options: Mapping[str, Any], starts: int, design: tuple[str, ...]) -> Solver:
    """Solver of a case behind its design steps."""
    made = named_solver(name, **options)
    if starts > 1:
        made = Restart(name=made.name, solver=made, starts=starts)
    steps = tuple(step for step in design if step != WORST_CASE)
    if WORST_CASE in design:
        made = WorstCase(name=made.name, solver=made)
    return Prepared(name=made.name, solver=made, steps=steps) if steps else made


def estimated(problem: AnyProblem, csi: CsiTable, seed: int, start: int) -> AnyProblem:
    """Every channel estimated as often as there are draws: entry ``d B + b`` is draw d of b."""
    seen = RelativeError(csi.delta).observe(problem.h, seed, draws=csi.draws, start=start).flat()
    rows = torch.arange(problem.batch, device=problem.h.device).repeat(csi.draws)
    many = problem.take(rows)
    return on_channels(many.with_(true_h=many.h), seen.h, seen.error_variance)


@dataclass(frozen=True, eq=False)
class Judged:
    """Numbers of the channels of a unit, estimates or slots averaged.

    Attributes
    ----------
    rates
        ``(B, K)``.
    extra
        Further columns, ``(B,)`` each.
    status, iterations
        Of the worst draw, and mean.
    """

    rates: Tensor
    status: Tensor
    iterations: Tensor
    violation: Tensor
    dc_power: Tensor
    extra: dict[str, Tensor] = field(default_factory=dict)


def judge_estimates(solution: Solution, csi: CsiTable, seed: int) -> Judged:
    """Mean, 5 % outage and worst case over the estimates of each channel."""

    def draws(values: Tensor) -> Tensor:
        return values.view(csi.draws, -1, *values.shape[1:])

    rates = draws(solution.rates.double())
    extra = {"outage_rate": outage_rate(rates.sum(dim=2))}
    if csi.worst:
        problem: AnyProblem = solution.problem
        # The error that was made is one that the worst case must not be above.
        made = (problem.true_h - problem.h).unsqueeze(0)
        found = robustness(solution, errors=made, seed=seed, iterations=40, starts=1)
        extra["worst_rate"] = draws(found.worst.double()).mean(dim=0)
    return Judged(
        rates.mean(dim=0),
        draws(solution.status).amax(dim=0),
        draws(solution.iterations).double().mean(dim=0),
        draws(solution.violation.double()).amax(dim=0),
        draws(solution.dc_power.double()).mean(dim=0),
        extra,
    )


def judge_motion(
    known: Knowledge, problem: AnyProblem, solver: Solver, track: Tensor, seed: int
) -> Judged:
    """Mean rates of the slots after the first, in which the solver converges."""
    motion = known.motion
    if motion is None or not isinstance(problem, Downlink):
        raise InputError("motion", "it needs one cell and a [motion] table", "give both")
    first = solver(problem, seed=seed)
    count = solver.max_iterations if known.slots == "converged" else motion.iterations
    rates = follow_track(
        problem, track[1:], solver, iterations=count, warm=known.slots == "warm", first=first,
        seed=seed,
    )  # fmt: skip
    return Judged(
        rates.double().mean(dim=0),
        first.status,
        torch.full_like(first.iterations, count).double(),
        first.violation.double(),
        first.dc_power.double(),
    )


def track_of(channels: Table, motion: MotionTable, count: int, seed: int, start: int) -> Tensor:
    """Channels of moving users, slot after slot."""
    if not isinstance(channels, Munich):
        raise InputError(
            "motion",
            f"{channels.model_dump().get('model')} channels do not say where users are",
            'use model = "munich"',
        )
    times = motion.slot_ms * 1e-3 * torch.arange(motion.slots + 1, dtype=torch.float64)
    return channels.track(count, seed, start, motion.speed, times)
