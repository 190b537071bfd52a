"""Run several solvers on several front-ends over the same channels, and put them side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.errors import UnsupportedError
from holobeam.frontends.frontend import Frontend
from holobeam.problems.downlink import Downlink
from holobeam.solvers.base import Progress
from holobeam.solvers.registry import solve, solver
from holobeam.solvers.solution import Solution
from holobeam.studies.statistics import Estimate, estimate, paired_difference, starved_share


@dataclass(frozen=True)
class Contestant:
    """A solver on a front-end.

    Attributes
    ----------
    frontend
        The hardware.
    method
        Name of the solver.
    starts
        Starts to take the best of.
    options
        Options of the solver, as pairs.
    """

    frontend: Frontend
    method: str
    starts: int = 1
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def label(self) -> str:
        """Name for tables."""
        tail = f" x{self.starts}" if self.starts > 1 else ""
        return f"{self.frontend.name} / {self.method}{tail}"


@dataclass(frozen=True, eq=False)
class Result:
    """What one contestant reached at one operating point.

    Attributes
    ----------
    contestant
        Who.
    point
        SNR in dB or power in dBm.
    rates
        ``(B, K)`` bits/s/Hz.
    dc_power
        ``(B,)`` mW.
    violation
        Largest breach of a constraint over the batch.
    seconds
        Time per channel, the whole batch solved at once.
    """

    contestant: Contestant
    point: float
    rates: Float[Tensor, "batch users"]
    dc_power: Float[Tensor, " batch"]
    violation: float
    seconds: float

    @property
    def sum_rate(self) -> Float[Tensor, " batch"]:
        """bits/s/Hz summed over users."""
        return self.rates.sum(dim=1)


@dataclass(frozen=True)
class Row:
    """One line of a comparison.

    Attributes
    ----------
    point
        SNR in dB or power in dBm.
    frontend, solver
        Who.
    rate
        Mean sum rate, bits/s/Hz.
    behind_best
        Paired difference to the best mean at this point (0 for the best itself).
    starved
        Share of users below 0.1 bits/s/Hz.
    milliseconds
        Time per channel.
    violation
        Largest breach of a constraint.
    """

    point: float
    frontend: str
    solver: str
    rate: Estimate
    behind_best: Estimate
    starved: float
    milliseconds: float
    violation: float

    def as_dict(self) -> dict[str, object]:
        """Plain numbers, for JSON."""
        return asdict(self)


def contestants(
    frontends: Sequence[Frontend], methods: Sequence[str], sample: Callable[[Frontend], Downlink]
) -> tuple[list[Contestant], list[str]]:
    """Pair every solver with every front-end that it serves.

    Returns
    -------
    tuple
        The pairs, and one line for each pair left out with the reason.

    Raises
    ------
    UnsupportedError
        If nothing is left.
    """
    chosen, left_out = [], []
    for frontend in frontends:
        problem = sample(frontend)
        for method in methods:
            reason = solver(method).supports(problem)
            if reason is None:
                chosen.append(Contestant(frontend, method))
            else:
                left_out.append(f"{frontend.name} / {method}: {reason}")
    if not chosen:
        raise UnsupportedError("no solver serves any of the front-ends: " + "; ".join(left_out))
    return chosen, left_out


def run(
    h: Complex[Tensor, "batch subcarriers users antennas"],
    contestant: Contestant,
    points: Sequence[float],
    problem_at: Callable[[Tensor, Frontend, Tensor], Downlink],
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[list[Result], Solution]:
    """Solve all operating points of one contestant as one batch.

    Parameters
    ----------
    h
        Channels, the same for every contestant.
    contestant
        Who.
    points
        Operating points; ``problem_at(h, frontend, point per channel)`` makes the problem.
    seed
        Of random starts.
    progress
        Called with the iterations done and the iterations at most.

    Returns
    -------
    tuple
        One result per point, and the solution of the whole batch (points lead).
    """
    batch = h.shape[0]
    many = h.repeat(len(points), 1, 1, 1)
    at = torch.tensor(list(points), dtype=torch.float64).repeat_interleave(batch)
    problem = problem_at(many, contestant.frontend, at)
    # Kernels are loaded, the first time on a machine compiled, before the clock runs.
    brief = {**dict(contestant.options), "max_iterations": 1}
    solve(problem.take(torch.arange(1)), contestant.method, seed=seed, **brief)
    solution = solve(
        problem,
        contestant.method,
        seed=seed,
        starts=contestant.starts,
        progress=progress,
        **dict(contestant.options),
    )
    rates = solution.rates.reshape(len(points), batch, -1)
    power = solution.dc_power.reshape(len(points), batch)
    breach = solution.violation.reshape(len(points), batch).amax(dim=1)
    seconds = solution.seconds / (len(points) * batch)
    results = [
        Result(contestant, point, rates[i], power[i], float(breach[i]), seconds)
        for i, point in enumerate(points)
    ]
    return results, solution


def table(results: Sequence[Result]) -> list[Row]:
    """Rows by operating point, the best mean rate first."""
    rows = []
    for point in sorted({result.point for result in results}):
        here = [result for result in results if result.point == point]
        best = max(here, key=lambda result: float(result.sum_rate.mean()))
        for result in sorted(here, key=lambda r: -float(r.sum_rate.mean())):
            rows.append(
                Row(
                    point,
                    result.contestant.frontend.name,
                    result.contestant.label.split(" / ")[1],
                    estimate(result.sum_rate),
                    paired_difference(result.sum_rate, best.sum_rate),
                    starved_share(result.rates),
                    1e3 * result.seconds,
                    result.violation,
                )
            )
    return rows
