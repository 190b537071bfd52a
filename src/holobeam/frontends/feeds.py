"""Feeds: how the wave of each RF chain reaches each element, complex ``(N, R)``."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.arrays import Array
from holobeam.errors import InputError, ShapeError, check_choice, check_count, check_finite

FeedLayout = Literal["edge", "edge-far", "side-far", "line", "ring", "diagonal", "grid"]
_LAYOUTS: tuple[FeedLayout, ...] = (
    "edge",
    "edge-far",
    "side-far",
    "line",
    "ring",
    "diagonal",
    "grid",
)

MICROSTRIP_ATTENUATION = 0.6
"""1/m: the 28 GHz microstrip of the dynamic-metasurface literature ."""

MICROSTRIP_WAVENUMBER = 827.67
"""rad/m, of the same microstrip."""


def feed_positions(
    array: Array, rf_chains: int, layout: FeedLayout = "edge"
) -> Float[Tensor, "rf_chains 3"]:
    """Place the feeds of a surface, in the local frame of its array.

    Parameters
    ----------
    array
        The surface.
    rf_chains
        Number of feeds R.
    layout
        ``edge``: half a cell outside the lower z edge, spread over the width;
        ``edge-far``: one cell outside, spread over the outermost elements; ``side-far``: the
        same outside the lower y edge, as in the bundled surface benchmark; ``line``: along the
        middle; ``ring``: on a circle round the surface; ``diagonal``; ``grid``: a square grid
        inside the surface.

    Returns
    -------
    Tensor
        ``(R, 3)`` metres.
    """
    check_count("rf_chains", rf_chains)
    layout = check_choice("layout", layout, _LAYOUTS)
    d = array.spacing
    along_y, along_z = array.shape
    width, height = (along_y - 1) * d, (along_z - 1) * d
    t = (torch.arange(rf_chains, dtype=torch.float64) + 0.5) / rf_chains - 0.5
    zero = torch.zeros_like(t)
    if layout == "edge":
        y, z = t * along_y * d, zero - height / 2 - d / 2
    elif layout == "edge-far":
        y, z = t * width, zero - height / 2 - d
    elif layout == "side-far":
        y, z = zero - width / 2 - d, t * height
    elif layout == "line":
        y, z = t * width, zero
    elif layout == "diagonal":
        y, z = t * width, t * height
    elif layout == "ring":
        angle = 2.0 * math.pi * torch.arange(rf_chains, dtype=torch.float64) / rf_chains
        radius = math.hypot(width, height) / 2 + d
        y, z = radius * angle.cos(), radius * angle.sin()
    else:
        side = math.ceil(math.sqrt(rf_chains))
        index = torch.arange(rf_chains)
        y = ((index % side + 0.5) / side - 0.5) * along_y * d
        z = ((index // side + 0.5) / math.ceil(rf_chains / side) - 0.5) * along_z * d
    return torch.stack([zero, y.to(torch.float64), z.to(torch.float64)], dim=1)


def reference_wave(
    positions: Float[Tensor, "antennas 3"],
    feed_positions: Float[Tensor, "rf_chains 3"],
    wavelength: float,
    index: float = 3**0.5,
) -> Complex[Tensor, "antennas rf_chains"]:
    """Phases of the guided wave from each feed at each element.

    Parameters
    ----------
    positions, feed_positions
        ``(N, 3)`` and ``(R, 3)`` metres.
    wavelength
        Free-space wavelength, metres.
    index
        Refractive index of the guide, ``sqrt(permittivity)``: 3 ** 0.5 by default.

    Returns
    -------
    Tensor
        ``exp(-j k_s |r_n - f_r|)`` with ``k_s = index 2 pi / wavelength``, complex128 ``(N, R)``.

    Notes
    -----
    Source: mmse paper, reference-wave model.
    """
    for name, tensor in (("positions", positions), ("feed_positions", feed_positions)):
        if tensor.ndim != 2 or tensor.shape[1] != 3:
            raise ShapeError(name, f"got shape {tuple(tensor.shape)}", "need (points, 3)")
        check_finite(name, tensor)
    if not (wavelength > 0 and index > 0):
        raise InputError(
            "wavelength", f"got {wavelength!r} with index={index!r}", "both must be positive"
        )
    distance = torch.cdist(positions.double(), feed_positions.double())
    return torch.polar(torch.ones_like(distance), -index * 2.0 * math.pi / wavelength * distance)


def microstrips(
    rf_chains: int,
    elements: int,
    spacing: float,
    feeding: Literal["left", "centre"] = "left",
    *,
    attenuation: float = MICROSTRIP_ATTENUATION,
    wavenumber: float = MICROSTRIP_WAVENUMBER,
    split_power: bool = False,
) -> Complex[Tensor, "antennas rf_chains"]:
    """Waveguide of a metasurface antenna: one strip of elements a chain, block-diagonal.

    Parameters
    ----------
    rf_chains
        Number of strips R.
    elements
        Elements on each strip; element e of strip r is row ``r * elements + e``.
    spacing
        Metres between elements along a strip.
    feeding
        ``left``: from the end at element 0; ``centre``: from the middle, both ways.
    attenuation, wavenumber
        1/m and rad/m along the strip.
    split_power
        With ``centre``: whether each half gets half the power (amplitude ``1 / sqrt(2)``).

    Notes
    -----
    Source: multicell paper, waveguide model (our reading).
    """
    check_count("rf_chains", rf_chains)
    check_count("elements", elements)
    feeding = check_choice("feeding", feeding, ("left", "centre"))
    if not (spacing > 0 and attenuation >= 0):
        raise InputError(
            "spacing",
            f"got {spacing!r} with attenuation={attenuation!r}",
            "need a positive spacing and no gain along the strip",
        )
    along = torch.arange(elements, dtype=torch.float64) * spacing
    if feeding == "centre":
        along = (along - along.mean()).abs()
    wave = torch.polar((-attenuation * along).exp(), -wavenumber * along)
    if feeding == "centre" and split_power:
        wave = wave / math.sqrt(2.0)
    return block_diagonal(wave.unsqueeze(1), rf_chains)


def strips_of_array(
    array: Array,
    rf_chains: int,
    *,
    attenuation: float = MICROSTRIP_ATTENUATION,
    wavenumber: float = MICROSTRIP_WAVENUMBER,
) -> Complex[Tensor, "antennas rf_chains"]:
    """Waveguides that run up the columns of a planar array, fed at the lower edge.

    Chain r drives columns ``r c .. r c + c - 1`` (c columns a chain) in phase, as in the Munich
    demonstration: ``exp(-(attenuation + j wavenumber) z)`` with z counted from the lowest element.
    """
    columns, rows = array.shape
    if columns % check_count("rf_chains", rf_chains):
        raise InputError(
            "rf_chains",
            f"{rf_chains} strips groups over {columns} columns",
            "the number of columns must be a multiple of rf_chains",
        )
    column = microstrips(1, rows, array.spacing, attenuation=attenuation, wavenumber=wavenumber)
    group = column.repeat(columns // rf_chains, 1)
    return block_diagonal(group, rf_chains)


def block_diagonal(
    column: Complex[Tensor, "elements 1"], rf_chains: int
) -> Complex[Tensor, "antennas rf_chains"]:
    """Feed in which every chain drives a group of elements of its own, all groups alike."""
    return torch.kron(torch.eye(rf_chains, dtype=column.dtype), column)
