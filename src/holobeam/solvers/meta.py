"""Meta-learned hybrid precoding: two small networks trained anew on every channel (``ggml``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.digital.rate_gradient import fair_loss
from holobeam.digital.zero_forcing import zero_forcing
from holobeam.errors import InputError, check_choice, check_count
from holobeam.problems.multicell import MultiCell
from holobeam.solvers.base import EVERY_PROBLEM, AnyProblem, Solver, State
from holobeam.solvers.cells import cell_zero_forcing_start
from holobeam.solvers.embedded import Embedded, draw_perceptron
from holobeam.solvers.meta_cells import needs_chains_in_every_cell, unit_cells
from holobeam.solvers.phase_shifters import PhaseShifterSolver
from holobeam.solvers.reduced import needs_full_connection
from holobeam.solvers.reduced_loss import unit_problem
from holobeam.solvers.starts import balanced, matched_control, modulus, random_control

Judge = Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]
"""Loss of what users receive, noise, user weights and beta; and its gradient."""

_SPLINES = "holobeam.learned.kan"
"""Learned things stand above solvers: named, and loaded when used."""


def as_features(z: Complex[Tensor, "*lead rows columns"]) -> Float[Tensor, "*lead features"]:
    """``[Re Z | Im Z]``, row after row."""
    return torch.cat([z.real, z.imag], dim=-1).flatten(-2)


def from_features(
    x: Float[Tensor, "*lead features"], rows: int, columns: int
) -> Complex[Tensor, "*lead rows columns"]:
    """Inverse of :func:`as_features`."""
    parts = x.reshape(*x.shape[:-1], rows, 2 * columns)
    return torch.complex(parts[..., :columns].contiguous(), parts[..., columns:].contiguous())


@dataclass(frozen=True, eq=False)
class Precoding:
    """The loss as a function of an unprojected analog part and an unscaled digital one, power 1.

    Attributes
    ----------
    h, noise, user_weights
        As in :class:`~holobeam.solvers.reduced_loss.UnitProblem`, ``noise`` ``(B, K)``. With many
        cells ``h`` is ``(B, L, rows, N)``, a row for each antenna of each user, and so are all
        precoders ``(B, L, ...)``: each cell has a power of 1.
    beta
        Weight of the variance of the rates.
    judge
        Value and slope of what is received, :func:`fair_loss` by default.
    free_gain
        Whether entries of the analog part may have any size instead of size 1.
    """

    h: Complex[Tensor, "*lead rows antennas"]
    noise: Float[Tensor, "batch users"]
    user_weights: Float[Tensor, "batch users"]
    beta: float
    judge: Judge = fair_loss
    free_gain: bool = False

    def slopes(
        self,
        analog: Complex[Tensor, "*lead antennas rf_chains"],
        digital: Complex[Tensor, "*lead rf_chains streams"],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``L``, ``H F`` and ``W``, what leads to the gradients, and that in D."""
        e = self.h @ analog
        value, w = self.judge(e @ digital, self.noise, self.user_weights, self.beta)
        return value, e, w, e.mH @ w

    def analog_gradient(self, analog: Tensor, digital: Tensor) -> Tensor:
        """``dL/dF`` with D held as it is."""
        _, _, w, _ = self.slopes(analog, digital)
        return self.h.mH @ (w @ digital.mH)

    def digital_gradient(self, analog: Tensor, digital: Tensor) -> Tensor:
        """``dL/dD`` with F held, the power not normalised."""
        return self.slopes(analog, digital)[3]

    def projected(self, z: Tensor) -> Tensor:
        """Analog part that belongs to an unprojected one."""
        return z if self.free_gain else torch.sgn(z)

    def normalised(self, z: Tensor, raw: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Projected F, scaled D, and the gradients in ``z`` and ``raw`` through both maps.

        ``F = z / |z|`` (``z`` itself with a free gain) and ``D = raw / ||F raw||``; gradients are
        ``dL/dRe + j dL/dIm``.
        """
        size = z.abs()
        safe = torch.where(size > 0, size, torch.ones_like(size))
        analog = z if self.free_gain else torch.where(size > 0, z / safe, torch.ones_like(z))
        radiated = analog @ raw
        power = radiated.abs().square().sum(dim=(-2, -1))
        scale = torch.where(power > 0, power, torch.ones_like(power)).rsqrt()[..., None, None]
        digital = scale * raw
        _, _, w, of_digital = self.slopes(analog, digital)
        along = (raw.conj() * of_digital).real.sum(dim=(-2, -1))[..., None, None]
        loss = along * scale**3
        of_raw = scale * of_digital - loss * (analog.mH @ radiated)
        of_analog = self.h.mH @ (w @ digital.mH) - loss * (radiated @ raw.mH)
        if self.free_gain:
            return analog, digital, of_analog, of_raw
        outward = (of_analog * analog.conj()).real
        return analog, digital, (of_analog - outward * analog) / safe, of_raw


@dataclass(frozen=True, eq=False)
class Memory:
    """Fixed start, networks and their inputs, and the digital part of the last step (power 1).

    Users are in the order of their gains (in each cell); ``places`` says where each column of the
    digital part has gone. Tensors lead with ``(B,)``, or ``(B, L)`` with many cells.
    """

    loss: Precoding
    analog: Tensor
    digital: Tensor
    amplitude: Tensor
    places: Tensor
    analog_network: Embedded
    digital_network: Embedded
    analog_features: Tensor
    digital_features: Tensor
    last: Tensor
    count: int


@dataclass(frozen=True, kw_only=True)
class MetaPrecoding(PhaseShifterSolver):
    """Train two networks on one channel: their outputs, added to a fixed start, are the precoder.

    Attributes
    ----------
    beta
        Weight of the variance of the users' rates.
    analog_rate, digital_rate
        Learning rates of the two Adams.
    hidden
        Width of the hidden layers.
    network
        ``mlp``: linear, ReLU, linear, as the authors' program has it. ``kan``: two layers of
        trained splines (Kolmogorov-Arnold), as printed.
    order, grid, reach
        With ``kan``: order of the splines, and how many intervals their grid divides
        ``[-reach, reach]`` into.
    accumulate
        Whether the networks are fed the sum of all gradients so far (what the authors' program
        does: it never clears them), or those of the present iteration (as printed).
    noise_input
        Feed fixed random numbers instead of gradients: what the gradients are worth.
    begin
        ``random`` phases, or ``matched`` ones.

    Notes
    -----
    Every channel has networks of its own, drawn alike; with many cells every cell of every channel,
    trained on one loss together. The utility is the sum rate, on which the best iterate is chosen;
    ``keep="last"`` returns the last one. All gradients are closed forms.
    Source: ggml paper and its authors' code; docs/methods.md, section 18.
    """

    problems: ClassVar[tuple[type, ...]] = EVERY_PROBLEM
    free_gain: ClassVar[bool] = True

    name: str = "ggml"
    max_iterations: int = 500
    tolerance: float = 0.0
    patience: int = 1000
    beta: float = 0.2
    analog_rate: float = 1.5e-3
    digital_rate: float = 1e-3
    hidden: int = 200
    network: Literal["mlp", "kan"] = "mlp"
    order: int = 3
    grid: int = 5
    reach: float = 1.0
    accumulate: bool = True
    noise_input: bool = False
    begin: Literal["random", "matched"] = "random"

    def refuses(self, problem: AnyProblem) -> str | None:
        """Serves fully connected phase shifters (vector modulators), a chain for each stream."""
        connected = (
            needs_chains_in_every_cell if isinstance(problem, MultiCell) else needs_full_connection
        )
        reason = super().refuses(problem) or connected(problem)
        size = None if reason else _feed(problem).abs()
        if size is not None and bool(((size / size.mean() - 1.0).abs() > 1e-6).any()):
            return "it needs a feed of equal amplitudes; use vpk or vp"
        return reason

    def variant(self, index: int) -> Solver:
        """Other random numbers for every start: the generator goes on."""
        return self if index == 0 else replace(self, begin="random")

    def init(
        self, problem: AnyProblem, generator: torch.Generator, start: State | None = None
    ) -> State:
        """Draw networks and phases, zero-forcing D; or begin at ``start``."""
        self._check()
        lead, rows, columns = _sizes(problem)
        sizes = 2 * problem.chains * columns, 2 * rows * problem.chains
        like = problem.h.real
        networks = [self._drawn(size, lead, generator, like) for size in sizes]
        if start is None:
            pick = matched_control if self.begin == "matched" else random_control
            control = pick(problem, generator)
            digital = _forced(problem, problem.link(control))
        else:
            control, digital = start.control, start.digital
            if problem.frontend.has_free_gain:
                control, digital = balanced(control, digital)
        features = [self._features((*lead, size), generator, like) for size in sizes]
        memory = self._memory(problem, (control, digital), networks, features)
        link = problem.link(control)
        return State(control, digital, problem.utility(link, digital), memory)

    def _check(self) -> None:
        check_count("hidden", self.hidden)
        check_choice("network", self.network, ("mlp", "kan"))
        for name in ("beta", "analog_rate", "digital_rate"):
            value = getattr(self, name)
            if not 0.0 <= value < float("inf"):
                raise InputError(name, f"got {value!r}", "it must be finite and >= 0")
        if not 0.0 < self.reach < float("inf"):
            raise InputError("reach", f"got {self.reach!r}", "it must be finite and positive")
        check_count("order", self.order)
        check_count("grid", self.grid)

    def _drawn(
        self, size: int, lead: tuple[int, ...], generator: torch.Generator, like: Tensor
    ) -> Embedded:
        sizes = size, self.hidden, size
        if self.network == "mlp":
            return draw_perceptron(sizes, lead, generator, like)
        splines = import_module(_SPLINES)
        basis = splines.SplineBasis(self.order, self.grid, -self.reach, self.reach)
        drawn: Embedded = splines.draw_kan(sizes, lead, generator, like, basis)
        return drawn

    def _features(self, shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
        if not self.noise_input:
            return like.new_zeros(shape)
        one = torch.randn(shape[-1], generator=generator, dtype=torch.float64)
        return one.to(like).expand(shape).clone()

    def _memory(
        self,
        problem: AnyProblem,
        start: tuple[Tensor, Tensor],
        networks: list[Embedded],
        features: list[Tensor],
    ) -> Memory:
        loss, amplitude, places = _posed(problem, self.beta)
        control, digital = start
        lead, rows, columns = _sizes(problem)
        # F has modulus 1 whatever the feed; its size goes into the digital part.
        analog = problem.analog(control).reshape(*lead, rows, problem.chains)
        free = problem.frontend.has_free_gain
        size = (_feed(problem) if free else analog).abs().mean(dim=(-2, -1))
        amplitude = amplitude / size
        first = digital.reshape(*lead, problem.chains, columns) / amplitude[..., None, None]
        order = places.argsort(dim=-1).unsqueeze(-2).expand_as(first)
        first = first.to(problem.h.dtype).gather(-1, order)
        return Memory(
            loss=replace(loss, free_gain=free),
            analog=analog / size[..., None, None] if free else torch.sgn(analog),
            digital=first,
            amplitude=amplitude,
            places=places,
            digital_network=networks[0],
            analog_network=networks[1],
            digital_features=features[0],
            analog_features=features[1],
            last=first,
            count=0,
        )

    def step(self, problem: AnyProblem, state: State) -> State:
        """One iteration: both networks run, the loss goes back through them, Adam steps."""
        memory: Memory = state.memory
        loss, count = memory.loss, memory.count + 1
        rows, chains = memory.analog.shape[-2:]
        columns = memory.digital.shape[-1]
        analog_in = self._fed(
            memory.analog_features, loss.analog_gradient(memory.analog, memory.last)
        )
        change, analog_hidden = memory.analog_network(analog_in)
        z = memory.analog + from_features(change, rows, chains)
        analog = loss.projected(z)
        digital_in = self._fed(
            memory.digital_features, loss.digital_gradient(analog, memory.digital)
        )
        change, digital_hidden = memory.digital_network(digital_in)
        raw = memory.digital + from_features(change, chains, columns)
        analog, digital, of_z, of_raw = loss.normalised(z, raw)
        # The program back-propagates twice into the same sums.
        of_z, of_raw = 2.0 * as_features(of_z), 2.0 * as_features(of_raw)
        carried = self.accumulate and not self.noise_input
        new = replace(
            memory,
            analog_network=memory.analog_network.trained(
                analog_in, analog_hidden, of_z, self.analog_rate, count
            ),
            digital_network=memory.digital_network.trained(
                digital_in, digital_hidden, of_raw, self.digital_rate, count
            ),
            analog_features=analog_in + of_z if carried else memory.analog_features,
            digital_features=digital_in + of_raw if carried else memory.digital_features,
            last=digital,
            count=count,
        )
        return self._state(problem, analog, digital, new)

    def _fed(self, features: Tensor, gradient: Tensor) -> Tensor:
        return features if self.noise_input else features + as_features(gradient)

    def _state(self, problem: AnyProblem, analog: Tensor, digital: Tensor, memory: Memory) -> State:
        control = modulus(problem.frontend.element_set) * analog * torch.sgn(_feed(problem)).conj()
        columns = memory.places.unsqueeze(-2).expand_as(digital)
        scaled = memory.amplitude[..., None, None] * digital.gather(-1, columns)
        scaled = scaled.reshape(problem.shapes["digital"])
        utility = problem.utility(problem.link(control), scaled)
        return State(control, scaled, utility, memory)


def _sizes(problem: AnyProblem) -> tuple[tuple[int, ...], int, int]:
    """Leading axes, antennas, and columns of a digital part."""
    if isinstance(problem, MultiCell):
        return (problem.batch, problem.cells), problem.frontend.antennas, problem.columns
    return (problem.batch,), problem.frontend.antennas, problem.users


def _feed(problem: AnyProblem) -> Tensor:
    """What the controls are multiplied by, with an axis of one or of cells before it."""
    if isinstance(problem, MultiCell):
        assert problem.feed is not None, "a fully digital array has no feed"
        return problem.feed
    feed: Tensor = problem.frontend.scaled_feed()
    return feed


def _forced(problem: AnyProblem, link: Any) -> Tensor:
    """Zero forcing at the whole budget (of each cell, on its own users)."""
    if isinstance(problem, MultiCell):
        return cell_zero_forcing_start(problem, link)
    digital: Tensor = problem.rescale(link, zero_forcing(link))
    return digital


def _posed(problem: AnyProblem, beta: float) -> tuple[Precoding, Tensor, Tensor]:
    """Loss at unit power with users strongest first, amplitudes of budgets, places of columns.

    The networks tell users apart: sorted, so that their order does not matter.
    """
    if isinstance(problem, MultiCell):
        cells = unit_cells(problem)
        loss = Precoding(cells.h, cells.noise, cells.user_weights, beta, cells.judge)
        return loss, cells.amplitude, cells.places
    unit = unit_problem(problem)
    real = problem.h.real.dtype
    order = unit.h.abs().square().sum(dim=2).argsort(dim=1, descending=True, stable=True)
    loss = Precoding(
        unit.h.gather(1, order.unsqueeze(2).expand_as(unit.h)),
        unit.noise.to(real).unsqueeze(1).expand(-1, problem.users),
        unit.user_weights.to(real).gather(1, order),
        beta,
    )
    return loss, unit.amplitude.to(real), order.argsort(dim=1)
