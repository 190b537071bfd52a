"""WMMSE with continuous phase updates: Riemannian gradients or majorise-minimise steps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.analog.manifold import Manifold, Value, begin_descent, conjugate_step, unit_modulus
from holobeam.analog.quadratic import Quadratic
from holobeam.errors import check_choice, check_count
from holobeam.frontends.element_sets import Circle
from holobeam.problems.multicell import MultiCell
from holobeam.solvers.base import EVERY_PROBLEM, AnyProblem, Solver, State, take
from holobeam.solvers.cells import keep_what_gains
from holobeam.solvers.phase_shifters import PhaseShifterSolver
from holobeam.solvers.starts import (
    balanced,
    digital_start,
    matched_control,
    random_control,
    relaxed,
)


@dataclass(frozen=True, kw_only=True)
class WeightedErrorAlternation(PhaseShifterSolver):
    """Receivers and weights, all phases together, one digital step, in turn.

    Attributes
    ----------
    rule
        ``mo``: Riemannian conjugate gradients; ``mm``: majorise-minimise.
    inner_steps
        Steps over the phases in each iteration, at most.
    inner_tolerance
        With ``mo``, a channel's steps end when one lowers the error by less than this share.
    tolerance
        Relative gain in an iteration at which a channel has converged. The published 1e-3 stops
        random starts far too early.
    begin
        ``matched``: phases of the users' channels; ``random`` phases. RZF at equal powers either
        way.

    Notes
    -----
    Every block lowers the weighted error: the rate never falls. Of vector modulators gains and
    phases are moved alike, each chain's gains scaled to a mean square of 1. Source: baselines of
    the ggml paper; docs/methods.md, section 18.
    """

    problems: ClassVar[tuple[type, ...]] = EVERY_PROBLEM
    free_gain: ClassVar[bool] = True

    name: str = "wmmse-mo"
    max_iterations: int = 100
    tolerance: float = 1e-6
    rule: Literal["mo", "mm"] = "mo"
    inner_steps: int = 60
    inner_tolerance: float = 1e-4
    begin: Literal["matched", "random"] = "matched"

    def refuses(self, problem: AnyProblem) -> str | None:
        """Serves phase shifters, and vector modulators by conjugate gradients."""
        if self.rule == "mm" and problem.frontend.has_free_gain:
            return "its steps move phases, not gains; use wmmse-mo, ggml or wmmse-cd there"
        return super().refuses(problem)

    def init(
        self, problem: AnyProblem, generator: torch.Generator, start: State | None = None
    ) -> State:
        """Channel phases and equal-power RZF, or ``start``."""
        check_count("inner_steps", self.inner_steps)
        check_choice("rule", self.rule, ("mo", "mm"))
        wide = _widened(problem)
        if start is not None:
            point = start.control.to(wide.h.dtype), start.digital.to(wide.h.dtype)
            point = balanced(*point) if problem.frontend.has_free_gain else point
            return replace(start, memory=point)
        pick = random_control if self.begin == "random" else matched_control
        control = relaxed(problem.frontend.element_set).project(pick(wide, generator))
        return _judged(problem, wide, control, digital_start(wide, wide.link(control)))

    def variant(self, index: int) -> Solver:
        """Random phases for every start but the first."""
        return self if index == 0 else replace(self, begin="random")

    def step(self, problem: AnyProblem, state: State) -> State:
        """Weights, phases, digital part."""
        wide = _widened(problem)
        control, digital = state.memory
        weights = wide.weights(wide.link(control), digital)
        quadratic = wide.analog_quadratic(weights, digital)
        moved = self._moved(quadratic, control, relaxed(problem.frontend.element_set))
        if isinstance(wide, MultiCell) and wide.power_at == "radiated":
            control, digital = keep_what_gains(wide, (control, digital), (moved, digital))
            weights = wide.weights(wide.link(control), digital)
        else:
            control = moved
        digital = wide.digital_step(wide.link(control), weights, digital)
        if problem.frontend.has_free_gain:
            control, digital = balanced(control, digital)
        return _judged(problem, wide, control, digital)

    def _moved(self, quadratic: Quadratic, control: Tensor, manifold: Manifold) -> Tensor:
        # Cells are batch entries of the quadratic.
        at = control.flatten(0, -3)
        if self.rule == "mm":
            assert isinstance(manifold, Circle), "supports lets no other set through"
            at = majorise(quadratic, at, manifold, self.inner_steps)
        else:
            at = descend(quadratic, at, manifold, self.inner_steps, self.inner_tolerance)
        return at.view_as(control)


def _widened(problem: AnyProblem) -> AnyProblem:
    """The problem in double precision.

    In single, rounding decides the line searches of channels that are nearly done, and a channel's
    answer would depend on its batch mates.
    """
    h = problem.h.to(torch.complex128)
    if h is problem.h:
        return problem
    changes: dict[str, Any] = {
        "h": h,
        "frontend": problem.frontend.to(h),
        "noise_power": problem.noise_power.double(),
        "power": problem.power.double(),
        "user_weights": problem.user_weights.double(),
    }
    if isinstance(problem, MultiCell):
        several = tuple(one.to(h) for one in problem.frontends)
        changes["frontends"] = several
        changes["feed"] = torch.cat([one.scaled_feed() for one in several])
    return problem.with_(**changes)


def _judged(problem: AnyProblem, wide: AnyProblem, control: Tensor, digital: Tensor) -> State:
    """State in the problem's precision, its memory the same point in double."""
    link = wide.link(control)
    digital = wide.rescale(link, digital)
    utility = wide.utility(link, digital).to(problem.h.real.dtype)
    dtype = problem.h.dtype
    return State(control.to(dtype), digital.to(dtype), utility, (control, digital))


