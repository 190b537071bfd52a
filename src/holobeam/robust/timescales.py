"""Two timescales: controls follow the statistics, digital precoders follow the channel."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Complex
from torch import Tensor

from holobeam.errors import InputError, ShapeError, check_count
from holobeam.problems.downlink import Downlink
from holobeam.robust.sampled import sampled_channels, spread_frontend
from holobeam.robust.worst_case import as_solver
from holobeam.solvers.base import Solver, check_supported, make_generator, make_state
from holobeam.solvers.refit import digital_refit
from holobeam.solvers.solution import Solution
from holobeam.solvers.starts import digital_start


@dataclass(frozen=True, kw_only=True)
class TwoTimescale(Solver):
    """Design the control on samples of the channel, then V on the channel as it is.

    Samples take the place of subcarriers: the control is shared by all, every sample has a V of its
    own within the budget. Any front-end and any solver that takes subcarriers will do.

    Attributes
    ----------
    samples
        Samples S that the control is designed on.
    statistics
        ``(S or more, B, F, K, N)``: channels of each problem's users drawn from what is known of
        them for long; the first S are used. See :func:`holobeam.channels.faded`.
    solver
        Of the control, a solver or its name.
    refit_steps
        WMMSE steps on V for the channel as it is, from equal-power RZF.

    Notes
    -----
    Source: docs/methods.md, section 26.
    """

    problems: ClassVar[tuple[type, ...]] = (Downlink,)

    name: str = "two-timescale"
    samples: int = 32
    statistics: Complex[Tensor, "samples batch subcarriers users antennas"] | None = None
    solver: Solver | str = field(default="vp")
    refit_steps: int = 50

    def refuses(self, problem: Downlink) -> str | None:
        """Serves front-ends with something to control."""
        if problem.frontend.is_digital:
            return "a fully digital array has no control that could be slow; use wmmse-digital"
        return None

    def __call__(self, problem: Downlink, **options: Any) -> Solution:
        """Solve; options as for :class:`Solver`."""
        generator = make_generator(options.pop("seed", None), options.pop("generator", None))
        check_supported(self, problem)
        slow = as_solver(self.solver)(self._slow(problem), generator=generator)
        options.pop("start", None)
        return follow_channel(problem, slow.control, self.refit_steps, self.name, **options)

    def _slow(self, problem: Downlink) -> Downlink:
        """The samples as subcarriers, each with the whole budget."""
        count = check_count("samples", self.samples)
        if self.statistics is None:
            raise InputError(
                "statistics", "nothing is known of the channels", "pass samples of them"
            )
        if len(self.statistics) < count:
            raise ShapeError("statistics", f"{len(self.statistics)} samples", f"need {count}")
        return problem.with_(
            h=sampled_channels(problem.h, self.statistics[:count]),
            frontend=spread_frontend(problem.frontend, count),
            budget="each" if problem.h.shape[1] == 1 else problem.budget,
            true_h=None,
            error_variance=None,
        )


def follow_channel(
    problem: Downlink,
    control: Complex[Tensor, "batch antennas controls"],
    steps: int = 50,
    name: str = "fixed-control",
    **options: Any,
) -> Solution:
    """V for channels as they are, with controls that are given: WMMSE from equal-power RZF."""
    with torch.no_grad():
        start = make_state(problem, control, digital_start(problem, problem.link(control)))
        found = digital_refit(name, steps)(problem, start=start, **options)
    return replace(found, solver=name)


def two_timescale(
    statistics: Complex[Tensor, "samples batch subcarriers users antennas"],
    samples: int = 32,
    **options: Any,
) -> TwoTimescale:
    """Make a :class:`TwoTimescale` solver.

    Parameters
    ----------
    statistics
        Channels that are equally likely, ``(S, B, F, K, N)``.
    samples
        How many of them to use.
    options
        Other fields, e.g. ``solver="wmmse-cd"``.
    """
    return TwoTimescale(statistics=statistics, samples=samples, **options)
