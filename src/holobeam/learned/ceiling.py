"""The most that a network can reach which treats elements alike and never sees the feed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from holobeam.digital.link import Link, Weights, solve_small, widen
from holobeam.digital.wmmse import keep_finite
from holobeam.errors import ShapeError, UnsupportedError, check_choice, check_count
from holobeam.learned.scene import unserved
from holobeam.learned.symmetry import distinct_feeds, grid_symmetries
from holobeam.learned.turned import STEPS, ascend
from holobeam.problems.budget import scaled
from holobeam.problems.downlink import Downlink
from holobeam.problems.rates import spectral_efficiency
from holobeam.solvers.alternating import surface_solver
from holobeam.solvers.base import Restart
from holobeam.solvers.solution import Solution

Head = Literal["optimal", "least-squares", "mmse"]
HEADS: tuple[Head, ...] = ("optimal", "least-squares", "mmse")

GROUPS = 8
"""Local optima that the last ascent begins at, each the best of a share of the starts."""

DEPENDENT = 1e-9
"""Singular values of the feeds side by side below so much of the largest count as none."""


@dataclass(frozen=True, eq=False)
class Ceiling:
    """Best amplitudes found for all turns of a feed at once.

    Attributes
    ----------
    utility
        ``(B,)`` bits/s/Hz: mean over the turns of what the amplitudes reach.
    turned
        ``(B, G)``: sum rate on each turned feed, the true one first.
    control
        ``(B, N, 1)`` amplitudes, the same for every feed.
    digital
        ``(B, G, R, K)`` precoder that the head makes for each feed, power met.
    feeds
        ``(G, N, R)``: feeds that the channel can't tell apart, the true one first.
    place
        ``(S,)``: which feed each symmetry of the grid leads to.
    target
        ``(B, N, K)``: what a least-squares head projects (None with the other heads).
    """

    utility: Float[Tensor, " batch"]
    turned: Float[Tensor, "batch feeds"]
    control: Complex[Tensor, "batch antennas 1"]
    digital: Complex[Tensor, "batch feeds rf_chains users"]
    feeds: Complex[Tensor, "feeds antennas rf_chains"]
    place: Int[Tensor, " symmetries"]
    target: Complex[Tensor, "batch antennas users"] | None = None


def blind_ceiling(
    problem: Downlink,
    *,
    shape: tuple[int, int] | None = None,
    symmetries: Int[Tensor, "symmetries antennas"] | None = None,
    head: Head = "optimal",
    starts: int = 16,
    max_iterations: int = 100,
    polish: int = STEPS,
    seed: int = 0,
) -> Ceiling:
    """Symmetry-averaged optimum, ``max_a mean_s SE(H, a, M[s])``, channel by channel.

    Parameters
    ----------
    problem
        An amplitude surface, one subcarrier, radiated power, sum rate.
    shape
        Elements along both axes; a square by default.
    symmetries
        Permutations that leave the law of the channel alone, a group; those of isotropic plane
        waves on the grid by default.
    head
        Where the precoder comes from. ``optimal``: the best one for each feed (what any head that
        sees the feed can do); ``least-squares``: projected from one N x K target for all feeds;
        ``mmse``: MMSE beams of powers and priorities that are the same for all feeds.
    starts
        Starts to take the best of.
    max_iterations
        Of each start.
    polish
        Steps of the ascent that follows. Where one target must serve dependent feeds there are
        none.
    seed
        Of random starts.

    Returns
    -------
    Ceiling
        In double precision. The best found, like any answer to a nonconvex problem: more starts
        can only raise it.

    Raises
    ------
    UnsupportedError
        If the problem is not of that kind.
    ShapeError
        If the grid is not that of the surface.

    Notes
    -----
    Source: docs/methods.md, section 22.
    """
    found = blind_ceilings(
        problem,
        (check_choice("head", head, HEADS),),
        shape=shape,
        symmetries=symmetries,
        starts=starts,
        max_iterations=max_iterations,
        polish=polish,
        seed=seed,
    )
    return found[head]


def blind_ceilings(
    problem: Downlink,
    heads: Sequence[Head] = HEADS,
    *,
    shape: tuple[int, int] | None = None,
    symmetries: Int[Tensor, "symmetries antennas"] | None = None,
    starts: int = 16,
    max_iterations: int = 100,
    polish: int = STEPS,
    seed: int = 0,
) -> dict[Head, Ceiling]:
    """Several heads' :func:`blind_ceiling` from one search."""
    reason = unserved(problem)
    if reason is not None:
        raise UnsupportedError(f"there is no ceiling for this problem: {reason}")
    check_count("starts", starts)
    group = _group(problem, shape, symmetries)
    feeds, place = distinct_feeds(problem.frontend.scaled_feed()[0], group)
    together = turned_problem(problem, feeds)
    search = cache(lambda at: _search(at, starts, max_iterations, seed))
    best = cache(lambda: ascend(together, search(together), alike=False, steps=polish))
    ceilings = {}
    for head in heads:
        target = None
        if head == "optimal":
            control, digital = best()
        elif head == "mmse":
            control, digital = ascend(together, search(together), alike=True, steps=polish)
        else:
            shared = share_target(together)
            control, digital = best() if shared is together else _best(search(shared))
            target = _target(together, digital)
            digital = least_squares(together, target)
        ceilings[head] = _ceiling(together, control, digital, place, target)
    return ceilings


