"""Ascent on the mean rate over all turns of a feed: amplitudes, and MMSE beams for each turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.analog.limited_memory import begin_memory, limited_memory_step
from holobeam.digital.link import solve_small
from holobeam.problems.downlink import Downlink
from holobeam.problems.rates import spectral_efficiency
from holobeam.solvers.solution import Solution

STEPS = 150
PAIRS = 8
RIDGE = 1e-12
_LEAST = 1e-4
_GIVEN_UP = 3


@dataclass(frozen=True, eq=False)
class Turned:
    """All turns of a feed, each channel over its noise.

    Attributes
    ----------
    rows
        ``(B, K, N)``: h_k^H over its noise amplitude, P = 1.
    feeds
        ``(G, N, R)`` orthonormal bases of their spans.
    """

    rows: Complex[Tensor, "batch users antennas"]
    feeds: Complex[Tensor, "feeds antennas rf_chains"]


def mmse_beams(
    scene: Turned, control: Tensor, powers: Tensor, priorities: Tensor
) -> tuple[Complex[Tensor, "batch feeds rf_chains users"], Complex[Tensor, "batch feeds k r"]]:
    """Beams ``(sum_i l_i f_i f_i^H + S)^-1 f_k``, each at its user's power; and the links.

    ``control`` is ``(B, N)``, ``powers`` and ``priorities`` are ``(B, G, K)``, or ``(B, 1, K)`` for
    all feeds alike, and add up to 1.
    Source: docs/methods.md, section 22.
    """
    masked = control[:, None, :, None] * scene.feeds
    effective = scene.rows.unsqueeze(1) @ masked
    metric = masked.mH @ masked
    heard = effective * priorities.unsqueeze(3)
    beams = solve_small(effective.mH @ heard + metric, effective.mH, RIDGE)
    spent = (beams.conj() * (metric @ beams)).real.sum(dim=2).clamp(min=1e-300)
    return beams * (powers / spent).sqrt().unsqueeze(2), effective


def mean_rate(
    scene: Turned, control: Tensor, powers: Tensor, priorities: Tensor
) -> Float[Tensor, " batch"]:
    """Sum rate of those beams, mean over the feeds."""
    beams, effective = mmse_beams(scene, control, powers, priorities)
    received = effective @ beams
    return spectral_efficiency(received, torch.ones_like(received[..., 0].real)).sum(dim=1)


def ascend(
    together: Downlink, found: Sequence[Solution], *, alike: bool, steps: int = STEPS
) -> tuple[Complex[Tensor, "batch antennas 1"], Complex[Tensor, "batch feeds rf_chains users"]]:
    """Better amplitudes, powers and priorities for all feeds at once, from some designs.

    Parameters
    ----------
    together
        All feeds, as :func:`holobeam.learned.ceiling.turned_problem` poses them.
    found
        Designs to begin at.
    alike
        Whether powers and priorities are the same for all feeds (they then begin at the mean over
        the feeds), or each feed has its own, with which the beams are as good as any.
    steps
        L-BFGS steps at most; none lowers a rate.

    Returns
    -------
    tuple
        Best amplitudes of each channel, and the precoder for each feed.
    """
    noise = (together.noise_power / together.power.unsqueeze(1)).sqrt()
    basis, triangle = torch.linalg.qr(together.frontend.scaled_feed())
    batch, users = together.batch, together.users
    rows = together.h[:, 0] / noise.unsqueeze(2)
    scene = Turned(rows.repeat(len(found), 1, 1), basis)
    begin = torch.cat([_begin(together, one, alike) for one in found])
    ends, values = _climb(scene, begin, steps)
    winner = values.view(len(found), batch).argmax(dim=0) * batch
    winner = winner + torch.arange(batch, device=winner.device)
    control, powers, priorities = _read(ends[winner], rows.shape[2], users)
    control = control / control.amax(dim=1, keepdim=True)
    beams, _ = mmse_beams(Turned(rows, basis), control, powers, priorities)
    digital = torch.linalg.pinv(triangle) @ beams
    return control.unsqueeze(2).to(digital.dtype), digital


def _begin(together: Downlink, design: Solution, alike: bool) -> Float[Tensor, "batch dimension"]:
    """Roots of amplitudes, then logarithms of powers and priorities."""
    link = together.link(design.control)
    cost = together.weights(link, design.digital).cost * together.noise_power.unsqueeze(1)
    shares = torch.stack([_shares(link.column_power(design.digital)), _shares(cost)], dim=1)
    if alike:
        shares = shares.mean(dim=2, keepdim=True)
    roots = design.control[:, :, 0].real.clamp(min=_LEAST).sqrt()
    return torch.cat([roots, shares.clamp(min=_LEAST).log().flatten(1)], dim=1)


def _shares(sizes: Float[Tensor, "batch feeds users"]) -> Float[Tensor, "batch feeds users"]:
    total = sizes.sum(dim=2, keepdim=True)
    even = torch.full_like(sizes, 1.0 / sizes.shape[2])
    return torch.where(total > 0, sizes / total.clamp(min=1e-300), even)


def _read(x: Tensor, antennas: int, users: int) -> tuple[Tensor, Tensor, Tensor]:
    logs = x[:, antennas:].reshape(len(x), 2, -1, users)
    powers, priorities = logs.softmax(dim=3).unbind(dim=1)
    return x[:, :antennas].square(), powers, priorities


def _climb(scene: Turned, x: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    users, antennas = scene.rows.shape[1:]

    def loss(at: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor]:
        some = scene if rows is None else Turned(scene.rows[rows], scene.feeds)
        with torch.enable_grad():
            leaf = at.detach().requires_grad_(True)
            value = -mean_rate(some, *_read(leaf, antennas, users))
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
        return value.detach(), gradient

    memory = begin_memory(x, *loss(x, None), size=PAIRS)
    for _ in range(steps):
        memory = limited_memory_step(loss, memory)
        if bool((memory.stuck >= _GIVEN_UP).all()):
            break
    return memory.x, -memory.value
