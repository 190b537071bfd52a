"""Small problems of one cell and of many for the conformance checks, and hard channels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.arrays import upa
from holobeam.frontends import registry
from holobeam.frontends.frontend import Frontend
from holobeam.problems.downlink import Downlink
from holobeam.problems.inputs import PowerAt
from holobeam.problems.multicell import MultiCell


def example_problems(
    frontends: Sequence[Frontend] | None = None,
    *,
    batch: int = 3,
    users: int = 2,
    dtype: torch.dtype = torch.complex128,
    seed: int = 0,
) -> tuple[Downlink, ...]:
    """Small problems in every power mode, for every front-end given.

    Where gains are unlimited, only radiated power counts.

    Parameters
    ----------
    frontends
        By default every registered one, on a 4 x 3 array with 2 RF chains.
    batch, users
        Sizes B and K.
    dtype
        complex64 or complex128.
    seed
        Of the channels: independent circular Gaussian entries of unit power.
    """
    if frontends is None:
        array = upa((4, 3))
        frontends = [registry.build(name, array, 2) for name in registry.available()]
    return tuple(
        problem for i, hardware in enumerate(frontends)
        for problem in _modes_of_one(hardware, batch, users, dtype, seed + i)
    )  # fmt: skip


def _modes_of_one(
    frontend: Frontend, batch: int, users: int, dtype: torch.dtype, seed: int
) -> Iterator[Downlink]:
    tones = 2 if frontend.feed is None or frontend.feed.ndim == 2 else frontend.feed.shape[0]
    wide = gaussian((batch, tones, users, frontend.antennas), seed).to(dtype)
    flat = wide if frontend.feed is not None and frontend.feed.ndim == 3 else wide[:, :1]
    feeds: PowerAt = "radiated" if frontend.has_free_gain else "feeds"
    chains: PowerAt = "radiated" if frontend.has_free_gain else "per_rf_chain"
    yield Downlink(flat, frontend, snr_db=10.0)
    yield Downlink(flat, frontend, snr_db=10.0, power=2.0, power_at=feeds)
    yield Downlink(wide, frontend, snr_db=10.0, budget="each")
    yield Downlink(wide, frontend, noise_power=0.1, power_at=chains)


def gaussian(shape: tuple[int, ...], seed: int) -> Complex[Tensor, "..."]:
    """Circular complex Gaussians of unit mean power, complex128, from a seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.complex128)


def degenerate_channels(
    users: int, antennas: int, seed: int = 0
) -> Complex[Tensor, "cases 1 users antennas"]:
    """Channels that break careless code, one a batch entry.

    All zero, one absent user, identical users, rank one with spread gains, gains 60 dB apart,
    nearly parallel users, all entries of size 1e-6, of size 1e6.
    """
    h = gaussian((users, antennas), seed)
    absent = h.clone()
    absent[0] = 0.0
    spread = torch.logspace(0, -3, users, dtype=torch.float64).unsqueeze(1)
    twins = h[:1].expand_as(h)
    nearly = twins + 1e-7 * h
    cases = (0.0 * h, absent, twins, spread * twins, spread * h, nearly, 1e-6 * h, 1e6 * h)
    return torch.stack(cases).unsqueeze(1)


def example_cell_problems(
    frontends: Sequence[Frontend] | None = None,
    *,
    batch: int = 2,
    cells: int = 2,
    users: int = 2,
    receivers: int = 2,
    dtype: torch.dtype = torch.complex128,
    seed: int = 0,
) -> tuple[MultiCell, ...]:
    """Small problems of many cells in every power mode, for every front-end given.

    Parameters
    ----------
    frontends
        By default every registered one with one feed for all frequencies, on a 4 x 3 array with 2
        RF chains.
    batch, cells, users, receivers
        Sizes B, L, K and M.
    dtype
        complex64 or complex128.
    seed
        Of the channels: Gaussian entries of unit power, a tenth of it between cells.
    """
    if frontends is None:
        array = upa((4, 3))
        frontends = [registry.build(name, array, 2) for name in registry.available()]
    size = (batch, cells, cells, users, receivers)
    return tuple(
        problem
        for i, hardware in enumerate(frontends)
        for problem in _modes_of_many(hardware, size, dtype, seed + i)
    )


def _modes_of_many(
    frontend: Frontend, size: tuple[int, ...], dtype: torch.dtype, seed: int
) -> Iterator[MultiCell]:
    if frontend.feed is not None and frontend.feed.ndim == 3 and frontend.feed.shape[0] != 1:
        return
    h = gaussian((*size, frontend.antennas), seed)
    near = torch.eye(size[1], dtype=torch.bool)[:, :, None, None, None]
    h = torch.where(near, h, 0.1**0.5 * h).to(dtype)
    several = min(2, size[4])
    if frontend.has_free_gain:
        yield MultiCell(h, frontend, noise_power=0.1, power=2.0, power_at="radiated")
        yield MultiCell(h, frontend, power=1.0, power_at="radiated", streams=several)
    else:
        yield MultiCell(h, frontend, noise_power=0.1, power_per_rf_chain=0.5)
        yield MultiCell(h, frontend, noise_power=0.1, power=1.0, streams=several)
    yield MultiCell(h, frontend, noise_power=0.1, power=1.0, power_at="radiated")


def with_users_turned(problem: MultiCell) -> MultiCell:
    """The same problem with the users of every cell in reverse order."""
    return problem.with_(
        h=problem.h.flip(3),
        noise_power=problem.noise_power.flip(2),
        user_weights=problem.user_weights.flip(2),
        true_h=None if problem.true_h is None else problem.true_h.flip(3),
    )


def rates_turned(
    problem: MultiCell, rates: Float[Tensor, "batch users"]
) -> Float[Tensor, "batch users"]:
    """Rates of the users of every cell in reverse order."""
    return rates.view(len(rates), problem.cells, -1).flip(2).flatten(1)


def degenerate_cells(problem: MultiCell) -> MultiCell:
    """A problem like the given one, on channels that break careless code, one a batch entry.

    All zero, one absent user, one idle base station, twins within a cell, twins across cells, cells
    60 dB apart, loud interference.
    """
    h = problem.h[:1].to(torch.complex128)
    own = torch.eye(problem.cells, dtype=h.dtype, device=h.device)[:, :, None, None, None]
    absent, idle, across = h.clone(), h.clone(), h.clone()
    absent[:, :, 0, 0] = 0.0
    idle[:, :, 0] = 0.0
    across[:, :, -1] = across[:, :, 0]
    size = torch.logspace(0, -3, problem.cells, dtype=torch.float64, device=h.device)
    cases = (
        0.0 * h,
        absent,
        idle,
        h[:, :, :, :1].expand_as(h),
        across,
        h * size[:, None, None, None],
        h * (1.0 + 99.0 * (1.0 - own)),
    )
    hard = torch.cat(cases).to(problem.h.dtype)
    chains = problem.power_at == "per_rf_chain"
    return MultiCell(
        hard,
        problem.frontends,
        noise_power=0.1,
        power_per_rf_chain=0.5 if chains else None,
        power=None if chains else 1.0,
        power_at=None if chains else problem.power_at,
        streams=problem.streams,
    )