def grid_of(problem: Downlink, shape: tuple[int, int] | None) -> tuple[int, int] | None:
    """Elements along both axes of a surface: as given, else a square, else None."""
    antennas = problem.frontend.antennas
    if shape is not None:
        return shape if shape[0] * shape[1] == antennas else None
    side = round(antennas**0.5)
    return (side, side) if side * side == antennas else None


def _group(
    problem: Downlink, shape: tuple[int, int] | None, symmetries: Tensor | None
) -> Int[Tensor, "symmetries antennas"]:
    antennas = problem.frontend.antennas
    if symmetries is None:
        grid = grid_of(problem, shape)
        if grid is None:
            wrong = f"got {shape} for {antennas} elements"
            raise ShapeError("shape", wrong, "give the elements along both axes of the surface")
        symmetries = grid_symmetries(grid)
    if symmetries.ndim != 2 or symmetries.shape[1] != antennas:
        wrong = f"got shape {tuple(symmetries.shape)}"
        raise ShapeError("symmetries", wrong, f"need (symmetries, {antennas})")
    return symmetries.to(problem.h.device)


def turned_problem(
    problem: Downlink, feeds: Complex[Tensor, "feeds antennas rf_chains"]
) -> Downlink:
    """Pose all turned feeds as subcarriers of one problem: same channel, same controls.

    Each has its own precoder and the whole budget, and the rate is the mean over them: exactly the
    symmetry average. Double precision.
    """
    wide = torch.complex128
    frontend = replace(problem.frontend, feed=feeds.to(wide), insertion_loss_db=0.0)
    h = problem.h.to(wide).expand(-1, feeds.shape[0], -1, -1).contiguous()
    noise, power = problem.noise_power.double(), problem.power.double()
    return Downlink(h, frontend, noise_power=noise, power=power, budget="each")


# -- the least-squares head: one target for all feeds -------------------------------------------


