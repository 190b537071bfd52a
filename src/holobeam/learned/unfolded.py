"""Unfolded phase-shifter solvers: their iterations as layers with trained step sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from holobeam.errors import check_count
from holobeam.frontends.element_sets import Points
from holobeam.learned.network import Network, Trace
from holobeam.problems.downlink import Downlink
from holobeam.solvers.ascent import ProjectedGradientAscent, forced_target
from holobeam.solvers.base import Solver, State, make_state
from holobeam.solvers.gradient import VariableProjection
from holobeam.solvers.phase_shifters import least_squares_digital
from holobeam.solvers.starts import digital_start, matched_control, relaxed


@dataclass(frozen=True, kw_only=True)
class TrainedProjection(VariableProjection):
    """``vp`` with a step size and a momentum for each of its iterations.

    Attributes
    ----------
    sizes, momenta
        One of each per layer: numbers, or tensors to train. Later iterations repeat the last one.
    """

    name: str = "unfolded-vp"
    sizes: tuple[float, ...] | Float[Tensor, " layers"] = (0.06,)
    momenta: tuple[float, ...] | Float[Tensor, " layers"] = (0.8,)

    def size(self, count: int) -> float:
        """Step size of a layer."""
        # A tensor where the layers are being trained: all that the step does is multiply by it.
        return self.sizes[min(count, len(self.sizes) - 1)]  # type: ignore[return-value]

    def kept(self, count: int) -> float:
        """Momentum of a layer."""
        return self.momenta[min(count, len(self.momenta) - 1)]  # type: ignore[return-value]


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

    def frozen(self, begin: str, keep: str) -> Solver:
        """Solver with the step sizes as plain numbers, for designing."""
        raise NotImplementedError

    def settle(self, problem: Downlink, control: Tensor) -> State:
        """Point of the first layer, from controls."""
        raise NotImplementedError

    def refusal(self, problem: Downlink) -> str | None:
        """Reason of the solver."""
        return self.solver().supports(problem)

    def start(self, problem: Downlink) -> Complex[Tensor, "batch antennas controls"]:
        """Phases of the users' channels; spare chains at random ones of seed 0."""
        drawn = matched_control(problem, torch.Generator().manual_seed(0))
        return problem.frontend.project(drawn)

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

    Notes
    -----
    Trained are the logarithms of the step sizes and the logits of the momenta, two numbers a
    layer. Directions are scaled per channel, so that one set serves all SNRs, sizes and channel
    gains. Source: docs/methods.md, section 21.
    """

    def __init__(self, layers: int = 5, digital_steps: int = 3) -> None:
        super().__init__()
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
            sizes=self.log_sizes.exp(),
            momenta=self.momentum_logits.sigmoid(),
        )

    def frozen(self, begin: str, keep: str) -> TrainedProjection:
        """``vp`` with numbers, which its compiled loop serves."""
        return TrainedProjection(
            max_iterations=self.layers,
            digital_steps=self.digital_steps,
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

    def frozen(self, begin: str, keep: str) -> ProjectedGradientAscent:
        """``pga`` with constant tensors of step sizes, in double precision."""
        from dataclasses import replace

        made = self.solver()
        assert isinstance(made.analog_steps, Tensor)
        assert isinstance(made.digital_steps, Tensor)
        return replace(
            made,
            analog_steps=made.analog_steps.detach().double(),
            digital_steps=made.digital_steps.detach().double(),
            begin="random" if begin == "random" else "matched",
            keep=keep,
        )

    def start(self, problem: Downlink) -> Complex[Tensor, "batch antennas controls"]:
        """Phases of the users' channels."""
        drawn = matched_control(problem, torch.Generator().manual_seed(0))
        control: Tensor = relaxed(problem.frontend.element_set).project(drawn)
        return control

    def settle(self, problem: Downlink, control: Tensor) -> State:
        """Least-squares fit to zero forcing at the controls."""
        digital = least_squares_digital(problem.analog(control), forced_target(problem))
        digital = problem.rescale(problem.link(control), digital)
        return make_state(problem, control, digital)
