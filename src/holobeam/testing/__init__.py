"""Conformance checks that third-party solvers, front-ends and element sets can call.

Each check returns nothing, or raises :class:`AssertionError` saying what was violated and by how
much. In a test of your own package::

    from holobeam import testing

    def test_my_solver():
        testing.check_solver(MySolver())

    def test_my_frontend():
        testing.check_frontend(my_frontend(array, rf_chains=4))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from holobeam.analog.coordinate import coordinate_descent, coordinate_descent_torch
from holobeam.analog.quadratic import Quadratic
from holobeam.errors import InputError, UnsupportedError
from holobeam.frontends.element_sets import ElementSet
from holobeam.frontends.frontend import Frontend
from holobeam.problems.downlink import Downlink
from holobeam.problems.multicell import MultiCell
from holobeam.solvers.alternating import Alternating
from holobeam.solvers.base import BestOf, Chain, Restart, Solver, State, make_state, refusal
from holobeam.solvers.solution import Solution, Status
from holobeam.solvers.starts import digital_start, random_control, relaxed
from holobeam.testing.examples import (
    degenerate_cells,
    degenerate_channels,
    example_cell_problems,
    example_problems,
    gaussian,
    rates_turned,
    with_users_turned,
)

__all__ = [
    "check_batch_invariance",
    "check_degenerate",
    "check_dtype",
    "check_element_set",
    "check_errors",
    "check_feasible",
    "check_frontend",
    "check_never_worse",
    "check_reproducible",
    "check_solver",
    "check_user_permutation",
    "degenerate_cells",
    "degenerate_channels",
    "example_cell_problems",
    "example_problems",
    "gaussian",
]

AnyExample = Downlink | MultiCell
"""What the checks take."""

_EXACT = 1e-12
_FEASIBLE = {torch.complex64: 1e-4, torch.complex128: 1e-9}
_SLACK = {torch.complex64: 1e-4, torch.complex128: 1e-9}
_PERMUTED = {torch.complex64: 1e-3, torch.complex128: 1e-6}
_TIPPED = 0.05
_STEPS = 3


# -- element sets and front-ends ---------------------------------------------------------------


def check_element_set(element_set: ElementSet, seed: int = 0) -> None:
    """Check ``project``, ``sample`` and ``violation`` against their contracts.

    Projection is idempotent and nearest among sampled members, members have no violation, the
    violation is the distance to the projection, shape and dtype are kept, the generator decides
    the sample, and a compiled sweep agrees with the one in torch.
    """
    z = 2.0 * gaussian((50, 3), seed)
    near = element_set.project(z)
    _assert(near.shape == z.shape, f"project turned shape {tuple(z.shape)} to {tuple(near.shape)}")
    for dtype in _FEASIBLE:
        got = element_set.project(z.to(dtype)).dtype
        _assert(got == dtype, f"project turned {dtype} into {got}")
    _small("project is not idempotent", element_set.project(near) - near)
    _small("a projection violates the set", element_set.violation(near))
    away = (z - near).abs()
    _small("violation is not the distance to the projection", element_set.violation(z) - away, 1e-9)
    members = _samples(element_set, (400,), seed)
    _small("a sample violates the set", element_set.violation(members))
    _small("one seed gave two samples", members - _samples(element_set, (400,), seed), 0.0)
    nearest = (z.unsqueeze(-1) - members).abs().amin(dim=-1)
    _small("a sampled member is nearer than the projection", (away - nearest).clamp(min=0.0))
    _check_sweep(element_set, seed)


def _samples(element_set: ElementSet, shape: tuple[int, ...], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return element_set.sample(shape, generator, torch.complex128)


def _check_sweep(element_set: ElementSet, seed: int) -> None:
    y, t = gaussian((2, 1, 2, 5), seed), gaussian((2, 1, 2, 2), seed + 1)
    quadratic = Quadratic(y, t, gaussian((2, 1, 5, 1, 2), seed + 2), torch.full((2, 1), 0.3))
    start = _samples(element_set, (2, 5, 1), seed)
    ended = coordinate_descent(quadratic, start, element_set)
    _small("a sweep leaves the set", element_set.violation(ended))
    rise = quadratic.value(ended) - quadratic.value(start)
    _small("a sweep raises the quadratic", rise.clamp(min=0.0), 1e-9)
    twin = coordinate_descent_torch(quadratic, start, element_set)
    _small("kernel_code and project disagree", ended - twin, 1e-9)


def check_frontend(frontend: Frontend, seed: int = 0) -> None:
    """Check a front-end: feed, sizes, element set, random controls, and that solvers serve it."""
    check_element_set(frontend.element_set, seed)
    _assert(frontend.antennas >= 1 and frontend.rf_chains >= 1, "it has no antennas or no chains")
    generator = torch.Generator().manual_seed(seed)
    control = frontend.sample(2, generator, torch.complex128, torch.device("cpu"))
    shape = (2, frontend.antennas, frontend.controls)
    _assert(control.shape == shape, f"sample has shape {tuple(control.shape)}, not {shape}")
    _small("sample depends on the place in the batch", control[0] - control[1], 0.0)
    _small("a sampled control violates the set", frontend.violation(control))
    _small("project moves a feasible control", frontend.project(control) - control)
    if frontend.feed is not None:
        feed = frontend.scaled_feed()
        _assert(bool(torch.isfinite(feed).all()), "the feed is not finite")
        _assert(bool((feed != 0).any(dim=-2).all()), "a chain of the feed reaches no element")
        product = control.unsqueeze(1) * feed
        _small("analog is not control times feed", frontend.analog(control) - product)
    for problem in example_problems([frontend], users=2, seed=seed):
        for check in (check_feasible, check_never_worse):
            check(Alternating(max_iterations=_STEPS), problem)


# -- solvers -----------------------------------------------------------------------------------


def check_solver(solver: Solver, problems: Sequence[AnyExample] | None = None) -> None:
    """Run every check below on each problem that the solver serves.

    Parameters
    ----------
    solver
        What to check; keep its ``max_iterations`` small, it is run some ten times a problem.
    problems
        By default :func:`example_problems` in both precisions, and :func:`example_cell_problems`
        for a solver whose ``problems`` name :class:`MultiCell`.

    Raises
    ------
    AssertionError
        If a promise is broken, or none of the problems is served.
    """
    if problems is None:
        kinds = torch.complex128, torch.complex64
        problems = [p for dtype in kinds for p in example_problems(dtype=dtype)]
        if MultiCell in solver.problems:
            problems += [p for dtype in kinds for p in example_cell_problems(dtype=dtype)]
    served = [problem for problem in problems if refusal(solver, problem) is None]
    _assert(bool(served), f"{solver.name} serves none of the {len(problems)} problems")
    for problem in problems:
        check_errors(solver, problem)
    for problem in served:
        check_dtype(solver, problem)
        check_feasible(solver, problem)
        check_never_worse(solver, problem)
        check_batch_invariance(solver, problem)
        check_user_permutation(solver, problem)
        check_reproducible(solver, problem)
        check_degenerate(solver, problem)


def check_feasible(solver: Solver, problem: AnyExample) -> Solution:
    """Check that the answer is finite, within all constraints, and judged as it says."""
    solution = solver(problem, seed=0)
    where = _where(solver, problem)
    for name in ("control", "digital", "rates"):
        _assert(bool(torch.isfinite(getattr(solution, name)).all()), f"{name} not finite", where)
    _small("a constraint is violated", solution.violation, _FEASIBLE[problem.h.dtype], where)
    known = torch.isin(solution.status, torch.tensor([int(s) for s in Status]))
    _assert(bool(known.all()), f"unknown status in {solution.status.tolist()}", where)
    _assert(bool((solution.rates >= 0).all()), "a rate is negative", where)
    return solution


def check_never_worse(solver: Solver, problem: AnyExample) -> None:
    """Check that the answer is not below the start, and goes on from an answer of its own.

    Closed forms and solvers with ``keep="last"`` take no such promise: a closed form reads the
    controls of a start alone.
    """
    if solver.closed_form or solver.keep != "best":
        return
    where = _where(solver, problem)
    control = problem.frontend.project(random_control(problem, torch.Generator().manual_seed(1)))
    begin = make_state(problem, control, digital_start(problem, problem.link(control)))
    starts: tuple[State | Solution, ...] = (begin, solver(problem, seed=0))
    for start in starts:
        ended = solver(problem, seed=0, start=start)
        loss = (start.utility - ended.utility) / start.utility.abs().clamp(min=1.0)
        _small("worse than its start", loss.clamp(min=0.0), _SLACK[problem.h.dtype], where)


def check_batch_invariance(solver: Solver, problem: AnyExample) -> None:
    """Check that a channel's answer does not depend on its batch mates."""
    where = _where(solver, problem)
    short = _shortened(solver)
    together = short(problem, seed=0)
    for i in range(problem.batch):
        alone = short(problem.take(torch.tensor([i])), seed=0)
        gap = together.rates[i : i + 1] - alone.rates
        scale = together.rates.abs().amax().clamp(min=1.0)
        _small("rates depend on batch mates", gap / scale, _tolerance(problem, _SLACK), where)


