"""Unfolded phase-shifter solvers: their iterations as layers with trained step sizes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from holobeam.errors import check_count
from holobeam.frontends.element_sets import Circle, Points
from holobeam.learned.network import Network, Trace
from holobeam.problems.downlink import Downlink
from holobeam.solvers.ascent import ProjectedGradientAscent, forced_target
from holobeam.solvers.base import AnyProblem, Solver, State, make_state
from holobeam.solvers.gradient import VariableProjection
from holobeam.solvers.phase_shifters import least_squares_digital, plain_feed
from holobeam.solvers.starts import digital_start, digital_target, matched_control, relaxed


@dataclass(frozen=True, kw_only=True)
class TrainedProjection(VariableProjection):
    """``vp`` with a step size and a momentum for each of its iterations.

    Attributes
    ----------
    sizes, momenta
        One of each per layer: numbers, or tensors to train. Later iterations repeat the last one.
    extraction
        Steps of phase extraction on the digital array's precoder before the first layer, where a
        shifter sits on every branch and there is one subcarrier.
    """

    name: str = "unfolded-vp"
    sizes: tuple[float, ...] | Float[Tensor, " layers"] = (0.06,)
    momenta: tuple[float, ...] | Float[Tensor, " layers"] = (0.8,)
    extraction: int = 0

    def init(
        self, problem: AnyProblem, generator: torch.Generator, start: State | None = None
    ) -> State:
        """Start of ``vp``, its phases extracted from the digital array's precoder first."""
        extracts = start is None and self.extraction > 0 and self.begin == "matched"
        if extracts and _on_every_branch(problem):
            control = extracted_phases(
                problem, matched_control(problem, generator), self.extraction
            )
            control = problem.frontend.project(control)
            start = make_state(problem, control, digital_start(problem, problem.link(control)))
        return super().init(problem, generator, start)

    def size(self, count: int) -> float:
        """Step size of a layer."""
        # A tensor where the layers are being trained: all that the step does is multiply by it.
        return self.sizes[min(count, len(self.sizes) - 1)]  # type: ignore[return-value]

    def kept(self, count: int) -> float:
        """Momentum of a layer."""
        return self.momenta[min(count, len(self.momenta) - 1)]  # type: ignore[return-value]


def _on_every_branch(problem: AnyProblem) -> bool:
    frontend = problem.frontend
    return (
        isinstance(problem, Downlink)
        and problem.h.shape[1] == 1
        and not frontend.is_digital
        and isinstance(relaxed(frontend.element_set), Circle)
        and plain_feed(frontend)
    )


def extracted_phases(
    problem: Downlink, control: Complex[Tensor, "batch antennas rf_chains"], steps: int
) -> Complex[Tensor, "batch antennas rf_chains"]:
    """Alternate a semi-unitary digital part and the phases of what it asks for.

    The target X (N x K) is equal-power RZF of the fully digital array: ``F = phase(X U W)`` with
    ``X^H F = U S W``. Source: docs/methods.md, sections 12 and 21.
    """
    target = digital_target(problem, iterations=0)[:, 0].to(torch.complex128)
    phases = control.to(torch.complex128)
    radius: float = relaxed(problem.frontend.element_set).radius
    for _ in range(steps):
        left, _, right = torch.linalg.svd(target.mH @ phases, full_matrices=False)
        wanted = target @ (left @ right)
        # An absent user asks for nothing: its phases stay.
        phases = torch.where(wanted.abs() > 0, torch.sgn(wanted), torch.sgn(phases))
    return (radius * phases).to(control.dtype)


class Unfolding(Network):
    """A solver's iterations as layers; what is trained are their step sizes.

    Attributes
    ----------
    layers
        I, the number of iterations.
    """

    startable: ClassVar[bool] = True
    layers: int

    def solver(self) -> Solver:
        """Solver whose step is a layer, with the step sizes as they are in training."""
        raise NotImplementedError

    def frozen(self, begin: str = "matched", keep: str = "best", layers: int = 0) -> Solver:
        """Solver of the first ``layers`` (0: all) with constant step sizes, for designing."""
        raise NotImplementedError

    def settle(self, problem: Downlink, control: Tensor) -> State:
        """Point of the first layer, from controls."""
        raise NotImplementedError

    def refusal(self, problem: Downlink) -> str | None:
        """Reason of the solver."""
        return self.solver().supports(problem)

    def start(self, problem: Downlink) -> Complex[Tensor, "batch antennas controls"]:
        """Controls that the solver begins at; spare chains at random phases of seed 0."""
        return self.solver().init(problem, torch.Generator().manual_seed(0)).control

    def forward(self, problem: Downlink, control: Tensor | None = None) -> Trace:
        """Walk all layers."""
        solver = self.solver()
        begin = None if control is None else self.settle(problem, control)
        state = solver.init(problem, torch.Generator().manual_seed(0), begin)
        utilities = []
        for _ in range(self.layers):
            state = solver.step(problem, state)
            utilities.append(state.utility)
        return Trace(state.control, state.digital, tuple(utilities))


