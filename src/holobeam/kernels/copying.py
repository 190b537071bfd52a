"""Copies between arrays of one shape, and multiples.

``target[:] = source`` or ``target[i] *= 2.0`` do as much, and bring along the text of the error
that differing shapes would deserve: in a kernel with a few of them most of the machine code.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from holobeam.kernels.options import FAST, INLINED


@njit(**INLINED)
def assign(target: Any, source: Any) -> None:
    """Copy the entries of ``source`` into an array of its shape, one to three axes."""
    if target.ndim == 1:
        for i in range(target.shape[0]):
            target[i] = source[i]
    elif target.ndim == 2:
        for i in range(target.shape[0]):
            for j in range(target.shape[1]):
                target[i, j] = source[i, j]
    else:
        for i in range(target.shape[0]):
            for j in range(target.shape[1]):
                for k in range(target.shape[2]):
                    target[i, j, k] = source[i, j, k]


@njit(**FAST)
def stretch(array: Any, factor: float) -> None:
    """Multiply a complex array by a real number, in place, two or three axes."""
    if array.ndim == 2:
        for i in range(array.shape[0]):
            for j in range(array.shape[1]):
                value = array[i, j]
                array[i, j] = complex(factor * value.real, factor * value.imag)
    else:
        for i in range(array.shape[0]):
            for j in range(array.shape[1]):
                for k in range(array.shape[2]):
                    value = array[i, j, k]
                    array[i, j, k] = complex(factor * value.real, factor * value.imag)