def check_user_permutation(solver: Solver, problem: AnyExample) -> None:
    """Check that users in another order get the same rates, in that order."""
    short = _shortened(solver)
    if isinstance(problem, MultiCell):
        first = rates_turned(problem, short(problem, seed=0).rates)
        gap = first - short(with_users_turned(problem), seed=0).rates
        tolerance = _tolerance(problem, _PERMUTED)
        _small("rates depend on the order of the users", gap, tolerance, _where(solver, problem))
        return
    order = torch.arange(problem.users - 1, -1, -1)
    turned = problem.with_(
        h=problem.h[:, :, order],
        noise_power=problem.noise_power[:, order],
        user_weights=problem.user_weights[:, order],
        true_h=None if problem.true_h is None else problem.true_h[:, :, order],
    )
    gap = short(problem, seed=0).rates[:, order] - short(turned, seed=0).rates
    tolerance = _tolerance(problem, _PERMUTED)
    _small("rates depend on the order of the users", gap, tolerance, _where(solver, problem))


def check_dtype(solver: Solver, problem: AnyExample) -> None:
    """Check that dtype, device and shapes of the answer are those of the problem."""
    solution = _shortened(solver)(problem, seed=0)
    where = _where(solver, problem)
    for name, shape in problem.shapes.items():
        tensor: Tensor = getattr(solution, name)
        got, want = (tensor.dtype, tensor.device), (problem.h.dtype, problem.h.device)
        _assert(got == want, f"{name} is {got}, the channel {want}", where)
        _assert(tensor.shape == shape, f"{name} has shape {tuple(tensor.shape)}, not {shape}")