class UnfoldedVp(Unfolding):
    """Layers of ``vp``: a normalised, tangential gradient step with momentum, then V.

    Parameters
    ----------
    layers
        I.
    digital_steps
        WMMSE steps on V in each layer.
    extraction
        Steps of phase extraction before the first layer.

    Notes
    -----
    Trained are the logarithms of the step sizes and the logits of the momenta, two numbers a
    layer. Directions are scaled per channel, so that one set serves all SNRs, sizes and channel
    gains. Source: docs/methods.md, section 21.
    """

    def __init__(self, layers: int = 5, digital_steps: int = 3, extraction: int = 0) -> None:
        super().__init__()
        self.extraction = check_count("extraction", extraction, 0)
        self.layers = check_count("layers", layers)
        self.digital_steps = check_count("digital_steps", digital_steps)
        # The line of ``vp``, so steep that the layers add up to the same way whatever their number.
        line = torch.linspace(1.2, 0.12, layers) / layers
        self.log_sizes = nn.Parameter(line.log())
        self.momentum_logits = nn.Parameter(torch.full((layers,), 0.8).logit())

    def solver(self) -> TrainedProjection:
        """``vp`` with tensors for step sizes and momenta."""
        return TrainedProjection(
            max_iterations=self.layers,
            digital_steps=self.digital_steps,
            extraction=self.extraction,
            sizes=self.log_sizes.exp(),
            momenta=self.momentum_logits.sigmoid(),
        )

    def frozen(
        self, begin: str = "matched", keep: str = "best", layers: int = 0
    ) -> TrainedProjection:
        """``vp`` with numbers, which its compiled loop serves."""
        return TrainedProjection(
            max_iterations=layers or self.layers,
            digital_steps=self.digital_steps,
            extraction=self.extraction,
            sizes=tuple(self.log_sizes.detach().double().exp().tolist()),
            momenta=tuple(self.momentum_logits.detach().double().sigmoid().tolist()),
            begin=begin,
            keep=keep,
        )

    def settle(self, problem: Downlink, control: Tensor) -> State:
        """Equal-power RZF at the controls."""
        return make_state(problem, control, digital_start(problem, problem.link(control)))


class UnfoldedPga(Unfolding):
    """Algorithm 1: layers of J projected gradient steps on the phases and one on V.

    Parameters
    ----------
    layers, inner
        I and J.
    printed
        Train the step sizes themselves, as printed; by default their logarithms, which keeps
        them positive and moves all of them at the same pace.
    analog, digital
        First values of all mu and lambda; the paper's.

    Notes
    -----
    Step sizes are absolute: they belong to channels whose entries have mean power 1, and to the
    size, SNR and number of antennas that they were trained for. Source: unfolded-pga paper,
    Algorithm 1; docs/methods.md, section 21.
    """

    def __init__(
        self,
        layers: int = 10,
        inner: int = 10,
        printed: bool = False,
        analog: float = 0.01,
        digital: float = 1e-4,
    ) -> None:
        super().__init__()
        self.layers = check_count("layers", layers)
        self.inner = check_count("inner", inner)
        self.printed = printed
        mu, lam = torch.full((layers, inner), analog), torch.full((layers,), digital)
        self.mu = nn.Parameter(mu if printed else mu.log())
        self.lam = nn.Parameter(lam if printed else lam.log())

    def refusal(self, problem: Downlink) -> str | None:
        """Serves phases on the circle under one power budget."""
        if isinstance(problem.frontend.element_set, Points):
            return "its layers move continuous phases; hb.solver rounds them to the levels"
        return super().refusal(problem)

    def solver(self) -> ProjectedGradientAscent:
        """``pga`` with tensors of step sizes."""
        sizes = (self.mu, self.lam) if self.printed else (self.mu.exp(), self.lam.exp())
        return ProjectedGradientAscent(
            name="unfolded-pga",
            max_iterations=self.layers,
            inner_steps=self.inner,
            analog_steps=sizes[0],
            digital_steps=sizes[1],
        )

    def frozen(
        self, begin: str = "matched", keep: str = "best", layers: int = 0
    ) -> ProjectedGradientAscent:
        """``pga`` with constant tensors of step sizes, in double precision."""
        made, count = self.solver(), layers or self.layers
        assert isinstance(made.analog_steps, Tensor)
        assert isinstance(made.digital_steps, Tensor)
        return replace(
            made,
            max_iterations=count,
            analog_steps=made.analog_steps.detach().double()[:count],
            digital_steps=made.digital_steps.detach().double()[:count],
            begin="random" if begin == "random" else "matched",
            keep=keep,
        )

    def settle(self, problem: Downlink, control: Tensor) -> State:
        """Least-squares fit to zero forcing at the controls."""
        digital = least_squares_digital(problem.analog(control), forced_target(problem))
        digital = problem.rescale(problem.link(control), digital)
        return make_state(problem, control, digital)
