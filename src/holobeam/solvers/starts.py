"""Where solvers begin: controls from the channel, and the digital precoder that goes with them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.analog.accelerated import separable_descent
from holobeam.analog.quadratic import Quadratic
from holobeam.digital.link import Link, inverse_metric, widen
from holobeam.digital.zero_forcing import regularised_zero_forcing
from holobeam.frontends.element_sets import Circle, Interval, Plane, Points
from holobeam.frontends.frontend import fully_digital
from holobeam.problems.downlink import Downlink
from holobeam.problems.multicell import MultiCell
from holobeam.solvers import fused
from holobeam.solvers.base import AnyProblem
from holobeam.solvers.cells import cell_alone, cell_digital_start, random_cell_control


def noise_over_power(problem: Downlink) -> Float[Tensor, "batch users"]:
    """``sigma_k^2 / P`` with P the whole budget."""
    total = problem.power.sum(dim=1) if problem.power_at == "per_rf_chain" else problem.power
    return problem.noise_power / total.unsqueeze(1)


def digital_start(
    problem: AnyProblem, link: Any, *, equal_power: bool = True
) -> Complex[Tensor, "batch subcarriers rf_chains users"]:
    """RZF on the link with every user at the same power (or plain), scaled to the budget."""
    if isinstance(problem, MultiCell):
        return cell_digital_start(problem, link, equal_power=equal_power)
    start = regularised_zero_forcing(link, noise_over_power(problem), equal_power=equal_power)
    scaled: Tensor = problem.rescale(link, start)
    return scaled


def selected_start(
    problem: AnyProblem, link: Any
) -> Complex[Tensor, "batch subcarriers rf_chains users"]:
    """Equal-power RZF of the users that are worth serving together.

    Users are dropped one after the other, the one whose leaving helps most first, until no
    leaving helps. WMMSE itself never drops one of two users that look alike: at equal powers they
    are a stationary point, however bad.
    """
    kept = problem.present.flatten(1).to(link.e.dtype)
    digital = digital_start(problem, link)
    utility: Tensor = problem.utility(link, digital)
    for _ in range(problem.users - 1):
        tried = [_without(problem, link, kept, user) for user in range(problem.users)]
        utilities = torch.stack([problem.utility(link, candidate) for _, candidate in tried])
        best, which = torch.nan_to_num(utilities, nan=-torch.inf).max(dim=0)
        helps = best > utility
        if not bool(helps.any()):
            break
        for user, (mask, candidate) in enumerate(tried):
            chosen = helps & (which == user)
            kept = torch.where(chosen[:, None], mask, kept)
            digital = torch.where(chosen[:, None, None, None], candidate, digital)
        utility = torch.where(helps, best, utility)
    return digital


def _without(problem: AnyProblem, link: Any, kept: Tensor, user: int) -> tuple[Tensor, Tensor]:
    mask = kept.clone()
    mask[:, user] = 0
    # Users are the third axis of both kinds of links.
    on_axis = mask.view(len(mask), 1, -1, *[1] * (link.e.ndim - 3))
    return mask, digital_start(problem, replace(link, e=link.e * on_axis))


def relaxed(element_set: Any) -> Any:
    """Continuous set around an element set; third-party sets without one stay as they are."""
    relaxation = getattr(element_set, "relaxation", None)
    return element_set if relaxation is None else relaxation()


def modulus(element_set: Any) -> float:
    """Size of the controls of phase shifters; 1 on the plane, where a start has that size."""
    radius: float = 1.0 if isinstance(element_set, Plane) else relaxed(element_set).radius
    return radius


def balanced(control: Tensor, digital: Tensor) -> tuple[Tensor, Tensor]:
    """Scale the gains of each chain to a mean square of 1 and let the digital part make up for it.

    For controls on the plane: the product stays what it is, and both parts of order one.
    """
    square = control.abs().square().mean(dim=-2, keepdim=True)
    size = torch.where(square > 0, square, torch.ones_like(square)).sqrt()
    rows = size.mT.unsqueeze(1) if control.ndim == 3 else size.mT
    return control / size, digital * rows


def principal_directions(problem: Downlink) -> Complex[Tensor, "batch users antennas"]:
    """Best single beam of each user over the band, unit modulus per entry, best SNR first.

    With one subcarrier these are the phases of h_k^H; with more, of the dominant right singular
    vector of the user's F x N channel.
    """
    h = problem.h.transpose(1, 2)
    if h.shape[2] == 1:
        beam = h[:, :, 0].conj()
    else:
        _, vectors = torch.linalg.eigh((h @ h.mH).to(torch.complex128))
        beam = (h.mH @ vectors[..., -1:].to(h.dtype)).squeeze(3)
    gain = h.abs().square().sum(dim=(2, 3)) / problem.noise_power
    order = gain.argsort(dim=1, descending=True, stable=True)
    beam = beam.gather(1, order.unsqueeze(2).expand_as(beam))
    # sgn(0) is 0: an absent user leaves its column to the element set's projection of 0.
    return torch.sgn(beam)


def matched_control(
    problem: AnyProblem, generator: torch.Generator
) -> Complex[Tensor, "batch antennas controls"]:
    """Controls that point chain r at the r-th strongest user; spare chains point anywhere.

    Amplitudes start in the middle of their interval: half of every wave is let through.
    Source: docs/methods.md, section 4.
    """
    if isinstance(problem, MultiCell):
        alone = (cell_alone(problem, cell) for cell in range(problem.cells))
        return torch.stack([matched_control(one, generator) for one in alone], dim=1)
    frontend = problem.frontend
    element_set = relaxed(frontend.element_set)
    shape = (problem.batch, frontend.antennas, frontend.controls)
    if isinstance(element_set, Interval):
        middle = (element_set.low + element_set.high) / 2
        if isinstance(frontend.element_set, Points):
            # Just above the middle: the nearest level of an on/off element must not be "off".
            middle += 1e-6 * (element_set.high - element_set.low)
        return torch.full(shape, middle, dtype=problem.h.dtype, device=problem.h.device)
    if frontend.is_digital:
        return torch.ones(shape, dtype=problem.h.dtype, device=problem.h.device)
    spare = max(frontend.rf_chains - problem.users, 0)
    extra = problem.h.new_empty(frontend.antennas, 0)
    if spare > 0:
        extra = Circle().sample((frontend.antennas, spare), generator, problem.h.dtype)
    if fused.serves(problem) and hasattr(element_set, "kernel_code"):
        return fused.pointed_control(problem, extra)
    beams = principal_directions(problem).mT[:, :, : frontend.rf_chains]
    if spare > 0:
        beams = torch.cat([beams, extra.to(beams).expand(problem.batch, -1, -1)], dim=2)
    wanted = beams * frontend.scaled_feed().mean(dim=0).conj()
    if frontend.controls == 1:
        wanted = wanted.sum(dim=2, keepdim=True)
    # Far outside every bounded set, so that its projection depends on the direction alone.
    far = 1.0 if isinstance(element_set, Plane) else 1e6
    control: Tensor = element_set.project(far * torch.sgn(wanted))
    return control


def random_control(
    problem: AnyProblem, generator: torch.Generator
) -> Complex[Tensor, "batch antennas controls"]:
    """Controls drawn from the element set, the same for every channel of the batch.

    Never all off: that is a stationary point of every alternation.
    """
    if isinstance(problem, MultiCell):
        return random_cell_control(problem, generator)
    frontend = problem.frontend
    drawn: Tensor = frontend.sample(problem.batch, generator, problem.h.dtype, problem.h.device)
    dark = (drawn == 0).flatten(1).all(dim=1)
    return torch.where(dark[:, None, None], frontend.project(torch.ones_like(drawn)), drawn)


def digital_target(
    problem: Downlink, iterations: int = 20
) -> Complex[Tensor, "batch subcarriers antennas users"]:
    """Fully digital WMMSE precoder of the same problem, from the equal-power RZF start.

    Source: docs/methods.md, section 4.
    """
    bound = Downlink(
        problem.h,
        fully_digital(problem.frontend.antennas),
        noise_power=problem.noise_power,
        power=problem.power.sum(dim=1) if problem.power_at == "per_rf_chain" else problem.power,
        budget=problem.budget,
        weights=problem.user_weights,
    )
    control = torch.ones(problem.batch, problem.frontend.antennas, 1).to(problem.h)
    link = bound.link(control)
    digital = digital_start(bound, link)
    for _ in range(iterations):
        digital = bound.digital_step(link, bound.weights(link, digital), digital)
    return bound.analog(control) @ bound.rescale(link, digital)


def fit_to_target(
    problem: Downlink,
    control: Complex[Tensor, "batch antennas controls"],
    target: Complex[Tensor, "batch subcarriers antennas users"],
    passes: int = 20,
) -> tuple[Tensor, Tensor]:
    """Alternate the least-squares fit ``A V ~ target`` over the digital part and the controls.

    Amplitudes are fitted over [0, inf) and divided by their maximum, circles and points as they
    are. Source: docs/methods.md, section 4.
    """
    frontend = problem.frontend
    element_set = frontend.element_set
    free = isinstance(element_set, Interval) and element_set.low == 0
    sweep_set = Interval(0.0, float("inf")) if free else element_set
    batch, subcarriers, antennas, users = target.shape
    empty = target.new_zeros(batch, subcarriers, 0, antennas)
    no_streams = target.new_zeros(batch, subcarriers, 0, users)
    price = target.real.new_ones(batch, subcarriers)
    for _ in range(passes):
        digital = _least_squares(frontend.analog(control), target)
        branches = frontend.branches(digital)
        quadratic = Quadratic(empty, no_streams, branches, price, target)
        control = separable_descent(quadratic, control, sweep_set)
        if free:
            control, digital = normalise_amplitudes(control, digital)
    return control, digital


def _least_squares(analog: Tensor, target: Tensor) -> Tensor:
    analog = analog.expand(-1, target.shape[1], -1, -1)
    wide = widen(Link(analog, analog.mH @ analog))
    return inverse_metric(wide, wide.e.mH @ target.to(wide.e.dtype)).to(target.dtype)


def normalise_amplitudes(control: Tensor, digital: Tensor) -> tuple[Tensor, Tensor]:
    """Divide amplitudes by their maximum and let the digital part make up for it."""
    top = control.real.amax(dim=(-2, -1), keepdim=True)
    top = torch.where(top > 0, top, torch.ones_like(top))
    return control / top, digital * (top.unsqueeze(1) if control.ndim == 3 else top)


def quantised_control(
    problem: AnyProblem, control: Complex[Tensor, "*batch antennas controls"], share: float
) -> Complex[Tensor, "*batch antennas controls"]:
    """Project a relaxed control onto the levels.

    Amplitudes are spiky: they are scaled so that a ``share`` of the elements lies above the middle
    level (docs/methods.md, section 4). Phases are turned by ``share`` of a step before rounding.
    """
    points = problem.frontend.element_set
    continuous = relaxed(points)
    if isinstance(continuous, Interval):
        size = control.real - continuous.low
        level = torch.quantile(size.flatten(-2), 1.0 - share, dim=-1)[..., None, None]
        level = level.clamp(min=torch.finfo(size.dtype).tiny)
        # An element at the quantile itself is on: equal amplitudes must not all be switched off.
        above = size / level * (0.5 + 1e-6)
        scaled = continuous.low + above * (continuous.high - continuous.low)
        control = scaled.to(control.dtype)
    elif isinstance(points, Points):
        turn = torch.tensor(2j * torch.pi * share / len(points.levels)).exp()
        control = control * turn.to(control)
    nearest: Tensor = problem.frontend.project(control)
    return nearest


def relax(problem: AnyProblem) -> AnyProblem:
    """Problem with the element set replaced by the continuous set around it."""
    frontend = problem.frontend
    return problem.with_(frontend=replace(frontend, element_set=relaxed(frontend.element_set)))
