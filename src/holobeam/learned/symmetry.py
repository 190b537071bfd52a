"""Turns of a grid of elements that channels don't notice, and what they do to a feed."""

from __future__ import annotations

import math

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from holobeam.errors import ShapeError, check_count

SAME_SPAN = 1e-9
"""Two feeds are one to a surface if their projectors differ by no more, entry by entry."""


def grid_symmetries(shape: tuple[int, int]) -> Int[Tensor, "symmetries antennas"]:
    """Permutations of a grid that keep the law of isotropic plane waves.

    Parameters
    ----------
    shape
        Elements along both axes; element (i, l) is number ``i * shape[1] + l``.

    Returns
    -------
    Tensor
        One permutation s a row, the identity first: ``h[..., s]`` is as likely as ``h``. Eight on a
        square (quarter turns and mirrors), four on a rectangle, two on a line.

    Notes
    -----
    Source: docs/methods.md, section 22.
    """
    for side in shape:
        check_count("shape", side)
    grid = torch.arange(shape[0] * shape[1]).view(shape)
    mirrors = [grid, grid.flip(0), grid.flip(1), grid.flip(0, 1)]
    if shape[0] == shape[1]:
        mirrors += [one.T for one in mirrors]
    rows = torch.stack([one.flatten() for one in mirrors])
    # A line of elements has fewer: the same permutation may have been met twice.
    kept = [i for i in range(len(rows)) if not (rows[:i] == rows[i]).all(dim=1).any()]
    return rows[kept]


def distinct_feeds(
    feed: Complex[Tensor, "antennas rf_chains"], symmetries: Int[Tensor, "symmetries antennas"]
) -> tuple[Complex[Tensor, "feeds antennas rf_chains"], Int[Tensor, " symmetries"]]:
    """Turned copies of a feed whose spans differ, the feed itself first.

    Parameters
    ----------
    feed
        ``(N, R)``.
    symmetries
        A group of permutations, the identity first.

    Returns
    -------
    tuple
        The feeds ``feed[s]`` of one permutation s for each span, and the number of the feed that
        each permutation leads to. Each feed is met equally often: its permutations are a coset.
    """
    turned = feed[symmetries]
    basis = torch.linalg.qr(turned.to(torch.complex128))[0]
    projector = basis @ basis.mH
    gap = (projector.unsqueeze(1) - projector.unsqueeze(0)).abs().amax(dim=(2, 3))
    first = (gap <= SAME_SPAN).to(torch.int8).argmax(dim=1)
    kept, place = torch.unique(first, return_inverse=True)
    return turned[kept], place


def canonical_turn(
    h: Complex[Tensor, "batch users antennas"],
    shape: tuple[int, int],
    symmetries: Int[Tensor, "symmetries antennas"],
) -> Int[Tensor, " batch"]:
    """Number of the symmetry that brings each channel into a pose of its own.

    Channels that are turned copies of each other are brought into the same pose, so that whatever
    is designed there and turned back is equivariant. Phases and order of the users don't matter.

    Parameters
    ----------
    h
        ``(B, K, N)``.
    shape
        Elements along both axes.
    symmetries
        From :func:`grid_symmetries`.
    """
    if h.shape[2] != shape[0] * shape[1]:
        wrong = f"{shape} against {h.shape[2]} elements"
        raise ShapeError("shape", wrong, "the product of shape must be the number of elements")
    tilt = (h.mean(dim=2, keepdim=True).conj() * h).imag.sum(dim=1)
    along, across = (torch.arange(n, dtype=tilt.dtype) - (n - 1) / 2 for n in shape)
    # In the middle between a mirror axis and a diagonal: no two turns of a direction tie.
    ramp = along[:, None] * math.cos(math.pi / 8) + across[None, :] * math.sin(math.pi / 8)
    score: Float[Tensor, "batch symmetries"] = tilt[:, symmetries] @ ramp.flatten().to(tilt)
    return score.argmax(dim=1)
