"""Small dense layers in compiled code: rows of numbers times weights, and messages along edges.

Widths are padded to whole vectors. A matrix of weights ``(inputs, width)`` is stored as panels of
one vector's width, ``(width / 16, inputs, 16)``, so that it is read in one go.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from holobeam.kernels.options import QUIET
from holobeam.kernels.vectors import LANES, constant, entry, fma, load, silu, store

BLOCK = 5
"""Rows at a time: enough sums in flight to hide the latency of a multiplication."""


@njit(**QUIET)
def padded(width: int) -> int:
    """Width in whole vectors."""
    return (width + LANES - 1) // LANES * LANES


@njit(**QUIET)
def affine(
    x: Any, begin: int, apart: int, rows: int, inputs: Any, columns: Any, weights: Any, first: int,
    bias: Any, first_bias: int, out: Any, active: bool,
) -> None:  # fmt: skip
    """``out = x W + b`` for some rows, through the activation where ``active``.

    Parameters
    ----------
    x, begin, apart
        Flat array, where its first row begins and how far rows are apart.
    rows
        How many.
    inputs
        How many, and how many of them count: the last ones are left out where they are zero.
    columns
        The first of them that is asked for, on a whole vector, and the padded width.
    weights, first, bias, first_bias
        Flat arrays, and where W and b begin in them.
    out
        Flat, rows at the padded width.
    """
    since, width = columns
    blocks = rows // BLOCK * BLOCK
    for row in range(0, blocks, BLOCK):
        p0 = begin + row * apart
        p1, p2, p3, p4 = p0 + apart, p0 + 2 * apart, p0 + 3 * apart, p0 + 4 * apart
        for column in range(since, width, LANES):
            s0 = load(bias, first_bias + column)
            s1, s2, s3, s4 = s0, s0, s0, s0
            panel = first + column * inputs[0]
            for i in range(inputs[1]):
                w = load(weights, panel + i * LANES)
                s0 = fma(entry(x, p0 + i), w, s0)
                s1 = fma(entry(x, p1 + i), w, s1)
                s2 = fma(entry(x, p2 + i), w, s2)
                s3 = fma(entry(x, p3 + i), w, s3)
                s4 = fma(entry(x, p4 + i), w, s4)
            if active:
                s0, s1, s2, s3, s4 = silu(s0), silu(s1), silu(s2), silu(s3), silu(s4)
            to = row * width + column
            store(out, to, s0)
            store(out, to + width, s1)
            store(out, to + 2 * width, s2)
            store(out, to + 3 * width, s3)
            store(out, to + 4 * width, s4)
    for row in range(blocks, rows):
        for column in range(since, width, LANES):
            s0 = load(bias, first_bias + column)
            panel = first + column * inputs[0]
            for i in range(inputs[1]):
                s0 = fma(entry(x, begin + row * apart + i), load(weights, panel + i * LANES), s0)
            store(out, row * width + column, silu(s0) if active else s0)


@njit(**QUIET)
def messages(
    features: Any, weights: Any, first: int, parts: Any, sizes: Any, rows: Any, sums: Any
) -> None:
    """Activations of all edges: their means over users by element, over elements by user.

    Parameters
    ----------
    features
        Three flat arrays, the elements of user k from ``k * stride`` on.
    weights, first
        Where the three rows of their weights begin.
    parts
        What elements and users contribute to every edge of theirs, flat rows of the padded width.
    sizes
        Elements, users, stride of the features, padded width, stride of ``rows``.
    rows, sums
        The means, in place: flat, an element's at its place in ``rows``; a user's at the width.
    """
    one, two, three = features
    by_element, by_user = parts
    elements, users, stride, width, apart = sizes
    for column in range(0, width, LANES):
        w1 = load(weights, first + column)
        w2 = load(weights, first + width + column)
        w3 = load(weights, first + 2 * width + column)
        zero = constant(w1, 0.0)
        share, part = constant(w1, 1.0 / users), constant(w1, 1.0 / elements)
        for k in range(users):
            store(sums, k * width + column, zero)
        for n in range(elements):
            base = load(by_element, n * width + column)
            local = zero
            for k in range(users):
                edge, user = k * stride + n, k * width + column
                inner = base + load(by_user, user)
                inner = fma(entry(one, edge), w1, inner)
                inner = fma(entry(two, edge), w2, inner)
                inner = silu(fma(entry(three, edge), w3, inner))
                local = local + inner
                store(sums, user, load(sums, user) + inner)
            store(rows, n * apart + column, local * share)
        for k in range(users):
            store(sums, k * width + column, load(sums, k * width + column) * part)