class SharedTarget(Downlink):
    """Turned feeds whose precoders are least-squares projections of one target.

    ``V_g = (M_g^H M_g)^-1 M_g^H X`` with the same X (N x K) for all g: stacked, the precoders lie
    in the range of the stacked pseudoinverses, of which ``reach`` is an orthonormal basis.
    """

    reach: Complex[Tensor, "feeds rf_chains dimension"]

    def __init__(self, problem: Downlink, reach: Tensor) -> None:
        for name, value in {**vars(problem), "reach": reach}.items():
            object.__setattr__(self, name, value)

    def digital_step(self, link: Link, weights: Weights, digital: Tensor) -> Tensor:
        """Exact minimiser over the target, all feeds at once."""
        wide = widen(link)
        cost, price = weights.cost.double(), self.price(weights).double()
        heard = wide.e @ self.reach
        system = ((heard.mH * cost.unsqueeze(2)) @ heard).sum(dim=1)
        assert wide.g is not None
        spent = self.reach.mH @ wide.g @ self.reach
        system = system + (price[:, :, None, None] * spent).sum(dim=1)
        wanted = (weights.mse_weights * weights.decoders).unsqueeze(2)
        inner = solve_small(system, (heard.mH * wanted).sum(dim=1))
        return keep_finite((self.reach @ inner.unsqueeze(1)).to(digital.dtype), digital)

    def rescale(self, link: Link, digital: Tensor) -> Tensor:
        """Scale all feeds alike, after a projection onto what one target can reach."""
        inner = (self.reach.mH @ digital).sum(dim=1, keepdim=True)
        digital = self.reach @ inner
        load = self.load(link, digital)
        return scaled(digital, load.mean(dim=1, keepdim=True).expand_as(load))

    def feasible(self, control: Tensor, digital: Tensor) -> tuple[Tensor, Tensor]:
        """As everywhere, but with one scale: each feed's own is the head's business."""
        control = self.frontend.project(control)
        return control, self.rescale(self.link(control), digital)


def share_target(problem: Downlink) -> Downlink:
    """Restrict the precoders of turned feeds to what one least-squares target can reach.

    Where the feeds side by side have independent columns this is no restriction at all, and the
    problem is returned as it is.
    """
    basis, values, _ = torch.linalg.svd(_projections(problem), full_matrices=False)
    kept = values > DEPENDENT * values[0]
    if bool(kept.all()) and basis.shape[0] == basis.shape[1]:
        return problem
    count, chains = problem.h.shape[1], problem.frontend.rf_chains
    return SharedTarget(problem, basis[:, kept].view(count, chains, -1))


def _projections(problem: Downlink) -> Complex[Tensor, "feeds_chains antennas"]:
    """Pseudoinverses of all feeds, one below the other."""
    inverses: Tensor = torch.linalg.pinv(problem.frontend.scaled_feed())
    return inverses.flatten(0, 1)


def _target(problem: Downlink, digital: Tensor) -> Complex[Tensor, "batch antennas users"]:
    """Least target whose projections are the precoders given, up to the scale of each."""
    back: Tensor = torch.linalg.pinv(_projections(problem), rtol=DEPENDENT)
    return back @ digital.flatten(1, 2)


def least_squares(
    problem: Downlink, target: Complex[Tensor, "batch antennas users"]
) -> Complex[Tensor, "batch feeds rf_chains users"]:
    """Unweighted least-squares head of every turned feed, ``(M^H M)^-1 M^H X``."""
    projected = _projections(problem) @ target
    return projected.view(-1, problem.h.shape[1], problem.frontend.rf_chains, problem.users)


# -- search -------------------------------------------------------------------------------------


def _search(together: Downlink, starts: int, max_iterations: int, seed: int) -> list[Solution]:
    """Best of some starts, several times over: local optima of the mean over all feeds."""
    solver = surface_solver(max_iterations=max_iterations)
    groups = min(GROUPS, starts)
    found = []
    for i in range(groups):
        # The one start that is not drawn is tried once.
        begins = replace(solver, begin="fit-random") if i else solver
        share = Restart(solver=begins, starts=starts // groups + (i < starts % groups))
        found.append(share(together, seed=seed + i))
    return found


def _best(found: list[Solution]) -> tuple[Tensor, Tensor]:
    best = found[0]
    for other in found[1:]:
        best = best.better(other)
    return best.control, best.digital


def _ceiling(
    together: Downlink,
    control: Tensor,
    digital: Tensor,
    place: Tensor,
    target: Tensor | None = None,
) -> Ceiling:
    control, digital = together.feasible(control, digital)
    link = together.link(control)
    received, noise = link.received(digital), together.noise(link, digital)
    rates = spectral_efficiency(received.flatten(0, 1)[:, None], noise.flatten(0, 1)[:, None])
    turned = rates.sum(dim=1).view(received.shape[:2])
    feeds = together.frontend.scaled_feed()
    return Ceiling(turned.mean(dim=1), turned, control, digital, feeds, place, target)
