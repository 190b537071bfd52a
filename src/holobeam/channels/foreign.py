"""What every reader of foreign files shares: limits that are checked before memory is taken.

Files may come from anyone. Sizes are computed from headers and held against the limit first;
nothing is ever unpickled; and whatever a parser trips over comes out as one kind of error.
"""

from __future__ import annotations

import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from holobeam.errors import FileError, HolobeamError

MAX_BYTES = 2**31
"""Largest array that is read unless told otherwise, counted as complex128."""

TROUBLE = (
    OSError, EOFError, ValueError, TypeError, KeyError, IndexError, RuntimeError, MemoryError,
    OverflowError, SyntaxError, struct.error, zlib.error, zipfile.BadZipFile, tokenize.TokenError,
)  # fmt: skip
"""What parsers raise on damaged input."""


def refusal(path: Path, wrong: str, right: str) -> FileError:
    """Build the error for a file that is refused."""
    return FileError("path", f"{path.name}: {wrong}", right)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what parsers raise into :class:`FileError`."""
    if not path.is_file():
        raise refusal(path, "there is no such file", "check the path")
    try:
        yield
    except HolobeamError:
        raise
    except TROUBLE as error:
        detail = str(error) or type(error).__name__
        raise refusal(
            path, f"can't be read: {detail}", "the file is damaged or of another kind"
        ) from error


def check_size(path: Path, name: str, shape: Sequence[int], max_bytes: int) -> int:
    """Return the number of entries of an array, or raise before anything is allocated."""
    if any(isinstance(side, bool) or not isinstance(side, int) or side < 0 for side in shape):
        raise refusal(path, f"{name} has shape {tuple(shape)}", "sides are whole numbers >= 0")
    count = math.prod(shape)
    if count == 0:
        raise refusal(
            path, f"{name} has shape {tuple(shape)}: it is empty", "need at least one entry"
        )
    if count * 16 > max_bytes:
        wrong = f"{name} of shape {tuple(shape)} takes {count * 16:,} bytes as complex128"
        raise refusal(path, wrong, f"raise max_bytes above {max_bytes:,} if you trust the file")
    return count


def check_dtype(path: Path, name: str, dtype: np.dtype[np.generic]) -> None:
    """Raise unless a type is plain numbers, or a pair of fields that make a complex one."""
    if dtype.hasobject:
        raise refusal(
            path, f"{name} holds Python objects", "pickles are never opened; save numbers"
        )
    if dtype.names is not None:
        plain = pair_fields(dtype) is not None and dtype.itemsize <= 16
    else:
        plain = dtype.kind in "iufc" and dtype.itemsize <= (16 if dtype.kind == "c" else 8)
    if not plain:
        raise refusal(path, f"{name} holds {dtype}", "need numbers, or pairs (real, imag)")


def pair_fields(dtype: np.dtype[np.generic]) -> tuple[str, str] | None:
    """Names of the real and imaginary fields of a compound type, if that is what it is."""
    if dtype.fields is None:
        return None
    for pair in (("real", "imag"), ("r", "i")):
        if dtype.names == pair and all(dtype.fields[field][0].kind == "f" for field in pair):
            return pair
    return None
