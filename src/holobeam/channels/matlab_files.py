"""Reading numeric arrays of MATLAB 5 files without trust.

The usual reader allocates what an element's tag claims before it looks at the file, and unpacks
compressed elements whatever they grow to. This one holds every length against the array's
dimensions first, and knows numeric arrays only.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from holobeam.channels.foreign import check_size, reading, refusal

MATRIX, COMPRESSED = 14, 15
STORAGE = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip
NUMERIC_CLASSES = range(6, 16)
SINGLE_CLASS = 7
HEAD = 4096
"""Bytes that hold the head of any matrix: flags, dimensions and name."""


class Head(NamedTuple):
    """What a matrix says of itself, and where its numbers begin in the unpacked element."""

    name: str
    shape: tuple[int, ...]
    kind: int
    is_complex: bool
    body: int


class Element(NamedTuple):
    """A top-level element: where it lies in the file and whether it is compressed."""

    start: int
    size: int
    compressed: bool


def matlab_names(path: Path) -> list[str]:
    """Names of the numeric arrays of a MATLAB 5 file."""
    with reading(path), path.open("rb") as stream:
        return list(_numeric(path, stream))


def read_matlab(path: Path, name: str, max_bytes: int) -> np.ndarray[Any, Any]:
    """Read one numeric array of a MATLAB 5 file."""
    with reading(path), path.open("rb") as stream:
        element, head = _numeric(path, stream)[name]
        count = check_size(path, name, head.shape, max_bytes)
        order = _byte_order(path, stream)
        data = _unpack(path, stream, element, HEAD + (16 * count if head.is_complex else 8 * count))
        real, at = _numbers(path, data, head.body, order, count)
        single = head.kind == SINGLE_CLASS
        if not head.is_complex:
            return real.astype("f4" if single else "f8").reshape(head.shape, order="F")
        values = real.astype("c8" if single else "c16")
        values.imag = _numbers(path, data, at, order, count)[0]
        return values.reshape(head.shape, order="F")


def _numeric(path: Path, stream: IO[bytes]) -> dict[str, tuple[Element, Head]]:
    """Numeric arrays of a file by name; no name may come twice."""
    order = _byte_order(path, stream)
    found: dict[str, tuple[Element, Head]] = {}
    for element in _elements(path, stream, order):
        head = _head(path, _unpack(path, stream, element, None), order)
        if head.name in found:
            raise refusal(path, f"two variables are called {head.name!r}", "names must differ")
        if head.kind in NUMERIC_CLASSES:
            found[head.name] = (element, head)
    return found


def _byte_order(path: Path, stream: IO[bytes]) -> str:
    """``<`` or ``>`` from the mark that ends the 128-byte header."""
    stream.seek(0)
    mark = stream.read(128)[124:]
    orders = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}
    if mark not in orders:
        raise refusal(path, "it has no MATLAB 5 header", "need a MATLAB 5 or 7.3 file")
    return orders[mark]


def _elements(path: Path, stream: IO[bytes], order: str) -> Iterator[Element]:
    """Walk over the top-level matrices of a file."""
    end, at = path.stat().st_size, 128
    while at < end:
        stream.seek(at)
        kind, size = struct.unpack(f"{order}II", stream.read(8))
        at += 8 + size
        if at > end:
            raise refusal(path, f"it ends {at - end:,} bytes too early", "the file is truncated")
        if kind in (MATRIX, COMPRESSED):
            yield Element(at - size, size, kind == COMPRESSED)


def _unpack(path: Path, stream: IO[bytes], element: Element, limit: int | None) -> memoryview:
    """Content of a matrix element: the first ``HEAD`` bytes, or all where a limit is given."""
    stream.seek(element.start)
    if not element.compressed:
        if limit is not None and element.size > limit:
            raise refusal(path, "a matrix is longer than its dimensions", "the file is damaged")
        return memoryview(stream.read(min(element.size, HEAD) if limit is None else element.size))
    most = HEAD if limit is None else limit + 8
    packed = stream.read(min(element.size, 2 * HEAD) if limit is None else element.size)
    inflater = zlib.decompressobj()
    data = inflater.decompress(packed, most)
    if limit is not None and inflater.decompress(inflater.unconsumed_tail, 1):
        raise refusal(path, "a matrix is longer than its dimensions", "the file is damaged")
    return memoryview(data)[8:]


def _head(path: Path, data: memoryview, order: str) -> Head:
    """Parse flags, dimensions and name."""
    flags, at = _field(path, data, 0, order)[1:]
    word = struct.unpack_from(f"{order}I", flags)[0]
    _, sides, at = _field(path, data, at, order)
    _, name, at = _field(path, data, at, order)
    shape = struct.unpack(f"{order}{len(sides) // 4}i", sides)
    return Head(bytes(name).decode("ascii"), shape, word & 0xFF, bool(word & 0x0800), at)


def _field(path: Path, data: memoryview, at: int, order: str) -> tuple[int, memoryview, int]:
    """Type, bytes and end of the field at an offset; short fields share 8 bytes with their tag."""
    kind, size = struct.unpack_from(f"{order}II", data, at)
    begin, end = at + 8, at + 8 + math.ceil(size / 8) * 8
    if kind >> 16:
        kind, size, begin, end = kind & 0xFFFF, kind >> 16, at + 4, at + 8
    if begin + size > len(data):
        raise refusal(path, "a field is longer than its matrix", "the file is damaged")
    return kind, data[begin : begin + size], end


def _numbers(
    path: Path, data: memoryview, at: int, order: str, count: int
) -> tuple[np.ndarray[Any, Any], int]:
    """Read ``count`` numbers at an offset, whatever type they are stored in."""
    kind, values, end = _field(path, data, at, order)
    if kind not in STORAGE:
        raise refusal(path, f"numbers are stored as type {kind}", "the file is damaged")
    numbers = np.frombuffer(values, order + STORAGE[kind])
    if numbers.size != count:
        wrong = f"{numbers.size:,} numbers where the dimensions say {count:,}"
        raise refusal(path, wrong, "the file is damaged")
    return numbers, end