def majorise(
    quadratic: Quadratic,
    q: Complex[Tensor, "batch antennas controls"],
    circle: Circle,
    steps: int = 20,
) -> Complex[Tensor, "batch antennas controls"]:
    """Minimise the quadratic by majorise-minimise: ``q <- r phase(L q - gradient)``.

    ``L`` bounds the largest curvature, so that no step raises the quadratic.
    """
    bound = curvature_bound(quadratic)[:, None, None]
    for _ in range(steps):
        q = unit_modulus(bound * q - quadratic.gradient(q), circle.radius)
    return q


def curvature_bound(quadratic: Quadratic) -> Float[Tensor, " batch"]:
    """Bound on the largest eigenvalue of the quadratic's matrix, from K x K and C x C ones.

    ``sum_f (lmax(Y_f Y_f^H) + rho_f) max_n lmax(D_f[n] D_f[n]^H)``; exact up to the coupling where
    every branch sees the same digital part.
    """
    of_users = torch.linalg.eigvalsh(quadratic.y @ quadratic.y.mH)[..., -1] + quadratic.rho
    of_branches = torch.linalg.eigvalsh(quadratic.d @ quadratic.d.mH)[..., -1].amax(dim=2)
    bound: Tensor = (of_users * of_branches).sum(dim=1)
    # Eigenvalues are right to a few units of rounding: a bound must not be below them.
    return bound * (1.0 + 64.0 * torch.finfo(bound.dtype).eps)


def descend(
    quadratic: Quadratic,
    q: Complex[Tensor, "batch antennas controls"],
    manifold: Manifold,
    steps: int,
    tolerance: float,
) -> Complex[Tensor, "batch antennas controls"]:
    """Riemannian conjugate gradients; a channel whose error hardly falls stays where it is."""
    scale = quadratic.curvature().amax(dim=(1, 2))
    stride = 0.25 / scale.clamp(min=torch.finfo(scale.dtype).tiny)
    rows = torch.arange(q.shape[0], device=q.device)
    left, found = quadratic, q.clone()
    run = begin_descent(manifold, _value(left), left.gradient, q, stride)
    for _ in range(steps):
        new = conjugate_step(manifold, _value(left), left.gradient, run)
        found[rows] = new.control
        falls = run.value - new.value > tolerance * run.value.abs()
        if not bool(falls.any()):
            break
        run = new
        if not bool(falls.all()):
            kept = falls.nonzero().squeeze(1)
            rows, left, run = rows[kept], take(left, kept), take(run, kept)
    return found


def _value(quadratic: Quadratic) -> Value:
    """Value of the controls of some channels, all where None is given."""

    def value(q: Tensor, rows: Tensor | None) -> Tensor:
        some: Quadratic = quadratic if rows is None else take(quadratic, rows)
        return some.value(q)

    return value
