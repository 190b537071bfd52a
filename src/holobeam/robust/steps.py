"""Design steps: what to do with an estimate before any solver designs on it.

A step takes a problem and returns another one; :class:`Prepared` puts steps before a solver. All of
them read how wrong the estimate is from the problem's ``error_variance``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from holobeam.channels.csi_error import (
    Reading,
    draw_error,
    error_radius,
    per_user,
    shrunk_channels,
)
from holobeam.channels.denoising import AngularPrior, beamspace_wiener
from holobeam.errors import InputError, UnsupportedError, check_count
from holobeam.problems.downlink import Downlink
from holobeam.problems.multicell import MultiCell
from holobeam.robust.evaluation import known_variance
from holobeam.robust.sampled import SampledDownlink, sample_average
from holobeam.solvers.base import (
    EVERY_PROBLEM,
    AnyProblem,
    Restart,
    Solver,
    check_supported,
    make_generator,
    refusal,
)
from holobeam.solvers.registry import solver as named_solver
from holobeam.solvers.solution import Solution


class Step(Protocol):
    """A problem in, the problem to design on out."""

    def __call__(self, problem: AnyProblem, generator: torch.Generator) -> AnyProblem:
        """Make the problem to design on."""
        ...


@dataclass(frozen=True)
class Denoise:
    """Design on a denoised estimate.

    Attributes
    ----------
    prior
        An :class:`~holobeam.channels.AngularPrior`, or None for the beamspace Wiener filter.
    shape
        Elements along the axes of the array, for the filter; ``(N,)`` by default.
    """

    prior: AngularPrior | None = None
    shape: tuple[int, ...] | None = None

    def __call__(self, problem: AnyProblem, generator: torch.Generator) -> AnyProblem:
        """Replace ``h`` by its denoised form, and the error variance by what is left."""
        variance = known_variance(problem)
        h, size = problem.h, variance
        if isinstance(problem, MultiCell):
            # Every base station's channels are rows of their own; receive antennas for subcarriers.
            h = h.permute(0, 1, 4, 2, 3, 5).flatten(3, 4).flatten(0, 1)
            size = variance.flatten(0, 1).flatten(1)
        if self.prior is None:
            found = beamspace_wiener(h, size, shape=self.shape)
        else:
            found = self.prior.denoise(h, size)
        better, left = found.h, found.error_variance.reshape(variance.shape)
        if isinstance(problem, MultiCell):
            batch, cells, _, users, _, _ = problem.h.shape
            better = better.view(batch, cells, -1, cells, users, better.shape[-1])
            better = better.permute(0, 1, 3, 4, 2, 5).contiguous()
        return on_channels(problem, better, left)


@dataclass(frozen=True)
class NoiseEquivalent:
    """Count what the error lets through as noise: ``E |e w|^2 = variance ||w||^2``.

    The powers that base stations radiate are known beforehand where radiated power is limited, and
    then all of it is spent; elsewhere they are those of ``solver`` on the estimate as it is.

    Attributes
    ----------
    solver
        Of the design whose radiated power counts, where none is given beforehand.
    """

    solver: str = "vp"

    def __call__(self, problem: AnyProblem, generator: torch.Generator) -> AnyProblem:
        """Raise the noise of every user."""
        variance = known_variance(problem)
        if isinstance(problem, MultiCell):
            power = self._radiated(problem, generator)
            extra = (variance * power[:, :, None, None]).sum(dim=1)
        elif problem.power_at == "radiated":
            extra = variance * problem.power.unsqueeze(1)
        else:
            extra = variance * self._radiated(problem, generator)
        return problem.with_(noise_power=problem.noise_power + extra)

    def _radiated(self, problem: AnyProblem, generator: torch.Generator) -> Tensor:
        """``(B, L)``, or ``(B, 1)`` of one cell."""
        power: Tensor
        if problem.power_at == "radiated":
            power = problem.power
            return power
        method = "wmmse-digital" if problem.frontend.is_digital else self.solver
        precoder = named_solver(method)(problem, generator=generator).precoder
        power = precoder.abs().square().sum(dim=(2, 3))
        return power if isinstance(problem, MultiCell) else power.mean(dim=1, keepdim=True)


@dataclass(frozen=True)
class Shrink:
    """Design on the paper's worst-case channels: each user's estimate scaled down.

    Attributes
    ----------
    reading
        What the radius of the error bounds, see :func:`holobeam.channels.error_quantile`.
    outage
        Probability that an error is larger.
    """

    reading: Reading = "vector"
    outage: float = 0.05

    def __call__(self, problem: AnyProblem, generator: torch.Generator) -> AnyProblem:
        """Scale ``h``; refuses where nothing would be left of a user."""
        variance = known_variance(problem)
        radius = error_radius(problem.h, variance, reading=self.reading, outage=self.outage)
        return on_channels(problem, shrunk_channels(problem.h, radius), variance)


@dataclass(frozen=True)
class SampleAverage:
    """Design for the mean rate over channels drawn around the estimate, V shared by all.

    Attributes
    ----------
    samples
        Channels, the estimate itself not among them. With few of them the design fits the draws.
    """

    samples: int = 16

    def __call__(self, problem: AnyProblem, generator: torch.Generator) -> AnyProblem:
        """Put samples in place of the estimate."""
        check_count("samples", self.samples)
        refuse_cells(problem, "sample averages")
        size = per_user(known_variance(problem).sqrt(), problem.h)
        # Drawn without a batch axis: a channel's numbers don't depend on its mates.
        one = draw_error(problem.h[:1], None, generator, draws=self.samples)
        return sample_average(problem, problem.h + size * one)


def refuse_cells(problem: AnyProblem, what: str) -> None:
    """Raise :class:`UnsupportedError` for many cells, which have no axis for samples."""
    if not isinstance(problem, Downlink):
        raise UnsupportedError(
            f"{what} take samples beside subcarriers, which {type(problem).__name__} lacks; "
            "use Denoise or NoiseEquivalent there"
        )


def on_channels(problem: AnyProblem, h: Tensor, error_variance: Tensor | None) -> AnyProblem:
    """Copy of a problem with other channels to design on (and their span, for digital arrays)."""
    changes: dict[str, Any] = {"h": h.contiguous(), "error_variance": error_variance}
    if getattr(problem, "basis", None) is not None:
        changes["basis"] = torch.linalg.qr(h.mH)[0].resolve_conj().contiguous()
    return problem.with_(**changes)


STEPS: dict[str, Callable[[], Step]] = {
    "denoise": Denoise,
    "noise-equivalent": NoiseEquivalent,
    "shrink-vector": Shrink,
    "shrink-element": lambda: Shrink("element"),
    "sample-average": SampleAverage,
}
"""Steps by name."""


@dataclass(frozen=True, kw_only=True)
class Prepared(Solver):
    """Any solver behind design steps; the answer is one to the problem as it was given.

    Attributes
    ----------
    solver
        A solver or its name.
    steps
        In the order in which they are taken: steps, or their names in :data:`STEPS`.
    starts
        Starts of the solver, compared on what it designs on.

    Notes
    -----
    Histories and starts are compared on what is designed on; ``solution.design_rate`` is on the
    estimate as given, ``solution.sum_rate`` on ``true_h``. Source: docs/methods.md, section 25.

    Examples
    --------
    >>> import holobeam as hb
    >>> h = hb.channels.LaplacianClusters(antennas=16).sample(2, seed=0)
    >>> seen = hb.channels.RelativeError(0.1).observe(h, seed=1)
    >>> problem = hb.Downlink(seen.h, hb.frontends.phase_shifters(16, 4), snr_db=10.0,
    ...                       true_h=h, error_variance=seen.error_variance)
    >>> hb.solve(problem, hb.robust.Prepared(solver="vpk", steps=("denoise",))).rates.shape
    torch.Size([2, 4])
    """

    problems: ClassVar[tuple[type, ...]] = EVERY_PROBLEM

    name: str = "prepared"
    solver: Solver | str = "vp"
    steps: tuple[Step | str, ...] = field(default=("denoise",))
    starts: int = 1

    def inner(self) -> Solver:
        """The solver that designs."""
        made = named_solver(self.solver) if isinstance(self.solver, str) else self.solver
        if check_count("starts", self.starts) > 1:
            return Restart(name=made.name, solver=made, starts=self.starts)
        return made

    def refuses(self, problem: AnyProblem) -> str | None:
        """Reason of the solver itself."""
        if isinstance(problem, Downlink) and self._samples():
            return None
        return refusal(self.inner(), problem)

    def _samples(self) -> bool:
        return any(isinstance(step, SampleAverage) for step in map(as_step, self.steps))

    def variant(self, index: int) -> Solver:
        """The solver's own variants."""
        made = named_solver(self.solver) if isinstance(self.solver, str) else self.solver
        return replace(self, solver=made.variant(index))

    def __call__(self, problem: AnyProblem, **options: Any) -> Solution:
        """Take the steps, then solve; options as for :class:`Solver`."""
        generator = make_generator(options.pop("seed", None), options.pop("generator", None))
        check_supported(self, problem)
        designed = problem
        for step in self.steps:
            designed = as_step(step)(designed, generator)
        solver = self.inner()
        if options.get("start") is not None:
            options["start"] = on_samples(designed, options["start"])
        found = solver(designed, generator=generator, **options)
        return handed_back(problem, found, self.name)


def as_step(step: Step | str) -> Step:
    """A step itself, or that of a name."""
    if not isinstance(step, str):
        return step
    if step not in STEPS:
        raise InputError("steps", f"unknown step {step!r}", f"known: {', '.join(STEPS)}")
    return STEPS[step]()


def on_samples(problem: AnyProblem, start: Any) -> Any:
    """A start with one V, as a problem with samples takes it."""
    if not isinstance(problem, SampledDownlink) or start.digital.shape[1] == problem.h.shape[1]:
        return start
    return replace(start, digital=start.digital.repeat_interleave(problem.samples, dim=1))


def handed_back(problem: AnyProblem, solution: Solution, name: str) -> Solution:
    """Answer to the problem as it was given, from one that was designed on another."""
    designed: AnyProblem = solution.problem
    digital = solution.digital
    basis = getattr(designed, "basis", None)
    if isinstance(designed, SampledDownlink):
        digital = designed.handed_back(digital)
        basis = None if basis is None else basis[:, :: designed.samples].contiguous()
    if basis is not None:
        problem = problem.with_(basis=basis)
    return replace(solution, problem=problem, digital=digital, solver=name)