def check_reproducible(solver: Solver, problem: AnyExample) -> None:
    """Check that one seed gives the same bits twice, and that the global generator is unused."""
    short = _shortened(solver)
    before = torch.get_rng_state()
    first = short(problem, seed=3)
    where = _where(solver, problem)
    used = not torch.equal(before, torch.get_rng_state())
    _assert(not used, "the global random generator was used", where)
    second = short(problem, seed=3)
    for name in ("control", "digital"):
        gap = getattr(first, name) - getattr(second, name)
        _small(f"one seed gave two answers in {name}", gap, 0.0, where)


def check_errors(solver: Solver, problem: AnyExample) -> None:
    """Check that refusals come as :class:`UnsupportedError` with a reason, NaN as input error."""
    where = _where(solver, problem)
    reason = refusal(solver, problem)
    if reason is not None:
        _assert(bool(reason.strip()), "it refuses without a reason", where)
        try:
            solver(problem, seed=0)
        except UnsupportedError as error:
            _assert(reason in str(error), f"the error hides the reason {reason!r}", where)
            return
        raise AssertionError(f"{where}: it ran although it says: {reason}")
    shapes, like = problem.shapes, problem.h
    bad = torch.full(shapes["control"], float("nan"), dtype=like.dtype, device=like.device)
    start = State(bad, like.new_ones(shapes["digital"]), problem.power.new_zeros(problem.batch))
    try:
        solver(problem, seed=0, start=start)
    except InputError:
        return
    raise AssertionError(f"{where}: a start of NaN was accepted")


def check_degenerate(solver: Solver, problem: AnyExample) -> None:
    """Check that absent, identical, faint and loud users get finite, feasible answers."""
    if isinstance(problem, MultiCell):
        cells = degenerate_cells(problem)
        if refusal(solver, cells) is None:
            check_feasible(solver, cells)
        return
    cases = degenerate_channels(problem.users, problem.frontend.antennas)
    h = cases.expand(-1, problem.h.shape[1], -1, -1).to(problem.h)
    hard = Downlink(
        h,
        problem.frontend,
        noise_power=0.1,
        power_at=problem.power_at,
        budget=problem.budget,
        utility=problem.utility_name,
    )
    if solver.supports(hard) is None:
        check_feasible(solver, hard)


def _shortened(solver: Solver, steps: int = _STEPS) -> Solver:
    """Copy of a solver that stops early: rounding then has no time to decide between optima."""
    if isinstance(solver, (Chain, BestOf)):
        groups: dict[str, Any] = {
            field.name: tuple(_shortened(one, steps) for one in value)
            for field in fields(solver)
            if isinstance(value := getattr(solver, field.name), tuple)
        }
        return replace(solver, **groups)
    if isinstance(solver, Restart):
        return replace(solver, solver=_shortened(solver.solver, steps))
    return replace(solver, max_iterations=min(steps, solver.max_iterations))


def _tolerance(problem: AnyExample, of: dict[torch.dtype, float]) -> float:
    """Tolerance of a dtype; in single precision rounding may tip a stepped element to the next."""
    element_set = problem.frontend.element_set
    stepped = relaxed(element_set) is not element_set
    return _TIPPED if stepped and problem.h.dtype == torch.complex64 else of[problem.h.dtype]


def _where(solver: Solver, problem: AnyExample) -> str:
    size = f"{problem.cells} cells" if isinstance(problem, MultiCell) else problem.budget
    return (
        f"{solver.name} on {problem.frontend.name} ({problem.power_at}, {size}, "
        f"{str(problem.h.dtype).removeprefix('torch.')})"
    )


def _assert(condition: bool, message: str, where: str = "") -> None:
    if not condition:
        raise AssertionError(f"{where}: {message}" if where else message)


def _small(message: str, gap: Tensor, tolerance: float = _EXACT, where: str = "") -> None:
    """Raise unless all entries are within the tolerance (NaN never is)."""
    size = gap.detach().abs()
    worst = float(size.nan_to_num(nan=float("inf")).max()) if size.numel() else 0.0
    _assert(worst <= tolerance, f"{message}: by {worst:.3g} (allowed {tolerance:.1g})", where)
