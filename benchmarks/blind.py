"""What a network that treats elements alike and never sees the feed can reach at best."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

import holobeam as hb
from benchmarks.table import Table
from holobeam.frontends import feed_positions, reference_wave, rhs
from holobeam.learned.ceiling import HEADS, Ceiling, blind_ceiling, blind_ceilings
from holobeam.learned.symmetry import grid_symmetries
from holobeam.studies import estimate, paired_ratio

CHANNELS = 64
SHAPE = (5, 5)
SNRS = (0.0, 10.0, 20.0)
LAYOUTS = ("edge-far", "edge", "line", "ring")
STARTS = 16


def tables(full: bool) -> Iterator[Table]:
    yield _ceilings()
    if full:
        yield _groups()
        yield _starts()


def _problem(layout: str) -> hb.Downlink:
    """All operating points as one batch, points leading."""
    h = hb.channels.surface_benchmark().h[:CHANNELS].repeat(len(SNRS), 1, 1, 1)
    array = hb.arrays.upa(SHAPE, wavelength=0.01, spacing=0.25)
    feed = reference_wave(array.positions, feed_positions(array, 3, layout), array.wavelength)
    snr_db = torch.tensor(SNRS, dtype=torch.float64).repeat_interleave(CHANNELS)
    return hb.Downlink(h, rhs(feed), snr_db=snr_db)


def _seen(problem: hb.Downlink) -> Tensor:
    solution = hb.solve(problem, "mmse-fast", starts=STARTS, max_iterations=100)
    return solution.sum_rate.view(len(SNRS), -1)


def _shares(found: Ceiling, seen: Tensor) -> list[str]:
    cells = []
    for rates, reference in zip(found.utility.view(len(SNRS), -1), seen, strict=True):
        rate, share = estimate(rates), paired_ratio(rates, reference)
        cells.append(
            f"{rate.mean:.3f} ± {rate.standard_error:.3f} "
            f"({share.mean:.3f} ± {share.standard_error:.3f})"
        )
    return cells


def _columns(*first: str) -> tuple[str, ...]:
    return (*first, *(f"{snr:g} dB" for snr in SNRS))


def _ceilings() -> Table:
    table = Table(
        f"Symmetry-averaged optimum, 5 x 5 elements, 3 chains, 3 users, {CHANNELS} channels",
        (*_columns("feeds", "head"), "order", "verdict"),
        "bits/s/Hz, and in brackets the share of `mmse-fast` with 16 starts of 100 iterations, "
        "which sees the feed (paired). Best of 16 starts each: at least this. "
        "`optimal`: the best precoder for each turned feed; `least-squares`: projected from one "
        "target; `mmse`: beams of the same powers and priorities for all. Order: no head above "
        "`optimal`, and `optimal` not above the reference, by more than 0.05 in the mean.",
    )
    for layout in LAYOUTS:
        problem = _problem(layout)
        seen, best = _seen(problem), None
        for head, found in blind_ceilings(problem, HEADS, starts=STARTS).items():
            mean = found.utility.view(len(SNRS), -1).mean(dim=1)
            top = seen.mean(dim=1) if best is None else best
            best = mean if best is None else best
            excess = float((mean - top).max())
            table.check(excess < 0.05, layout, head, *_shares(found, seen), f"{excess:+.3f}")
    return table


def _groups() -> Table:
    table = Table(
        "The same with part of the symmetries: `edge-far`, head `optimal`",
        (*_columns("symmetries"), "distinct feeds"),
        "Part of the symmetries says too much: what the rest mixes up is left out.",
    )
    every = grid_symmetries(SHAPE)
    grid = torch.arange(25).view(SHAPE)
    half = torch.stack([grid.flatten(), grid.flip(0, 1).flatten()])
    swap = torch.stack([grid.T.flatten(), grid.T.flip(0, 1).flatten()])
    groups = {
        "none: the feed is known": every[:1],
        "half turn": half,
        "half turn, x <-> y": torch.cat([half, swap]),
        "all eight": every,
    }
    problem = _problem("edge-far")
    seen = _seen(problem)
    for name, group in groups.items():
        found = blind_ceiling(problem, symmetries=group, starts=STARTS)
        table.add(name, *_shares(found, seen), len(found.feeds))
    return table


def _starts() -> Table:
    table = Table(
        "How far the search has come: `edge-far`, head `optimal`, all eight symmetries",
        _columns("starts"),
        "Share of the reference in brackets, as above.",
    )
    problem = _problem("edge-far")
    seen = _seen(problem)
    for starts in (1, 4, 16, 32):
        table.add(starts, *_shares(blind_ceiling(problem, starts=starts), seen))
    return table
